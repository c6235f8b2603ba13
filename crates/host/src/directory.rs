//! Directories that paths are resolved in without ever leaving them.
//!
//! A stateroot that is not booted is full of absolute links that mean its own root, not ours; and its content came
//! from an image. So every path is resolved by the kernel with the anchor as root (`openat2` and `RESOLVE_IN_ROOT`),
//! and the last component is acted on relative to its opened directory.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{self, AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Permissions of directories that are made on the way to a file.
pub(crate) const PRIVATE: u32 = 0o700;

/// Temporary names start with this; listings leave them out.
pub(crate) const TEMPORARY: &str = ".lca-new-";

/// An opened directory that serves as root for paths below it.
pub(crate) struct Anchor(OwnedFd);

/// A name in an opened directory. The name may or may not exist.
pub(crate) struct Place {
    /// The opened directory.
    pub(crate) dir: OwnedFd,
    /// One component: never empty, `.` or `..`.
    pub(crate) name: OsString,
}

impl Anchor {
    /// Opens the directory, or says `None` when there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        absent_is_none(fs::open(path, flags, Mode::empty()).map(Self))
    }

    /// Opens a file or directory below, following links within the anchor.
    pub(crate) fn open_below(&self, rel: &str, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        // The kernel gives up with EAGAIN when anything is renamed anywhere while it resolves "..".
        const ATTEMPTS: u32 = 100;
        for _ in 1..ATTEMPTS {
            match self.resolve(rel, flags) {
                Err(Errno::AGAIN) => {}
                result => return absent_is_none(result),
            }
        }
        absent_is_none(self.resolve(rel, flags))
    }

    fn resolve(&self, rel: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let rel = if rel.is_empty() { "." } else { rel };
        let flags = flags | OFlags::CLOEXEC;
        fs::openat2(&self.0, rel, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// Opens a directory below.
    pub(crate) fn directory(&self, rel: &str) -> io::Result<Option<OwnedFd>> {
        self.open_below(rel, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a directory below; those that are missing are made with `mode` 0700 and are durable when this returns.
    pub(crate) fn ensure_directory(&self, rel: &str) -> io::Result<OwnedFd> {
        if let Some(dir) = self.directory(rel)? {
            return Ok(dir);
        }
        let mut path = String::with_capacity(rel.len());
        let mut parent = self.0.try_clone()?;
        for component in rel.split('/') {
            path.push_str(component);
            if self.directory(&path)?.is_none() {
                match fs::mkdirat(&parent, component, Mode::from_raw_mode(PRIVATE)) {
                    Ok(()) | Err(Errno::EXIST) => fs::fsync(&parent)?,
                    Err(error) => return Err(error.into()),
                }
            }
            // Missing now: a link that leads nowhere, or a file.
            parent = self.directory(&path)?.ok_or(Errno::NOTDIR)?;
            path.push('/');
        }
        Ok(parent)
    }

    /// Makes everything in the filesystem of this directory durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(fs::syncfs(&self.0)?)
    }

    /// The place of a path, if its directory exists.
    pub(crate) fn place(&self, rel: &str) -> io::Result<Option<Place>> {
        let (parent, name) = split(rel);
        Ok(self.directory(parent)?.map(|dir| Place {
            dir,
            name: name.into(),
        }))
    }

    /// The place of a path, its directory made if missing.
    pub(crate) fn ensure_place(&self, rel: &str) -> io::Result<Place> {
        let (parent, name) = split(rel);
        let dir = if parent.is_empty() {
            self.0.try_clone()?
        } else {
            self.ensure_directory(parent)?
        };
        Ok(Place {
            dir,
            name: name.into(),
        })
    }
}

fn split(rel: &str) -> (&str, &str) {
    rel.rsplit_once('/').unwrap_or(("", rel))
}

/// "Nothing is there" as a value.
pub(crate) fn absent_is_none<T>(result: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Names in a directory, without `.` and `..`, in no order.
pub(crate) fn names(dir: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = vec![];
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

impl Place {
    /// What stands here, links not followed.
    pub(crate) fn stat(&self) -> io::Result<Option<rustix::fs::Stat>> {
        absent_is_none(fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW))
    }

    /// Opens what stands here if it is a directory and no link.
    pub(crate) fn open_directory(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&self.dir, &self.name, flags, Mode::empty())?)
    }

    /// A path by which calls that know no directory descriptors reach what stands here (for links: the link).
    pub(crate) fn proc_path(&self) -> OsString {
        let mut path = OsString::from(format!("/proc/self/fd/{}/", self.dir.as_raw_fd()));
        path.push(&self.name);
        path
    }

    /// Makes the names of this directory durable.
    pub(crate) fn settle(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.dir)?)
    }

    /// An unnamed file in this directory: gone with its descriptor unless it is linked. `fill` writes it.
    fn unnamed(&self, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = fs::openat(&self.dir, c".", flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(fd);
        fill(&mut file)?;
        Ok(file)
    }

    /// Gives an unnamed file this name. `EEXIST` when the name is taken.
    fn link(&self, file: &File, name: &[u8]) -> rustix::io::Result<()> {
        let source = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        fs::linkat(fs::CWD, source, &self.dir, name, AtFlags::SYMLINK_FOLLOW)
    }

    /// Creates a file, unless something is here. `false` = something was. Nobody sees it unfinished.
    pub(crate) fn create(
        &self,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<bool> {
        if self.stat()?.is_some() {
            // Whoever made it may not have got this far yet, and its content was synced before it had a name.
            self.settle()?;
            return Ok(false);
        }
        let file = self.unnamed(fill)?;
        file.sync_all()?;
        let created = match self.link(&file, self.name.as_bytes()) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        self.settle()?;
        Ok(created)
    }

    /// Puts a file here, in one step instead of what was here before. A process that is killed in the middle leaves
    /// nothing but, in a window of two calls, one temporary name, which the next replacement of this file takes over.
    pub(crate) fn replace(&self, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let file = self.unnamed(fill)?;
        file.sync_all()?;
        self.put(&file)?;
        self.settle()
    }

    /// As [`Place::replace`], but not durable: a power cut may leave the old file, the new one, or an empty one.
    pub(crate) fn replace_loosely(
        &self,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        self.put(&self.unnamed(fill)?)
    }

    /// Gives an unnamed file this name, whatever has it now.
    fn put(&self, file: &File) -> io::Result<()> {
        // One thread of this process at a time: the temporary name is the same for all. It is met when an earlier
        // process left it, or when another one replaces the same file right now.
        static ONE: Mutex<()> = Mutex::new(());
        let hash = short_hash(self.name.as_bytes());
        let temporary = format!("{TEMPORARY}{hash:016x}").into_bytes();
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.link(file, &temporary) {
                Ok(()) => match fs::renameat(&self.dir, &*temporary, &self.dir, &self.name) {
                    Err(Errno::NOENT) => {}
                    result => return Ok(result?),
                },
                Err(Errno::EXIST) => match fs::unlinkat(&self.dir, &*temporary, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// FNV-1a, 64 bits: keeps temporary names short whatever the length of the name that they stand for.
fn short_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
