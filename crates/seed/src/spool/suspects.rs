//! Mirrors that had a part in a blob that arrived damaged, as far as this process remembers.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::{Digest, ImageRef};

use crate::pin::Blob;

/// A mirror's image and a blob of it. A process sees a few seeds in its life.
static SUSPECTS: Mutex<BTreeSet<(String, Digest)>> = Mutex::new(BTreeSet::new());

fn lock() -> MutexGuard<'static, BTreeSet<(String, Digest)>> {
    SUSPECTS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn add(mirror: &ImageRef, blob: &Blob) {
    lock().insert((mirror.as_str().to_owned(), blob.digest.clone()));
}

pub(super) fn has(mirror: &ImageRef, blob: &Blob) -> bool {
    lock().contains(&(mirror.as_str().to_owned(), blob.digest.clone()))
}

/// All mirrors may be asked for this blob again.
pub(super) fn forget(blob: &Blob) {
    lock().retain(|(_, digest)| *digest != blob.digest);
}
