//! Reading a seed from its layers.

mod collector;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use api::{Digest, seed_format};

use crate::archive::{ArchiveError, ArchiveReader, Decoded, Names};
use crate::layout::{Layout, LayoutError};
use crate::pin::SeedPin;
use crate::watch::Watch;
pub(crate) use collector::document_limit;
pub use collector::{Collector, PartSink};
use collector::{Located, Position};

/// Most members at the root of one layer; a seed has a dozen.
const MEMBER_LIMIT: usize = 10_000;

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
    /// What takes the archives refused one, and says itself why.
    #[error("{} of the seed was not taken", part.file_name())]
    Refused {
        /// Which.
        part: Part,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("reading the seed was stopped")]
    Stopped,
}

/// The small files of a seed, as they are.
#[derive(Debug, Clone, Default)]
pub struct Documents(BTreeMap<String, Vec<u8>>);

impl From<BTreeMap<String, Vec<u8>>> for Documents {
    /// Documents by their names, whatever they are.
    fn from(documents: BTreeMap<String, Vec<u8>>) -> Self {
        Self(documents)
    }
}

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
        let mut collector = Collector::default();
        for layer in &pin.layers {
            let input = Heeding {
                file: layout.open(&layer.digest)?,
                watch,
            };
            let stopped = || watch.stop_requested();
            collector.layer(&layer.digest, input, &mut (), &stopped)?;
        }
        let (documents, parts) = collector.finish()?;
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
