//! Files that only keep space.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use node::PortResult;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

use super::BLOCK;
use crate::failure::Attempt;
use crate::layout::Layout;
use crate::sysroot_writer::writing;

/// Bytes that the file really keeps: allocated, not only sized. `None` when there is none.
pub(super) fn size(path: &Path) -> PortResult<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found.len().min(found.blocks() * BLOCK))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).attempt(|| format!("examining {}", path.display())),
    }
}

/// Makes the files; all or, where that fails, none.
pub(super) fn make(layout: &Layout, files: &[(PathBuf, u64)]) -> PortResult<()> {
    writing(layout, || {
        let made = files.iter().try_for_each(|(path, bytes)| {
            keep(path, *bytes).attempt(|| format!("keeping {} bytes in {}", bytes, path.display()))
        });
        if made.is_err() {
            for (path, _) in files {
                // The first error tells; what is left is found by the next observation.
                discard(path).ok();
            }
        }
        made
    })
}

/// Removes the files.
pub(super) fn remove(layout: &Layout, files: &[PathBuf]) -> PortResult<()> {
    let mut there = Vec::new();
    for path in files {
        if size(path)?.is_some() {
            there.push(path);
        }
    }
    if there.is_empty() {
        return Ok(());
    }
    writing(layout, || {
        there
            .iter()
            .try_for_each(|path| discard(path).attempt(|| format!("removing {}", path.display())))
    })
}

/// What [`shrink`] gives back, bytes.
const PART: u64 = 1 << 20;

/// Makes a file smaller by [`PART`]; one that is no larger goes. `false` = there is none.
pub(super) fn shrink(layout: &Layout, path: &Path) -> PortResult<bool> {
    let Some(bytes) = size(path)? else {
        return Ok(false);
    };
    if bytes <= PART {
        return remove(layout, &[path.to_owned()]).map(|()| true);
    }
    writing(layout, || {
        let mut options = OpenOptions::new();
        let options = options
            .write(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let shrunk = options.open(path).and_then(|file| {
            file.set_len(bytes - PART)?;
            file.sync_all()
        });
        shrunk.attempt(|| format!("shrinking {}", path.display()))
    })?;
    Ok(true)
}

fn keep(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => {}
        // Filesystems that cannot allocate without writing (FAT has no extents).
        Err(Errno::OPNOTSUPP) => fill(&file, bytes)?,
        Err(error) => return Err(error.into()),
    }
    file.sync_all()?;
    sync_parent(path)
}

fn fill(mut file: &File, bytes: u64) -> io::Result<()> {
    let zeros = [0; 1 << 16];
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all(zeros.get(..part).unwrap_or_default())?;
        left -= part as u64;
    }
    Ok(())
}

fn discard(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_parent(path),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
