//! Capturing a directory tree, or parts of one, into an archive.

mod error;
mod watched;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat, statat,
};
use rustix::io::Errno;

pub use error::CaptureError;
use watched::Watched;

use super::XATTR_SELINUX;
use super::entry::{Entry, Kind, MemberPath, Time};
use super::exclude::Excludes;
use super::overlay::{Node, Overlay};
use super::writer::ArchiveWriter;
use crate::watch::Watch;
use crate::xattr;

/// Deepest nesting of directories.
const DEPTH_LIMIT: usize = 256;

/// Most warnings kept.
const WARNING_LIMIT: usize = 100;

/// What was captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// Members written.
    pub members: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// What is not in the archive as it was on disk, one sentence each, the first hundred: files
    /// that vanished or changed while they were read, devices.
    pub warnings: Vec<String>,
}

/// Captures trees into one archive, with owners, modes, times, hard links (once), extended
/// attributes, ACLs and SELinux labels. The trees are only read.
///
/// Sockets are left out as GNU tar does. Directories are walked in byte order of their names.
pub struct Capture<'a, W: Write> {
    out: ArchiveWriter<W>,
    excludes: Excludes,
    overlay: Overlay,
    stamp: Time,
    watch: &'a mut dyn Watch,
    links: HashMap<(u64, u64), MemberPath>,
    placed: BTreeSet<MemberPath>,
    /// Files are taken one by one, whatever other names they have, and none is remembered.
    single: bool,
    captured: Captured,
}

/// Where a file is: a directory and a name in it.
#[derive(Clone, Copy)]
struct At<'a> {
    dir: BorrowedFd<'a>,
    name: &'a [u8],
}

impl<'a, W: Write> Capture<'a, W> {
    /// Captures into `out`. `stamp` is the modification time of what only the overlay has.
    pub fn new(
        out: ArchiveWriter<W>,
        excludes: Excludes,
        overlay: Overlay,
        stamp: Time,
        watch: &'a mut dyn Watch,
    ) -> Self {
        Self {
            out,
            excludes,
            overlay,
            stamp,
            watch,
            links: HashMap::new(),
            placed: BTreeSet::new(),
            single: false,
            captured: Captured::default(),
        }
    }

    /// Captures everything at `source`, which becomes `member` in the archive (`/var` as `var`).
    ///
    /// # Errors
    ///
    /// When something that exists cannot be read, the archive cannot be written, or on a stop.
    pub fn tree(&mut self, source: &Path, member: &MemberPath) -> Result<(), CaptureError> {
        let dir = directory(source).map_err(|source| read(member, source))?;
        // "." so that a symlink at `source` itself is resolved by the caller's path.
        self.visit(
            Some(At {
                dir: dir.as_fd(),
                name: b".",
            }),
            member,
            false,
            0,
            None,
        )
    }

    /// Captures the given paths below `root` under the same names, directories with everything in
    /// them, and whatever else the overlay adds (so it must be about this archive only). A path that does not exist is a warning.
    ///
    /// # Errors
    ///
    /// As [`Self::tree`].
    pub fn paths(
        &mut self,
        root: &Path,
        paths: impl IntoIterator<Item = MemberPath>,
    ) -> Result<(), CaptureError> {
        let root = directory(root).map_err(|source| read(&MemberPath::root(), source))?;
        let added = self
            .overlay
            .iter()
            .filter(|(_, node)| **node != Node::Absent);
        let wanted: BTreeSet<_> = paths
            .into_iter()
            .chain(added.map(|(path, _)| path.clone()))
            .collect();
        for path in wanted {
            // A directory of the list took it along.
            if self.placed.contains(&path) {
                continue;
            }
            let Some((parent, name)) = path.split() else {
                continue;
            };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let below = if parent.is_root() {
                &b"."[..]
            } else {
                parent.as_bytes()
            };
            match openat(&root, below, flags, Mode::empty()) {
                Ok(dir) => {
                    let label = label_of(dir.as_fd());
                    let at = At {
                        dir: dir.as_fd(),
                        name,
                    };
                    self.visit(Some(at), &path, false, 0, label.as_deref())?;
                }
                Err(Errno::NOENT | Errno::NOTDIR) => self.visit(None, &path, false, 0, None)?,
                Err(error) => return Err(read(&path, error.into())),
            }
        }
        Ok(())
    }

    /// Captures one file below the open directory `root` under the same path, whatever the patterns say, and whole even
    /// where another name of it was captured before. `false` when it is not there, which is a warning too.
    ///
    /// # Errors
    ///
    /// As [`Self::tree`].
    pub fn single(
        &mut self,
        root: BorrowedFd<'_>,
        path: &MemberPath,
    ) -> Result<bool, CaptureError> {
        let at = At {
            dir: root,
            name: path.as_bytes(),
        };
        let before = self.captured.members;
        self.single = true;
        let result = self.visit(Some(at), path, false, 0, None);
        self.single = false;
        result.map(|()| self.captured.members > before)
    }

    /// Where the archive goes.
    pub fn output(&mut self) -> &mut W {
        self.out.output()
    }

