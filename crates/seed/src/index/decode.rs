//! Reading an index and its label. Nothing is allocated for what the bytes that are left cannot hold.

use std::collections::BTreeSet;

use api::Digest;
use api::document::{self, Malformed};

use super::{
    COMPRESSED_LEAST, COMPRESSED_LIMIT, Chain, Checksum, Document, INDEX_LIMIT, INFLATED_LIMIT,
    Index, MAGIC, Member, ObjectId, ObjectKind, Place,
};
use crate::archive::{BLOCK, shown};
use crate::pin::Blob;
use crate::reader::document_limit;

/// Fewest bytes of an encoded document: two numbers and a name of one byte with its length, and a digest.
const DOCUMENT_LEAST: usize = 36;
/// Fewest bytes of an encoded member of a chain: three numbers and a digest.
const MEMBER_LEAST: usize = 35;
/// Bytes of an encoded object.
const OBJECT: usize = 33;

/// Why an image's label does not lead to an index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// It does not parse.
    #[error("the label that says where the seed's index lies is malformed")]
    Malformed(#[from] Malformed),
    /// It says what cannot be.
    #[error("the label that says where the seed's index lies is wrong: {0}")]
    Wrong(&'static str),
}

/// Why bytes are no index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// They are of another format, or of a later one.
    #[error("the seed's index is of a format that is not known")]
    Format,
    /// They end too early, or go on after the end.
    #[error("the seed's index has the wrong length")]
    Length,
    /// A part of it cannot be.
    #[error("the seed's index is wrong: {what} {reason}")]
    Wrong {
        /// Which part.
        what: String,
        /// Why.
        reason: &'static str,
    },
}

fn wrong(what: impl Into<String>, reason: &'static str) -> IndexError {
    IndexError::Wrong {
        what: what.into(),
        reason,
    }
}

impl Place {
    /// Reads the label of an image with these layers.
    ///
    /// # Errors
    ///
    /// When the label does not parse, the image has other layers than the one that it names, or the index does not fit
    /// into it or into memory.
    pub fn parse(label: &str, layers: &[Blob]) -> Result<Self, PlaceError> {
        let place: Self = document::parse(label.as_bytes())?;
        let [layer] = layers else {
            return Err(PlaceError::Wrong("the image has more than one layer"));
        };
        if layer.digest != place.layer {
            return Err(PlaceError::Wrong("it names another layer"));
        }
        if place.length > INDEX_LIMIT {
            return Err(PlaceError::Wrong("the index is too long"));
        }
        match place.offset.checked_add(place.length) {
            Some(end) if end <= layer.size => Ok(place),
            _ => Err(PlaceError::Wrong("the index reaches beyond its layer")),
        }
    }
}

impl Index {
    /// Reads the content of the member at `place`, whose SHA-256 the caller has compared, in a layer of `layer` bytes.
    ///
    /// Of what it gives the promises of all fields are kept; all ranges lie in the layer, and none overlaps another or
    /// the index.
    ///
    /// # Errors
    ///
    /// When the bytes are no index, or one that breaks a promise.
    pub fn decode(bytes: &[u8], place: &Place, layer: u64) -> Result<Self, IndexError> {
        if bytes.len() as u64 > INDEX_LIMIT {
            return Err(IndexError::Length);
        }
        let mut input = Input(bytes.strip_prefix(MAGIC).ok_or(IndexError::Format)?);
        let index = Self {
            commit: input.checksum()?,
            documents: input.documents()?,
            etc: input.chain("etc.tgz")?,
            var: input.chain("var.tgz")?,
            ostree: input.chain("ostree.tgz")?,
        };
        if !input.0.is_empty() {
            return Err(IndexError::Length);
        }
        index.check_objects()?;
        index.check_ranges(place, layer)?;
        Ok(index)
    }

    /// Whether readers will take it, if it lies at `offset` of its layer.
    pub(crate) fn check(bytes: &[u8], offset: u64) -> Result<(), IndexError> {
        let nothing = Digest::from_sha256(&Checksum::default());
        let place = Place {
            layer: nothing.clone(),
            offset,
            length: bytes.len() as u64,
            sha256: nothing,
        };
        Self::decode(bytes, &place, offset + place.length).map(drop)
    }

    fn check_objects(&self) -> Result<(), IndexError> {
        for (what, chain) in [("etc.tgz", &self.etc), ("var.tgz", &self.var)] {
            let objects = |member: &Member| member.continues || !member.objects.is_empty();
            if chain.members.iter().any(objects) {
                return Err(wrong(what, "has objects"));
            }
        }
        let wrong = |reason| Err(wrong("ostree.tgz", reason));
        let mut listed: Vec<&ObjectId> = Vec::new();
        // Whether the member before can go on.
        let mut open = false;
        for member in &self.ostree.members {
            match (member.continues, member.objects.len()) {
                (true, 0) if open => {}
                (true, _) => return wrong("has a continuation of what is not one object"),
                (false, count) => open = count == 1,
            }
            let files = member
                .objects
                .iter()
                .filter(|object| object.kind == ObjectKind::File);
            if ![0, member.objects.len()].contains(&files.count()) {
                return wrong("has a member with files and other objects");
            }
            listed.extend(&member.objects);
        }
        listed.sort_unstable();
        if listed.windows(2).any(|pair| pair.first() == pair.last()) {
            return wrong("has an object twice");
        }
        let mut commits = listed
            .iter()
            .filter(|object| object.kind == ObjectKind::Commit);
        match (commits.next(), commits.next()) {
            (Some(commit), None) if commit.checksum == self.commit => Ok(()),
            _ => wrong("does not have the commit, and no other"),
        }
    }

