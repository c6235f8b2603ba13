//! Sparse members: the old GNU header and the three PAX forms.

use tar::{GnuExtSparseHeader, GnuHeader};

use super::entry::Extent;
use super::pax;

/// Most runs of data in one file: with 8 KiB of memory per thousand, a million is the limit.
pub(crate) const EXTENT_LIMIT: usize = 1 << 20;

/// Why a map of extents was refused.
pub(crate) const BAD_MAP: &str = "has a sparse map that is not ascending or not within the file";

/// Accepts a map whose extents ascend, lie within `size` and hold `stored` bytes of data. Runs of
/// no data, which GNU tar uses to mark the end, are dropped.
pub(crate) fn checked(
    map: Vec<Extent>,
    size: u64,
    stored: u64,
) -> Result<Vec<Extent>, &'static str> {
    let (mut end, mut sum) = (0u64, 0u64);
    for extent in &map {
        let next = extent.offset.checked_add(extent.len).ok_or(BAD_MAP)?;
        if extent.offset < end || next > size {
            return Err(BAD_MAP);
        }
        end = next;
        sum += extent.len;
    }
    if sum != stored {
        return Err(BAD_MAP);
    }
    Ok(map.into_iter().filter(|extent| extent.len > 0).collect())
}

/// The map in an old GNU header, and whether a block with more follows.
pub(crate) fn gnu(header: &GnuHeader) -> Result<(Vec<Extent>, bool), &'static str> {
    let mut map = Vec::new();
    collect(&header.sparse, &mut map)?;
    Ok((map, header.is_extended()))
}

/// Adds the map of a continuation block; tells whether another follows.
pub(crate) fn gnu_continued(
    block: &[u8; 512],
    map: &mut Vec<Extent>,
) -> Result<bool, &'static str> {
    let mut more = GnuExtSparseHeader::new();
    more.as_mut_bytes().copy_from_slice(block);
    let before = map.len();
    collect(more.sparse(), map)?;
    // An empty one that is followed by another would be followed for ever.
    if map.len() == before && more.is_extended() {
        return Err(BAD_MAP);
    }
    Ok(more.is_extended())
}

fn collect(slots: &[tar::GnuSparseHeader], map: &mut Vec<Extent>) -> Result<(), &'static str> {
    for slot in slots.iter().filter(|slot| !slot.is_empty()) {
        let (Ok(offset), Ok(len)) = (slot.offset(), slot.length()) else {
            return Err(BAD_MAP);
        };
        push(map, offset, len)?;
    }
    Ok(())
}

fn push(map: &mut Vec<Extent>, offset: u64, len: u64) -> Result<(), &'static str> {
    if map.len() == EXTENT_LIMIT {
        return Err("has more than a million sparse extents");
    }
    map.push(Extent { offset, len });
    Ok(())
}

/// What the PAX keys `GNU.sparse.*` say about one member.
#[derive(Debug, Default)]
pub(crate) struct PaxSparse {
    /// Real name (`GNU.sparse.name`).
    pub(crate) name: Option<Vec<u8>>,
    /// Real size (`GNU.sparse.size` or `GNU.sparse.realsize`).
    pub(crate) size: Option<u64>,
    /// True for format 1.0, whose map stands before the data.
    pub(crate) map_in_data: bool,
    /// The map of formats 0.0 and 0.1.
    pub(crate) map: Option<Vec<Extent>>,
    offset: Option<u64>,
}

impl PaxSparse {
    /// Takes one record; `key` is what follows `GNU.sparse.`.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = || pax::number(value).ok_or("has a sparse key that is not a number");
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"major" => match number()? {
                0 => {}
                1 => self.map_in_data = true,
                _ => return Err("is sparse in a format newer than 1.0"),
            },
            b"minor" | b"numblocks" => {}
            b"offset" => self.offset = Some(number()?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or(BAD_MAP)?;
                push(self.map.get_or_insert_default(), offset, number()?)?;
            }
            b"map" => {
                let map = self.map.get_or_insert_default();
                let mut fields = value.split(|byte| *byte == b',').map(pax::number);
                while let Some(offset) = fields.next() {
                    let (Some(offset), Some(Some(len))) = (offset, fields.next()) else {
                        return Err(BAD_MAP);
                    };
                    push(map, offset, len)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        fn check(map: &[(u64, u64)], size: u64, stored: u64, expect: Option<usize>) {
            let map = map
                .iter()
                .map(|&(offset, len)| Extent { offset, len })
                .collect();
            assert_eq!(checked(map, size, stored).ok().map(|map| map.len()), expect);
        }
        check(&[], 10, 0, Some(0));
        check(&[(0, 4), (8, 2), (10, 0)], 10, 6, Some(2));
        check(&[(0, 4), (3, 2)], 10, 6, None);
        check(&[(0, 11)], 10, 11, None);
        check(&[(0, 4)], 10, 5, None);
        check(&[(u64::MAX, 2)], 10, 2, None);
    }
}