    /// Ends the archive and gives the output back with what was captured.
    ///
    /// # Errors
    ///
    /// When the archive cannot be written.
    pub fn finish(self) -> Result<(W, Captured), CaptureError> {
        let out = self.out.finish().map_err(|source| CaptureError::Write {
            path: MemberPath::root(),
            source,
        })?;
        Ok((out, self.captured))
    }

    /// Captures one path, as the overlay and the patterns say. `label` is the SELinux label of the
    /// directory it is in.
    fn visit(
        &mut self,
        at: Option<At<'_>>,
        path: &MemberPath,
        excluded: bool,
        depth: usize,
        label: Option<&[u8]>,
    ) -> Result<(), CaptureError> {
        if self.watch.stop_requested() {
            return Err(CaptureError::Stopped { path: path.clone() });
        }
        if depth > DEPTH_LIMIT {
            return Err(CaptureError::TooDeep { path: path.clone() });
        }
        let node = self.overlay.get(path).cloned();
        let absolute = [b"/", path.as_bytes()].concat();
        match node {
            Some(Node::Absent) => Ok(()),
            Some(Node::Keep) => self.located(at, path, false, depth, label),
            Some(Node::Source(source)) => {
                let (parent, name) = match (source.parent(), source.file_name()) {
                    (Some(parent), Some(name)) => (parent, name.as_bytes()),
                    _ => (source.as_path(), &b"."[..]),
                };
                let dir = directory(parent).map_err(|source| read(path, source))?;
                let at = At {
                    dir: dir.as_fd(),
                    name,
                };
                self.located(Some(at), path, false, depth, label)
            }
            Some(Node::File { content, mode }) => {
                let mut entry = self.made_up(path, Kind::File, mode, label);
                entry.size = content.len() as u64;
                if let Some(at) = at
                    && let Some(stat) = stat(at, path)?
                    && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                {
                    (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid);
                    entry.xattrs = xattrs(at, path)?;
                }
                self.append(&entry, &mut content.as_slice())
            }
            Some(Node::Symlink(target)) => {
                let entry = self.made_up(path, Kind::Symlink(target), 0o777, label);
                self.append(&entry, &mut io::empty())
            }
            Some(Node::Dir { mode }) => {
                let entry = self.made_up(path, Kind::Dir, mode, label);
                self.append(&entry, &mut io::empty())?;
                self.children(None, path, true, depth, label)
            }
            None => {
                let excluded = excluded || !self.single && self.excludes.matches(&absolute);
                self.located(at, path, excluded, depth, label)
            }
        }
    }

