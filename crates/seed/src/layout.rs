//! An OCI image layout on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use api::Digest;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::watch::Watch;

/// Bytes read at once when a blob is hashed.
const CHUNK: usize = 1 << 20;

/// Why a layout cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file operation failed.
    #[error("{action} \"{}\"", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("checking blob {digest} was stopped")]
    Stopped {
        /// Which.
        digest: Digest,
    },
}

/// A directory in OCI image layout form (image spec 1.0): `oci-layout`, `index.json` and
/// `blobs/sha256/<hex>`. Blobs appear under their name only when they are whole and durable.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Opens the layout in `dir`, creating what is missing (directory mode 0700).
    ///
    /// # Errors
    ///
    /// When the directory or its marker cannot be written.
    pub fn create(dir: &Path) -> Result<Self, LayoutError> {
        let layout = Self::at(dir);
        let blobs = layout.blobs();
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .recursive(true)
            .create(&blobs)
            .map_err(failed("creating", &blobs))?;
        if !dir.join("oci-layout").exists() {
            layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(layout)
    }

    /// The layout in `dir` as it is, even if it is not there.
    pub(crate) fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens a blob for reading. Its content was verified when it was stored.
    ///
    /// # Errors
    ///
    /// When it is not there or cannot be opened.
    pub fn open(&self, digest: &Digest) -> Result<File, LayoutError> {
        let path = self.path(digest);
        File::open(&path).map_err(failed("opening", &path))
    }

    /// Reads a small blob whole, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is longer.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, LayoutError> {
        let path = self.path(digest);
        let mut bytes = Vec::new();
        let mut file = self.open(digest)?.take(limit + 1);
        file.read_to_end(&mut bytes)
            .map_err(failed("reading", &path))?;
        if bytes.len() as u64 > limit {
            let source = io::Error::new(io::ErrorKind::FileTooLarge, format!("over {limit} bytes"));
            return Err(failed("reading", &path)(source));
        }
        Ok(bytes)
    }

    /// True when the blob is present and has the content its name promises; hashes all of it. A
    /// blob of other content is removed.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or on a stop.
    pub fn verified(&self, digest: &Digest, watch: &mut dyn Watch) -> Result<bool, LayoutError> {
        let path = self.path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("opening", &path)(error)),
        };
        let actual = hash(&mut file, watch)
            .map_err(failed("reading", &path))?
            .ok_or_else(|| LayoutError::Stopped {
                digest: digest.clone(),
            })?;
        if actual == *digest {
            return Ok(true);
        }
        fs::remove_file(&path).map_err(failed("removing", &path))?;
        Ok(false)
    }

    /// Stores a small blob and gives its digest. Durable when this returns.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn store(&self, bytes: &[u8]) -> Result<Digest, LayoutError> {
        let digest = Digest::from_sha256(&Sha256::digest(bytes).into());
        let path = self.partial(digest.hex());
        let write = |path: &Path| {
            let mut file = File::create(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write(&path).map_err(failed("writing", &path))?;
        self.publish(&path, &digest)?;
        Ok(digest)
    }

    /// The file in which a blob grows until it is whole: `<hex or name>.partial` beside the blobs.
    pub(crate) fn partial(&self, name: &str) -> PathBuf {
        self.blobs().join(format!("{name}.partial"))
    }

    /// Gives a whole, verified and synced file its name as a blob, durably.
    pub(crate) fn publish(&self, partial: &Path, digest: &Digest) -> Result<(), LayoutError> {
        let path = self.path(digest);
        fs::rename(partial, &path).map_err(failed("renaming to", &path))?;
        sync_dir(&self.blobs())
    }

    /// Writes `index.json` naming one image, durably. Readers such as podman find the image there.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn point_at(
        &self,
        manifest: &Digest,
        size: u64,
        media_type: &str,
        name: &str,
    ) -> Result<(), LayoutError> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": media_type,
                "digest": manifest,
                "size": size,
                "annotations": { "org.opencontainers.image.ref.name": name },
            }],
        });
        self.write("index.json", index.to_string().as_bytes())
    }

    /// Path of a blob, whether it exists or not.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    fn blobs(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    /// Replaces a file of the layout atomically and durably.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), LayoutError> {
        let (path, new) = (self.dir.join(name), self.dir.join(format!("{name}.new")));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(failed("writing", &path))?;
        sync_dir(&self.dir)
    }
}

/// SHA-256 of what is left in `file`; `None` when stopped.
pub(crate) fn hash(file: &mut File, watch: &mut dyn Watch) -> io::Result<Option<Digest>> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        if watch.stop_requested() {
            return Ok(None);
        }
        match file.read(&mut buffer)? {
            0 => return Ok(Some(Digest::from_sha256(&hasher.finalize().into()))),
            len => hasher.update(&buffer[..len]),
        }
    }
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> LayoutError {
    let path = path.to_owned();
    move |source| LayoutError::Io {
        action,
        path: path.clone(),
        source,
    }
}

fn sync_dir(dir: &Path) -> Result<(), LayoutError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("syncing", dir))
}
