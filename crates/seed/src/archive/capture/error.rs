//! Why a capture failed.

use std::io;

use super::DEPTH_LIMIT;
use crate::archive::MemberPath;

/// Why a capture failed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A file could not be read.
    #[error("reading \"{path}\"")]
    Read {
        /// Its path in the archive.
        path: MemberPath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive could not be written.
    #[error("writing \"{path}\" to the archive")]
    Write {
        /// The member's path.
        path: MemberPath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A tree deeper than any real one.
    #[error("\"{path}\" is nested deeper than {DEPTH_LIMIT} directories")]
    TooDeep {
        /// Where.
        path: MemberPath,
    },
    /// The caller asked to stop.
    #[error("capturing was stopped at \"{path}\"")]
    Stopped {
        /// Where.
        path: MemberPath,
    },
}
