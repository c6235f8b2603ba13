//! A private network in which nodes and a registry live, and everything that belongs to them.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use testenv::OwnedChild;

use crate::cache::cache_dir;
use crate::command::{command, succeed};
use crate::control_group;
use crate::install::{self, NodeConfig};
use crate::network::{self, Namespace};
use crate::node::Node;
use crate::registry::Registry;

/// A network of its own with the directory of what is in it. Nodes and registry end before it: each
/// holds a share of it, and the last one to go takes namespace and directory along.
#[derive(Debug)]
pub struct Lab {
    shared: Arc<Ground>,
}

/// What all parts of a lab stand on.
#[derive(Debug)]
pub(crate) struct Ground {
    /// `lca-<pid>-<number>`, prefix of every namespace of the lab.
    pub(crate) name: String,
    pub(crate) namespace: Namespace,
    dir: PathBuf,
}

impl Lab {
    /// Makes a lab; removes what labs of killed processes left behind. `purpose` is part of the
    /// directory's name.
    ///
    /// # Errors
    /// When not root, or `ip` cannot make namespaces.
    pub fn new(purpose: &str) -> Result<Lab> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let labs = cache_dir().join("mini-sno/labs");
        fs::create_dir_all(&labs).with_context(|| format!("creating {}", labs.display()))?;
        network::sweep()?;
        control_group::sweep();
        for entry in fs::read_dir(&labs).with_context(|| format!("reading {}", labs.display()))? {
            let entry = entry?;
            if network::owner_is_gone(&entry.file_name().to_string_lossy()) {
                remove(&entry.path())?;
            }
        }
        let name = format!(
            "lca-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let dir = labs.join(format!("{name}-{purpose}"));
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(Lab {
            shared: Arc::new(Ground {
                namespace: Namespace::create_lab(&name)?,
                name,
                dir,
            }),
        })
    }

    /// The lab's directory; removed with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Installs a node, which then is powered off.
    ///
    /// # Errors
    /// When the image cannot be built, or a step of the installation fails.
    pub fn install(&self, config: &NodeConfig) -> Result<Node> {
        let dir = self.shared.dir.join(&config.name);
        let disk = install::install(&dir, config)
            .with_context(|| format!("installing node {}", config.name))?;
        Ok(Node::new(Arc::clone(&self.shared), config, disk))
    }

    /// Starts the lab's registry, reached as [`crate::REGISTRY_ADDRESS`]. It keeps its blobs in
    /// `storage`, or else in the lab's directory.
    ///
    /// # Errors
    /// When docker-registry is not installed or does not answer.
    pub fn start_registry(&self, storage: Option<&Path>) -> Result<Registry> {
        let work = self.shared.dir.join("registry");
        let own = work.join("storage");
        Registry::start(&self.shared.namespace, &work, storage.unwrap_or(&own))
    }

    /// As [`Lab::start_registry`], with a [`crate::Meter`] between nodes and registry.
    ///
    /// # Errors
    /// As [`Lab::start_registry`].
    pub fn start_metered_registry(&self, storage: &Path) -> Result<Registry> {
        let work = self.shared.dir.join("registry");
        Registry::start_metered(&self.shared.namespace, &work, storage)
    }

    /// Starts a program of the host in the lab's network; it ends with us, and what it writes goes to the file `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, program: &str, args: &[String], log: &Path) -> Result<OwnedChild> {
        let mut all = self.shared.namespace.enter(Path::new(program)).to_vec();
        all.extend_from_slice(args);
        OwnedChild::spawn(Path::new("nsenter"), &all, log)
    }

    /// Gives the lab itself one more address, for something that stands in for a node there.
    ///
    /// # Errors
    /// When it has the address already.
    pub fn add_address(&self, address: Ipv4Addr) -> Result<()> {
        self.shared.namespace.add_address(address)
    }

    /// A command of the host that runs in the lab's network, where it reaches nodes and registry by
    /// address.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.shared.namespace.command(Path::new(program))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.dir) {
            eprintln!("boxed: {error:#}");
        }
    }
}

/// Removes a directory that may hold deployments with the immutable bit.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    let path = dir.display().to_string();
    if succeed(&mut command("rm", ["-rf", "--one-file-system", &path])).is_err() {
        // Fails on links and devices, which is of no interest.
        let _ = succeed(&mut command("chattr", ["-R", "-f", "-i", &path]));
        succeed(&mut command("rm", ["-rf", "--one-file-system", &path]))?;
    }
    Ok(())
}
