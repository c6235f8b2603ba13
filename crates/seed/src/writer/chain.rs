//! An archive as a chain of gzip members.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::compression::{Compression, Pressed};
use crate::index::{Chain, Member, ObjectId, ObjectKind};

/// Bytes of tar at which a member with objects ends, and from which on an object has a member of its own. Smaller members
/// compress worse and need more of the index, of larger ones more is fetched in vain: where a tenth of the objects is
/// missing at random, 8 % in vain with this, 15 % with twice as much, 3 % with half (bench seed).
const ENOUGH: usize = 8 << 10;

/// Most bytes of tar in a member: larger objects are cut, so that readers hold little at once and share the work.
const PIECE: usize = 1 << 20;

/// Takes the bytes of a tar archive, whose entries stand one behind the other, and writes them as gzip members that can be
/// inflated alone. Together they are a gzip file like any other.
pub struct ChainWriter<'a> {
    out: &'a mut dyn Write,
    compression: Compression,
    /// What lies in the members that are being compressed.
    waiting: VecDeque<(Vec<ObjectId>, bool)>,
    offset: u64,
    members: Vec<Member>,
    /// Not cut yet: all entries of `objects`, then of `current` what has come so far.
    bytes: Vec<u8>,
    objects: Vec<ObjectId>,
    current: Option<Current>,
}

/// The object whose entries are being written.
struct Current {
    object: ObjectId,
    /// Where in the bytes they begin.
    start: usize,
    /// A member was cut from them already.
    is_cut: bool,
}

impl<'a> ChainWriter<'a> {
    /// A chain that begins at `offset` of the layer.
    pub(super) fn new(out: &'a mut dyn Write, offset: u64) -> io::Result<Self> {
        Ok(Self {
            out,
            compression: Compression::start()?,
            waiting: VecDeque::new(),
            offset,
            members: Vec::new(),
            bytes: Vec::new(),
            objects: Vec::new(),
            current: None,
        })
    }

