//! One image in a registry: resolve it, fetch its blobs, push it.

mod budget;
mod error;
mod fetch;
mod lookup;
mod manifest;
mod patience;
mod pieces;
mod push;
mod ranges;
mod signatures;
mod sources;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{Digest, ImageRef};
use futures::FutureExt as _;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use sha2::{Digest as _, Sha256};

pub use budget::Budget;
pub use error::RegistryError;
use error::classify;
pub use fetch::{BlobSink, Refused};
pub use lookup::Lookup;
use manifest::{Manifests, credentials, parse_reference};
pub use patience::Patience;
pub use pieces::{Batch, Piece, Pieces};
pub use ranges::Ranges;
pub use sources::Sources;
pub(crate) use sources::passed_over;

use crate::auth::AuthFile;
use crate::layout::Layout;
use crate::pin::{Blob, ImageError, SeedPin, parse_labels, parse_manifest};
use crate::trust::Trust;
use crate::watch::Watch;

/// How the agent names itself.
const USER_AGENT: &str = concat!("lifecycle-agent/", env!("CARGO_PKG_VERSION"));

/// How often a silent transfer looks at the stop request.
const STOP_INTERVAL: Duration = Duration::from_millis(200);

/// Longest manifest or image configuration in bytes; registries allow 4 MiB for manifests.
const DOCUMENT_LIMIT: u64 = 4 << 20;

/// An image in its registry.
///
/// Proxies come from the environment (`HTTPS_PROXY`, `NO_PROXY`). Needs a tokio runtime with I/O
/// and time.
pub struct Registry {
    image: ImageRef,
    reference: Reference,
    /// For documents and for pushing.
    client: Client,
    /// For blobs.
    http: reqwest::Client,
    auth: RegistryAuth,
    /// What the registry's token service gave.
    token: Mutex<Option<String>>,
    trust: Trust,
    patience: Patience,
    budget: Option<Arc<Budget>>,
}

/// What a reference named: the pin and the documents that its digests are of.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The digests.
    pub pin: SeedPin,
    /// The image manifest as the registry has it.
    pub manifest: Vec<u8>,
    /// The image configuration as the registry has it.
    pub config: Vec<u8>,
}

impl Resolved {
    /// What was resolved before, if manifest and configuration of the image `digest` are in a layout.
    pub fn spooled(layout: &Layout, reference: &ImageRef, digest: &Digest) -> Option<Self> {
        let read = |digest: &Digest| {
            let bytes = layout.read(digest, DOCUMENT_LIMIT).ok()?;
            let actual = Digest::from_sha256(&Sha256::digest(&bytes).into());
            (actual == *digest).then_some(bytes)
        };
        let manifest = read(digest)?;
        let (config, layers) = parse_manifest(&manifest).ok()?;
        let bytes = read(&config.digest)?;
        let pin = SeedPin {
            reference: reference.clone(),
            digest: digest.clone(),
            labels: parse_labels(&bytes).ok()?,
            layers,
            config,
        };
        Some(Self {
            pin,
            manifest,
            config: bytes,
        })
    }
}

impl Registry {
    /// Prepares access to `image` with the credentials that `auth` has for its repository. Nothing
    /// is sent yet.
    ///
    /// # Errors
    ///
    /// When the reference does not parse, a certificate in `trust` is malformed, or the system has
    /// no certificates at all.
    pub fn new(image: &ImageRef, auth: &AuthFile, trust: &Trust) -> Result<Self, RegistryError> {
        Self::patient(image, auth, trust, Patience::default())
    }

