//! Files of a node, addressed by what they belong to.

use std::fmt;

use api::{DeploymentId, StaterootName};

use crate::PortResult;

/// What a path is relative to. There is no other way to name a file, so code cannot confuse the running system with
/// the one being prepared.
#[derive(Clone, Debug, Eq, PartialEq, Hash, PartialOrd, Ord)]
pub enum Root {
    /// The running system's `/`. `/var` in it is the booted stateroot's.
    Booted,
    /// `/sysroot/ostree/deploy/<name>`; the stateroot's `var` is below it.
    Stateroot(StaterootName),
    /// `/sysroot/ostree/deploy/<name>/deploy/<checksum>.<serial>`; the deployment's `etc` is below it.
    Deployment(DeploymentId),
    /// `/var/lib/containers/lca`: shared by all stateroots, because container storage is a mount of its own.
    Shared,
}

/// A file or directory: a root, and a path below it without leading slash.
#[derive(Clone, Debug, Eq, PartialEq, Hash, PartialOrd, Ord)]
pub struct NodePath {
    /// What `rel` is relative to.
    pub root: Root,
    /// Relative path; never empty, absolute, or with `..` in it.
    pub rel: String,
}

impl NodePath {
    /// A path of the running system; `absolute` may carry its leading slash.
    pub fn booted(absolute: &str) -> Self {
        Self {
            root: Root::Booted,
            rel: absolute.trim_start_matches('/').to_owned(),
        }
    }

    /// A path of `/var` in a stateroot, named as the release in it will see it (`/var/...` or `/opt/...`).
    pub fn in_stateroot(stateroot: &StaterootName, absolute: &str) -> Self {
        let path = absolute.trim_start_matches('/');
        let rel = path
            .strip_prefix("opt/")
            .map_or_else(|| path.to_owned(), |rest| format!("var/opt/{rest}"));
        Self {
            root: Root::Stateroot(stateroot.clone()),
            rel,
        }
    }

    /// A path below a deployment's root.
    pub fn in_deployment(deployment: &DeploymentId, rel: &str) -> Self {
        Self {
            root: Root::Deployment(deployment.clone()),
            rel: rel.trim_start_matches('/').to_owned(),
        }
    }

    /// A path in the partition that all stateroots share.
    pub fn shared(rel: &str) -> Self {
        Self {
            root: Root::Shared,
            rel: rel.trim_start_matches('/').to_owned(),
        }
    }

    /// The path of `name` below this directory.
    pub fn join(&self, name: &str) -> Self {
        Self {
            root: self.root.clone(),
            rel: format!("{}/{name}", self.rel),
        }
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Booted => write!(f, "/{}", self.rel),
            Root::Stateroot(name) => write!(f, "/sysroot/ostree/deploy/{name}/{}", self.rel),
            Root::Deployment(id) => write!(
                f,
                "/sysroot/ostree/deploy/{}/deploy/{}.{}/{}",
                id.stateroot, id.checksum, id.serial, self.rel
            ),
            Root::Shared => write!(f, "/var/lib/containers/lca/{}", self.rel),
        }
    }
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileKind {
    /// A regular file of this many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// Anything else; symbolic links are not followed.
    Other,
}

/// What a file is besides its content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attributes<'a> {
    /// Its permissions.
    pub mode: u32,
    /// Whose owner and group it gets; without it, or where nothing is there, root's.
    pub owned_like: Option<&'a NodePath>,
    /// Its SELinux context, where the node has SELinux; without it the one that its directory gives.
    pub label: Option<&'a str>,
}

/// Reading and durable writing. Writing below `/sysroot` works although it is mounted read-only for everybody else.
pub trait Files: Send + Sync {
    /// The whole content of a regular file, or `None` when nothing is there. Files over `limit` bytes are refused
    /// (`Permanent`).
    fn read(&self, path: &NodePath, limit: u64) -> PortResult<Option<Vec<u8>>>;

    /// What is at a path, or `None`.
    fn kind(&self, path: &NodePath) -> PortResult<Option<FileKind>>;

    /// Names in a directory, sorted; empty when there is no directory. Names that are no UTF-8 are left out.
    fn list(&self, path: &NodePath) -> PortResult<Vec<String>>;

    /// Replaces a file's content atomically; durable when this returns. Missing parent directories are made with
    /// mode 0700 and made durable too.
    fn replace(&self, path: &NodePath, content: &[u8], mode: u32) -> PortResult<()>;

    /// As [`Files::replace`], with more than permissions.
    fn replace_with(
        &self,
        path: &NodePath,
        content: &[u8],
        attributes: &Attributes<'_>,
    ) -> PortResult<()>;

    /// Creates a file with this content, unless something is there already. `false` = somebody was first. Atomic: no
    /// reader sees the file without its whole content. Durable when this returns, whoever created it: a reader that is about to
    /// act on what it found calls this too.
    fn create_exclusively(&self, path: &NodePath, content: &[u8], mode: u32) -> PortResult<bool>;

    /// Appends to a file (made with mode 0600 when missing); durable when this returns. A power cut may leave any
    /// prefix of `content`.
    fn append(&self, path: &NodePath, content: &[u8]) -> PortResult<()>;

    /// Replaces a file's content like [`Files::replace`] (mode 0600), but does not wait for the disk: a reader sees the old
    /// content or the new one, and a power cut may leave either, or nothing of it. For what nothing depends on.
    fn jot(&self, path: &NodePath, content: &[u8]) -> PortResult<()>;

    /// Makes a directory, with its parents, and gives it this mode; durable when this returns.
    fn ensure_directory(&self, path: &NodePath, mode: u32) -> PortResult<()>;

    /// Makes `to` an equal copy of the directory `from` (modes, owners and extended attributes too; what stands in
    /// `to` and not in `from` is kept). Durable when this returns. `false` = there is no `from`.
    fn copy_tree(&self, from: &NodePath, to: &NodePath) -> PortResult<bool>;

    /// Removes a file or a whole directory, never following links; gone already is success. Durable when this returns.
    fn remove(&self, path: &NodePath) -> PortResult<()>;

    /// Holds a lock file (made when missing) against everybody else on this node, until what is returned is dropped or the process
    /// ends in whatever way. `None` = somebody else holds it. Does not wait.
    fn hold<'a>(&'a self, path: &NodePath) -> PortResult<Option<Box<dyn Send + 'a>>>;

    /// Makes everything that was written to the filesystem of `root` durable, whoever wrote it.
    fn sync(&self, root: &Root) -> PortResult<()>;
}
