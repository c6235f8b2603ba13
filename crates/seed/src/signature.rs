//! Who signed an image: cosign's signatures with keys, without anything but the registry ("simple signing").
//!
//! The signatures of an image lie in its repository, as layers of an image of their own. Each layer is a **payload** that
//! names the digest of a manifest; the signature of the payload's bytes stands in an annotation of the layer. What is
//! believed is the payload, and only once a configured key has verified its bytes.

mod key;

use std::collections::BTreeMap;

use api::configuration::PublicKey;
use api::document::{self, Malformed};
use api::{Digest, ImageRef};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

pub use key::{InvalidKey, Key};

use crate::pin::Blob;
use crate::registry::RegistryError;

/// Media type of a layer that is a payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Annotation of such a layer: base64 of the signature.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// `critical.type` of a payload.
pub const CLAIM_TYPE: &str = "cosign container image signature";

/// Most signatures of an image that are looked at.
pub const SIGNATURES_LIMIT: usize = 100;
/// Longest payload in bytes.
pub const PAYLOAD_LIMIT: u64 = 64 << 10;
/// Longest signature in characters of base64: RSA with 8192 bits has 1,368.
const SIGNATURE_LIMIT: usize = 4096;
/// Most optional claims that are kept, and the longest name and value in characters.
const CLAIMS_LIMIT: usize = 16;
const CLAIM_LIMIT: usize = 256;
/// Most signatures of which an error tells why they do not count, and most keys that it names.
const TOLD_LIMIT: usize = 5;

/// The tag of the image that holds the signatures of the manifest `digest`.
pub fn tag(digest: &Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

/// Who vouches for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The key.
    pub key: PublicKey,
    /// SHA-256 of the key's `SubjectPublicKeyInfo`.
    pub fingerprint: Digest,
    /// The repository that the signer meant. It need not be the one that the image came from: a mirror's has another name.
    pub reference: Option<String>,
    /// What the signer said besides, as far as it is text.
    pub claims: BTreeMap<String, String>,
}

/// Why an image does not count as signed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The policy names something that is no key.
    #[error("ConfigMap lifecycle-agent-config: {0}; correct it")]
    Key(#[from] InvalidKey),
    /// The registry did not say.
    #[error("looking for the signatures of image {image}")]
    Registry {
        /// Which image, with its digest.
        image: String,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// There is none.
    #[error(
        "image {image} is not signed, and signaturePolicy is required: its repository has no tag {tag}; \
         sign it (cosign sign --key), or name a signed one"
    )]
    Missing {
        /// Which image, with its digest.
        image: String,
        /// Where signatures were looked for.
        tag: String,
    },
    /// What is at the place of the signatures is something else.
    #[error(
        "the signatures of image {image}, which signaturePolicy requires, cannot be read: {why}; sign it again"
    )]
    Unreadable {
        /// Which image, with its digest.
        image: String,
        /// Why.
        why: String,
    },
    /// None of those that there are is good.
    #[error(
        "image {image} has no good signature, and signaturePolicy is required: {tried}; tried with {keys}; \
         have it signed by the owner of a configured key, or add the signer's key to signatureKeys"
    )]
    Refused {
        /// Which image, with its digest.
        image: String,
        /// What is wrong with each.
        tried: String,
        /// The keys, by their fingerprints.
        keys: String,
    },
}

impl SignatureError {
    /// True when trying again later may help without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Registry { source, .. } if source.is_transient())
    }
}

/// A layer that says that it is a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its payload.
    pub payload: Blob,
    /// Base64 of the signature, as it came; `None` = the annotation is missing.
    pub signature: Option<String>,
}

