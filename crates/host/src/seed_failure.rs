//! From the errors of the crate `seed` to the errors of ports.

use node::{ErrorKind, PortError};
use seed::extract::ExtractError;
use seed::layout::LayoutError;
use seed::reader::ReadError;
use seed::registry::RegistryError;

use crate::failure::io_kind;

pub(crate) fn layout_kind(error: &LayoutError) -> ErrorKind {
    match error {
        LayoutError::Io { source, .. } => io_kind(source),
        LayoutError::Stopped { .. } => ErrorKind::Interrupted,
    }
}

pub(crate) fn registry_kind(error: &RegistryError) -> ErrorKind {
    match error {
        RegistryError::Stopped { .. } => ErrorKind::Interrupted,
        RegistryError::Layout(error) => layout_kind(error),
        RegistryError::Store { source, .. } => io_kind(source),
        error if error.is_transient() => ErrorKind::Transient,
        _ => ErrorKind::Permanent,
    }
}

pub(crate) fn extract_kind(error: &ExtractError) -> ErrorKind {
    match error {
        ExtractError::Stopped { .. } => ErrorKind::Interrupted,
        ExtractError::Place { source, .. } | ExtractError::Destination { source, .. } => {
            io_kind(source)
        }
        _ => ErrorKind::Permanent,
    }
}

pub(crate) fn read_error(attempted: String, error: ReadError) -> PortError {
    let kind = match &error {
        ReadError::Stopped => ErrorKind::Interrupted,
        ReadError::Layout(error) => layout_kind(error),
        _ => ErrorKind::Permanent,
    };
    PortError::new(kind, attempted, error)
}
