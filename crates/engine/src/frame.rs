//! One line of a journal: `{"sum":"<8 hex digits>","line":<JSON>}` and a newline.
//!
//! The checksum is CRC-32 (IEEE 802.3, as in zlib) over the previous line's checksum as text and
//! the JSON's bytes; the first line's predecessor is the empty text. Chaining makes a missing,
//! repeated or foreign line as visible as a flipped bit. It finds accidents, not forgeries.

const OPEN: &[u8] = b"{\"sum\":\"";
const MIDDLE: &[u8] = b"\",\"line\":";
const CLOSE: &[u8] = b"}";
const SUM_LEN: usize = 8;

/// Checksum of a line, as written; empty before the first line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sum(String);

/// CRC-32 with the reflected polynomial 0xEDB88320. Bitwise: journals are a few KiB.
fn crc32(parts: [&[u8]; 2]) -> u32 {
    let mut crc = !0u32;
    for byte in parts.into_iter().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

fn sum(previous: &Sum, body: &[u8]) -> Sum {
    Sum(format!("{:08x}", crc32([previous.0.as_bytes(), body])))
}

/// Frames `body` (JSON without newlines) as the line after the one with sum `previous`.
pub(crate) fn print_line(previous: &Sum, body: &[u8]) -> (Vec<u8>, Sum) {
    let sum = sum(previous, body);
    let line = [OPEN, sum.0.as_bytes(), MIDDLE, body, CLOSE, b"\n"].concat();
    (line, sum)
}

/// The body of `line` (without its newline) if it follows the line with sum `previous`.
pub(crate) fn parse_line<'a>(previous: &Sum, line: &'a [u8]) -> Option<(&'a [u8], Sum)> {
    let rest = line.strip_prefix(OPEN)?;
    let (written, rest) = rest.split_at_checked(SUM_LEN)?;
    let body = rest.strip_prefix(MIDDLE)?.strip_suffix(CLOSE)?;
    let sum = sum(previous, body);
    (sum.0.as_bytes() == written).then_some((body, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_crc32() {
        // Check value of CRC-32/ISO-HDLC in the catalogue of parametrised CRC algorithms.
        assert_eq!(crc32([b"1234", b"56789"]), 0xCBF4_3926);
    }

    #[test]
    fn a_line_is_json_and_reads_back_only_after_its_predecessor() {
        let start = Sum::default();
        let (first, sum) = print_line(&start, br#"{"a":1}"#);
        let (second, _) = print_line(&sum, br#"{"a":2}"#);
        let (first, second) = (
            first.strip_suffix(b"\n").unwrap(),
            second.strip_suffix(b"\n").unwrap(),
        );
        let value: serde_json::Value = serde_json::from_slice(second).unwrap();
        assert_eq!(value["line"]["a"], 2);
        let (body, read) = parse_line(&start, first).unwrap();
        assert_eq!((body, &read), (br#"{"a":1}"#.as_slice(), &sum));
        assert!(parse_line(&sum, second).is_some());
        assert!(
            parse_line(&start, second).is_none(),
            "a line is missing between"
        );
        assert!(parse_line(&sum, first).is_none(), "a line is repeated");
    }
}
