//! Unpacking an archive into a directory.

mod error;
mod mark;
mod place;

use std::io::Read;
use std::path::Path;

pub use error::ExtractError;
pub use mark::{Begun, Mark};

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
    let extraction = Extraction {
        place: Place::open(destination)?,
        begun: None,
        note: None,
    };
    extraction.run(archive, prefix, watch)
}

/// As [`extract`], from a mark on, and telling marks on the way: at each member, and in long ones now and then.
///
/// A mark holds while what was placed before it is there. `archive` is
/// [`ArchiveReader::resumed`] at [`Mark::archive`]; of the content that the mark says is in place, it lacks the bytes.
///
/// # Errors
///
/// As [`extract`]; and when the destination or the archive is not what the mark was made of.
pub fn extract_from<R: Read>(
    archive: &mut ArchiveReader<R>,
    prefix: &MemberPath,
    destination: &Path,
    mark: Option<&Mark>,
    note: &mut (dyn FnMut(Mark) + Send),
    watch: &mut dyn Watch,
) -> Result<Extracted, ExtractError> {
    let mut place = Place::open(destination)?;
    if let Some(mark) = mark {
        place.resume(mark)?;
    }
    let extraction = Extraction {
        place,
        begun: mark.and_then(|mark| mark.begun),
        note: Some(note),
    };
    extraction.run(archive, prefix, watch)
}

/// An extraction under way.
struct Extraction<'a> {
    place: Place,
    /// The next member is in place to this extent.
    begun: Option<Begun>,
    note: Option<&'a mut (dyn FnMut(Mark) + Send)>,
}

impl Extraction<'_> {
    fn run<R: Read>(
        mut self,
        archive: &mut ArchiveReader<R>,
        prefix: &MemberPath,
        watch: &mut dyn Watch,
    ) -> Result<Extracted, ExtractError> {
        let mut extracted = Extracted::default();
        let mut boundary = archive.boundary();
        while let Some(mut entry) = archive.next_entry().map_err(ExtractError::Archive)? {
            let at = std::mem::replace(&mut boundary, archive.boundary());
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
            let begun = self.begun.take();
            if let Some(begun) = begun {
                begun.check(&entry, archive.position())?;
                archive
                    .pass_over(begun.written)
                    .map_err(ExtractError::Archive)?;
            }
            let (content, kept) = (archive.position(), begun.map_or(0, |begun| begun.written));
            let Some(note) = &mut self.note else {
                self.place
                    .put(&entry, kept, &mut archive.content(), watch, &mut extracted)?;
                extracted.members += 1;
                continue;
            };
            self.place.enter_parent(&entry)?;
            let mark = self.place.mark(at);
            note(Mark {
                begun,
                ..mark.clone()
            });
            let mut noting = mark::Noting {
                watch,
                note,
                mark,
                content: content - kept,
                written: kept,
                told: kept,
                is_plain: entry.extents.is_none(),
            };
            self.place.put(
                &entry,
                kept,
                &mut archive.content(),
                &mut noting,
                &mut extracted,
            )?;
            extracted.members += 1;
        }
        self.place.finish()?;
        Ok(extracted)
    }
}
