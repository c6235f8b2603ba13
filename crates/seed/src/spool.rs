//! A pinned image kept on disk, so that a restart reads locally.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};

use sha2::{Digest as _, Sha256};

use crate::layout::{Layout, failed};
use crate::pin::{Blob, SeedPin};
use crate::registry::{BlobSink, Registry, RegistryError, Resolved};
use crate::watch::Watch;

/// Fetches everything that `resolved` pins into `layout`: manifest, configuration, layers. Blobs
/// that are there and have the right content are not fetched again (they are hashed); one that was
/// begun is continued where the registry can. `watch` sees the bytes of all layers, whether fetched
/// or found.
///
/// Success means that all of it is on disk, verified and durable.
///
/// # Errors
///
/// See [`RegistryError`]. What was fetched stays; calling again continues.
pub async fn spool(
    registry: &Registry,
    resolved: &Resolved,
    layout: &Layout,
    watch: &mut dyn Watch,
) -> Result<(), RegistryError> {
    layout.store(&resolved.config)?;
    let manifest = layout.store(&resolved.manifest)?;
    let SeedPin {
        reference, layers, ..
    } = &resolved.pin;
    for layer in layers {
        spool_blob(registry, layer, layout, watch).await?;
    }
    let size = resolved.manifest.len() as u64;
    let kind = oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
    layout.point_at(&manifest, size, kind, reference.as_str())?;
    Ok(())
}

async fn spool_blob(
    registry: &Registry,
    blob: &Blob,
    layout: &Layout,
    watch: &mut dyn Watch,
) -> Result<(), RegistryError> {
    if layout.verified(&blob.digest, watch)? {
        watch.advanced(blob.size);
        return Ok(());
    }
    let path = layout.partial(blob.digest.hex());
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed("opening", &path))?;
    let mut partial = Partial { file };
    let begun = partial
        .begun(blob, watch)
        .map_err(failed("reading", &path))?;
    let resumed = begun.len > 0;
    watch.advanced(begun.len);
    let fetched = registry.fetch_rest(blob, begun, &mut partial, watch).await;
    match fetched {
        Err(RegistryError::WrongDigest { .. }) if resumed => {
            // What a power cut left of the beginning may be the wrong part: once more, all of it.
            partial.restart().map_err(failed("emptying", &path))?;
            registry.fetch(blob, &mut partial, watch).await?;
        }
        Err(error @ RegistryError::WrongDigest { .. }) => {
            partial.restart().map_err(failed("emptying", &path))?;
            return Err(error);
        }
        result => result?,
    }
    partial.file.sync_all().map_err(failed("syncing", &path))?;
    layout.publish(&path, &blob.digest)?;
    Ok(())
}

/// A blob that is growing.
struct Partial {
    file: File,
}

impl Partial {
    /// Hashes what an earlier attempt left and stands at its end.
    fn begun(&mut self, blob: &Blob, watch: &dyn Watch) -> io::Result<crate::registry::Begun> {
        let mut begun = crate::registry::Begun::default();
        if self.file.metadata()?.len() > blob.size {
            self.restart()?;
            return Ok(begun);
        }
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        while !watch.stop_requested() {
            let len = self.file.read(&mut buffer)?;
            if len == 0 {
                break;
            }
            hasher.update(&buffer[..len]);
            begun.len += len as u64;
        }
        begun.hasher = hasher;
        Ok(begun)
    }
}

impl BlobSink for Partial {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0)).map(drop)
    }
}
