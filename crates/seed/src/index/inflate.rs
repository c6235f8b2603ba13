//! Inflating single members of a chain.

use std::io;

use libdeflater::Decompressor;

use super::Member;

/// Inflates one member after the other, each in one piece.
#[derive(Default)]
pub struct Inflater {
    deflate: Decompressor,
    /// Never made shorter: what is there is overwritten.
    inflated: Vec<u8>,
    length: usize,
}

impl Inflater {
    /// Inflates the bytes of a member, to exactly as much as the index says.
    ///
    /// # Errors
    ///
    /// When they inflate to something else, or are no gzip member.
    pub fn inflate(&mut self, member: &Member, bytes: &[u8]) -> io::Result<&[u8]> {
        let expected = member.inflated as usize;
        if self.inflated.len() < expected {
            self.inflated.resize(expected, 0);
        }
        let room = self.inflated.get_mut(..expected).unwrap_or_default();
        self.length = 0;
        match self.deflate.gzip_decompress(bytes, room) {
            Ok(length) if length == expected => self.length = length,
            _ => {
                let text = "it inflates to something else than the seed's index says";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(self.inflated())
    }

    /// What was inflated last.
    pub fn inflated(&self) -> &[u8] {
        self.inflated.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, GzBuilder};

    use super::*;

    #[test]
    fn members_inflate_to_what_the_index_says() {
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let gzip = |name: &str, content: &[u8]| {
            let builder = match name {
                "" => GzBuilder::new(),
                name => GzBuilder::new().filename(name),
            };
            let mut encoder = builder.write(Vec::new(), Compression::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        let mut inflater = Inflater::default();
        let mut check = |bytes: &[u8], inflated: usize, fits: bool| {
            let member = Member {
                compressed: 0,
                inflated: u32::try_from(inflated).unwrap(),
                digest: [0; 32],
                objects: vec![],
                continues: false,
            };
            let result = inflater.inflate(&member, bytes).map(<[u8]>::to_vec);
            assert_eq!(result.is_ok(), fits, "{inflated}: {result:?}");
            let expect = if fits { &content[..inflated] } else { &[] };
            assert_eq!(inflater.inflated(), expect);
        };
        let size = content.len();
        for name in ["", "name"] {
            let whole = gzip(name, &content);
            check(&whole, size, true);
            check(&whole, size - 1, false);
            check(&whole, size + 1, false);
            check(&whole[..whole.len() / 2], size, false);
            check(&gzip(name, &content[..512]), 512, true);
            check(&gzip(name, &[0; 600]), 512, false);
        }
        check(b"", 512, false);
        check(b"\x1f\x8b\x08\x00\0\0\0\0\0\0\xff\xff\xff", 512, false);
    }
}
