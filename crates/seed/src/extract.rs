//! Unpacking an archive into a directory.

mod error;
mod place;

use std::io::Read;
use std::path::Path;

pub use error::ExtractError;

use crate::archive::{ArchiveReader, Kind, MemberPath};
use crate::watch::Watch;
use place::Place;

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Members placed.
    pub members: u64,
    /// Members outside the wanted prefix.
    pub skipped: u64,
    /// Bytes of file content written, holes not counted.
    pub bytes: u64,
    /// Attributes that the destination's file system does not support, so they are missing there.
    pub unsupported_xattrs: u64,
    /// The first of those, as `<name> on <member>`.
    pub first_unsupported: Option<String>,
}

/// Unpacks the members below `prefix` into `destination`, which must be an existing directory:
/// `var/lib/x` with the prefix `var` becomes `<destination>/lib/x`.
///
/// Owner, mode, modification time, extended attributes, ACLs and SELinux labels are restored.
/// Existing files are replaced (removed and created anew, so nothing is written through a link),
/// directories are merged. Directories that the archive does not describe keep their times; missing
/// ones are created with mode 0755. Running it twice gives the same tree.
///
/// Nothing outside `destination` is touched, whatever the archive says: no symlink is followed, a
/// member below a symlink is refused, hard links point inside, devices are refused. Nothing is
/// synced; that is the caller's.
///
/// # Errors
///
/// On the first member that cannot be placed; members before it stay.
pub fn extract<R: Read>(
    archive: &mut ArchiveReader<R>,
    prefix: &MemberPath,
    destination: &Path,
    watch: &mut dyn Watch,
) -> Result<Extracted, ExtractError> {
    let mut place = Place::open(destination)?;
    let mut extracted = Extracted::default();
    while let Some(mut entry) = archive.next_entry().map_err(ExtractError::Archive)? {
        if watch.stop_requested() {
            return Err(ExtractError::Stopped { member: entry.path });
        }
        let Some(path) = entry.path.below(prefix) else {
            extracted.skipped += 1;
            continue;
        };
        if let Kind::Hardlink(target) = &entry.kind {
            let inside = target
                .below(prefix)
                .ok_or_else(|| ExtractError::LinkOutside {
                    member: entry.path.clone(),
                    target: target.clone(),
                })?;
            entry.kind = Kind::Hardlink(inside);
        }
        entry.path = path;
        place.put(&entry, &mut archive.content(), watch, &mut extracted)?;
        extracted.members += 1;
    }
    place.finish()?;
    Ok(extracted)
}
