//! Why unpacking failed.

use std::io;

use crate::archive::{ArchiveError, MemberPath};

/// Why an archive could not be unpacked. Members are named as the archive has them, below the
/// prefix that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The archive itself is bad.
    #[error("the archive cannot be read")]
    Archive(#[source] ArchiveError),
    /// The content of a member could not be read.
    #[error("reading the content of \"{member}\"")]
    Content {
        /// Which.
        member: MemberPath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The destination is not usable.
    #[error("opening the destination \"{path}\"")]
    Destination {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A member could not be put in place.
    #[error("{action} \"{member}\"")]
    Place {
        /// Which.
        member: MemberPath,
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An extended attribute was refused.
    #[error("setting {xattr} on \"{member}\"{hint}")]
    Xattr {
        /// Which member.
        member: MemberPath,
        /// Which attribute.
        xattr: String,
        /// What could help, or nothing.
        hint: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A member whose path goes through a symlink.
    #[error("\"{member}\" lies below \"{link}\", which is not a directory")]
    ThroughLink {
        /// Which.
        member: MemberPath,
        /// The symlink or file in its way.
        link: MemberPath,
    },
    /// A hard link to what is not unpacked.
    #[error("\"{member}\" is a hard link to \"{target}\", which is outside the unpacked part")]
    LinkOutside {
        /// Which.
        member: MemberPath,
        /// Its target.
        target: MemberPath,
    },
    /// A device node.
    #[error("\"{member}\" is a device; seeds carry none")]
    Device {
        /// Which.
        member: MemberPath,
    },
    /// The caller asked to stop.
    #[error("unpacking was stopped at \"{member}\"")]
    Stopped {
        /// Where.
        member: MemberPath,
    },
}
