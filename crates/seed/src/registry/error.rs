//! Why a registry did not give or take an image.

use std::error::Error;
use std::io;

use api::{Digest, ImageRef};
use oci_client::errors::{OciDistributionError, OciErrorCode};

use crate::layout::LayoutError;
use crate::pin::ImageError;

/// A failure underneath, whatever library it comes from.
type Cause = Box<dyn Error + Send + Sync>;

/// Why a registry did not give or take an image. Only [`RegistryError::is_transient`] failures can
/// go away by themselves.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The reference names no image.
    #[error("\"{image}\" is not an image reference; expected registry/repository:tag or @digest")]
    InvalidReference {
        /// As given.
        image: ImageRef,
        /// Why.
        #[source]
        source: Cause,
    },
    /// No connection, a timeout, or an answer that asks to try later.
    #[error("the registry of image {image} cannot be reached or is overloaded; it is tried again")]
    Unreachable {
        /// Which image.
        image: ImageRef,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The registry's certificate is not trusted.
    #[error(
        "the certificate of the registry of image {image} is not trusted; \
         add its CA to the node's trusted certificates"
    )]
    Untrusted {
        /// Which image.
        image: ImageRef,
        /// Why.
        #[source]
        source: Cause,
    },
    /// No credentials, or wrong ones.
    #[error(
        "the registry refuses access to image {image}; \
         check the pull secret's entry for its registry or repository"
    )]
    Unauthorized {
        /// Which image.
        image: ImageRef,
        /// What the registry said.
        #[source]
        source: Cause,
    },
    /// No such image or blob.
    #[error("image {image} is not in its registry; check the reference")]
    NotFound {
        /// Which image.
        image: ImageRef,
        /// What the registry said.
        #[source]
        source: Cause,
    },
    /// The image is something else.
    #[error("image {image} is not a seed image; name one that was made with seed create")]
    NotASeed {
        /// Which image.
        image: ImageRef,
        /// Why not.
        #[source]
        source: ImageError,
    },
    /// Content that is not what its digest says.
    #[error(
        "blob {expected} of image {image} arrived as {actual}; \
         the registry's copy is damaged, push the image again"
    )]
    WrongDigest {
        /// Which image.
        image: ImageRef,
        /// The digest in the manifest.
        expected: Digest,
        /// The digest of what arrived.
        actual: String,
    },
    /// Wrong content that was passed on already, where nothing is kept that could be read again.
    #[error(
        "what arrived of image {image} is damaged; \
         there is no room to keep the seed, so all of it is fetched again"
    )]
    Damaged {
        /// Whose copy it was, in part at least.
        image: ImageRef,
    },
    /// An answer that the distribution specification does not foresee.
    #[error("the registry of image {image} gave an answer that cannot be understood")]
    Protocol {
        /// Which image.
        image: ImageRef,
        /// What it was.
        #[source]
        source: Cause,
    },
    /// A part of a blob was asked for, and something else came.
    #[error(
        "the registry of image {image}, or a proxy before it, does not give parts of blobs; \
         the image can only be fetched whole"
    )]
    RangesIgnored {
        /// Which image.
        image: ImageRef,
        /// What came.
        #[source]
        source: Cause,
    },
    /// The client could not be set up, for want of any trusted certificate.
    #[error("no client for the registry of image {image}; check the node's trusted certificates")]
    Setup {
        /// Which image.
        image: ImageRef,
        /// Why.
        #[source]
        source: Cause,
    },
    /// What arrived could not be stored.
    #[error("storing a blob of image {image}")]
    Store {
        /// Which image.
        image: ImageRef,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The layout on disk is not usable.
    #[error("image layout")]
    Layout(#[from] LayoutError),
    /// The caller asked to stop.
    #[error("the transfer of image {image} was stopped")]
    Stopped {
        /// Which image.
        image: ImageRef,
    },
}

impl RegistryError {
    /// True when trying again later may help without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Damaged { .. })
    }
}

/// What the registry said, in one short line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

pub(super) fn said(text: &str) -> Cause {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Box::new(Said(line.escape_debug().take(200).collect()))
}

