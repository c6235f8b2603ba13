//! Errors of a capture.

use std::io;

use node::{ErrorKind, PortError};
use seed::archive::{CaptureError, UnsafePath};
use seed::registry::RegistryError;
use seed::writer::WriteError;

/// Why a part of the seed could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartError {
    #[error("capturing the tree")]
    Capture(#[from] CaptureError),
    #[error("writing the archive")]
    Write(#[from] WriteError),
    #[error("writing the archive")]
    Chain(#[source] io::Error),
    #[error("reading the repository")]
    Repository(#[source] io::Error),
    #[error("naming a file of the repository")]
    Name(#[source] UnsafePath),
    #[error(
        "the repository lacks \"{0}\", which the booted release needs; \"ostree fsck\" says what else"
    )]
    Missing(String),
}

/// A failure that making the seed again will meet again.
pub(super) fn permanent(
    context: impl Into<String>,
    error: impl std::error::Error + Send + Sync + 'static,
) -> PortError {
    PortError::new(ErrorKind::Permanent, context, error)
}

/// A failure of the registry.
pub(super) fn registry_error(context: String, error: RegistryError) -> PortError {
    let kind = if error.is_transient() {
        ErrorKind::Transient
    } else {
        ErrorKind::Permanent
    };
    PortError::new(kind, context, error)
}
