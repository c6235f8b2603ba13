//! What many images are made of, asked over shared connections.

use api::ImageRef;
use oci_client::client::Client;

use super::manifest::{Manifests, credentials, no_seed, parse_reference};
use super::{Patience, RegistryError, connect};
use crate::auth::AuthFile;
use crate::pin::{Blob, parse_manifest};
use crate::trust::Trust;

/// Looks up images of any kind, seeds or not.
pub struct Lookup {
    client: Client,
    auth: AuthFile,
}

impl Lookup {
    /// Prepares to ask. `image` is one that will be asked about; errors name it. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When a certificate in `trust` is malformed, or the system has no certificates at all.
    pub fn new(image: &ImageRef, auth: AuthFile, trust: &Trust) -> Result<Self, RegistryError> {
        let client = connect(image, trust, Some(Patience::default()))?;
        Ok(Self { client, auth })
    }

    /// The layers of an image, lowest first; of an index, those of the entry for Linux on this
    /// machine's architecture. The manifest is not verified against a digest: what it says is good
    /// for planning only.
    ///
    /// # Errors
    ///
    /// As [`super::Registry::resolve`], once and without patience.
    pub async fn layers(&self, image: &ImageRef) -> Result<Vec<Blob>, RegistryError> {
        let reference = parse_reference(image)?;
        let manifests = Manifests {
            client: &self.client,
            image,
            auth: &credentials(&self.auth, &reference),
        };
        let manifest = manifests.of_image(&reference).await?;
        let (_, layers) = parse_manifest(&manifest).map_err(|error| no_seed(image, error))?;
        Ok(layers)
    }
}
