//! Parts of a blob, each from the first place that gives them.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use api::Digest;
use sha2::{Digest as _, Sha256};

use super::error::said;
use super::{BlobSink, Refused, RegistryError, Sources, passed_over};
use crate::pin::Blob;
use crate::watch::Watch;

/// Fetches ranges of one blob, several at once if asked so. A mirror that fails, or sends what its sink knows to be wrong, is
/// not asked for any further range.
///
/// A mirror that has the blob and gives no ranges of it, or wrong ones, may be all that can be reached, and may give it as
/// one stream. So where the image's own registry fails then too, the mirror's error is told: trying again would not help,
/// and asking for all of the blob may.
///
/// A blob's name is its digest, so whatever answers for it at different times is the same or damaged; no `If-Range` could say
/// that better. What was received is the sink's to verify.
pub struct Ranges<'a> {
    sources: Sources<'a>,
    blob: &'a Blob,
    left_out: Vec<AtomicBool>,
    /// The first error of a mirror that may give the blob as one stream.
    whole_only: OnceLock<RegistryError>,
}

impl<'a> Ranges<'a> {
    /// Ranges of this blob. Nothing is sent yet.
    pub fn new(sources: Sources<'a>, blob: &'a Blob) -> Self {
        let left_out = sources.mirrors.iter().map(|_| AtomicBool::new(false));
        Self {
            sources,
            blob,
            left_out: left_out.collect(),
            whole_only: OnceLock::new(),
        }
    }

    /// Waits for what is to be done beside a fetch, looking at the stop request.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Stopped`].
    pub async fn until_stopped<T>(
        &self,
        watch: &mut dyn Watch,
        done: impl Future<Output = T>,
    ) -> Result<T, RegistryError> {
        self.sources.own.until_stopped(watch, done).await
    }

    /// Fetches a short range whose SHA-256 is known.
    ///
    /// # Errors
    ///
    /// As [`Self::fetch`].
    pub async fn exact(
        &self,
        range: Range<u64>,
        sha256: &Digest,
        watch: &mut dyn Watch,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut exact = Exact {
            length: range.end.saturating_sub(range.start),
            sha256,
            bytes: Vec::new(),
        };
        self.fetch(range, &mut exact, watch).await?;
        Ok(exact.bytes)
    }

    /// Fetches what `sink` lacks of a range within the blob. Nothing outside of the range reaches the sink, and nearly
    /// nothing is received of it.
    ///
    /// # Errors
    ///
    /// Those of the image's own registry: [`RegistryError::RangesIgnored`] where it does not give parts of blobs, and
    /// [`RegistryError::WrongDigest`] where the sink says so of its bytes; see [`RegistryError`]. Whatever else it says, it
    /// is one of these two where a mirror has said so.
    pub async fn fetch(
        &self,
        range: Range<u64>,
        sink: &mut dyn BlobSink,
        watch: &mut dyn Watch,
    ) -> Result<(), RegistryError> {
        for (mirror, left_out) in self.sources.mirrors.iter().zip(&self.left_out) {
            if left_out.load(Relaxed) {
                continue;
            }
            let fetched = mirror.fetch_range(self.blob, range.clone(), sink, watch);
            match fetched.await {
                Err(error @ (RegistryError::Stopped { .. } | RegistryError::Store { .. })) => {
                    return Err(error);
                }
                Err(error) => {
                    passed_over(mirror, &error);
                    left_out.store(true, Relaxed);
                    if is_of_parts(&error) {
                        // The first one is as good as any.
                        let _: Result<(), RegistryError> = self.whole_only.set(error);
                    }
                }
                Ok(()) => return Ok(()),
            }
        }
        let own = self.sources.own;
        let error = match own.fetch_range(self.blob, range, sink, watch).await {
            Err(error @ (RegistryError::Stopped { .. } | RegistryError::Store { .. })) => {
                return Err(error);
            }
            Err(error) if is_of_parts(&error) => return Err(error),
            Err(error) => error,
            Ok(()) => return Ok(()),
        };
        let Some(told) = self.whole_only.get().and_then(again) else {
            return Err(error);
        };
        let error: &dyn std::error::Error = &error;
        tracing::warn!(image = %own.image(), error, "only a mirror may have all of the image");
        Err(told)
    }
}

/// Whether this says that a place has the blob, and cannot be asked for parts of it.
fn is_of_parts(error: &RegistryError) -> bool {
    again(error).is_some()
}

/// The same error once more, if it says that a place has the blob, and cannot be asked for parts of it.
fn again(error: &RegistryError) -> Option<RegistryError> {
    match error {
        RegistryError::RangesIgnored { image, source } => Some(RegistryError::RangesIgnored {
            image: image.clone(),
            source: said(&source.to_string()),
        }),
        RegistryError::WrongDigest {
            image,
            expected,
            actual,
        } => Some(RegistryError::WrongDigest {
            image: image.clone(),
            expected: expected.clone(),
            actual: actual.clone(),
        }),
        _ => None,
    }
}

/// Bytes that are verified once all of them are there.
struct Exact<'a> {
    length: u64,
    sha256: &'a Digest,
    bytes: Vec<u8>,
}

impl BlobSink for Exact<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.bytes.extend_from_slice(bytes);
        if BlobSink::len(self) < self.length {
            return Ok(());
        }
        let actual = Digest::from_sha256(&Sha256::digest(&self.bytes).into());
        if actual == *self.sha256 {
            return Ok(());
        }
        self.bytes.clear();
        let text = "bytes of another digest than the seed's index or its label says";
        Err(Refused::Wrong(text.to_owned()))
    }
}
