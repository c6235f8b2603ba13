//! A pinned image kept on disk, so that a restart reads locally; or passed through, where there is
//! no room for it.

mod growing;
mod ledger;
mod suspects;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use api::Digest;
use sha2::{Digest as _, Sha256};

use crate::layout::{Layout, failed};
use crate::pin::{Blob, SeedPin};
use crate::pipe::PipeWriter;
use crate::registry::{BlobSink as _, Registry, RegistryError, Resolved, Sources, passed_over};
use crate::watch::Watch;
use growing::{Growing, Tap};

/// Bytes of a finished blob that are read at once.
const CHUNK: usize = 1 << 20;

/// Fetches everything that `resolved` pins into `layout`: manifest, configuration, layers. Blobs
/// that are there and have the right content are not fetched again (they are hashed); one that was
/// begun is continued behind what its ledger knows. `watch` sees the bytes of all layers, whether
/// fetched or found.
///
/// The layers' bytes also go into `pipe`, one stream a layer, as they arrive: the end of a stream is
/// written only after that layer was verified, and nothing that a reader makes of it before may be
/// relied upon. The pipe is cut where the bytes turned out to be wrong, even if the layer is then
/// fetched once more with success. A reader that is gone does not end the fetch.
///
/// Success means that all of it is on disk, verified and durable.
///
/// # Errors
///
/// See [`RegistryError`]. What was fetched stays; calling again continues.
pub async fn spool(
    sources: Sources<'_>,
    resolved: &Resolved,
    layout: &Layout,
    pipe: Option<PipeWriter>,
    watch: &mut dyn Watch,
) -> Result<(), RegistryError> {
    let mut tap = Tap::new(pipe);
    layout.store(&resolved.config)?;
    let manifest = layout.store(&resolved.manifest)?;
    let SeedPin {
        reference, layers, ..
    } = &resolved.pin;
    for layer in layers {
        if reread(layout, layer, &mut tap, watch, sources.own.image())? {
            continue;
        }
        let growing = Growing::resume(layout, layer, &mut tap, watch)?;
        let growing = fetch(sources, layer, growing, watch).await?;
        growing.publish(layout, layer)?;
    }
    let size = resolved.manifest.len() as u64;
    let kind = oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
    layout.point_at(&manifest, size, kind, reference.as_str())?;
    Ok(())
}

/// As [`spool`], but nothing is kept: the layers only go into `pipe`.
///
/// # Errors
///
/// See [`RegistryError`]. Calling again begins anew. After [`RegistryError::Damaged`] this process leaves
/// out the mirrors that had a part in it, unless there is no other place.
pub async fn pass(
    sources: Sources<'_>,
    resolved: &Resolved,
    pipe: PipeWriter,
    watch: &mut dyn Watch,
) -> Result<(), RegistryError> {
    let mut tap = Tap::new(Some(pipe));
    for layer in &resolved.pin.layers {
        let growing = fetch(sources, layer, Growing::passing(&mut tap), watch).await?;
        growing.finish();
        if tap.was_cut() {
            // It was right in the end, and what was passed on before is wrong.
            let image = sources.own.image().clone();
            return Err(RegistryError::Damaged { image });
        }
        if !tap.is_open() {
            return Ok(());
        }
    }
    Ok(())
}

/// Bytes of a blob of `size` bytes that [`spool`] would not fetch again into the layout in `dir`: all of it where it is whole,
/// and what its ledger knows where it was begun. Nothing is verified, and nothing created; what cannot be read counts as
/// not there.
#[must_use]
pub fn held(dir: &Path, digest: &Digest, size: u64) -> u64 {
    let layout = Layout::at(dir);
    let len = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    if len(&layout.path(digest)) == size {
        return size;
    }
    let (path, ledger) = growing::paths(&layout, digest);
    let records = ledger::read(&ledger).unwrap_or_default();
    let known = records.last().map_or(0, |record| record.len);
    known.min(len(&path)).min(size)
}

