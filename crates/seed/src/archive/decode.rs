//! Compression, recognised by its first bytes.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// Magic of gzip (RFC 1952).
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Magic of a zstd frame (RFC 8878).
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Input with the bytes that were looked at put back in front.
type Source<R> = Chain<Cursor<Vec<u8>>, R>;

/// A byte stream, decompressed when it starts like gzip (any number of members) or zstd.
pub enum Decoded<R: Read> {
    /// Neither: passed through.
    Plain(Source<R>),
    /// Gzip.
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    /// Zstandard.
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Source<R>>>>),
}

impl<R: Read> Decoded<R> {
    /// Looks at the first four bytes and chooses. An empty stream is plain.
    ///
    /// # Errors
    ///
    /// When the input cannot be read or the decoder cannot be set up.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(ZSTD.len());
        input
            .by_ref()
            .take(ZSTD.len() as u64)
            .read_to_end(&mut head)?;
        let (gzip, zstd) = (head.starts_with(GZIP), head == ZSTD);
        let source = Cursor::new(head).chain(input);
        Ok(if gzip {
            Self::Gzip(Box::new(MultiGzDecoder::new(source)))
        } else if zstd {
            Self::Zstd(Box::new(zstd::stream::read::Decoder::new(source)?))
        } else {
            Self::Plain(source)
        })
    }

    /// True when the input is not compressed, so that positions in it are positions in the archive.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buf),
            Self::Gzip(input) => input.read(buf),
            Self::Zstd(input) => input.read(buf),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn recognises_what_it_reads() {
        fn check(input: &[u8], expect: &[u8]) {
            let mut out = Vec::new();
            Decoded::new(input).unwrap().read_to_end(&mut out).unwrap();
            assert_eq!(out, expect);
        }
        check(b"", b"");
        check(b"abc", b"abc");
        check(b"plain text", b"plain text");
        check(&gzip(b"one"), b"one");
        check(
            &[gzip(b"one "), gzip(b""), gzip(b"two")].concat(),
            b"one two",
        );
        let zstd = |data: &[u8]| zstd::stream::encode_all(data, 1).unwrap();
        check(&zstd(b"one"), b"one");
        check(&[zstd(b"one "), zstd(b"two")].concat(), b"one two");
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let whole = gzip(&[7; 5000]);
        for cut in [3, 12, whole.len() - 1] {
            let mut out = Vec::new();
            Decoded::new(&whole[..cut])
                .unwrap()
                .read_to_end(&mut out)
                .unwrap_err();
        }
    }
}
