//! Compression, recognised by its first bytes.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;

/// Magic of gzip (RFC 1952).
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Magic of a zstd frame (RFC 8878).
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Bytes that may come out of a stream whatever its size: as many zeros as a preallocated log has.
const FREE: u64 = 1 << 30;

/// How much longer than the compressed bytes the rest may be. Files of a node shrink to a half or a third; a bomb of zeros
/// to between a 200th and a thousandth by gzip, and to less by zstd.
const RATIO: u64 = 100;

/// Largest window of zstd, as a power of two: 32 MiB of memory, which is more than any level but `--ultra` and `--long`
/// asks for. The format would allow 2 GiB.
const WINDOW_LOG: u32 = 25;

/// Input with the bytes that were looked at put back in front.
type Source<R> = Counted<Chain<Cursor<Vec<u8>>, R>>;

/// A byte stream, decompressed when it starts like gzip (any number of members) or zstd.
///
/// A stream that inflates to more than 1 GiB and to more than 100 times its size is refused.
pub struct Decoded<R: Read> {
    stream: Stream<R>,
    /// Bytes that came out.
    given: u64,
}

enum Stream<R: Read> {
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
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
        let source = Counted {
            input: Cursor::new(head).chain(input),
            taken: 0,
        };
        let stream = if gzip {
            Stream::Gzip(Box::new(MultiGzDecoder::new(source)))
        } else if zstd {
            let mut decoder = zstd::stream::read::Decoder::new(source)?;
            decoder.window_log_max(WINDOW_LOG)?;
            Stream::Zstd(Box::new(decoder))
        } else {
            Stream::Plain(source)
        };
        Ok(Self { stream, given: 0 })
    }

    /// True when the input is not compressed, so that positions in it are positions in the archive.
    pub fn is_plain(&self) -> bool {
        matches!(self.stream, Stream::Plain(_))
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (got, taken) = match &mut self.stream {
            Stream::Plain(input) => return input.read(buf),
            Stream::Gzip(input) => (input.read(buf)?, input.get_ref().taken),
            Stream::Zstd(input) => (input.read(buf)?, input.get_ref().get_ref().taken),
        };
        self.given += got as u64;
        if self.given > FREE && self.given / RATIO > taken {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it inflates to more than {RATIO} times its size, as no seed does"),
            ));
        }
        Ok(got)
    }
}

/// Counts what is read.
struct Counted<R> {
    input: R,
    taken: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.input.read(buf)?;
        self.taken += got as u64;
        Ok(got)
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
    fn windows_that_need_much_memory_are_refused() {
        let frame = |window: u32| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(window).unwrap();
            encoder.write_all(b"one").unwrap();
            encoder.finish().unwrap()
        };
        for (window, fits) in [(WINDOW_LOG, true), (WINDOW_LOG + 1, false)] {
            let mut out = Vec::new();
            let read = Decoded::new(frame(window).as_slice())
                .unwrap()
                .read_to_end(&mut out);
            assert_eq!(read.is_ok(), fits, "{window}: {read:?}");
        }
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