/// Brings a blob to its end, from each source in turn.
async fn fetch<'a>(
    sources: Sources<'_>,
    blob: &Blob,
    mut growing: Growing<'a>,
    watch: &mut dyn Watch,
) -> Result<Growing<'a>, RegistryError> {
    // Mirrors whose bytes were passed on and cannot be taken back.
    let mut passed: Vec<&Registry> = Vec::new();
    for mirror in sources.mirrors {
        if !growing.is_kept() && suspects::has(mirror.image(), blob) {
            tracing::warn!(mirror = %mirror.image(), "left out: it had a damaged blob before");
            continue;
        }
        let before = growing.len();
        let fetched = fetch_from(mirror, blob, &mut growing, watch).await;
        if !growing.is_kept() && growing.len() > before {
            passed.push(mirror);
        }
        match fetched {
            Ok(()) => return Ok(growing),
            Err(error @ (RegistryError::Stopped { .. } | RegistryError::Store { .. })) => {
                return Err(error);
            }
            Err(error) => {
                passed_over(mirror, &error);
                if matches!(error, RegistryError::WrongDigest { .. }) {
                    suspected(&passed, blob)?;
                    growing.restart()?;
                }
            }
        }
    }
    let mut fetched = fetch_from(sources.own, blob, &mut growing, watch).await;
    if matches!(fetched, Err(RegistryError::WrongDigest { .. })) {
        suspected(&passed, blob)?;
        // It came in pieces, maybe from several places and days: once more, all of it.
        growing.restart()?;
        fetched = fetch_from(sources.own, blob, &mut growing, watch).await;
    }
    if matches!(fetched, Err(RegistryError::WrongDigest { .. })) {
        growing.restart()?;
    }
    if !matches!(fetched, Ok(()) | Err(RegistryError::Stopped { .. })) {
        // Nobody else has it: a mirror that was left out may have been repaired.
        suspects::forget(blob);
    }
    fetched.map(|()| growing)
}

/// Ends a fetch that passed on wrong bytes of mirrors.
fn suspected(passed: &[&Registry], blob: &Blob) -> Result<(), RegistryError> {
    let Some(mirror) = passed.last() else {
        return Ok(());
    };
    for mirror in passed {
        suspects::add(mirror.image(), blob);
    }
    let image = mirror.image().clone();
    Err(RegistryError::Damaged { image })
}

async fn fetch_from(
    registry: &Registry,
    blob: &Blob,
    growing: &mut Growing<'_>,
    watch: &mut dyn Watch,
) -> Result<(), RegistryError> {
    let store = |source| RegistryError::Store {
        image: registry.image().clone(),
        source,
    };
    let fetched = registry.fetch_rest(blob, growing, watch).await;
    let paused = growing.pause();
    // What ended the fetch comes first: it may be what keeps the rest from being written, too.
    fetched?;
    paused.map_err(store)?;
    let actual = growing.digest().map_err(store)?;
    if actual == blob.digest {
        Ok(())
    } else {
        Err(registry.wrong(blob, actual.to_string()))
    }
}

/// Passes on a blob that is in the layout; `false` when it is not there or not what it should be.
fn reread(
    layout: &Layout,
    blob: &Blob,
    tap: &mut Tap,
    watch: &mut dyn Watch,
    image: &api::ImageRef,
) -> Result<bool, RegistryError> {
    if !tap.is_open() {
        let found = layout.verified(&blob.digest, watch)?;
        watch.advanced(if found { blob.size } else { 0 });
        return Ok(found);
    }
    let path = layout.path(&blob.digest);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("opening", &path)(error).into()),
    };
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        if watch.stop_requested() {
            let image = image.clone();
            return Err(RegistryError::Stopped { image });
        }
        let len = file.read(&mut buffer).map_err(failed("reading", &path))?;
        let Some(bytes @ [_, ..]) = buffer.get(..len) else {
            break;
        };
        hasher.update(bytes);
        tap.pass(bytes);
        watch.advanced(len as u64);
    }
    if api::Digest::from_sha256(&hasher.finalize().into()) == blob.digest {
        tap.end();
        return Ok(true);
    }
    tap.cut();
    std::fs::remove_file(&path).map_err(failed("removing", &path))?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_what_a_fetch_goes_on_behind() {
        const SIZE: u64 = 1000;
        let digest = Digest::from_sha256(&[7; 32]);
        let record = |len: u64| [&len.to_le_bytes()[..], &[9; 32]].concat();
        // Bytes of the whole blob, of one that was begun, and its ledger.
        let check = |whole: Option<u64>, begun: Option<u64>, ledger: &[u8], expect: u64| {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::create(dir.path()).unwrap();
            let (partial, beside) = growing::paths(&layout, &digest);
            for (path, len) in [(layout.path(&digest), whole), (partial, begun)] {
                if let Some(len) = len {
                    File::create(path).unwrap().set_len(len).unwrap();
                }
            }
            std::fs::write(beside, ledger).unwrap();
            assert_eq!(held(dir.path(), &digest, SIZE), expect);
        };
        let two = [record(256), record(512)].concat();
        check(None, None, &[], 0);
        check(Some(SIZE), None, &[], SIZE);
        check(Some(SIZE - 1), None, &[], 0);
        check(None, Some(600), &[], 0);
        check(None, Some(600), &two, 512);
        check(None, Some(300), &two, 300);
        check(None, Some(600), &two[..79], 256);
        check(None, Some(5000), &record(4000), SIZE);
        let nowhere = tempfile::tempdir().unwrap();
        assert_eq!(held(&nowhere.path().join("none"), &digest, SIZE), 0);
        assert!(!nowhere.path().join("none").exists());
    }
}
