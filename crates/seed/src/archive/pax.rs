//! PAX extended headers: `<length> <key>=<value>\n` records.

/// Reads the records of one extended header, in order. A record that does not parse ends it with
/// `None` in its place.
pub(crate) struct Records<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Option<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() || self.0.iter().all(|byte| *byte == 0) {
            return None;
        }
        let record = parse(self.0);
        match record {
            Some((_, _, rest)) => self.0 = rest,
            None => self.0 = &[],
        }
        Some(record.map(|(key, value, _)| (key, value)))
    }
}

/// The first record's key and value, and what follows it. Lengths count, not line ends: values may
/// hold line ends and NULs.
fn parse(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let len = usize::try_from(number(&data[..space])?).ok()?;
    let record = data.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &data[len..]))
}

/// An unsigned decimal number of digits only.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Appends one record. The length counts itself, so its own digits are found by trying.
pub(crate) fn append(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut digits = 1;
    while (rest + digits).to_string().len() != digits {
        digits += 1;
    }
    out.extend_from_slice((rest + digits).to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The name of an extended attribute as GNU tar spells it in a key: `%` and `=` escaped.
pub(crate) fn encode_xattr(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            b'=' => out.extend_from_slice(b"%3D"),
            other => out.push(*other),
        }
    }
    out
}

/// Undoes [`encode_xattr`]; any other `%` stands for itself.
pub(crate) fn decode_xattr(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(b"%25") {
            out.push(b'%');
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix(b"%3D") {
            out.push(b'=');
            rest = tail;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back() {
        for len in [
            0, 1, 85, 86, 87, 88, 89, 90, 91, 92, 985, 986, 987, 988, 70_000,
        ] {
            let value: Vec<u8> = (0..len).map(|i| [b'\n', 0, b'=', 0xff][i % 4]).collect();
            let mut data = Vec::new();
            append(&mut data, b"SCHILY.xattr.user.a", &value);
            append(&mut data, b"path", b"x");
            let records: Vec<_> = Records(&data).collect();
            assert_eq!(
                records,
                [
                    Some((&b"SCHILY.xattr.user.a"[..], &value[..])),
                    Some((b"path", b"x"))
                ]
            );
        }
    }

    #[test]
    fn bad_records_end_the_header() {
        fn check(data: &[u8]) {
            assert_eq!(Records(data).collect::<Vec<_>>(), [None], "{data:?}");
        }
        check(b"path=x\n");
        check(b"0 a=b\n");
        check(b"99 a=b\n");
        check(b"5 a=b\n");
        check(b"6 abc\n");
        check(b"-6 a=b\n");
        check(b"99999999999999999999999 a=b\n");
    }

    #[test]
    fn xattr_names() {
        for name in [&b"user.a"[..], b"user.a=b%c", b"user.%3D", b"%"] {
            assert_eq!(decode_xattr(&encode_xattr(name)), name);
        }
        assert_eq!(encode_xattr(b"user.a=b%"), b"user.a%3Db%25");
    }
}
