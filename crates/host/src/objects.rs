//! Writing ostree objects into a repository of mode `bare`.
//!
//! libostree writes one object after the other on one thread, hashes with whatever its build has (GLib's SHA-256 takes
//! five times as long as the processor's own), and seeds arrive in its own format already. So the files of `objects/`
//! are written here, in libostree's repository format: every checksum is computed and compared before an object can be
//! seen, objects that are there are left alone, and all of them get their names at once, after their content is durable.

mod batches;
mod growing;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use node::{ErrorKind, PortError, PortResult};
use ostree::glib::prelude::*;
use rustix::fs::{
    self, AtFlags, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::Errno;
use seed::index::{Checksum, ObjectId};
use sha2::{Digest as _, Sha256};

use crate::directory::{Anchor, names};
use crate::failure::{Attempt, io_kind};
use crate::layout::Layout;
use crate::tree;
use batches::Batches;
pub(crate) use batches::{Recent, recorded_at};
pub(crate) use growing::Growth;

/// Below the repository: where objects are until all of them are durable. libostree removes what is left here for long.
const STAGING: &str = "tmp/lca-import";

/// File types in `st_mode`.
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// Permissions of metadata objects, and of directories in `objects/`, as libostree makes them.
const METADATA_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o775;

/// Content is hashed and written in pieces of this many bytes.
const CHUNK: usize = 256 << 10;

/// What belongs to a content object besides its bytes.
#[derive(Clone, Debug)]
pub(crate) struct FileMetadata {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A whole object in memory.
#[derive(Debug)]
pub(crate) enum Payload {
    /// A directory or commit.
    Metadata(Vec<u8>),
    /// A short regular file.
    File(FileMetadata, Vec<u8>),
    /// A symbolic link and its target.
    Symlink(FileMetadata, String),
}

/// Why an object was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is not what an object of this kind can be.
    #[error("the object {0}")]
    Format(&'static str),
    /// The watch said stop.
    #[error("the work was stopped")]
    Stopped,
    /// Its content cannot be read.
    #[error("its content cannot be read")]
    Content(#[source] io::Error),
    /// It cannot be written.
    #[error("it cannot be written")]
    Io(#[from] io::Error),
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl Refusal {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Format(_) | Self::Content(_) => ErrorKind::Permanent,
            Self::Stopped => ErrorKind::Interrupted,
            Self::Io(error) => io_kind(error),
        }
    }
}

/// The objects of a repository, and those that are about to be there.
pub(crate) struct ObjectStore {
    objects: OwnedFd,
    staging: PathBuf,
    staged: OwnedFd,
    /// Where long objects grow that may be gone on with after a restart.
    growing: OwnedFd,
    /// Where the others are staged, if a restart goes on with them too.
    batches: Option<Batches>,
    /// What [`Self::has`] has found: it is not staged, and could be pruned before it is protected. A seed of the node's own
    /// release has 100,000 of them, of 33 bytes.
    found: Mutex<Vec<ObjectId>>,
}

impl ObjectStore {
    /// Opens the node's repository for objects, where `/sysroot` is writable, without what an earlier import has left.
    pub(crate) fn open(layout: &Layout, repo: &ostree::Repo) -> PortResult<Self> {
        discard_staged(layout)?;
        Self::begin(layout, repo)
    }

    /// As [`Self::open`], with what an earlier import like this has made durable, and with the long objects that it has not
    /// written to their ends.
    pub(crate) fn reopen(layout: &Layout, repo: &ostree::Repo) -> PortResult<Self> {
        let attempt = || "taking over what an earlier import has staged".to_owned();
        let staging = layout.sysroot().join("ostree/repo").join(STAGING);
        if staging.is_dir() {
            let earlier = Self::begin(layout, repo)?;
            let recorded = batches::recorded(&staging);
            // Some may have been recorded for this boot only.
            earlier.sync().attempt(attempt)?;
            earlier.adopt_staged(&recorded, false).attempt(attempt)?;
        }
        discard(layout, STAGING)?;
        let store = Self::begin(layout, repo)?;
        let batches = Some(Batches::default());
        Ok(Self { batches, ..store })
    }

    fn begin(layout: &Layout, repo: &ostree::Repo) -> PortResult<Self> {
        let path = layout.sysroot().join("ostree/repo");
        let attempt = || format!("opening the objects of {}", path.display());
        if repo.mode() != ostree::RepoMode::Bare {
            let text = "the node's ostree repository is not of mode bare; seeds cannot be imported";
            return Err(PortError::plain(ErrorKind::Permanent, text));
        }
        let [staging, growing] = [STAGING, growing::DIRECTORY].map(|name| path.join(name));
        std::fs::create_dir_all(&staging).attempt(attempt)?;
        std::fs::create_dir_all(&growing).attempt(attempt)?;
        Ok(Self {
            objects: open_directory(&path.join("objects")).attempt(attempt)?,
            staged: open_directory(&staging).attempt(attempt)?,
            growing: open_directory(&growing).attempt(attempt)?,
            batches: None,
            staging,
            found: Mutex::default(),
        })
    }

    /// Whether the repository has the object. Its content was checked when it came there.
    pub(crate) fn has(&self, id: &ObjectId) -> io::Result<bool> {
        let present = self.is_present(id)?;
        if present {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.push(*id);
        }
        Ok(present)
    }

    /// Whether something that [`Self::has`] has found is gone: somebody pruned the repository meanwhile.
    pub(crate) fn lost(&self) -> io::Result<bool> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for id in found.iter() {
            if !self.is_present(id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the repository has the object now.
    pub(crate) fn is_present(&self, id: &ObjectId) -> io::Result<bool> {
        match fs::statat(&self.objects, id.path(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Verifies an object and stages it.
    pub(crate) fn put(&self, id: &ObjectId, payload: &Payload) -> Result<(), Refusal> {
        let mut hasher = Sha256::new();
        match payload {
            Payload::Metadata(bytes) => hasher.update(bytes),
            Payload::File(meta, bytes) => {
                hash_header(&mut hasher, meta, S_IFREG | meta.mode, "");
                hasher.update(bytes);
            }
            Payload::Symlink(meta, target) => {
                hash_header(&mut hasher, meta, S_IFLNK | 0o777, target);
            }
        }
        verify(hasher, id)?;
        let (batch, path) = self.staged_place(id);
        match payload {
            Payload::Metadata(bytes) => {
                if let Some(mut file) = self.create(&path)? {
                    file.write_all(bytes)?;
                    fs::fchmod(&file, Mode::from_raw_mode(METADATA_MODE))?;
                    fs::futimens(&file, &EPOCH)?;
                }
            }
            Payload::File(meta, bytes) => {
                if let Some(mut file) = self.create(&path)? {
                    file.write_all(bytes)?;
                    describe(&file, meta)?;
                }
            }
            Payload::Symlink(meta, target) => self.link(&path, meta, target)?,
        }
        self.note_staged(batch, id);
        Ok(())
    }

    /// Stages a long file while it is read, and takes it back if its checksum is not the one of its name.
    pub(crate) fn stream(
        &self,
        id: &ObjectId,
        meta: &FileMetadata,
        content: &mut dyn Read,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), Refusal> {
        let (batch, path) = self.staged_place(id);
        let Some(mut file) = self.create(&path)? else {
            return Ok(());
        };
        let mut hasher = Sha256::new();
        hash_header(&mut hasher, meta, S_IFREG | meta.mode, "");
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = content.read(&mut chunk).map_err(Refusal::Content)?;
            let Some(bytes @ [_, ..]) = chunk.get(..length) else {
                break;
            };
            hasher.update(bytes);
            file.write_all(bytes)?;
            if !go_on() {
                return Err(Refusal::Stopped);
            }
        }
        verify(hasher, id).inspect_err(|_| {
            // Left where it is it would be removed before the next import.
            fs::unlinkat(&self.staged, path.as_str(), AtFlags::empty()).ok();
        })?;
        // What is not the object's own could be refused by the disk, which would tell nothing of the seed.
        describe(&file, meta)?;
        self.note_staged(batch, id);
        Ok(())
    }

    /// Makes all staged objects durable and gives them their names, the commits' last.
    pub(crate) fn adopt(&self) -> io::Result<()> {
        if let Some(batches) = &self.batches {
            if !batches.are_durable() {
                self.sync()?;
            }
            return self.adopt_staged(&batches.take_all(), true);
        }
        self.sync()?;
        let mut commits = vec![];
        for directory in names(&self.staged)? {
            let from = open_below(&self.staged, directory.as_bytes())?;
            match fs::mkdirat(
                &self.objects,
                &directory,
                Mode::from_raw_mode(DIRECTORY_MODE),
            ) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let to = open_below(&self.objects, directory.as_bytes())?;
            for name in names(&from)? {
                if name.as_bytes().ends_with(b".commit") {
                    commits.push((from.try_clone()?, to.try_clone()?, name));
                } else {
                    rename(&from, &to, name.as_bytes())?;
                }
            }
        }
        for (from, to, name) in commits {
            rename(&from, &to, name.as_bytes())?;
        }
        Ok(())
    }

    /// Makes everything durable that was staged so far.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(fs::syncfs(&self.staged)?)
    }

    fn adopt_from(&self, from: &OwnedFd, name: &str, id: &ObjectId) -> io::Result<()> {
        let path = id.path();
        let flags = RenameFlags::NOREPLACE;
        let rename = || fs::renameat_with(from, name, &self.objects, path.as_str(), flags);
        let renamed = match rename() {
            Err(Errno::NOENT) => {
                let mode = Mode::from_raw_mode(DIRECTORY_MODE);
                match fs::mkdirat(&self.objects, directory(id), mode) {
                    Ok(()) | Err(Errno::EXIST) => rename(),
                    Err(error) => Err(error),
                }
            }
            renamed => renamed,
        };
        match renamed {
            // Somebody else brought it meanwhile.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what is staged.
    pub(crate) fn close(self, layout: &Layout) -> PortResult<()> {
        drop(self.staging);
        discard_staged(layout)
    }

    /// Creates an object's file; `None` when it is staged already.
    fn create(&self, path: &str) -> Result<Option<File>, Refusal> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || fs::openat(&self.staged, path, flags, Mode::from_raw_mode(0o600));
        match self.in_directory(path, create) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn link(&self, path: &str, meta: &FileMetadata, target: &str) -> Result<(), Refusal> {
        match self.in_directory(path, || fs::symlinkat(target, &self.staged, path)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        fs::chownat(&self.staged, path, Some(uid), Some(gid), flags)?;
        // A link cannot be opened: its attributes are set through the directory's name in /proc.
        let full = format!("/proc/self/fd/{}/{path}", self.staged.as_raw_fd());
        for (key, value) in &meta.xattrs {
            fs::lsetxattr(full.as_str(), key.as_slice(), value, XattrFlags::empty())?;
        }
        fs::utimensat(&self.staged, path, &EPOCH, flags)?;
        Ok(())
    }

    /// Runs `make` again with the object's directory made, if that was missing.
    fn in_directory<T>(
        &self,
        path: &str,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        match make() {
            Err(Errno::NOENT) => {
                let directory = path
                    .split_once('/')
                    .map_or(path, |(directory, _)| directory);
                match fs::mkdirat(&self.staged, directory, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => make(),
                    Err(error) => Err(error),
                }
            }
            made => made,
        }
    }
}

/// Removes what an import that was cut short has left.
pub(crate) fn discard_staged(layout: &Layout) -> PortResult<()> {
    discard(layout, growing::DIRECTORY)?;
    discard(layout, STAGING)
}

fn discard(layout: &Layout, directory: &str) -> PortResult<()> {
    let attempt = || "removing what an earlier import left".to_owned();
    let repo = Anchor::open(&layout.sysroot().join("ostree/repo")).attempt(attempt)?;
    let place = repo.map(|repo| repo.place(directory)).transpose();
    let Some(place) = place.attempt(attempt)?.flatten() else {
        return Ok(());
    };
    tree::remove(&place, &mut |_| true).attempt(attempt)
}

/// The directory of `objects/` that it lies in.
fn directory(id: &ObjectId) -> String {
    let path = id.path();
    path.split_once('/')
        .map_or_else(String::new, |(directory, _)| directory.to_owned())
}

/// Objects have no times of their own (`OSTREE_TIMESTAMP`).
const EPOCH: Timestamps = Timestamps {
    last_access: Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    },
    last_modification: Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    },
};

/// Owner first: a change of owner takes capabilities and setuid away.
fn describe(file: &File, meta: &FileMetadata) -> Result<(), Refusal> {
    if (meta.uid, meta.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        fs::fchown(file, Some(uid), Some(gid))?;
    }
    for (key, value) in &meta.xattrs {
        fs::fsetxattr(file, key.as_slice(), value, XattrFlags::empty())?;
    }
    fs::fchmod(file, Mode::from_raw_mode(meta.mode))?;
    fs::futimens(file, &EPOCH)?;
    Ok(())
}

/// What stands before a file's content when its checksum is computed: the length of a GVariant, padding to eight bytes,
/// and the variant `(uuuusa(ayay))` of owner, group, mode, device, target and attributes; numbers are big-endian.
fn hash_header(hasher: &mut Sha256, meta: &FileMetadata, mode: u32, target: &str) {
    let xattrs = meta.xattrs.iter().map(|(name, value)| {
        // Names end with NUL there; the map's order is libostree's.
        let mut name = name.clone();
        name.push(0);
        (name, value.clone())
    });
    let xattrs: Vec<(Vec<u8>, Vec<u8>)> = xattrs.collect();
    let (uid, gid) = (meta.uid.to_be(), meta.gid.to_be());
    let header = (uid, gid, mode.to_be(), 0_u32, target, xattrs).to_variant();
    let bytes = header.data();
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    hasher.update(length.to_be_bytes());
    hasher.update([0; 4]);
    hasher.update(bytes);
}

fn verify(hasher: Sha256, id: &ObjectId) -> Result<(), Refusal> {
    if Checksum::from(hasher.finalize()) == id.checksum {
        Ok(())
    } else {
        Err(Refusal::Format("has another checksum than its name says"))
    }
}

fn rename(from: &OwnedFd, to: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match fs::renameat_with(from, name, to, name, RenameFlags::NOREPLACE) {
        // Somebody else brought it meanwhile.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(fs::open(path, flags, Mode::empty())?)
}

fn open_below(dir: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(dir, name, flags, Mode::empty())?)
}
