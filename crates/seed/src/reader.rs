//! Reading a seed from its layers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use api::{Digest, seed_format};

use crate::archive::{ArchiveError, ArchiveReader, Decoded, Kind, Names};
use crate::layout::{Layout, LayoutError};
use crate::pin::SeedPin;
use crate::watch::Watch;

/// Longest document in bytes.
const DOCUMENT_LIMIT: u64 = 1 << 20;

/// Longest list of images in bytes.
const LIST_LIMIT: u64 = 4 << 20;

/// Most members at the root of one layer; a seed has a dozen.
const MEMBER_LIMIT: usize = 10_000;

/// Prefix of a name that deletes another from the layers below (OCI image spec, layers).
const WHITEOUT: &str = ".wh.";

/// Name that deletes everything from the layers below.
const OPAQUE: &str = ".wh..wh..opq";

/// One of the archives in a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The ostree repository, members `./...`.
    Ostree,
    /// `/var`, members `var/...`.
    Var,
    /// The changed files of `/etc`, members `etc/...`.
    Etc,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 3] = [Part::Ostree, Part::Var, Part::Etc];

    /// The file at the image's root.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Ostree => seed_format::OSTREE,
            Self::Var => seed_format::VAR,
            Self::Etc => seed_format::ETC,
        }
    }
}