    /// What is written from now on are the entries of this object, or entries that belong to none. Everything before must
    /// be whole entries.
    ///
    /// # Errors
    ///
    /// When the archive cannot be written, or nothing was written of the object before.
    pub fn begin(&mut self, object: Option<ObjectId>) -> io::Result<()> {
        self.end_current()?;
        let is_file = |object: &ObjectId| object.kind == ObjectKind::File;
        let goes_along = match (&object, self.objects.last()) {
            (Some(next), Some(last)) => is_file(next) == is_file(last),
            _ => false,
        };
        if !goes_along {
            self.cut_whole()?;
        }
        self.current = object.map(|object| Current {
            object,
            start: self.bytes.len(),
            is_cut: false,
        });
        Ok(())
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<Chain> {
        self.begin(None)?;
        if self.members.is_empty() && self.waiting.is_empty() {
            // A gzip file has at least one member.
            self.cut(0, Vec::new(), false)?;
        }
        while let Some(pressed) = self.compression.take()? {
            self.place(&pressed)?;
        }
        Ok(Chain {
            offset: self.offset,
            members: self.members,
        })
    }

    fn end_current(&mut self) -> io::Result<()> {
        let Some(current) = self.current.take() else {
            return Ok(());
        };
        if current.is_cut {
            return self.cut(self.bytes.len(), Vec::new(), true);
        }
        let size = self.bytes.len() - current.start;
        if size == 0 {
            let text = "nothing was written of an object";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if size >= ENOUGH {
            self.cut_before(current.start)?;
        }
        self.objects.push(current.object);
        if self.bytes.len() >= ENOUGH {
            self.cut_whole()?;
        }
        Ok(())
    }

    /// Cuts what is there, which is whole.
    fn cut_whole(&mut self) -> io::Result<()> {
        self.cut_before(self.bytes.len())
    }

    /// Cuts what belongs to the objects that are whole.
    fn cut_before(&mut self, length: usize) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        let objects = std::mem::take(&mut self.objects);
        self.cut(length, objects, false)
    }

    /// Cuts all pieces that are full.
    fn cut_pieces(&mut self) -> io::Result<()> {
        loop {
            let Some(current) = &mut self.current else {
                if self.bytes.len() < PIECE {
                    return Ok(());
                }
                self.cut(PIECE, Vec::new(), false)?;
                continue;
            };
            if self.bytes.len() - current.start <= PIECE {
                return Ok(());
            }
            let (before, object) = (current.start, current.object);
            let continues = std::mem::replace(&mut current.is_cut, true);
            current.start = 0;
            self.cut_before(before)?;
            let objects = if continues { Vec::new() } else { vec![object] };
            self.cut(PIECE, objects, continues)?;
        }
    }

    /// Makes a member of the first bytes.
    fn cut(&mut self, length: usize, objects: Vec<ObjectId>, continues: bool) -> io::Result<()> {
        let rest = self.bytes.split_off(length);
        let piece = std::mem::replace(&mut self.bytes, rest);
        if self.compression.is_full()
            && let Some(pressed) = self.compression.take()?
        {
            self.place(&pressed)?;
        }
        self.compression.give(piece)?;
        self.waiting.push_back((objects, continues));
        Ok(())
    }

    fn place(&mut self, pressed: &Pressed) -> io::Result<()> {
        self.out.write_all(&pressed.bytes)?;
        let (mut objects, continues) = self.waiting.pop_front().unwrap_or_default();
        objects.shrink_to_fit();
        let length = |length| u32::try_from(length).map_err(io::Error::other);
        self.members.push(Member {
            compressed: length(pressed.bytes.len())?,
            inflated: length(pressed.inflated)?,
            digest: pressed.digest,
            objects,
            continues,
        });
        Ok(())
    }
}

impl Write for ChainWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = bytes.get(..PIECE).unwrap_or(bytes);
        self.bytes.extend_from_slice(bytes);
        self.cut_pieces()?;
        Ok(bytes.len())
    }

    /// Nothing: what is not a member yet cannot be written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the entries, and the object that they are of: its kind and the first byte of its checksum.
    type Entries = (usize, Option<(ObjectKind, u8)>);

    #[test]
    fn members_are_cut_where_objects_end_and_large_objects_in_pieces() {
        fn check(written: &[Entries], expect: &[(usize, &[u8], bool)]) {
            let mut out = Vec::new();
            let mut chain = ChainWriter::new(&mut out, 7).unwrap();
            for (number, (size, object)) in written.iter().enumerate() {
                let id = object.map(|(kind, first)| ObjectId {
                    checksum: [first; 32],
                    kind,
                });
                chain.begin(id).unwrap();
                // Not in pieces of the chain's own.
                for part in vec![number as u8; *size].chunks(300_007) {
                    chain.write_all(part).unwrap();
                }
            }
            let chain = chain.finish().unwrap();
            let firsts = |member: &Member| -> Vec<u8> {
                let objects = member.objects.iter();
                objects.map(|object| object.checksum[0]).collect()
            };
            let found: Vec<_> = chain
                .members
                .iter()
                .map(|member| (member.inflated as usize, firsts(member), member.continues))
                .collect();
            let expect: Vec<_> = expect
                .iter()
                .map(|(size, objects, continues)| (*size, objects.to_vec(), *continues))
                .collect();
            assert_eq!(found, expect, "{written:?}");
            assert_eq!((chain.offset, chain.length()), (7, out.len() as u64));
            let mut plain = Vec::new();
            let mut gunzip = flate2::read::MultiGzDecoder::new(out.as_slice());
            io::copy(&mut gunzip, &mut plain).unwrap();
            let all: usize = written.iter().map(|(size, _)| size).sum();
            assert_eq!(plain.len(), all);
        }
        let file = |first| Some((ObjectKind::File, first));
        let tree = |first| Some((ObjectKind::DirTree, first));
        let commit = |first| Some((ObjectKind::Commit, first));
        check(&[], &[(0, &[], false)]);
        check(&[(512, None)], &[(512, &[], false)]);
        let piece = (PIECE, &[][..], false);
        check(&[(2 * PIECE, None)], &[piece, piece]);
        check(&[(PIECE + 1024, None)], &[piece, (1024, &[], false)]);
        // What is short shares a member, files with files only; what follows the last object lies apart.
        check(
            &[
                (1024, None),
                (512, commit(1)),
                (1024, tree(2)),
                (512, file(3)),
                (512, file(4)),
                (1024, None),
            ],
            &[
                (1024, &[], false),
                (1536, &[1, 2], false),
                (1024, &[3, 4], false),
                (1024, &[], false),
            ],
        );
        check(
            &[(ENOUGH - 512, file(1)), (512, file(2)), (512, file(3))],
            &[(ENOUGH, &[1, 2], false), (512, &[3], false)],
        );
        check(
            &[(512, file(1)), (ENOUGH, file(2)), (512, file(3))],
            &[
                (512, &[1], false),
                (ENOUGH, &[2], false),
                (512, &[3], false),
            ],
        );
        check(
            &[(512, file(1)), (PIECE, file(2))],
            &[(512, &[1], false), (PIECE, &[2], false)],
        );
        check(
            &[(512, file(1)), (PIECE + 512, tree(2)), (512, tree(3))],
            &[
                (512, &[1], false),
                (PIECE, &[2], false),
                (512, &[], true),
                (512, &[3], false),
            ],
        );
        check(
            &[(3 * PIECE, file(1)), (512, file(2))],
            &[
                (PIECE, &[1], false),
                (PIECE, &[], true),
                (PIECE, &[], true),
                (512, &[2], false),
            ],
        );
        // More members than the threads hold.
        let many: Vec<Entries> = (0..200).map(|number| (ENOUGH, file(number))).collect();
        let names: Vec<[u8; 1]> = (0..200).map(|number| [number]).collect();
        let expect: Vec<_> = names
            .iter()
            .map(|name| (ENOUGH, &name[..], false))
            .collect();
        check(&many, &expect);
    }

    #[test]
    fn an_object_without_entries_is_refused() {
        let mut out = Vec::new();
        let mut chain = ChainWriter::new(&mut out, 0).unwrap();
        let object = ObjectId {
            checksum: [1; 32],
            kind: ObjectKind::File,
        };
        chain.begin(Some(object)).unwrap();
        let error = chain.begin(None).unwrap_err();
        assert_eq!(error.to_string(), "nothing was written of an object");
    }
}
