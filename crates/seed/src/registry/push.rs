//! Pushing an image from a layout.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::Digest;
use futures::stream;
use oci_client::RegistryOperation;
use oci_client::client::Client;
use oci_client::errors::OciDistributionError;
use serde::Deserialize;
use tokio::time::Instant;

use super::{DOCUMENT_LIMIT, Registry, RegistryError, STOP_INTERVAL, classify, connect};
use crate::layout::Layout;
use crate::pin::{Blob, parse_manifest};
use crate::watch::Watch;

/// Bytes read and sent at once.
const CHUNK: usize = 256 * 1024;

/// How long an upload may make no progress; at its end the registry hashes and moves the blob.
const STALL_LIMIT: Duration = Duration::from_secs(300);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    media_type: Option<String>,
}

impl Registry {
    /// Pushes the image whose manifest is `digest` in `layout` under this reference, its blobs
    /// first. Blobs that the repository has are not sent again. Blobs are streamed, one request
    /// each; `watch` sees the bytes sent.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`]. What was sent before a failure need not be sent again.
    pub async fn push(
        &self,
        layout: &Layout,
        digest: &Digest,
        watch: &mut dyn Watch,
    ) -> Result<(), RegistryError> {
        let manifest = layout.read(digest, DOCUMENT_LIMIT)?;
        let (config, layers) = parse_manifest(&manifest).map_err(|error| self.no_seed(error))?;
        // The library's read timeout would run while a blob is sent.
        let client = connect(&self.image, &self.trust, None)?;
        let token = self.authenticate(&client, RegistryOperation::Push);
        self.until_stopped(watch, token).await??;
        for blob in layers.iter().chain([&config]) {
            self.push_blob(&client, layout, blob, watch).await?;
        }
        let typed: Option<Typed> = serde_json::from_slice(&manifest).ok();
        let media_type = typed
            .and_then(|typed| typed.media_type)
            .unwrap_or_else(|| oci_client::manifest::OCI_IMAGE_MEDIA_TYPE.to_owned());
        let header = media_type.parse().map_err(|_| {
            let text = "the image manifest has a malformed media type".to_owned();
            self.no_seed(crate::pin::ImageError::NotASeed(text))
        })?;
        let request = client.push_manifest_raw(&self.reference, manifest, header);
        let answer = self.until_stopped(watch, request).await?;
        answer
            .map(drop)
            .map_err(|error| classify(&self.image, error))
    }

    async fn push_blob(
        &self,
        client: &Client,
        layout: &Layout,
        blob: &Blob,
        watch: &mut dyn Watch,
    ) -> Result<(), RegistryError> {
        let digest = blob.digest.as_str();
        let exists = client.blob_exists(&self.reference, digest);
        let exists = self.until_stopped(watch, exists).await?;
        if exists.map_err(|error| classify(&self.image, error))? {
            watch.advanced(blob.size);
            return Ok(());
        }
        let sent = Arc::new(AtomicU64::new(0));
        let content = content(layout.open(&blob.digest)?, Arc::clone(&sent));
        let request = client.push_blob_stream(&self.reference, content, digest, Some(blob.size));
        let mut request = Box::pin(request);
        let (mut seen, mut moved) = (0, Instant::now());
        loop {
            let answer = tokio::time::timeout(STOP_INTERVAL, &mut request).await;
            let now = sent.load(Ordering::Relaxed);
            if now > seen {
                watch.advanced(now - seen);
                (seen, moved) = (now, Instant::now());
            }
            if let Ok(answer) = answer {
                return answer
                    .map(drop)
                    .map_err(|error| classify(&self.image, error));
            }
            if moved.elapsed() > STALL_LIMIT {
                let text = format!("blob {digest} stalled after {seen} of {} bytes", blob.size);
                return Err(RegistryError::Unreachable {
                    image: self.image.clone(),
                    source: text.into(),
                });
            }
            if watch.stop_requested() {
                return Err(RegistryError::Stopped {
                    image: self.image.clone(),
                });
            }
        }
    }
}

/// A file as a stream of chunks, counting what was handed out. Reads block: they are short, and
/// nothing else runs on the worker's runtime.
fn content<B: From<Vec<u8>>>(
    file: File,
    sent: Arc<AtomicU64>,
) -> impl futures::Stream<Item = Result<B, OciDistributionError>> + Send + 'static {
    stream::try_unfold((file, sent), |(mut file, sent)| async move {
        let mut chunk = vec![0; CHUNK];
        let len = file.read(&mut chunk)?;
        if len == 0 {
            return Ok(None);
        }
        chunk.truncate(len);
        sent.fetch_add(len as u64, Ordering::Relaxed);
        Ok(Some((B::from(chunk), (file, sent))))
    })
}
