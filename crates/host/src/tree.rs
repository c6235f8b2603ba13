//! Whole directory trees: copying and removing them without following links or crossing mounts.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    self, AtFlags, FileType, IFlags, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;

use crate::directory::{PRIVATE, Place, absent_is_none, names};

/// Why a tree was not removed.
#[derive(Debug)]
pub(crate) enum RemoveError {
    /// The watch said stop.
    Stopped,
    /// A call failed.
    Io(io::Error),
}

impl<E: Into<io::Error>> From<E> for RemoveError {
    fn from(error: E) -> Self {
        Self::Io(error.into())
    }
}

/// Removes what stands at a place. `seen` is told after every entry how many are gone, and may stop the work.
pub(crate) fn remove(place: &Place, seen: &mut dyn FnMut(u64) -> bool) -> Result<(), RemoveError> {
    let Some(stat) = place.stat()? else {
        return Ok(());
    };
    let mut removal = Removal {
        device: stat.st_dev,
        done: 0,
        seen,
    };
    removal.entry(place, &stat)?;
    place.settle()?;
    Ok(())
}

struct Removal<'a> {
    device: u64,
    done: u64,
    seen: &'a mut dyn FnMut(u64) -> bool,
}

impl Removal<'_> {
    fn entry(&mut self, place: &Place, stat: &Stat) -> Result<(), RemoveError> {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory {
            if stat.st_dev != self.device {
                return Err(Errno::XDEV.into());
            }
            let dir = place.open_directory()?;
            make_mutable(&dir)?;
            for name in names(&dir)? {
                let below = Place {
                    dir: dir.try_clone()?,
                    name,
                };
                if let Some(stat) = below.stat()? {
                    self.entry(&below, &stat)?;
                }
            }
        }
        let flags = if is_directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        match fs::unlinkat(&place.dir, &place.name, flags) {
            Err(Errno::PERM) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                make_mutable(&fs::openat(&place.dir, &place.name, flags, Mode::empty())?)?;
                fs::unlinkat(&place.dir, &place.name, AtFlags::empty())?;
            }
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        self.done += 1;
        if (self.seen)(self.done) {
            Ok(())
        } else {
            Err(RemoveError::Stopped)
        }
    }
}

/// Clears the immutable flag, which libostree sets on the root directory of every deployment.
fn make_mutable(file: &OwnedFd) -> io::Result<()> {
    match fs::ioctl_getflags(file) {
        Ok(flags) if flags.contains(IFlags::IMMUTABLE) => {
            Ok(fs::ioctl_setflags(file, flags - IFlags::IMMUTABLE)?)
        }
        // Filesystems without such flags (tmpfs, overlay) have nothing to clear.
        Ok(_) | Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes `to` an equal copy of the directory `from`; what `to` has and `from` lacks is kept. Sockets are left out:
/// they mean nothing without the process behind them. Nothing is durable until the filesystem is synced.
pub(crate) fn copy(from: &Place, to: &Place) -> io::Result<()> {
    let Some(stat) = from.stat()? else {
        return Ok(());
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    make_room(to, kind)?;
    match kind {
        FileType::Directory => return copy_directory(from, to, &stat),
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut source = File::from(fs::openat(&from.dir, &from.name, flags, Mode::empty())?);
            return to.replace(|target| {
                io::copy(&mut source, target)?;
                copy_metadata(&source, target, &stat)
            });
        }
        FileType::Symlink => {
            let target = fs::readlinkat(&from.dir, &from.name, vec![])?;
            remove_leaf(to)?;
            fs::symlinkat(target, &to.dir, &to.name)?;
        }
        FileType::Socket => return Ok(()),
        _ => {
            remove_leaf(to)?;
            let mode = Mode::from_raw_mode(stat.st_mode);
            fs::mknodat(&to.dir, &to.name, kind, mode, stat.st_rdev)?;
            fs::chmodat(&to.dir, &to.name, mode, AtFlags::empty())?;
        }
    }
    let (source, target) = (from.proc_path(), to.proc_path());
    for name in xattr_names(|list| fs::llistxattr(&source, list))? {
        let value = xattr_value(|value| fs::lgetxattr(&source, &*name, value))?;
        fs::lsetxattr(&target, &*name, &value, XattrFlags::empty())?;
    }
    let (owner, group) = owner(&stat);
    fs::chownat(
        &to.dir,
        &to.name,
        Some(owner),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    fs::utimensat(&to.dir, &to.name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn copy_directory(from: &Place, to: &Place, stat: &Stat) -> io::Result<()> {
    match fs::mkdirat(&to.dir, &to.name, Mode::from_raw_mode(PRIVATE)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let (source, target) = (from.open_directory()?, to.open_directory()?);
    for name in names(&source)? {
        let from = Place {
            dir: source.try_clone()?,
            name: name.clone(),
        };
        copy(
            &from,
            &Place {
                dir: target.try_clone()?,
                name,
            },
        )?;
    }
    copy_metadata(&source, &target, stat)
}

/// Removes what is in the way of a thing of this kind.
fn make_room(to: &Place, kind: FileType) -> io::Result<()> {
    let Some(there) = to.stat()? else {
        return Ok(());
    };
    let there_is_directory = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
    if there_is_directory == (kind == FileType::Directory) {
        return Ok(());
    }
    remove(to, &mut |_| true).map_err(|error| match error {
        RemoveError::Io(error) => error,
        RemoveError::Stopped => io::ErrorKind::Interrupted.into(),
    })
}

fn remove_leaf(place: &Place) -> io::Result<()> {
    absent_is_none(fs::unlinkat(&place.dir, &place.name, AtFlags::empty())).map(|_| ())
}

/// Owner first, because changing it clears mode bits and capabilities; times last.
fn copy_metadata(source: &impl AsFd, target: &impl AsFd, stat: &Stat) -> io::Result<()> {
    let (user, group) = owner(stat);
    fs::fchown(target, Some(user), Some(group))?;
    fs::fchmod(target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for name in xattr_names(|list| fs::flistxattr(source, list))? {
        let value = xattr_value(|value| fs::fgetxattr(source, &*name, value))?;
        fs::fsetxattr(target, &*name, &value, XattrFlags::empty())?;
    }
    fs::futimens(target, &times(stat))?;
    Ok(())
}

fn owner(stat: &Stat) -> (fs::Uid, fs::Gid) {
    (
        fs::Uid::from_raw(stat.st_uid),
        fs::Gid::from_raw(stat.st_gid),
    )
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec.cast_signed(),
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec.cast_signed(),
        },
    }
}

/// The kernel's limit on a list of names and on a value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 65536;

fn xattr_names(
    list: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<Vec<u8>>> {
    let mut buffer = vec![0; XATTR_MAX];
    let length = match list(&mut buffer) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let names = buffer
        .get(..length)
        .unwrap_or_default()
        .split(|byte| *byte == 0);
    Ok(names
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}

fn xattr_value(get: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; XATTR_MAX];
    let length = get(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}
