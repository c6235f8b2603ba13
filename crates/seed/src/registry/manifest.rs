//! An image's manifest, asked for by name or digest; of an index, the entry for this machine.

use api::ImageRef;
use oci_client::Reference;
use oci_client::client::Client;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

use super::{DOCUMENT_LIMIT, RegistryError, architecture, classify};
use crate::auth::AuthFile;
use crate::pin::ImageError;

#[derive(Deserialize)]
struct Index {
    manifests: Vec<IndexEntry>,
}

#[derive(Deserialize)]
struct IndexEntry {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// How manifests are asked for. Errors name `image`.
pub(super) struct Manifests<'a> {
    pub(super) client: &'a Client,
    pub(super) image: &'a ImageRef,
    pub(super) auth: &'a RegistryAuth,
}

impl Manifests<'_> {
    /// What `reference` stands for, as the registry has it.
    pub(super) async fn get(&self, reference: &Reference) -> Result<Vec<u8>, RegistryError> {
        let accepted = [
            OCI_IMAGE_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        ];
        let (bytes, _) = self
            .client
            .pull_manifest_raw(reference, self.auth, &accepted)
            .await
            .map_err(|error| classify(self.image, error))?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            let text = "the image manifest is longer than 4 MiB".to_owned();
            return Err(no_seed(self.image, ImageError::NotASeed(text)));
        }
        Ok(bytes.to_vec())
    }

    /// The manifest of an image; of an index, that of its entry for Linux on this machine's architecture.
    pub(super) async fn of_image(&self, reference: &Reference) -> Result<Vec<u8>, RegistryError> {
        let manifest = self.get(reference).await?;
        let Ok(index) = serde_json::from_slice::<Index>(&manifest) else {
            return Ok(manifest);
        };
        let digest = fitting(index).map_err(|error| no_seed(self.image, error))?;
        self.get(&reference.clone_with_digest(digest)).await
    }
}

/// The entry of an index for Linux on this machine's architecture.
fn fitting(index: Index) -> Result<String, ImageError> {
    let wanted = architecture();
    let fits = |entry: &IndexEntry| {
        entry
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "linux" && platform.architecture == wanted)
    };
    match index.manifests.into_iter().find(fits) {
        Some(entry) => Ok(entry.digest),
        None => Err(ImageError::NotASeed(format!(
            "the image index has no entry for linux on {wanted}"
        ))),
    }
}

/// The reference as the registry's library has it.
pub(super) fn parse_reference(image: &ImageRef) -> Result<Reference, RegistryError> {
    image
        .as_str()
        .parse()
        .map_err(|error| RegistryError::InvalidReference {
            image: image.clone(),
            source: Box::new(error),
        })
}

/// The credentials for a reference's repository.
pub(super) fn credentials(auth: &AuthFile, reference: &Reference) -> RegistryAuth {
    match auth.find(reference.registry(), reference.repository()) {
        Some(found) => RegistryAuth::Basic(found.username.clone(), found.password.clone()),
        None => RegistryAuth::Anonymous,
    }
}

pub(super) fn no_seed(image: &ImageRef, source: ImageError) -> RegistryError {
    RegistryError::NotASeed {
        image: image.clone(),
        source,
    }
}
