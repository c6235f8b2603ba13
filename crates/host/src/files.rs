//! The files port.

use std::fs::File;
use std::io::{self, Read, Write};

use node::ports::{Attributes, FileKind, Files, NodePath, Root};
use node::{ErrorKind, PortError, PortResult};
use rustix::fs::{self, FileType, FlockOperation, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use crate::directory::{Anchor, Place, TEMPORARY, names};
use crate::failure::Attempt;
use crate::layout::Layout;
use crate::sysroot_writer::writing;
use crate::tree::{self, RemoveError};

/// Files of a node.
#[derive(Clone, Debug)]
pub struct HostFiles {
    layout: Layout,
}

impl HostFiles {
    /// Files of the node that lies there.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// Opens the root for reading; `None` when there is none.
    fn anchor(&self, root: &Root) -> io::Result<Option<Anchor>> {
        Anchor::open(&self.layout.root(root))
    }

    /// Opens the root for writing. Only the shared directory is made when it is missing: a stateroot or deployment
    /// that is not there is not ours to invent.
    fn writable_anchor(&self, root: &Root) -> io::Result<Anchor> {
        if *root == Root::Shared
            && let Some(parent) = self.layout.shared().parent()
            && let Some(name) = self
                .layout
                .shared()
                .file_name()
                .and_then(|name| name.to_str())
        {
            std::fs::create_dir_all(parent)?;
            if let Some(anchor) = Anchor::open(parent)? {
                anchor.ensure_directory(name)?;
            }
        }
        self.anchor(root)?
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Owner and group of what is there; `None` where nothing is.
    fn owner(&self, path: &NodePath) -> PortResult<Option<(Uid, Gid)>> {
        check(path)?;
        let stat = || -> io::Result<Option<fs::Stat>> {
            let Some(anchor) = self.anchor(&path.root)? else {
                return Ok(None);
            };
            let place = anchor.place(&path.rel)?;
            place.map_or(Ok(None), |place| place.stat())
        };
        let found = stat().attempt(|| format!("examining {path}"))?;
        Ok(found.map(|stat| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))))
    }

    /// Runs `work` where the root can be written.
    fn write<T: Send>(
        &self,
        root: &Root,
        work: impl FnOnce() -> PortResult<T> + Send,
    ) -> PortResult<T> {
        match root {
            Root::Booted | Root::Shared => work(),
            Root::Stateroot(_) | Root::Deployment(_) => writing(&self.layout, work),
        }
    }

    /// Runs `act` on the place of `path`, with its directory made if missing.
    fn at<T: Send>(
        &self,
        path: &NodePath,
        verb: &str,
        act: impl FnOnce(&Place) -> io::Result<T> + Send,
    ) -> PortResult<T> {
        check(path)?;
        self.write(&path.root, || {
            self.writable_anchor(&path.root)
                .and_then(|anchor| anchor.ensure_place(&path.rel))
                .and_then(|place| act(&place))
                .attempt(|| format!("{verb} {path}"))
        })
    }
}

/// Refuses paths that [`NodePath`] does not allow.
fn check(path: &NodePath) -> PortResult<()> {
    let bad = |component: &str| matches!(component, "" | "." | "..");
    if path.rel.split('/').any(bad) || path.rel.contains('\0') {
        let text = format!("{path:?} is not a path below its root");
        return Err(PortError::plain(ErrorKind::Permanent, text));
    }
    Ok(())
}

/// The extended attribute that holds a file's SELinux context.
const LABEL: &str = "security.selinux";

/// Whether the kernel enforces or at least knows a policy (selinuxfs is mounted then).
fn has_selinux() -> bool {
    std::path::Path::new("/sys/fs/selinux/enforce").exists()
}

fn fill<'a>(content: &'a [u8], mode: u32) -> impl FnOnce(&mut File) -> io::Result<()> + Send + 'a {
    move |file| {
        file.write_all(content)?;
        // Not by the mode of creation: the process's umask does not count.
        Ok(fs::fchmod(file, Mode::from_raw_mode(mode))?)
    }
}

impl Files for HostFiles {
    fn read(&self, path: &NodePath, limit: u64) -> PortResult<Option<Vec<u8>>> {
        check(path)?;
        let open = || -> io::Result<Option<File>> {
            let Some(anchor) = self.anchor(&path.root)? else {
                return Ok(None);
            };
            // Not blocking: what is no file after all may be a FIFO that nobody writes to.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK;
            Ok(anchor.open_below(&path.rel, flags)?.map(File::from))
        };
        let Some(file) = open().attempt(|| format!("opening {path}"))? else {
            return Ok(None);
        };
        let metadata = file.metadata().attempt(|| format!("examining {path}"))?;
        let refuse = |text: String| Err(PortError::plain(ErrorKind::Permanent, text));
        if !metadata.is_file() {
            return refuse(format!("{path} is not a regular file"));
        }
        let mut content = vec![];
        file.take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .attempt(|| format!("reading {path}"))?;
        if content.len() as u64 > limit {
            return refuse(format!("{path} is larger than {limit} bytes"));
        }
        Ok(Some(content))
    }