    /// As [`Self::new`], with another patience than the usual one.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn patient(
        image: &ImageRef,
        auth: &AuthFile,
        trust: &Trust,
        patience: Patience,
    ) -> Result<Self, RegistryError> {
        let reference = parse_reference(image)?;
        let client = connect(image, trust, Some(patience))?;
        let http = blob_client(trust, patience).map_err(|error| RegistryError::Setup {
            image: image.clone(),
            source: Box::new(error),
        })?;
        let auth = credentials(auth, &reference);
        Ok(Self {
            image: image.clone(),
            reference,
            client,
            http,
            auth,
            token: Mutex::new(None),
            trust: trust.clone(),
            patience,
            budget: None,
        })
    }

    /// Fetches blobs within this budget, which others may share.
    #[must_use]
    pub fn limited(self, budget: Option<Arc<Budget>>) -> Self {
        Self { budget, ..self }
    }

    /// The image.
    pub fn image(&self) -> &ImageRef {
        &self.image
    }

    /// Resolves the reference to digests and reads the labels. Of an image index, the entry for
    /// Linux on this machine's architecture is taken.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`]; the image's kind is judged here, its labels are the caller's to check.
    pub async fn resolve(&self, watch: &mut dyn Watch) -> Result<Resolved, RegistryError> {
        self.until_stopped(watch, self.resolve_unwatched()).await?
    }

    async fn resolve_unwatched(&self) -> Result<Resolved, RegistryError> {
        self.authenticate(&self.client, RegistryOperation::Pull)
            .await?;
        let manifest = self.manifests().of_image(&self.reference).await?;
        let (config, layers) = parse_manifest(&manifest).map_err(|error| self.no_seed(error))?;
        let bytes = self.small_blob(&config).await?;
        let labels = parse_labels(&bytes).map_err(|error| self.no_seed(error))?;
        let digest = Digest::from_sha256(&Sha256::digest(&manifest).into());
        let pin = SeedPin {
            reference: self.image.clone(),
            digest,
            labels,
            layers,
            config,
        };
        Ok(Resolved {
            pin,
            manifest,
            config: bytes,
        })
    }

    /// Gets a token where the registry wants one, so that a failure to get it is seen for what it is.
    async fn authenticate(
        &self,
        client: &Client,
        operation: RegistryOperation,
    ) -> Result<(), RegistryError> {
        let token = client
            .auth(&self.reference, &self.auth, operation)
            .await
            .map_err(|error| classify(&self.image, error))?;
        if matches!(operation, RegistryOperation::Pull) {
            *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
        }
        Ok(())
    }

    /// Gets another token: the registry refused the last one.
    async fn renew(&self, watch: &mut dyn Watch) -> Result<(), RegistryError> {
        let renewed = self.authenticate(&self.client, RegistryOperation::Pull);
        self.until_stopped(watch, renewed).await?
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*token, &self.auth) {
            (Some(token), _) => request.bearer_auth(token),
            (None, RegistryAuth::Basic(user, password)) => request.basic_auth(user, Some(password)),
            (None, _) => request,
        }
    }

    fn blob_url(&self, blob: &Blob) -> String {
        let (registry, repository) = (
            self.reference.resolve_registry(),
            self.reference.repository(),
        );
        format!("https://{registry}/v2/{repository}/blobs/{}", blob.digest)
    }

    fn manifests(&self) -> Manifests<'_> {
        Manifests {
            client: &self.client,
            image: &self.image,
            auth: &self.auth,
        }
    }

    async fn small_blob(&self, blob: &Blob) -> Result<Vec<u8>, RegistryError> {
        if blob.size > DOCUMENT_LIMIT {
            let text = "the image configuration is longer than 4 MiB".to_owned();
            return Err(self.no_seed(ImageError::NotASeed(text)));
        }
        self.fetch(blob, &mut ()).await
    }

    fn no_seed(&self, source: ImageError) -> RegistryError {
        manifest::no_seed(&self.image, source)
    }

    /// Runs a request, looking at the stop request while it waits.
    async fn until_stopped<T>(
        &self,
        watch: &mut dyn Watch,
        request: impl Future<Output = T>,
    ) -> Result<T, RegistryError> {
        let mut request = std::pin::pin!(request.fuse());
        loop {
            if watch.stop_requested() {
                return Err(RegistryError::Stopped {
                    image: self.image.clone(),
                });
            }
            if let Ok(output) = tokio::time::timeout(STOP_INTERVAL, &mut request).await {
                return Ok(output);
            }
        }
    }
}

/// A client that trusts the system's certificates and those of `trust`.
fn connect(
    image: &ImageRef,
    trust: &Trust,
    patience: Option<Patience>,
) -> Result<Client, RegistryError> {
    let config = |extra_root_certificates| ClientConfig {
        protocol: ClientProtocol::Https,
        use_monolithic_push: true,
        extra_root_certificates,
        connect_timeout: Some(patience.unwrap_or_default().connect),
        read_timeout: patience.map(|patience| patience.read),
        user_agent: USER_AGENT,
        ..ClientConfig::default()
    };
    let setup = |error| RegistryError::Setup {
        image: image.clone(),
        source: Box::new(error),
    };
    let client = Client::try_from(config(Vec::new())).map_err(setup)?;
    let certificates = trust.certificates();
    if certificates.is_empty() {
        return Ok(client);
    }
    // Only now: without system certificates the library would panic on its way here.
    Client::try_from(config(certificates)).map_err(setup)
}

/// A client for blobs, which the library's own would give without their heads. Redirects are followed,
/// to TLS only, and take no credentials to another host.
fn blob_client(trust: &Trust, patience: Patience) -> Result<reqwest::Client, reqwest::Error> {
    let mut certificates = Vec::new();
    for pem in trust.pem() {
        certificates.push(reqwest::Certificate::from_pem(pem)?);
    }
    reqwest::Client::builder()
        .https_only(true)
        .tls_certs_merge(certificates)
        .connect_timeout(patience.connect)
        .read_timeout(patience.read)
        .user_agent(USER_AGENT)
        .build()
}

/// This machine's architecture as Go and OCI call it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