    fn check_ranges(&self, place: &Place, layer: u64) -> Result<(), IndexError> {
        let mut ranges = vec![("the index".to_owned(), place.offset, place.length)];
        for document in &self.documents {
            ranges.push((
                shown(document.name.as_bytes()),
                document.offset,
                document.length,
            ));
        }
        for (name, chain) in [
            ("etc.tgz", &self.etc),
            ("var.tgz", &self.var),
            ("ostree.tgz", &self.ostree),
        ] {
            // No sum of these overflows: each is 32 bits, and there are fewer than 2^32.
            ranges.push((name.to_owned(), chain.offset, chain.length()));
        }
        ranges.sort_unstable_by_key(|(_, offset, length)| (*offset, *length));
        let mut free = 0;
        for (what, offset, length) in ranges {
            if offset < free {
                return Err(wrong(what, "lies where something else lies"));
            }
            free = match offset.checked_add(length) {
                Some(end) if end <= layer => end,
                _ => return Err(wrong(what, "reaches beyond its layer")),
            };
        }
        Ok(())
    }
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn bytes(&mut self, count: usize) -> Result<&[u8], IndexError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(IndexError::Length)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn checksum(&mut self) -> Result<Checksum, IndexError> {
        let bytes = self.bytes(size_of::<Checksum>())?;
        bytes.try_into().map_err(|_| IndexError::Length)
    }

    /// A number in the one way that it is written.
    fn number(&mut self) -> Result<u64, IndexError> {
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.bytes(1)?.first().copied().unwrap_or_default();
            let bits = u64::from(byte & 0x7f);
            let placed = bits << shift;
            if placed >> shift != bits || (byte == 0 && shift > 0) {
                break;
            }
            value |= placed;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(wrong(
            "a number",
            "is too large, or longer than it has to be",
        ))
    }

    /// How many of something follow, each of which takes at least so many bytes.
    fn count(&mut self, least: usize) -> Result<usize, IndexError> {
        let count = self.number()?;
        self.fitting(count, least)
    }

    fn fitting(&self, count: u64, least: usize) -> Result<usize, IndexError> {
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.0.len() / least)
            .ok_or(IndexError::Length)
    }

    fn documents(&mut self) -> Result<Vec<Document>, IndexError> {
        let count = self.count(DOCUMENT_LEAST)?;
        let mut documents = Vec::with_capacity(count);
        let mut names = BTreeSet::new();
        for _ in 0..count {
            let length = self.count(1)?;
            let raw = self.bytes(length)?;
            let what = shown(raw);
            // Names are shown to people, and are no paths.
            let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'/';
            let name = str::from_utf8(raw).ok().map(ToOwned::to_owned);
            let name = name.filter(|_| raw.iter().all(is_plain));
            let limit = name.as_deref().and_then(document_limit);
            let (Some(name), Some(limit)) = (name, limit) else {
                return Err(wrong(what, "is no document"));
            };
            let (offset, length) = (self.number()?, self.number()?);
            if length > limit {
                return Err(wrong(what, "is too long"));
            }
            if !names.insert(name.clone()) {
                return Err(wrong(what, "comes twice"));
            }
            documents.push(Document {
                name,
                offset,
                length,
                sha256: self.checksum()?,
            });
        }
        Ok(documents)
    }

    fn chain(&mut self, what: &str) -> Result<Chain, IndexError> {
        let offset = self.number()?;
        let count = self.count(MEMBER_LEAST)?;
        if count == 0 {
            return Err(wrong(what, "has no members"));
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            members.push(self.member(what)?);
        }
        Ok(Chain { offset, members })
    }

    fn member(&mut self, what: &str) -> Result<Member, IndexError> {
        let compressed = self.number()?;
        let inflated = self.number()?;
        let digest = self.checksum()?;
        let objects = self.number()?;
        let within = |value: u64, least: u32, most: u32| {
            let value = u32::try_from(value).ok();
            value.filter(|value| (least..=most).contains(value))
        };
        let block = BLOCK as u32;
        let sizes = (
            within(compressed, COMPRESSED_LEAST, COMPRESSED_LIMIT),
            within(inflated, block, INFLATED_LIMIT).filter(|size| size % block == 0),
        );
        let (Some(compressed), Some(inflated)) = sizes else {
            return Err(wrong(what, "has a member that is too short or too long"));
        };
        let (count, continues) = (objects >> 1, objects & 1 == 1);
        // Each has a header of a block in it.
        if count > u64::from(inflated / block) {
            return Err(wrong(
                what,
                "has a member with more objects than it can hold",
            ));
        }
        let count = self.fitting(count, OBJECT)?;
        let mut objects = Vec::with_capacity(count);
        for _ in 0..count {
            let kind = match self.bytes(1)? {
                [1] => ObjectKind::File,
                [2] => ObjectKind::DirTree,
                [3] => ObjectKind::DirMeta,
                [4] => ObjectKind::Commit,
                _ => return Err(wrong(what, "has an object of an unknown kind")),
            };
            let checksum = self.checksum()?;
            objects.push(ObjectId { checksum, kind });
        }
        Ok(Member {
            compressed,
            inflated,
            digest,
            objects,
            continues,
        })
    }
}