    fn kind(&self, path: &NodePath) -> PortResult<Option<FileKind>> {
        check(path)?;
        let stat = || {
            let Some(anchor) = self.anchor(&path.root)? else {
                return Ok(None);
            };
            anchor
                .place(&path.rel)?
                .map_or(Ok(None), |place| place.stat())
        };
        let stat = stat().attempt(|| format!("examining {path}"))?;
        Ok(
            stat.map(|stat| match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => FileKind::File(stat.st_size.cast_unsigned()),
                FileType::Directory => FileKind::Directory,
                _ => FileKind::Other,
            }),
        )
    }

    fn list(&self, path: &NodePath) -> PortResult<Vec<String>> {
        check(path)?;
        let list = || {
            let Some(anchor) = self.anchor(&path.root)? else {
                return Ok(vec![]);
            };
            anchor
                .directory(&path.rel)?
                .map_or(Ok(vec![]), |dir| names(&dir))
        };
        let names = list().attempt(|| format!("listing {path}"))?;
        let mut names: Vec<String> = names
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .filter(|name| !name.starts_with(TEMPORARY))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn replace(&self, path: &NodePath, content: &[u8], mode: u32) -> PortResult<()> {
        self.at(path, "replacing", |place| {
            place.replace(fill(content, mode))
        })
    }

    fn replace_with(
        &self,
        path: &NodePath,
        content: &[u8],
        attributes: &Attributes<'_>,
    ) -> PortResult<()> {
        let owner = match attributes.owned_like {
            None => None,
            Some(like) => self.owner(like)?,
        };
        let (mode, label) = (attributes.mode, attributes.label.filter(|_| has_selinux()));
        self.at(path, "replacing", |place| {
            place.replace(|file| {
                if let Some((user, group)) = owner {
                    fs::fchown(&*file, Some(user), Some(group))?;
                }
                fill(content, mode)(file)?;
                if let Some(label) = label {
                    let value = [label.as_bytes(), b"\0"].concat();
                    fs::fsetxattr(file, LABEL, &value, XattrFlags::empty())?;
                }
                Ok(())
            })
        })
    }

    fn create_exclusively(&self, path: &NodePath, content: &[u8], mode: u32) -> PortResult<bool> {
        self.at(path, "creating", |place| place.create(fill(content, mode)))
    }

    fn append(&self, path: &NodePath, content: &[u8]) -> PortResult<()> {
        self.at(path, "appending to", |place| {
            let missing = place.stat()?.is_none();
            let flags = OFlags::WRONLY
                | OFlags::APPEND
                | OFlags::CREATE
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK
                | OFlags::CLOEXEC;
            let fd = fs::openat(&place.dir, &place.name, flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(fd);
            file.write_all(content)?;
            file.sync_data()?;
            if missing { place.settle() } else { Ok(()) }
        })
    }

    fn jot(&self, path: &NodePath, content: &[u8]) -> PortResult<()> {
        self.at(path, "noting", |place| {
            place.replace_loosely(fill(content, 0o600))
        })
    }

    fn ensure_directory(&self, path: &NodePath, mode: u32) -> PortResult<()> {
        self.at(path, "making directory", |place| {
            match fs::mkdirat(&place.dir, &place.name, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let dir = place.open_directory()?;
            fs::fchmod(&dir, Mode::from_raw_mode(mode))?;
            fs::fsync(&dir)?;
            place.settle()
        })
    }

    fn copy_tree(&self, from: &NodePath, to: &NodePath) -> PortResult<bool> {
        check(from)?;
        if self.kind(from)? != Some(FileKind::Directory) {
            return Ok(false);
        }
        self.at(to, &format!("copying {from} to"), |place| {
            let source = self.anchor(&from.root)?.ok_or(io::ErrorKind::NotFound)?;
            let source = source.place(&from.rel)?.ok_or(io::ErrorKind::NotFound)?;
            tree::copy(&source, place)?;
            Ok(fs::syncfs(&place.dir)?)
        })?;
        Ok(true)
    }

    fn remove(&self, path: &NodePath) -> PortResult<()> {
        check(path)?;
        if self.kind(path)?.is_none() {
            return Ok(());
        }
        self.at(path, "removing", |place| {
            tree::remove(place, &mut |_| true).map_err(|error| match error {
                RemoveError::Io(error) => error,
                RemoveError::Stopped => io::ErrorKind::Interrupted.into(),
            })
        })
    }

    fn hold<'a>(&'a self, path: &NodePath) -> PortResult<Option<Box<dyn Send + 'a>>> {
        let file = self.at(path, "opening", |place| {
            let flags = OFlags::RDWR
                | OFlags::CREATE
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK
                | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o600);
            Ok(fs::openat(&place.dir, &place.name, flags, mode)?)
        })?;
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).attempt(|| format!("locking {path}")),
        }
    }

    fn sync(&self, root: &Root) -> PortResult<()> {
        let path = self.layout.root(root);
        let anchor = Anchor::open(&path).attempt(|| format!("opening {}", path.display()))?;
        let Some(anchor) = anchor else { return Ok(()) };
        anchor
            .sync()
            .attempt(|| format!("syncing the filesystem of {}", path.display()))
    }
}
