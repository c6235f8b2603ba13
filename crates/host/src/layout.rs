//! Where the parts of a node lie.

use std::path::{Path, PathBuf};

use api::{DeploymentId, StaterootName};
use node::ports::Root;

/// The directories behind the roots of [`node::ports::NodePath`].
#[derive(Clone, Debug)]
pub struct Layout {
    booted: PathBuf,
    sysroot: PathBuf,
    shared: PathBuf,
    running: bool,
}

impl Layout {
    /// The running system.
    pub fn running() -> Self {
        Self {
            booted: "/".into(),
            sysroot: "/sysroot".into(),
            shared: "/var/lib/containers/lca".into(),
            running: true,
        }
    }

    /// A node that lies in a plain directory: `<dir>/root`, `<dir>/sysroot` and `<dir>/shared`. Nothing is mounted
    /// and nothing is booted; contract tests run on it.
    pub fn below(dir: &Path) -> Self {
        Self {
            booted: dir.join("root"),
            sysroot: dir.join("sysroot"),
            shared: dir.join("shared"),
            running: false,
        }
    }

    /// Whether this is the running system, whose `/sysroot` and `/boot` are mounted read-only.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// The directory of the physical root: `ostree/deploy` and `ostree/repo` are below it.
    pub fn sysroot(&self) -> &Path {
        &self.sysroot
    }

    /// The directory of boot entries.
    pub fn boot(&self) -> PathBuf {
        if self.running {
            "/boot".into()
        } else {
            self.sysroot.join("boot")
        }
    }

    /// The partition that all stateroots share.
    pub fn shared(&self) -> &Path {
        &self.shared
    }

    /// The running system's `/`.
    pub fn booted(&self) -> &Path {
        &self.booted
    }

    /// The directory that holds all stateroots.
    pub fn stateroots(&self) -> PathBuf {
        self.sysroot.join("ostree/deploy")
    }

    /// The directory of a stateroot.
    pub fn stateroot(&self, name: &StaterootName) -> PathBuf {
        self.stateroots().join(name.as_str())
    }

    /// The directory of a deployment.
    pub fn deployment(&self, id: &DeploymentId) -> PathBuf {
        self.stateroot(&id.stateroot)
            .join("deploy")
            .join(id.directory())
    }

    /// The directory that a root stands for.
    pub fn root(&self, root: &Root) -> PathBuf {
        match root {
            Root::Booted => self.booted.clone(),
            Root::Stateroot(name) => self.stateroot(name),
            Root::Deployment(id) => self.deployment(id),
            Root::Shared => self.shared.clone(),
        }
    }
}
