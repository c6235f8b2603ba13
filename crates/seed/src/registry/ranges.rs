//! Parts of a blob, each from the first place that gives them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use api::Digest;
use sha2::{Digest as _, Sha256};

use super::{BlobSink, Refused, RegistryError, Sources, passed_over};
use crate::pin::Blob;
use crate::watch::Watch;

/// Fetches ranges of one blob, several at once if asked so. A mirror that fails, or sends what its sink knows to be wrong, is
/// not asked for any further range.
///
/// A blob's name is its digest, so whatever answers for it at different times is the same or damaged; no `If-Range` could say
/// that better. What was received is the sink's to verify.
pub struct Ranges<'a> {
    sources: Sources<'a>,
    blob: &'a Blob,
    left_out: Vec<AtomicBool>,
}

impl<'a> Ranges<'a> {
    /// Ranges of this blob. Nothing is sent yet.
    pub fn new(sources: Sources<'a>, blob: &'a Blob) -> Self {
        let left_out = sources.mirrors.iter().map(|_| AtomicBool::new(false));
        Self {
            sources,
            blob,
            left_out: left_out.collect(),
        }
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
    /// [`RegistryError::WrongDigest`] where the sink says so of its bytes; see [`RegistryError`].
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
                }
                Ok(()) => return Ok(()),
            }
        }
        let own = self.sources.own;
        own.fetch_range(self.blob, range, sink, watch).await
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
