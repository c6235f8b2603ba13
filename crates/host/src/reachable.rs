//! What a commit reaches, in a repository of mode `bare`.
//!
//! libostree answers this too, by building tables of typed values for every file; that takes ten times as long, and it is
//! asked more than once for each upgrade. Directory objects have one simple form, which is read here as it is on the disk:
//! GVariant's serialization of `(a(say)a(sayay))`, names and checksums of files, then of directories and of their metadata.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use seed::index::{Checksum, ObjectId, ObjectKind};

/// Largest directory object in bytes (libostree's `OSTREE_MAX_METADATA_SIZE`).
const LIMIT: u64 = 128 << 20;

/// Whether all objects below these roots, a directory and its metadata, are in the directory `objects`.
pub(crate) fn all_present(objects: &Path, tree: &[u8], meta: &[u8]) -> io::Result<bool> {
    let objects = open(objects)?;
    let Ok(reached) = walk(&objects, tree, meta)? else {
        return Ok(false);
    };
    // The trees were read.
    let metas = reached.metadata.iter();
    let metas = metas.filter(|id| id.kind == ObjectKind::DirMeta);
    for id in metas.chain(&reached.files) {
        match statat(&objects, id.path(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => {}
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// What a commit reaches besides itself, each object once, in the order in which its tree has them: a directory's own files
/// before those of the directories in it.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// Directories and what belongs to them.
    pub(crate) metadata: Vec<ObjectId>,
    /// Files.
    pub(crate) files: Vec<ObjectId>,
}

/// All objects below these roots; whether the files are in the directory `objects` is not looked at.
pub(crate) fn reached(objects: &Path, tree: &[u8], meta: &[u8]) -> io::Result<Reached> {
    walk(&open(objects)?, tree, meta)?.map_err(|missing| {
        let text = format!("the object {} is missing", missing.path());
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// What these roots reach, or a directory object that is missing.
fn walk(objects: &OwnedFd, tree: &[u8], meta: &[u8]) -> io::Result<Result<Reached, ObjectId>> {
    let (Some(tree), Some(meta)) = (checksum(tree), checksum(meta)) else {
        return Err(malformed());
    };
    let mut reached = Reached::default();
    let mut seen = HashSet::new();
    let mut waiting = vec![(tree, meta)];
    while let Some((tree, meta)) = waiting.pop() {
        let of = |kind, checksum| ObjectId { checksum, kind };
        let tree = of(ObjectKind::DirTree, tree);
        let meta = of(ObjectKind::DirMeta, meta);
        let is_new = seen.insert(tree);
        let both = [is_new.then_some(tree), seen.insert(meta).then_some(meta)];
        reached.metadata.extend(both.into_iter().flatten());
        if !is_new {
            continue;
        }
        let Some(bytes) = read(objects, &tree.path())? else {
            return Ok(Err(tree));
        };
        let (files, directories) = entries(&bytes).ok_or_else(malformed)?;
        let files = files.into_iter().map(|file| of(ObjectKind::File, file));
        reached
            .files
            .extend(files.filter(|file| seen.insert(*file)));
        // The last one is taken first.
        waiting.extend(directories.into_iter().rev());
    }
    Ok(Ok(reached))
}

fn open(objects: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(objects, flags, Mode::empty())?)
}

fn read(objects: &OwnedFd, path: &str) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat(objects, path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a directory object is malformed",
    )
}

/// The files, and the directories with their metadata, of a directory object.
type Entries = (Vec<Checksum>, Vec<(Checksum, Checksum)>);

fn entries(bytes: &[u8]) -> Option<Entries> {
    let (body, ends) = framed(bytes, 1)?;
    let (files, directories) = body.split_at_checked(*ends.first()?)?;
    let files = elements(files)?.into_iter().map(|element| {
        let (body, ends) = framed(element, 1)?;
        checksum(body.get(*ends.first()?..)?)
    });
    let directories = elements(directories)?.into_iter().map(|element| {
        let (body, ends) = framed(element, 2)?;
        let (name, tree) = (*ends.first()?, *ends.get(1)?);
        Some((
            checksum(body.get(name..tree)?)?,
            checksum(body.get(tree..)?)?,
        ))
    });
    Some((
        files.collect::<Option<_>>()?,
        directories.collect::<Option<_>>()?,
    ))
}

/// A tuple of members of variable size: its members' bytes, and where the first `count` of them end. The ends stand behind
/// the members, the first one last.
fn framed(bytes: &[u8], count: usize) -> Option<(&[u8], Vec<usize>)> {
    let size = offset_size(bytes.len());
    let body = bytes.len().checked_sub(count * size)?;
    let ends = (1..=count).map(|at| offset(bytes, bytes.len() - at * size, size));
    Some((bytes.get(..body)?, ends.collect::<Option<_>>()?))
}

/// The elements of an array of elements of variable size: where each ends stands behind them, in order.
fn elements(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let size = offset_size(bytes.len());
    let table = offset(bytes, bytes.len().checked_sub(size)?, size)?;
    let mut found = Vec::new();
    let mut start = 0;
    for at in (table..bytes.len()).step_by(size) {
        let end = offset(bytes, at, size)?;
        found.push(bytes.get(start..end)?);
        start = end;
    }
    Some(found)
}

/// Bytes of each offset in a container of this size.
fn offset_size(len: usize) -> usize {
    match len {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

fn offset(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    let mut number = [0; 8];
    number
        .get_mut(..size)?
        .copy_from_slice(bytes.get(at..at.checked_add(size)?)?);
    usize::try_from(u64::from_le_bytes(number)).ok()
}

fn checksum(bytes: &[u8]) -> Option<Checksum> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use ostree::glib::prelude::*;

    use super::*;

    #[test]
    fn directories_are_read_as_glib_writes_them() {
        let sum = |number: usize| -> Vec<u8> {
            let mut sum = vec![7; 32];
            sum[..8].copy_from_slice(&number.to_le_bytes());
            sum
        };
        for (files, directories) in [(0, 0), (1, 0), (0, 1), (3, 2), (40, 9), (3000, 700)] {
            let name = |number: usize| "n".repeat(1 + number % 300);
            let own: Vec<_> = (0..files).map(|at| (name(at), sum(at))).collect();
            let below: Vec<_> = (0..directories)
                .map(|at| (name(at), sum(at), sum(at + 1)))
                .collect();
            let variant = (own.clone(), below.clone()).to_variant();
            let (found, found_below) = entries(variant.data()).unwrap();
            let own = own.iter().map(|(_, sum)| sum.as_slice());
            assert!(found.iter().map(|sum| sum.as_slice()).eq(own), "{files}");
            let below: Vec<_> = below.iter().map(|(_, tree, meta)| (tree, meta)).collect();
            let found: Vec<_> = found_below
                .iter()
                .map(|(tree, meta)| (tree.to_vec(), meta.to_vec()))
                .collect();
            assert!(
                found.iter().map(|(tree, meta)| (tree, meta)).eq(below),
                "{directories}"
            );
        }
    }

    #[test]
    fn rubbish_is_no_directory() {
        for bytes in [&b""[..], b"\xff", b"\x00\x05", &[9; 300]] {
            assert!(entries(bytes).is_none(), "{bytes:?}");
        }
    }
}