    /// Captures what is at a place. Of what is excluded, only what the overlay wants.
    fn located(
        &mut self,
        at: Option<At<'_>>,
        path: &MemberPath,
        excluded: bool,
        depth: usize,
        label: Option<&[u8]>,
    ) -> Result<(), CaptureError> {
        let wanted_below = self.overlay.reaches_below(path);
        if excluded && !wanted_below {
            return Ok(());
        }
        let found = match at {
            Some(at) => stat(at, path)?.map(|stat| (at, stat)),
            None => None,
        };
        let Some((at, stat)) = found else {
            if !wanted_below {
                self.warn(format!("\"{path}\" does not exist or vanished"));
                return Ok(());
            }
            let entry = self.made_up(path, Kind::Dir, 0o755, label);
            self.append(&entry, &mut io::empty())?;
            return self.children(None, path, true, depth, label);
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let dir = match openat(at.dir, at.name, flags, Mode::empty()) {
                    Ok(dir) => dir,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                        self.warn(format!("\"{path}\" vanished"));
                        return Ok(());
                    }
                    Err(error) => return Err(read(path, error.into())),
                };
                let entry = described(path, Kind::Dir, &stat, xattrs(at, path)?);
                self.append(&entry, &mut io::empty())?;
                let label = entry.xattrs.get(XATTR_SELINUX).map(Vec::as_slice);
                self.children(Some(&dir), path, excluded, depth, label)
            }
            FileType::RegularFile => self.file(at, path),
            FileType::Symlink => {
                let target = match readlinkat(at.dir, at.name, Vec::new()) {
                    Ok(target) => target.into_bytes(),
                    Err(Errno::NOENT | Errno::INVAL) => {
                        self.warn(format!("\"{path}\" vanished"));
                        return Ok(());
                    }
                    Err(error) => return Err(read(path, error.into())),
                };
                self.linkable(at, path, Kind::Symlink(target), &stat)
            }
            FileType::Fifo => self.linkable(at, path, Kind::Fifo, &stat),
            FileType::Socket => Ok(()),
            _ => {
                self.warn(format!("\"{path}\" is a device and left out"));
                Ok(())
            }
        }
    }

    fn children(
        &mut self,
        dir: Option<&OwnedFd>,
        path: &MemberPath,
        excluded: bool,
        depth: usize,
        label: Option<&[u8]>,
    ) -> Result<(), CaptureError> {
        let mut names = self.overlay.names(path);
        if let Some(dir) = dir
            && !excluded
        {
            let listing = Dir::read_from(dir).map_err(|error| read(path, error.into()))?;
            for entry in listing {
                let entry = entry.map_err(|error| read(path, error.into()))?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.insert(name.to_vec());
                }
            }
        }
        for name in names {
            let at = dir.map(|dir| At {
                dir: dir.as_fd(),
                name: &name,
            });
            self.visit(at, &path.joined(&name), excluded, depth + 1, label)?;
        }
        Ok(())
    }

    fn file(&mut self, at: At<'_>, path: &MemberPath) -> Result<(), CaptureError> {
        // Non-blocking: should a pipe have taken the file's place, opening it must not hang.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(at.dir, at.name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => {
                self.warn(format!("\"{path}\" vanished"));
                return Ok(());
            }
            Err(error) => return Err(read(path, error.into())),
        };
        let stat = fstat(&file).map_err(|error| read(path, error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.warn(format!("\"{path}\" vanished"));
            return Ok(());
        }
        if let Some(link) = self.earlier(path, &stat) {
            let entry = described(path, Kind::Hardlink(link), &stat, BTreeMap::new());
            return self.append(&entry, &mut io::empty());
        }
        let mut entry = described(path, Kind::File, &stat, xattrs(at, path)?);
        entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut file = File::from(file);
        let missing = self.append_content(&entry, &mut file)?;
        let after = fstat(&file).map_err(|error| read(path, error.into()))?;
        let times = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
        if missing > 0 || times(&stat) != times(&after) {
            self.warn(format!("\"{path}\" changed while it was read"));
        }
        Ok(())
    }

    /// A member without content that may have several names.
    fn linkable(
        &mut self,
        at: At<'_>,
        path: &MemberPath,
        kind: Kind,
        stat: &Stat,
    ) -> Result<(), CaptureError> {
        let entry = match self.earlier(path, stat) {
            Some(link) => described(path, Kind::Hardlink(link), stat, BTreeMap::new()),
            None => described(path, kind, stat, xattrs(at, path)?),
        };
        self.append(&entry, &mut io::empty())
    }

    /// The member that has the same inode, or none and this is it from now on.
    fn earlier(&mut self, path: &MemberPath, stat: &Stat) -> Option<MemberPath> {
        if self.single || stat.st_nlink < 2 {
            return None;
        }
        let inode = (stat.st_dev, stat.st_ino);
        match self.links.get(&inode) {
            Some(first) => Some(first.clone()),
            None => {
                self.links.insert(inode, path.clone());
                None
            }
        }
    }

    /// A member that only the overlay has.
    fn made_up(&self, path: &MemberPath, kind: Kind, mode: u32, label: Option<&[u8]>) -> Entry {
        let label = label.map(|label| (XATTR_SELINUX.to_vec(), label.to_vec()));
        Entry {
            path: path.clone(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: self.stamp,
            size: 0,
            extents: None,
            xattrs: label.into_iter().collect(),
        }
    }

    fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), CaptureError> {
        self.append_content(entry, content).map(drop)
    }

    fn append_content(
        &mut self,
        entry: &Entry,
        content: &mut dyn Read,
    ) -> Result<u64, CaptureError> {
        let mut watched = Watched {
            content,
            watch: self.watch,
            stopped: false,
            failed: None,
        };
        let result = self.out.append(entry, &mut watched);
        let Watched {
            stopped, failed, ..
        } = watched;
        let path = || entry.path.clone();
        if stopped {
            return Err(CaptureError::Stopped { path: path() });
        }
        if let Some(source) = failed {
            return Err(CaptureError::Read {
                path: path(),
                source,
            });
        }
        let missing = result.map_err(|source| CaptureError::Write {
            path: path(),
            source,
        })?;
        self.captured.members += 1;
        self.captured.bytes += entry.size;
        if !self.single {
            self.placed.insert(path());
        }
        Ok(missing)
    }

    fn warn(&mut self, warning: String) {
        if self.captured.warnings.len() < WARNING_LIMIT {
            self.captured.warnings.push(warning);
        }
    }
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn stat(at: At<'_>, path: &MemberPath) -> Result<Option<Stat>, CaptureError> {
    match statat(at.dir, at.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(read(path, error.into())),
    }
}

fn xattrs(at: At<'_>, path: &MemberPath) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, CaptureError> {
    match xattr::read(at.dir, at.name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        result => result.map_err(|source| read(path, source)),
    }
}

fn label_of(dir: BorrowedFd<'_>) -> Option<Vec<u8>> {
    xattr::read(dir, b".").ok()?.remove(XATTR_SELINUX)
}

fn described(
    path: &MemberPath,
    kind: Kind,
    stat: &Stat,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
) -> Entry {
    Entry {
        path: path.clone(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time {
            secs: stat.st_mtime,
            nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
        size: 0,
        extents: None,
        xattrs,
    }
}

fn read(path: &MemberPath, source: io::Error) -> CaptureError {
    CaptureError::Read {
        path: path.clone(),
        source,
    }
}
