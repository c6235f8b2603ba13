//! Why reading an archive failed.

use std::io;

use super::entry::UnsafePath;
use super::shown;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes could not be read or decompressed.
    #[error("reading the archive {at}")]
    Read {
        /// Where: the member being read.
        at: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive ends too early.
    #[error("the archive is cut short {at}")]
    Truncated {
        /// Where: the member being read.
        at: String,
    },
    /// The bytes are not a tar header.
    #[error("no tar header {at}: {reason}")]
    NotATar {
        /// Where: the member before.
        at: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// More members than any seed has.
    #[error("the archive has more than a million members, as no seed does")]
    TooMany,
    /// A member whose path leads out of the archive or fits no file system.
    #[error("archive member {0}")]
    UnsafePath(UnsafePath),
    /// A member that is wrong in itself or of a kind that no seed carries.
    #[error("archive member \"{member}\" {reason}")]
    Member {
        /// The member's path as found, escaped and shortened.
        member: String,
        /// What is wrong.
        reason: String,
    },
}

impl ArchiveError {
    /// A member that is wrong in itself.
    pub(super) fn member(path: &[u8], reason: &str) -> Self {
        Self::Member {
            member: shown(path),
            reason: reason.to_owned(),
        }
    }
}
