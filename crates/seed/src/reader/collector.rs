//! What the layers of a seed hold, collected in one pass over each.

use std::collections::BTreeMap;
use std::io::{self, Read};

use api::{Digest, seed_format};

use super::{Documents, MEMBER_LIMIT, Part, ReadError};
use crate::archive::{ArchiveError, ArchiveReader, Decoded, Kind, Names};

/// Longest document in bytes.
const DOCUMENT_LIMIT: u64 = 1 << 20;

/// Longest list of images in bytes.
const LIST_LIMIT: u64 = 4 << 20;

/// Prefix of a name that deletes another from the layers below (OCI image spec, layers).
const WHITEOUT: &str = ".wh.";

/// Name that deletes everything from the layers below.
const OPAQUE: &str = ".wh..wh..opq";

/// Takes the archives of a seed while its layers are read.
pub trait PartSink {
    /// An archive as it is in the seed, compressed. What is not read is skipped. The same archive may
    /// come once more, from a later layer: then only the last one counts.
    ///
    /// # Errors
    ///
    /// Ends the reading.
    fn part(&mut self, part: Part, content: &mut dyn Read) -> io::Result<()>;

    /// An archive that came before is not in the image: a later layer takes it away.
    fn removed(&mut self, part: Part);
}

/// Takes none.
impl PartSink for () {
    fn part(&mut self, _part: Part, _content: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }

    fn removed(&mut self, _part: Part) {}
}

/// Where an archive lies.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) layer: Digest,
    pub(super) size: u64,
    pub(super) at: Position,
}

#[derive(Debug, Clone)]
pub(super) enum Position {
    /// Bytes from the start of the layer's file, which is not compressed.
    Offset(u64),
    /// Members before it in the compressed layer.
    Ordinal(u64),
}

/// What a layer says about a name.
enum Found {
    Document(Vec<u8>),
    Part(Part, Located),
}

/// Reads the layers of a seed, lowest first, and keeps its documents. Of several layers the later ones
/// override the earlier, whiteouts included. Members may come in any order.
#[derive(Default)]
pub struct Collector {
    found: BTreeMap<String, Found>,
}

impl Collector {
    /// Reads one layer to its end, giving the archives in it to `sink` on the way. `stopped` tells
    /// whether a failure of `input` was asked for.
    ///
    /// # Errors
    ///
    /// When the layer is damaged or holds what no seed does, and when `sink` refuses an archive.
    pub fn layer(
        &mut self,
        layer: &Digest,
        input: impl Read,
        sink: &mut dyn PartSink,
        stopped: &dyn Fn() -> bool,
    ) -> Result<(), ReadError> {
        let (added, removed) = scan(layer, input, sink, stopped)?;
        for name in &removed {
            let names: Vec<String> = match name.strip_prefix(WHITEOUT) {
                _ if name == OPAQUE => self.found.keys().cloned().collect(),
                name => vec![name.unwrap_or_default().to_owned()],
            };
            for name in names {
                if let Some(Found::Part(part, _)) = self.found.remove(&name)
                    && !added.contains_key(&name)
                {
                    sink.removed(part);
                }
            }
        }
        self.found.extend(added);
        Ok(())
    }

    /// The documents of all layers together.
    ///
    /// # Errors
    ///
    /// When an archive is missing.
    pub fn documents(self) -> Result<Documents, ReadError> {
        self.finish().map(|(documents, _)| documents)
    }

    /// Documents, and where the archives lie.
    pub(super) fn finish(self) -> Result<(Documents, BTreeMap<Part, Located>), ReadError> {
        let (mut documents, mut parts) = (Documents::default(), BTreeMap::new());
        for (name, found) in self.found {
            match found {
                Found::Document(bytes) => drop(documents.0.insert(name, bytes)),
                Found::Part(part, located) => drop(parts.insert(part, located)),
            }
        }
        match Part::ALL.into_iter().find(|part| !parts.contains_key(part)) {
            Some(part) => Err(ReadError::Missing {
                name: part.file_name().to_owned(),
            }),
            None => Ok((documents, parts)),
        }
    }
}

/// What a layer adds at the image's root, and the names that it takes away.
fn scan(
    layer: &Digest,
    input: impl Read,
    sink: &mut dyn PartSink,
    stopped: &dyn Fn() -> bool,
) -> Result<(BTreeMap<String, Found>, Vec<String>), ReadError> {
    let failed = |source| ReadError::Layer {
        layer: layer.clone(),
        source,
    };
    let damaged = |source: ArchiveError| match stopped() {
        true => ReadError::Stopped,
        false => ReadError::Archive {
            layer: layer.clone(),
            source,
        },
    };
    let decoded = Decoded::new(input).map_err(failed)?;
    let plain = decoded.is_plain();
    let mut archive = ArchiveReader::new(decoded, Names::none());
    let (mut added, mut removed) = (BTreeMap::new(), Vec::new());
    let mut ordinal = 0;
    while let Some(entry) = archive.next_entry().map_err(damaged)? {
        let before = ordinal;
        ordinal += 1;
        let Some((parent, name)) = entry.path.split() else {
            continue;
        };
        let (true, Ok(name)) = (parent.is_root(), std::str::from_utf8(name)) else {
            continue;
        };
        if added.len() + removed.len() >= MEMBER_LIMIT {
            return Err(ReadError::TooMany {
                layer: layer.clone(),
            });
        }
        if name.starts_with(WHITEOUT) {
            removed.push(name.to_owned());
            continue;
        }
        let part = Part::ALL.into_iter().find(|part| part.file_name() == name);
        let limit = document_limit(name);
        if part.is_none() && limit.is_none() {
            continue;
        }
        if entry.kind != Kind::File || entry.extents.is_some() {
            return Err(ReadError::NotAFile {
                name: name.to_owned(),
            });
        }
        let found = match (part, limit) {
            (Some(part), _) => {
                let at = match plain {
                    true => Position::Offset(archive.position()),
                    false => Position::Ordinal(before),
                };
                let refused = |source| match stopped() {
                    true => ReadError::Stopped,
                    false => ReadError::Refused { part, source },
                };
                sink.part(part, &mut archive.content()).map_err(refused)?;
                let located = Located {
                    layer: layer.clone(),
                    size: entry.size,
                    at,
                };
                Found::Part(part, located)
            }
            (None, Some(limit)) if entry.size > limit => {
                return Err(ReadError::TooLong {
                    name: name.to_owned(),
                    limit,
                });
            }
            (None, _) => {
                let mut bytes = Vec::new();
                archive.content().read_to_end(&mut bytes).map_err(failed)?;
                Found::Document(bytes)
            }
        };
        added.insert(name.to_owned(), found);
    }
    Ok((added, removed))
}

/// How long a document may be; `None` for what is none.
pub(crate) fn document_limit(name: &str) -> Option<u64> {
    match name {
        seed_format::CONTAINERS_LIST => Some(LIST_LIMIT),
        seed_format::SEED_INFO
        | seed_format::RPM_OSTREE
        | seed_format::MACHINE_CONFIG
        | seed_format::ETC_DELETIONS => Some(DOCUMENT_LIMIT),
        _ if name.starts_with("ostree-") && name.ends_with(".origin") => Some(DOCUMENT_LIMIT),
        _ => None,
    }
}
