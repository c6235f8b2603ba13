//! Tar archives with everything a file system knows about a file.
//!
//! Read: ustar, GNU and PAX archives, plain or compressed with gzip or zstd, as GNU tar writes them
//! with `--selinux --xattrs --xattrs-include=* --acls` (contract S 0.1). Written: PAX archives with
//! the same keys, which GNU tar restores with the same options.

mod acl;
mod capture;
mod decode;
mod entry;
mod error;
mod exclude;
mod extended;
mod overlay;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use acl::Names;
pub use capture::{Capture, CaptureError, Captured};
pub use decode::Decoded;
pub use entry::{Entry, Extent, Kind, MemberPath, Time, UnsafePath};
pub use error::ArchiveError;
pub use exclude::Excludes;
pub use overlay::{Node, Overlay};
pub use reader::{ArchiveReader, Content};
pub use writer::ArchiveWriter;

/// Size of a tar block in bytes (POSIX.1 ustar).
pub(crate) const BLOCK: usize = 512;

/// Extended attribute that holds the SELinux label, with its trailing NUL as the kernel keeps it.
pub(crate) const XATTR_SELINUX: &[u8] = b"security.selinux";

/// Extended attribute that holds the access ACL in the kernel's binary form.
pub(crate) const XATTR_ACL_ACCESS: &[u8] = b"system.posix_acl_access";

/// Extended attribute that holds the default ACL of a directory in the kernel's binary form.
pub(crate) const XATTR_ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// Bytes as a person may read them in one line of an error: escaped, cut at 200 characters.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const LIMIT: usize = 200;
    let mut text: String = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LIMIT)])
        .chars()
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().count() > LIMIT {
        text = text.chars().take(LIMIT).collect();
        text.push_str("...");
    }
    text
}
