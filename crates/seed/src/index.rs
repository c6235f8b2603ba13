//! The index of a seed: where what lies in its layer (`docs/seed-format.md`).
//!
//! A label of the image says where the index lies and what its SHA-256 is; the index says it of every byte that it speaks
//! of. So the pinned digest of the manifest covers all that a reader of ranges uses. [`Place`] is the label, [`Index`]
//! the member. Both come from outside: what [`Index::decode`] gives keeps the promises that its fields name.

mod decode;
mod inflate;
mod wanted;

use std::ops::Range;

use api::{Digest, seed_format};
use serde::{Deserialize, Serialize};

pub use decode::{IndexError, PlaceError};
pub use inflate::Inflater;
pub use wanted::{Segment, Span, Wanted};

/// Name of the member at the image's root.
pub const NAME: &str = seed_format::INDEX;

/// What an index begins with: a name, and the number of this encoding.
const MAGIC: &[u8] = b"lca-seed-index\n\x01";

/// Longest index in bytes: a million objects need 40 to 60 MiB, and it is read into memory.
pub const INDEX_LIMIT: u64 = 64 << 20;

/// Most bytes that one member of a chain inflates to: readers hold some of them in memory. What we write stays far below.
pub const INFLATED_LIMIT: u32 = 4 << 20;

/// Most bytes of one member: deflate makes no content longer by more than this.
pub const COMPRESSED_LIMIT: u32 = INFLATED_LIMIT + (64 << 10);

/// Fewest bytes of a gzip member: its header and its trailer (RFC 1952).
const COMPRESSED_LEAST: u32 = 18;

/// A SHA-256.
pub type Checksum = [u8; 32];

/// Where the index lies: the content of the label `api::label::SEED_INDEX`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The layer that it and everything it speaks of is in: the only one of the image, not compressed.
    pub layer: Digest,
    /// Bytes of the layer before the content of the member [`NAME`].
    pub offset: u64,
    /// Bytes of the content.
    pub length: u64,
    /// SHA-256 of the content.
    pub sha256: Digest,
}

impl Place {
    /// The bytes of the layer.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.length)
    }
}

/// What lies where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The commit whose objects are listed.
    pub commit: Checksum,
    /// The documents of the seed; no name comes twice.
    pub documents: Vec<Document>,
    /// The archive `etc.tgz`.
    pub etc: Chain,
    /// The archive `var.tgz`.
    pub var: Chain,
    /// The archive `ostree.tgz`. Every object that the commit reaches is listed once, by one member.
    pub ostree: Chain,
}

/// A small file at the image's root, as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name.
    pub name: String,
    /// Bytes of the layer before its content.
    pub offset: u64,
    /// Bytes of the content.
    pub length: u64,
    /// SHA-256 of the content.
    pub sha256: Checksum,
}

/// An archive: gzip members that lie back to back, each of which can be inflated alone, and which are a tar archive together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Bytes of the layer before its first member.
    pub offset: u64,
    /// The members, at least one.
    pub members: Vec<Member>,
}

/// One member of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its bytes in the layer, at most [`COMPRESSED_LIMIT`].
    pub compressed: u32,
    /// What it inflates to: whole blocks of tar, at most [`INFLATED_LIMIT`] bytes.
    pub inflated: u32,
    /// SHA-256 of its bytes in the layer.
    pub digest: Checksum,
    /// The objects whose entries begin in it, in order. Those of one member are all files, or none is.
    ///
    /// Where no continuation follows, the member is the entries of these objects and nothing else. In `etc.tgz` and
    /// `var.tgz`, and where the repository holds something that the commit does not reach, the list is empty.
    pub objects: Vec<ObjectId>,
    /// It goes on with the one object of the member before it, and lists none itself.
    pub continues: bool,
}

/// An object of an ostree repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its checksum.
    pub checksum: Checksum,
    /// Its kind.
    pub kind: ObjectKind,
}

/// Kinds of objects that a commit consists of; the numbers are those of libostree, and of the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// A regular file or a symbolic link.
    File = 1,
    /// The names in a directory.
    DirTree = 2,
    /// Owner, mode and extended attributes of a directory.
    DirMeta = 3,
    /// A commit.
    Commit = 4,
}

impl ObjectId {
    /// The path of the object's file below `objects/` in a repository of mode `bare`.
    #[must_use]
    pub fn path(&self) -> String {
        let digest = Digest::from_sha256(&self.checksum);
        let (directory, name) = digest.hex().split_at(2);
        format!("{directory}/{name}.{}", self.kind.suffix())
    }
}

impl ObjectKind {
    /// The ending of the names of its files.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::DirTree => "dirtree",
            Self::DirMeta => "dirmeta",
            Self::Commit => "commit",
        }
    }
}

impl Chain {
    /// Its bytes in the layer.
    #[must_use]
    pub fn length(&self) -> u64 {
        let members = self.members.iter();
        members.map(|member| u64::from(member.compressed)).sum()
    }

    /// Its members with their bytes of the layer, in order.
    pub fn located(&self) -> impl Iterator<Item = (&Member, Range<u64>)> {
        let mut end = self.offset;
        self.members.iter().map(move |member| {
            let start = end;
            end = start.saturating_add(member.compressed.into());
            (member, start..end)
        })
    }
}

impl Index {
    /// The index as its member holds it. What breaks a promise of the fields is written too, and refused by
    /// [`Self::decode`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.commit);
        number(&mut out, self.documents.len() as u64);
        for document in &self.documents {
            number(&mut out, document.name.len() as u64);
            out.extend_from_slice(document.name.as_bytes());
            number(&mut out, document.offset);
            number(&mut out, document.length);
            out.extend_from_slice(&document.sha256);
        }
        for chain in [&self.etc, &self.var, &self.ostree] {
            number(&mut out, chain.offset);
            number(&mut out, chain.members.len() as u64);
            for member in &chain.members {
                number(&mut out, member.compressed.into());
                number(&mut out, member.inflated.into());
                out.extend_from_slice(&member.digest);
                let count = member.objects.len() as u64;
                number(&mut out, count << 1 | u64::from(member.continues));
                for object in &member.objects {
                    out.push(object.kind as u8);
                    out.extend_from_slice(&object.checksum);
                }
            }
        }
        out
    }
}

/// A number as unsigned LEB128: seven bits a byte, the lowest first, the highest bit set but in the last.
fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}
