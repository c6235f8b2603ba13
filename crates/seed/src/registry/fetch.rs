//! Fetching blobs, verified.

use std::io;

use api::Digest;
use futures::StreamExt as _;
use oci_client::client::BlobResponse;
use sha2::{Digest as _, Sha256};

use super::{Registry, RegistryError, classify};
use crate::pin::Blob;
use crate::watch::Watch;

/// Where a fetched blob goes.
pub trait BlobSink: Send {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// Ends the fetch.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Forgets everything: the registry does not resume and sends the blob from its start.
    ///
    /// # Errors
    ///
    /// Ends the fetch.
    fn restart(&mut self) -> io::Result<()>;
}

impl BlobSink for Vec<u8> {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.clear();
        Ok(())
    }
}

/// What a sink already has of a blob.
#[derive(Default)]
pub(crate) struct Begun {
    /// Bytes.
    pub(crate) len: u64,
    /// Their hash so far.
    pub(crate) hasher: Sha256,
}

impl Registry {
    /// Fetches a blob into `sink`. Success means that the sink has all of it and its SHA-256 is the
    /// blob's digest; before that nothing in the sink may be trusted.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`]. A blob that ends early or grows too long counts as unreachable or as
    /// a wrong digest.
    pub async fn fetch(
        &self,
        blob: &Blob,
        sink: &mut dyn BlobSink,
        watch: &mut dyn Watch,
    ) -> Result<(), RegistryError> {
        self.fetch_rest(blob, Begun::default(), sink, watch).await
    }

    /// As [`Self::fetch`], with `begun` bytes already in the sink.
    pub(crate) async fn fetch_rest(
        &self,
        blob: &Blob,
        begun: Begun,
        sink: &mut dyn BlobSink,
        watch: &mut dyn Watch,
    ) -> Result<(), RegistryError> {
        let Begun {
            mut len,
            mut hasher,
        } = begun;
        let store = |source| RegistryError::Store {
            image: self.image.clone(),
            source,
        };
        if len < blob.size || blob.size == 0 {
            self.client
                .store_auth_if_needed(self.reference.resolve_registry(), &self.auth)
                .await;
            let digest = blob.digest.as_str();
            // Asking for a range even from 0 on: the library then leaves hashing to us, once.
            let request = self
                .client
                .pull_blob_stream_partial(&self.reference, digest, len, None);
            let mut stream = match self.until_stopped(watch, request).await? {
                Ok(BlobResponse::Partial(stream)) => stream,
                Ok(BlobResponse::Full(stream)) => {
                    if len > 0 {
                        (len, hasher) = (0, Sha256::new());
                        sink.restart().map_err(store)?;
                    }
                    stream
                }
                Err(error) => return Err(classify(&self.image, error)),
            };
            while let Some(chunk) = self.until_stopped(watch, stream.next()).await? {
                let chunk = match chunk {
                    Ok(chunk) => chunk,
                    Err(error) => return Err(self.broken_off(blob, error)),
                };
                len += chunk.len() as u64;
                if len > blob.size {
                    let actual = format!("more than its {} bytes", blob.size);
                    return Err(self.wrong(blob, actual));
                }
                hasher.update(&chunk);
                sink.take(&chunk).map_err(store)?;
                watch.advanced(chunk.len() as u64);
            }
        }
        if len < blob.size {
            let source = io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "blob {} ended after {len} of {} bytes",
                    blob.digest, blob.size
                ),
            );
            let image = self.image.clone();
            return Err(RegistryError::Unreachable {
                image,
                source: Box::new(source),
            });
        }
        let actual = Digest::from_sha256(&hasher.finalize().into());
        if actual != blob.digest {
            return Err(self.wrong(blob, actual.to_string()));
        }
        Ok(())
    }

    /// The stream failed: because the library found another digest, or because the connection did.
    fn broken_off(&self, blob: &Blob, error: io::Error) -> RegistryError {
        let digest = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<oci_client::errors::DigestError>());
        match digest {
            Some(oci_client::errors::DigestError::VerificationError { actual, .. }) => {
                self.wrong(blob, actual.clone())
            }
            _ => RegistryError::Unreachable {
                image: self.image.clone(),
                source: Box::new(error),
            },
        }
    }

    fn wrong(&self, blob: &Blob, actual: String) -> RegistryError {
        RegistryError::WrongDigest {
            image: self.image.clone(),
            expected: blob.digest.clone(),
            actual,
        }
    }
}