/// Sorts the client library's errors. URLs are left out: they may carry signatures.
pub(super) fn classify(image: &ImageRef, error: OciDistributionError) -> RegistryError {
    let image = image.clone();
    match error {
        OciDistributionError::RequestError(error) => requested(image, error),
        OciDistributionError::ServerError { code, message, .. } => {
            by_status(image, code, said(&format!("status {code}: {message}")))
        }
        OciDistributionError::UnauthorizedError { .. } => RegistryError::Unauthorized {
            image,
            source: said("status 401: unauthorized"),
        },
        OciDistributionError::AuthenticationFailure(reason) => RegistryError::Unauthorized {
            image,
            source: said(&format!("no token: {reason}")),
        },
        OciDistributionError::RegistryError { envelope, .. } => {
            let source = said(&envelope.to_string());
            match envelope.errors.first().map(|error| &error.code) {
                Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => {
                    RegistryError::Unauthorized { image, source }
                }
                Some(
                    OciErrorCode::NotFound
                    | OciErrorCode::ManifestUnknown
                    | OciErrorCode::ManifestBlobUnknown
                    | OciErrorCode::BlobUnknown
                    | OciErrorCode::NameUnknown,
                ) => RegistryError::NotFound { image, source },
                Some(OciErrorCode::Toomanyrequests) => RegistryError::Unreachable { image, source },
                _ => RegistryError::Protocol { image, source },
            }
        }
        OciDistributionError::IoError(source) => RegistryError::Unreachable {
            image,
            source: Box::new(source),
        },
        other => RegistryError::Protocol {
            image,
            source: said(&other.to_string()),
        },
    }
}

/// Sorts what goes wrong with a request.
pub(super) fn requested(image: ImageRef, error: reqwest::Error) -> RegistryError {
    let error = error.without_url();
    let status = error.status().map(|status| status.as_u16());
    let chain = chain(&error);
    let source: Cause = Box::new(error);
    match status {
        Some(code) => by_status(image, code, source),
        None if chain.contains("certificate") => RegistryError::Untrusted { image, source },
        None => RegistryError::Unreachable { image, source },
    }
}

pub(super) fn by_status(image: ImageRef, code: u16, source: Cause) -> RegistryError {
    match code {
        401 | 403 => RegistryError::Unauthorized { image, source },
        404 => RegistryError::NotFound { image, source },
        408 | 429 | 500.. => RegistryError::Unreachable { image, source },
        _ => RegistryError::Protocol { image, source },
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted() {
        fn check(error: OciDistributionError, expect: &str) {
            let image: ImageRef = "quay.io/org/seed:1".parse().unwrap();
            let error = classify(&image, error);
            let kind = format!("{error:?}");
            assert!(kind.starts_with(expect), "{kind}");
            assert_eq!(error.is_transient(), expect == "Unreachable", "{kind}");
            assert!(error.to_string().contains("quay.io/org/seed:1"), "{error}");
            assert!(!chain(&error).contains("signature"), "{}", chain(&error));
        }
        let server = |code| OciDistributionError::ServerError {
            code,
            url: "https://x/?signature=1".to_owned(),
            message: "oh\nno".repeat(1000),
        };
        check(server(401), "Unauthorized");
        check(server(403), "Unauthorized");
        check(server(404), "NotFound");
        check(server(408), "Unreachable");
        check(server(418), "Protocol");
        check(server(429), "Unreachable");
        check(server(500), "Unreachable");
        check(server(503), "Unreachable");
        let envelope = |code: &str| OciDistributionError::RegistryError {
            envelope: serde_json::from_str(&format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#))
                .unwrap(),
            url: "https://x/?signature=1".to_owned(),
        };
        check(envelope("DENIED"), "Unauthorized");
        check(envelope("MANIFEST_UNKNOWN"), "NotFound");
        check(envelope("NAME_UNKNOWN"), "NotFound");
        check(envelope("TOOMANYREQUESTS"), "Unreachable");
        check(envelope("WHATEVER"), "Protocol");
        check(OciDistributionError::RegistryNoDigestError, "Protocol");
    }
}
