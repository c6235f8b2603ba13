//! Writing a seed into an image layout.

mod chain;
mod compression;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use api::{Digest, ImageRef, label, seed_format};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

pub use self::chain::ChainWriter;
use crate::archive::{ArchiveWriter, BLOCK, Entry, Kind, MemberPath, Time};
use crate::index::{self, Chain, Checksum, Document, INDEX_LIMIT, Index, IndexError, Place};
use crate::layout::{Layout, LayoutError, hash};
use crate::reader::{Part, document_limit};
use crate::registry::architecture;
use crate::watch::Watch;

/// Media type of an uncompressed layer (OCI image spec); the archives in it are compressed already.
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// Media type of an image configuration (OCI image spec).
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// Mode of documents and archives at the image's root (contract S 1.2).
const FILE_MODE: u32 = 0o600;

/// Why a seed cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The layer's file cannot be written.
    #[error("writing \"{name}\" to the seed's layer")]
    Layer {
        /// The member.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that goes into the seed cannot be read.
    #[error("reading \"{}\"", path.display())]
    Source {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The layout cannot be written.
    #[error("writing the seed's image")]
    Layout(#[from] LayoutError),
    /// The caller forgot a file.
    #[error("the seed has no \"{name}\" yet")]
    Missing {
        /// Its name.
        name: String,
    },
    /// The caller gave a file twice or under a name that is none.
    #[error("\"{name}\" cannot be added to the seed")]
    Name {
        /// The name.
        name: String,
    },
    /// The caller's objects are not what an index can say.
    #[error("making the seed's index")]
    Index(#[from] IndexError),
    /// The caller asked to stop.
    #[error("writing the seed was stopped")]
    Stopped,
}

/// A seed that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Digest of its one layer.
    pub layer: Digest,
    /// Bytes of the layer.
    pub size: u64,
    /// Where its index lies, if it has one.
    pub index: Option<Place>,
}

/// Writes a seed of format 4 as an image of one uncompressed layer, with an index if the objects of its repository are
/// made known ([`Self::repository`]). The archives go straight into the layer's file, so nothing is written twice.
pub struct SeedWriter {
    layout: Layout,
    path: PathBuf,
    file: BufWriter<File>,
    stamp: Time,
    names: BTreeSet<String>,
    documents: Vec<Document>,
    chains: BTreeMap<Part, Chain>,
    commit: Option<Checksum>,
}

impl SeedWriter {
    /// Starts a seed in the layout. `stamp` is the time of the files at the image's root.
    ///
    /// # Errors
    ///
    /// When the layer's file cannot be created.
    pub fn create(layout: Layout, stamp: Time) -> Result<Self, WriteError> {
        let path = layout.partial("layer");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(|source| WriteError::Layer {
                name: ".".to_owned(),
                source,
            })?;
        let file = BufWriter::with_capacity(1 << 20, file);
        Ok(Self {
            layout,
            path,
            file,
            stamp,
            names: BTreeSet::new(),
            documents: Vec::new(),
            chains: BTreeMap::new(),
            commit: None,
        })
    }

    /// Adds a small file.
    ///
    /// # Errors
    ///
    /// When the name is taken or the layer cannot be written.
    pub fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let length = bytes.len() as u64;
        let offset = self.member(name, length, FILE_MODE, &mut &*bytes)?;
        if document_limit(name).is_some() {
            self.documents.push(Document {
                name: name.to_owned(),
                offset,
                length,
                sha256: Sha256::digest(bytes).into(),
            });
        }
        Ok(())
    }

    /// Adds a copy of a file of the host, such as the program under [`seed_format::LCA_CLI`].
    ///
    /// # Errors
    ///
    /// When it cannot be read, the name is taken, or the layer cannot be written.
    pub fn file(&mut self, name: &str, source: &Path, mode: u32) -> Result<(), WriteError> {
        let failed = |error| WriteError::Source {
            path: source.to_owned(),
            source: error,
        };
        let mut file = File::open(source).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        self.member(name, size, mode, &mut file).map(drop)
    }

    /// Adds an archive: `produce` writes the uncompressed tar, which is compressed on its way.
    ///
    /// # Errors
    ///
    /// What `produce` gives, or when the layer cannot be written. The seed is torn then: drop it.
    pub fn part<T, E: From<WriteError>>(
        &mut self,
        part: Part,
        produce: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    ) -> Result<T, E> {
        self.archive(part, |chain| produce(chain))
    }

    /// Adds the archive of the repository and has the seed indexed. `produce` writes the uncompressed tar and tells where
    /// the entries of each object begin that `commit` reaches ([`ChainWriter::begin`]): the commit, then all objects of
    /// directories, then all files, in the order in which the commit's tree has them.
    ///
    /// # Errors
    ///
    /// As [`Self::part`].
    pub fn repository<T, E: From<WriteError>>(
        &mut self,
        commit: Checksum,
        produce: impl FnOnce(&mut ChainWriter<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.commit = Some(commit);
        self.archive(Part::Ostree, produce)
    }

    fn archive<T, E: From<WriteError>>(
        &mut self,
        part: Part,
        produce: impl FnOnce(&mut ChainWriter<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let name = part.file_name();
        self.claim(name)?;
        let failed = |source| WriteError::Layer {
            name: name.to_owned(),
            source,
        };
        let start = self.file.stream_position().map_err(failed)?;
        // The header comes when the size is known.
        self.file.write_all(&[0; BLOCK]).map_err(failed)?;
        let offset = start + BLOCK as u64;
        let mut chain = ChainWriter::new(&mut self.file, offset).map_err(failed)?;
        let produced = produce(&mut chain)?;
        let chain = chain.finish().map_err(failed)?;
        self.close(name, start).map_err(failed)?;
        self.chains.insert(part, chain);
        Ok(produced)
    }

    /// Writes the header of the member that began at `start` and ends here.
    fn close(&mut self, name: &str, start: u64) -> io::Result<()> {
        let end = self.file.stream_position()?;
        let size = end - start - BLOCK as u64;
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_path(name)?;
        header.set_mode(FILE_MODE);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(self.stamp.secs).unwrap_or(0));
        header.set_size(size);
        header.set_cksum();
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(header.as_bytes())?;
        self.file.seek(SeekFrom::Start(end))?;
        let padding = (size.wrapping_neg() % BLOCK as u64) as usize;
        self.file.write_all(&[0; BLOCK][..padding])
    }

    /// Ends the seed: checks that nothing is missing, makes the layer durable, writes configuration
    /// and manifest. `created` is an RFC 3339 time.
    ///
    /// # Errors
    ///
    /// When a file of the format is missing or the layout cannot be written.
    pub fn finish(
        mut self,
        reference: &ImageRef,
        labels: &BTreeMap<String, String>,
        created: &str,
        watch: &mut dyn Watch,
    ) -> Result<Written, WriteError> {
        let required = [
            seed_format::CONTAINERS_LIST,
            seed_format::SEED_INFO,
            seed_format::RPM_OSTREE,
            seed_format::MACHINE_CONFIG,
            seed_format::ETC_DELETIONS,
            seed_format::OSTREE,
            seed_format::VAR,
            seed_format::ETC,
        ];
        let origin = |name: &String| name.starts_with("ostree-") && name.ends_with(".origin");
        let missing = required
            .into_iter()
            .find(|name| !self.names.contains(*name));
        let missing = match missing {
            None if !self.names.iter().any(origin) => Some("ostree-<deployment>.origin"),
            missing => missing,
        };
        if let Some(name) = missing {
            return Err(WriteError::Missing {
                name: name.to_owned(),
            });
        }
        let failed = |source| WriteError::Layer {
            name: ".".to_owned(),
            source,
        };
        let index = self.write_index()?;
        self.file.write_all(&[0; 2 * BLOCK]).map_err(failed)?;
        self.file.flush().map_err(failed)?;
        let file = self.file.get_mut();
        let size = file.stream_position().map_err(failed)?;
        file.sync_all().map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let layer = hash(file, watch)
            .map_err(failed)?
            .ok_or(WriteError::Stopped)?;
        self.layout.publish(&self.path, &layer)?;
        let index = index.map(|(offset, bytes)| Place {
            layer: layer.clone(),
            offset,
            length: bytes.len() as u64,
            sha256: Digest::from_sha256(&Sha256::digest(&bytes).into()),
        });
        let mut labels = labels.clone();
        if let Some(place) = &index {
            let place = json!(place).to_string();
            labels.insert(label::SEED_INDEX.to_owned(), place);
        }
        let config = json!({
            "created": created,
            "architecture": architecture(),
            "os": "linux",
            "config": { "Labels": labels },
            "rootfs": { "type": "layers", "diff_ids": [layer] },
            "history": [{ "created": created, "created_by": "lifecycle-agent seed create" }],
        })
        .to_string();
        let config_digest = self.layout.store(config.as_bytes())?;
        let media_type = oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": { "mediaType": CONFIG_TYPE, "digest": config_digest, "size": config.len() },
            "layers": [{ "mediaType": LAYER_TYPE, "digest": layer, "size": size }],
        })
        .to_string();
        let digest = self.layout.store(manifest.as_bytes())?;
        let name = reference.as_str();
        self.layout
            .point_at(&digest, manifest.len() as u64, media_type, name)?;
        Ok(Written {
            manifest: digest,
            layer,
            size,
            index,
        })
    }

    /// Adds the index as the last member: where its content begins, and the content.
    fn write_index(&mut self) -> Result<Option<(u64, Vec<u8>)>, WriteError> {
        let mut chain = |part| self.chains.remove(&part);
        let chains = (chain(Part::Etc), chain(Part::Var), chain(Part::Ostree));
        let (Some(commit), (Some(etc), Some(var), Some(ostree))) = (self.commit, chains) else {
            return Ok(None);
        };
        let documents = std::mem::take(&mut self.documents);
        let index = Index {
            commit,
            documents,
            etc,
            var,
            ostree,
        };
        let bytes = index.encode();
        if bytes.len() as u64 > INDEX_LIMIT {
            let (bytes, limit) = (bytes.len(), INDEX_LIMIT);
            tracing::warn!(
                bytes,
                limit,
                "the seed has too many objects for an index and gets none"
            );
            return Ok(None);
        }
        let offset = self.member(index::NAME, bytes.len() as u64, FILE_MODE, &mut &*bytes)?;
        Index::check(&bytes, offset)?;
        Ok(Some((offset, bytes)))
    }

    /// Adds a file; where its content begins.
    fn member(
        &mut self,
        name: &str,
        size: u64,
        mode: u32,
        content: &mut dyn Read,
    ) -> Result<u64, WriteError> {
        self.claim(name)?;
        let failed = |source| WriteError::Layer {
            name: name.to_owned(),
            source,
        };
        let path = MemberPath::parse(name.as_bytes()).map_err(|_| WriteError::Name {
            name: name.to_owned(),
        })?;
        let entry = Entry {
            path,
            kind: Kind::File,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time {
                nanos: 0,
                ..self.stamp
            },
            size,
            extents: None,
            xattrs: BTreeMap::new(),
        };
        ArchiveWriter::new(&mut self.file)
            .append(&entry, content)
            .map_err(failed)?;
        let end = self.file.stream_position().map_err(failed)?;
        Ok(end - size.next_multiple_of(BLOCK as u64))
    }

    fn claim(&mut self, name: &str) -> Result<(), WriteError> {
        if name.is_empty() || name.contains('/') || !self.names.insert(name.to_owned()) {
            return Err(WriteError::Name {
                name: name.to_owned(),
            });
        }
        Ok(())
    }
}

impl Drop for SeedWriter {
    fn drop(&mut self) {
        // Of an unfinished seed nothing stays; after finish the file has its name as a blob.
        let _gone = fs::remove_file(&self.path);
    }
}