/// Why a seed cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A blob is missing or cannot be opened.
    #[error("opening the layers of the seed")]
    Layout(#[from] LayoutError),
    /// A layer's file cannot be read.
    #[error("reading layer {layer} of the seed")]
    Layer {
        /// Which.
        layer: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A layer is not an archive.
    #[error("layer {layer} of the seed is damaged")]
    Archive {
        /// Which.
        layer: Digest,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// The seed lacks a file.
    #[error("the seed has no file \"{name}\"; it was not made with seed create")]
    Missing {
        /// Its name at the image's root.
        name: String,
    },
    /// A file is longer than such a file ever is.
    #[error("the seed's file \"{name}\" is longer than {limit} bytes")]
    TooLong {
        /// Its name.
        name: String,
        /// The limit.
        limit: u64,
    },
    /// A name belongs to something that is no file.
    #[error("\"{name}\" in the seed is not a regular file")]
    NotAFile {
        /// Its name.
        name: String,
    },
    /// A layer has more members than any seed.
    #[error("layer {layer} of the seed has more than {MEMBER_LIMIT} files at its root")]
    TooMany {
        /// Which.
        layer: Digest,
    },
    /// The caller asked to stop.
    #[error("reading the seed was stopped")]
    Stopped,
}

/// The small files of a seed, as they are.
#[derive(Debug, Clone, Default)]
pub struct Documents(BTreeMap<String, Vec<u8>>);

impl Documents {
    /// A document by its name at the image's root ([`seed_format`]).
    ///
    /// # Errors
    ///
    /// When the seed does not have it.
    pub fn get(&self, name: &str) -> Result<&[u8], ReadError> {
        let found = self.0.get(name).map(Vec::as_slice);
        found.ok_or_else(|| ReadError::Missing {
            name: name.to_owned(),
        })
    }

    /// The names that the seed has.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// A seed whose layers are in a layout. Members may come in any order; of several layers the later
/// ones override the earlier, whiteouts included.
#[derive(Debug)]
pub struct SeedReader<'a> {
    layout: &'a Layout,
    pin: &'a SeedPin,
    documents: Documents,
    parts: BTreeMap<Part, Located>,
}

/// Where an archive lies.
#[derive(Debug, Clone)]
struct Located {
    layer: Digest,
    size: u64,
    at: Position,
}

#[derive(Debug, Clone)]
enum Position {
    /// Bytes from the start of the layer's file, which is not compressed.
    Offset(u64),
    /// Members before it in the compressed layer.
    Ordinal(u64),
}

/// What one layer says about a name.
enum Found {
    Document(Vec<u8>),
    Part(Part, Located),
}

impl<'a> SeedReader<'a> {
    /// Reads through all layers once: keeps the documents, notes where the archives are.
    ///
    /// # Errors
    ///
    /// When a layer is damaged, a document is too long, or an archive is missing.
    pub fn open(
        layout: &'a Layout,
        pin: &'a SeedPin,
        watch: &mut dyn Watch,
    ) -> Result<Self, ReadError> {
        let mut found = BTreeMap::new();
        for layer in &pin.layers {
            let (added, removed) = scan(layout, &layer.digest, watch)?;
            if removed.iter().any(|name| name == OPAQUE) {
                found.clear();
            }
            for name in removed {
                found.remove(name.trim_start_matches(WHITEOUT));
            }
            found.extend(added);
        }
        let (mut documents, mut parts) = (Documents::default(), BTreeMap::new());
        for (name, found) in found {
            match found {
                Found::Document(bytes) => drop(documents.0.insert(name, bytes)),
                Found::Part(part, located) => drop(parts.insert(part, located)),
            }
        }
        if let Some(part) = Part::ALL.into_iter().find(|part| !parts.contains_key(part)) {
            return Err(ReadError::Missing {
                name: part.file_name().to_owned(),
            });
        }
        Ok(Self {
            layout,
            pin,
            documents,
            parts,
        })
    }

    /// The pin that it was opened with.
    pub fn pin(&self) -> &SeedPin {
        self.pin
    }

    /// The small files.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Size of an archive as it is in the seed, compressed, in bytes.
    pub fn part_size(&self, part: Part) -> u64 {
        self.parts.get(&part).map_or(0, |located| located.size)
    }

    /// Runs `consume` on the bytes of an archive: a compressed tar, for
    /// [`ArchiveReader::decoding`].
    ///
    /// # Errors
    ///
    /// When the layer cannot be read up to the archive. What `consume` gives is passed on.
    pub fn with_part<T>(
        &self,
        part: Part,
        consume: impl FnOnce(&mut dyn Read) -> T,
    ) -> Result<T, ReadError> {
        let missing = || ReadError::Missing {
            name: part.file_name().to_owned(),
        };
        let Located { layer, size, at } = self.parts.get(&part).ok_or_else(missing)?;
        let mut file = self.layout.open(layer)?;
        let failed = |source| ReadError::Layer {
            layer: layer.clone(),
            source,
        };
        match *at {
            Position::Offset(offset) => {
                file.seek(SeekFrom::Start(offset)).map_err(failed)?;
                Ok(consume(&mut file.take(*size)))
            }
            Position::Ordinal(before) => {
                let damaged = |source| ReadError::Archive {
                    layer: layer.clone(),
                    source,
                };
                let decoded = Decoded::new(file).map_err(failed)?;
                let mut archive = ArchiveReader::new(decoded, Names::none());
                for _ in 0..=before {
                    archive.next_entry().map_err(damaged)?.ok_or_else(missing)?;
                }
                Ok(consume(&mut archive.content()))
            }
        }
    }
}

/// What a layer adds at the image's root, and the names that it takes away.
fn scan(
    layout: &Layout,
    layer: &Digest,
    watch: &dyn Watch,
) -> Result<(BTreeMap<String, Found>, Vec<String>), ReadError> {
    let input = Heeding {
        file: layout.open(layer)?,
        watch,
    };
    let failed = |source| ReadError::Layer {
        layer: layer.clone(),
        source,
    };
    let damaged = |source| match watch.stop_requested() {
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
        let limit = limit(name);
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
                Found::Part(
                    part,
                    Located {
                        layer: layer.clone(),
                        size: entry.size,
                        at,
                    },
                )
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

/// A layer's file that ends with an error when a stop is requested.
struct Heeding<'a> {
    file: File,
    watch: &'a dyn Watch,
}

impl Read for Heeding<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.watch.stop_requested() {
            return Err(io::Error::other("stopped"));
        }
        self.file.read(buf)
    }
}

/// How long a document may be; `None` for what is none.
fn limit(name: &str) -> Option<u64> {
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
