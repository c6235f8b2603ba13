//! Putting single members in place, never through a symlink.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat,
    fstat, linkat, mkdirat, mknodat, open, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::{ExtractError, Extracted, Mark};
use crate::archive::{Entry, Kind, MemberPath, Time};
use crate::watch::Watch;
use crate::xattr;

/// Bytes of content copied between two looks at the stop request.
const CHUNK: usize = 256 * 1024;

/// A directory on the way to the current member.
struct Level {
    name: Vec<u8>,
    dir: OwnedFd,
    /// Its modification time once nothing more is written into it.
    mtime: Timespec,
}

/// The destination, with the directories that lead to the last member kept open.
pub(super) struct Place {
    root: Level,
    levels: Vec<Level>,
    buffer: Vec<u8>,
}

impl Place {
    pub(super) fn open(destination: &Path) -> Result<Self, ExtractError> {
        let failed = |error: Errno| ExtractError::Destination {
            path: destination.display().to_string(),
            source: error.into(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(destination, flags, Mode::empty()).map_err(failed)?;
        let mtime = modified(&dir).map_err(failed)?;
        let root = Level {
            name: b".".to_vec(),
            dir,
            mtime,
        };
        Ok(Self {
            root,
            levels: Vec::new(),
            buffer: vec![0; CHUNK],
        })
    }

    /// Takes up what a mark says.
    pub(super) fn resume(&mut self, mark: &Mark) -> Result<(), ExtractError> {
        let path = mark
            .levels
            .iter()
            .fold(MemberPath::root(), |path, (name, _)| path.joined(name));
        self.enter(&path, &path)?;
        self.root.mtime = timespec(mark.root);
        for (level, (_, mtime)) in self.levels.iter_mut().zip(&mark.levels) {
            level.mtime = timespec(*mtime);
        }
        Ok(())
    }

    /// A mark before the member whose headers begin there.
    pub(super) fn mark(&self, archive: u64) -> Mark {
        let levels = self.levels.iter();
        Mark {
            archive,
            begun: None,
            root: time(self.root.mtime),
            levels: levels
                .map(|level| (level.name.clone(), time(level.mtime)))
                .collect(),
        }
    }

    /// Opens the directory that a member goes into.
    pub(super) fn enter_parent(&mut self, entry: &Entry) -> Result<(), ExtractError> {
        match entry.path.split() {
            Some((parent, _)) => self.enter(&parent, &entry.path),
            None => Ok(()),
        }
    }

    /// Puts one member in place. The first `kept` bytes of its content are there already, and `content` lacks them.
    pub(super) fn put(
        &mut self,
        entry: &Entry,
        kept: u64,
        content: &mut dyn Read,
        watch: &mut dyn Watch,
        extracted: &mut Extracted,
    ) -> Result<(), ExtractError> {
        let Some((parent, name)) = entry.path.split() else {
            return self.put_root(entry, extracted);
        };
        let name = name.to_vec();
        if let Kind::Char { .. } | Kind::Block { .. } = entry.kind {
            return Err(ExtractError::Device {
                member: entry.path.clone(),
            });
        }
        if let Kind::Hardlink(target) = &entry.kind {
            return self.put_link(entry, target);
        }
        self.enter(&parent, &entry.path)?;
        match &entry.kind {
            Kind::Dir => return self.put_dir(entry, &name, extracted),
            Kind::File => self.put_file(entry, &name, kept, content, watch, extracted)?,
            Kind::Symlink(target) => {
                self.clear(entry, &name)?;
                symlinkat(target.as_slice(), self.dir(), name.as_slice())
                    .map_err(|error| placing(entry, "creating the symlink", error))?;
            }
            _ => {
                self.clear(entry, &name)?;
                let mode = Mode::from_raw_mode(0o600);
                mknodat(self.dir(), name.as_slice(), FileType::Fifo, mode, 0)
                    .map_err(|error| placing(entry, "creating the pipe", error))?;
            }
        }
        self.describe(entry, &name, extracted)?;
        self.set_time(&name, timespec(entry.mtime))
            .map_err(|error| placing(entry, "setting the time of", error))
    }

    /// Sets the times of the directories still open.
    pub(super) fn finish(mut self) -> Result<(), ExtractError> {
        self.leave(0)?;
        let Level { dir, mtime, .. } = &self.root;
        set_own_time(dir, *mtime).map_err(|error| ExtractError::Place {
            member: MemberPath::root(),
            action: "setting the time of",
            source: error.into(),
        })
    }

    fn put_root(&mut self, entry: &Entry, extracted: &mut Extracted) -> Result<(), ExtractError> {
        if entry.kind != Kind::Dir {
            return Err(placing(
                entry,
                "replacing the destination by",
                Errno::NOTDIR,
            ));
        }
        self.leave(0)?;
        self.describe(entry, b".", extracted)?;
        self.root.mtime = timespec(entry.mtime);
        Ok(())
    }

    fn put_dir(
        &mut self,
        entry: &Entry,
        name: &[u8],
        extracted: &mut Extracted,
    ) -> Result<(), ExtractError> {
        match mkdirat(self.dir(), name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) if self.kind_of(entry, name)? == FileType::Directory => {
                self.clear_attributes(entry, name)?;
            }
            Err(Errno::EXIST) => {
                self.clear(entry, name)?;
                mkdirat(self.dir(), name, Mode::from_raw_mode(0o700))
                    .map_err(|error| placing(entry, "creating the directory", error))?;
            }
            Err(error) => return Err(placing(entry, "creating the directory", error)),
        }
        self.describe(entry, name, extracted)?;
        // Its time is set when the last member below it was placed.
        self.enter(&entry.path, &entry.path)?;
        if let Some(level) = self.levels.last_mut() {
            level.mtime = timespec(entry.mtime);
        }
        Ok(())
    }

    fn put_file(
        &mut self,
        entry: &Entry,
        name: &[u8],
        kept: u64,
        content: &mut dyn Read,
        watch: &mut dyn Watch,
        extracted: &mut Extracted,
    ) -> Result<(), ExtractError> {
        let mut flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if kept == 0 {
            self.clear(entry, name)?;
            flags |= OFlags::CREATE | OFlags::EXCL;
        }
        let file = openat(self.dir(), name, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| placing(entry, "creating the file", error))?;
        let mut file = File::from(file);
        if kept > 0 {
            keep(entry, &mut file, kept)?;
        }
        fits(entry, &file)?;
        let failed = |source| ExtractError::Place {
            member: entry.path.clone(),
            action: "writing the file",
            source,
        };
        if let Some(extents) = &entry.extents {
            for extent in extents {
                file.seek(SeekFrom::Start(extent.offset)).map_err(failed)?;
                copy(
                    &mut self.buffer,
                    entry,
                    content,
                    extent.len,
                    &mut file,
                    watch,
                )?;
                extracted.bytes += extent.len;
            }
            file.set_len(entry.size).map_err(failed)?;
        } else {
            copy(
                &mut self.buffer,
                entry,
                content,
                entry.size.saturating_sub(kept),
                &mut file,
                watch,
            )?;
            extracted.bytes += entry.size;
        }
        Ok(())
    }

    fn put_link(&mut self, entry: &Entry, target: &MemberPath) -> Result<(), ExtractError> {
        let Some((parent, name)) = entry.path.split() else {
            return Ok(());
        };
        if *target == entry.path {
            return Ok(());
        }
        let Some((target_parent, target_name)) = target.split() else {
            return Err(placing(entry, "linking the root as", Errno::ISDIR));
        };
        self.enter(&target_parent, &entry.path)?;
        let from = self
            .dir()
            .try_clone_to_owned()
            .map_err(|error| placing(entry, "opening the target of", errno(&error)))?;
        self.enter(&parent, &entry.path)?;
        self.clear(entry, name)?;
        linkat(from, target_name, self.dir(), name, AtFlags::empty())
            .map_err(|error| placing(entry, "linking the earlier member as", error))
    }

    /// Opens the directories down to `path`, creating missing ones, and leaves the others.
    fn enter(&mut self, path: &MemberPath, member: &MemberPath) -> Result<(), ExtractError> {
        let shared = self
            .levels
            .iter()
            .zip(path.components())
            .take_while(|(level, name)| level.name == *name)
            .count();
        self.leave(shared)?;
        let failed = |action, error: Errno| ExtractError::Place {
            member: member.clone(),
            action,
            source: error.into(),
        };
        for name in path.components().skip(shared) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut opened = openat(self.dir(), name, flags, Mode::empty());
            if opened.as_ref().err() == Some(&Errno::NOENT) {
                mkdirat(self.dir(), name, Mode::from_raw_mode(0o755))
                    .and_then(|()| {
                        let mode = Mode::from_raw_mode(0o755);
                        // Whatever the process's umask is.
                        chmodat(self.dir(), name, mode, AtFlags::empty())
                    })
                    .map_err(|error| failed("creating the directory of", error))?;
                opened = openat(self.dir(), name, flags, Mode::empty());
            }
            let dir = match opened {
                Ok(dir) => dir,
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let open = self.levels.iter().map(|level| level.name.as_slice());
                    let link = open
                        .chain([name])
                        .fold(MemberPath::root(), |path, name| path.joined(name));
                    return Err(ExtractError::ThroughLink {
                        member: member.clone(),
                        link,
                    });
                }
                Err(error) => return Err(failed("opening the directory of", error)),
            };
            let mtime =
                modified(&dir).map_err(|error| failed("reading the directory of", error))?;
            self.levels.push(Level {
                name: name.to_vec(),
                dir,
                mtime,
            });
        }
        Ok(())
    }

    /// Leaves directories until `depth` remain open, setting their times.
    fn leave(&mut self, depth: usize) -> Result<(), ExtractError> {
        while self.levels.len() > depth {
            let path = self
                .levels
                .iter()
                .fold(MemberPath::root(), |path, level| path.joined(&level.name));
            if let Some(Level { dir, mtime, .. }) = self.levels.pop() {
                set_own_time(&dir, mtime).map_err(|error| ExtractError::Place {
                    member: path,
                    action: "setting the time of",
                    source: error.into(),
                })?;
            }
        }
        Ok(())
    }

    fn dir(&self) -> std::os::fd::BorrowedFd<'_> {
        self.levels.last().unwrap_or(&self.root).dir.as_fd()
    }

    fn kind_of(&self, entry: &Entry, name: &[u8]) -> Result<FileType, ExtractError> {
        statat(self.dir(), name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode))
            .map_err(|error| placing(entry, "looking at", error))
    }

    /// Removes what has the member's name. A directory goes only when it is empty.
    fn clear(&self, entry: &Entry, name: &[u8]) -> Result<(), ExtractError> {
        match unlinkat(self.dir(), name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => unlinkat(self.dir(), name, AtFlags::REMOVEDIR)
                .map_err(|error| placing(entry, "replacing the directory", error)),
            Err(error) => Err(placing(entry, "replacing", error)),
        }
    }

    /// Removes the ACLs of a directory that is kept: the archive says all there is to say.
    fn clear_attributes(&self, entry: &Entry, name: &[u8]) -> Result<(), ExtractError> {
        for key in [
            crate::archive::XATTR_ACL_ACCESS,
            crate::archive::XATTR_ACL_DEFAULT,
        ] {
            match xattr::remove(self.dir(), name, key) {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(error) => return Err(placing(entry, "removing the ACL of", error)),
            }
        }
        Ok(())
    }

    /// Sets owner, mode and attributes, in the order in which none undoes another: a change of
    /// owner clears setuid and capabilities, an ACL rewrites the mode's group bits.
    fn describe(
        &self,
        entry: &Entry,
        name: &[u8],
        extracted: &mut Extracted,
    ) -> Result<(), ExtractError> {
        let owner = (
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
        );
        chownat(
            self.dir(),
            name,
            owner.0,
            owner.1,
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|error| placing(entry, "setting the owner of", error))?;
        if !matches!(entry.kind, Kind::Symlink(_)) {
            chmodat(
                self.dir(),
                name,
                Mode::from_raw_mode(entry.mode),
                AtFlags::empty(),
            )
            .map_err(|error| placing(entry, "setting the mode of", error))?;
        }
        for (key, value) in &entry.xattrs {
            match xattr::set(self.dir(), name, key, value) {
                Ok(()) => {}
                Err(Errno::NOTSUP) => {
                    let key = crate::archive::shown(key);
                    extracted.unsupported_xattrs += 1;
                    extracted
                        .first_unsupported
                        .get_or_insert_with(|| format!("{key} on \"{}\"", entry.path));
                }
                Err(error) => {
                    let label = key.as_slice() == crate::archive::XATTR_SELINUX;
                    return Err(ExtractError::Xattr {
                        member: entry.path.clone(),
                        xattr: crate::archive::shown(key),
                        hint: match error {
                            Errno::INVAL if label => {
                                ": labels of another policy need CAP_MAC_ADMIN and the \
                                 install_t or spc_t domain"
                            }
                            Errno::TOOBIG | Errno::RANGE => ": no file system keeps one so long",
                            Errno::NOSPC => ": the file system has no room for attributes",
                            _ => "",
                        },
                        source: error.into(),
                    });
                }
            }
        }
        Ok(())
    }

    fn set_time(&self, name: &[u8], mtime: Timespec) -> Result<(), Errno> {
        utimensat(self.dir(), name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Goes on behind the first bytes of a file, which are in place.
fn keep(entry: &Entry, file: &mut File, kept: u64) -> Result<(), ExtractError> {
    let failed = |source| ExtractError::Place {
        member: entry.path.clone(),
        action: "going on with the file",
        source,
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() < kept {
        return Err(failed(io::Error::other("what was written of it is gone")));
    }
    file.set_len(kept).map_err(failed)?;
    file.seek(SeekFrom::Start(kept)).map_err(failed)?;
    Ok(())
}

/// Refuses a member that is longer than the file system has room for, before its first byte.
fn fits(entry: &Entry, file: &File) -> Result<(), ExtractError> {
    let stored = match &entry.extents {
        Some(extents) => extents.iter().map(|extent| extent.len).sum(),
        None => entry.size,
    };
    // Asked only where it matters: most files are short, and there are many.
    if stored < 1 << 20 {
        return Ok(());
    }
    let system = rustix::fs::fstatvfs(file)
        .map_err(|error| placing(entry, "asking for the room for", error))?;
    let free = system.f_bfree.saturating_mul(system.f_frsize);
    if stored <= free {
        return Ok(());
    }
    Err(ExtractError::Place {
        member: entry.path.clone(),
        action: "making room for",
        source: io::Error::new(
            io::ErrorKind::StorageFull,
            format!("it has {stored} bytes, and the file system has {free} left"),
        ),
    })
}

/// Copies exactly `len` bytes, looking at the stop request after each chunk.
fn copy(
    buffer: &mut [u8],
    entry: &Entry,
    content: &mut dyn Read,
    len: u64,
    file: &mut File,
    watch: &mut dyn Watch,
) -> Result<(), ExtractError> {
    let mut left = len;
    while left > 0 {
        if watch.stop_requested() {
            return Err(ExtractError::Stopped {
                member: entry.path.clone(),
            });
        }
        let want = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = match content.read(&mut buffer[..want]) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => {
                return Err(ExtractError::Content {
                    member: entry.path.clone(),
                    source,
                });
            }
        };
        if got == 0 {
            let source = io::ErrorKind::UnexpectedEof.into();
            return Err(ExtractError::Content {
                member: entry.path.clone(),
                source,
            });
        }
        file.write_all(&buffer[..got])
            .map_err(|source| ExtractError::Place {
                member: entry.path.clone(),
                action: "writing the file",
                source,
            })?;
        left -= got as u64;
        watch.advanced(got as u64);
    }
    Ok(())
}

fn placing(entry: &Entry, action: &'static str, error: Errno) -> ExtractError {
    ExtractError::Place {
        member: entry.path.clone(),
        action,
        source: error.into(),
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn modified(dir: &OwnedFd) -> Result<Timespec, Errno> {
    let stat = fstat(dir)?;
    Ok(Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
    })
}

fn set_own_time(dir: &OwnedFd, mtime: Timespec) -> Result<(), Errno> {
    rustix::fs::futimens(dir, &times(mtime))
}

fn times(mtime: Timespec) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: mtime,
    }
}

fn time(time: Timespec) -> Time {
    Time {
        secs: time.tv_sec,
        nanos: u32::try_from(time.tv_nsec).unwrap_or(0),
    }
}

fn timespec(time: Time) -> Timespec {
    Timespec {
        tv_sec: time.secs,
        tv_nsec: i64::from(time.nanos),
    }
}
