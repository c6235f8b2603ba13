//! What many images are made of, asked over shared connections.

use api::ImageRef;
use oci_client::client::Client;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use oci_client::{Reference, secrets::RegistryAuth};

use super::{DOCUMENT_LIMIT, Index, Patience, RegistryError, classify, connect, fitting};
use crate::auth::AuthFile;
use crate::pin::{Blob, ImageError, parse_manifest};
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
        let reference: Reference =
            image
                .as_str()
                .parse()
                .map_err(|error| RegistryError::InvalidReference {
                    image: image.clone(),
                    source: Box::new(error),
                })?;
        let mut manifest = self.manifest(image, &reference).await?;
        if let Ok(index) = serde_json::from_slice::<Index>(&manifest) {
            let digest = fitting(index).map_err(|error| unfit(image, error))?;
            let entry = reference.clone_with_digest(digest);
            manifest = self.manifest(image, &entry).await?;
        }
        let (_, layers) = parse_manifest(&manifest).map_err(|error| unfit(image, error))?;
        Ok(layers)
    }

    async fn manifest(
        &self,
        image: &ImageRef,
        reference: &Reference,
    ) -> Result<Vec<u8>, RegistryError> {
        let accepted = [
            OCI_IMAGE_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        ];
        let auth = match self.auth.find(reference.registry(), reference.repository()) {
            Some(found) => RegistryAuth::Basic(found.username.clone(), found.password.clone()),
            None => RegistryAuth::Anonymous,
        };
        let (bytes, _) = self
            .client
            .pull_manifest_raw(reference, &auth, &accepted)
            .await
            .map_err(|error| classify(image, error))?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            let text = "the image manifest is longer than 4 MiB".to_owned();
            return Err(unfit(image, ImageError::NotASeed(text)));
        }
        Ok(bytes.to_vec())
    }
}

fn unfit(image: &ImageRef, source: ImageError) -> RegistryError {
    RegistryError::NotASeed {
        image: image.clone(),
        source,
    }
}