impl Listed {
    /// Whether its payload may be fetched.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a line.
    pub fn check_size(&self) -> Result<(), String> {
        let size = self.payload.size;
        if size > PAYLOAD_LIMIT {
            return Err(format!(
                "has a payload of {size} bytes, more than {PAYLOAD_LIMIT}"
            ));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// The signatures that the manifest of a signature image lists; layers of other types are none.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_manifest(bytes: &[u8]) -> Result<Vec<Listed>, String> {
    let manifest: Manifest = document::parse(bytes)
        .map_err(|error: Malformed| format!("the manifest is malformed: {error}"))?;
    if manifest.schema_version != 2 {
        return Err("the manifest's schema version is not 2".to_owned());
    }
    let layers = manifest.layers.into_iter();
    let layers: Vec<_> = layers
        .filter(|layer| layer.media_type == PAYLOAD_TYPE)
        .collect();
    if layers.len() > SIGNATURES_LIMIT {
        let count = layers.len();
        return Err(format!("there are {count}, more than {SIGNATURES_LIMIT}"));
    }
    let listed = |layer: Layer| {
        let digest = layer.digest.parse();
        let digest = digest.map_err(|error: api::digest::InvalidDigest| error.to_string())?;
        let mut annotations = layer.annotations.unwrap_or_default();
        Ok(Listed {
            payload: Blob {
                digest,
                size: layer.size,
                media_type: layer.media_type,
            },
            signature: annotations.remove(SIGNATURE_ANNOTATION),
        })
    };
    layers.into_iter().map(listed).collect()
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
    #[serde(default)]
    optional: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(default)]
    identity: Option<Identity>,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference", default)]
    reference: Option<String>,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

fn short(text: &str) -> String {
    text.escape_debug().take(CLAIM_LIMIT).collect()
}

/// Whether one signature vouches for the manifest `digest`, or what is wrong with it.
///
/// # Errors
///
/// One line.
pub fn verify(
    digest: &Digest,
    signature: Option<&str>,
    payload: &[u8],
    keys: &[Key],
) -> Result<Signer, String> {
    let Some(signature) = signature.map(str::trim) else {
        return Err(format!("has no annotation {SIGNATURE_ANNOTATION}"));
    };
    if signature.len() > SIGNATURE_LIMIT {
        return Err(format!("is longer than {SIGNATURE_LIMIT} characters"));
    }
    let signature = STANDARD
        .decode(signature)
        .map_err(|_| "is not base64".to_owned())?;
    let key = keys.iter().find(|key| key.verifies(payload, &signature));
    let Some(key) = key else {
        return Err("was made with another key, or of other bytes".to_owned());
    };
    // From here on a trusted signer speaks, but perhaps of something else.
    let payload: Payload = document::parse(payload)
        .map_err(|error: Malformed| format!("is of a malformed payload: {error}"))?;
    if payload.critical.kind != CLAIM_TYPE {
        let kind = short(&payload.critical.kind);
        return Err(format!("is a \"{kind}\", not a \"{CLAIM_TYPE}\""));
    }
    if payload.critical.image.digest != digest.as_str() {
        let other = short(&payload.critical.image.digest);
        return Err(format!("is of another image: {other}"));
    }
    let claims = payload.optional.unwrap_or_default().into_iter();
    let claims = claims.filter_map(|(name, value)| Some((short(&name), short(value.as_str()?))));
    let reference = payload.critical.identity;
    let reference = reference.and_then(|identity| identity.reference);
    Ok(Signer {
        key: key.text().clone(),
        fingerprint: key.fingerprint().clone(),
        reference: reference
            .filter(|text| !text.is_empty())
            .map(|text| short(&text)),
        claims: claims.take(CLAIMS_LIMIT).collect(),
    })
}

/// An image with the digest that is meant, for people.
pub(crate) fn named(image: &ImageRef, digest: &Digest) -> String {
    if image.as_str().ends_with(digest.as_str()) {
        image.to_string()
    } else {
        format!("{image} ({digest})")
    }
}

/// What was wrong with each signature that was tried, and with which keys.
pub(crate) fn refused(
    image: &ImageRef,
    digest: &Digest,
    faults: &[String],
    keys: &[Key],
) -> SignatureError {
    let mut tried: Vec<String> = faults.iter().take(TOLD_LIMIT).cloned().collect();
    if faults.is_empty() {
        tried.push(format!("no layer is a {PAYLOAD_TYPE}"));
    }
    if faults.len() > TOLD_LIMIT {
        tried.push(format!("and {} more", faults.len() - TOLD_LIMIT));
    }
    let prints = keys.iter().map(|key| key.fingerprint().as_str());
    let mut prints: Vec<_> = prints.take(TOLD_LIMIT).map(str::to_owned).collect();
    if keys.len() > TOLD_LIMIT {
        prints.push(format!("{} more", keys.len() - TOLD_LIMIT));
    }
    SignatureError::Refused {
        image: named(image, digest),
        tried: tried.join("; "),
        keys: prints.join(", "),
    }
}
