//! The machine: what is on its disk, what is in memory, and what power does to both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{DeploymentId, StaterootName, names};
use node::ports::{NodePath, Root};
use serde::{Deserialize, Serialize};

use crate::seed_image::{Commit, SeedImage};
use crate::tree::{Entry, Tree};

/// Where libostree keeps stateroots.
pub(crate) const STATEROOTS: &str = "/sysroot/ostree/deploy";
/// The list of deployments in boot order, in place of the boot loader's entries.
pub(crate) const ENTRIES: &str = "/boot/loader/entries";
/// The repository.
pub(crate) const REPOSITORY: &str = "/sysroot/ostree/repo";
/// The filesystem that all stateroots share.
pub(crate) const CONTAINERS: &str = "/containers";
/// How long the API server takes to answer after its start.
const API_STARTS_IN: u64 = 1500;

/// One boot entry.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct BootEntry {
    pub id: DeploymentId,
    pub kernel_arguments: Vec<String>,
}

/// What a boot knows and the next one does not.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Boot {
    pub number: u32,
    pub booted: DeploymentId,
    pub uptime: u64,
    pub active: BTreeSet<String>,
    /// Uptime at which the API server answers.
    pub api_at: Option<u64>,
    pub first_boot_over: bool,
}

/// A node with everything that belongs to it. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(crate) disk: Tree,
    pub(crate) cache: Tree,
    pub(crate) boot: Boot,
    pub(crate) now: u64,
    /// Reboots that the agent asked for.
    pub(crate) reboots: u32,
    /// What is in the registry, by reference.
    pub(crate) registry: Arc<BTreeMap<String, SeedImage>>,
    /// Every commit that exists anywhere, by checksum.
    pub(crate) commits: Arc<BTreeMap<String, Commit>>,
}

/// What became of what was written and not made durable when the power went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Loss {
    /// All of it is gone.
    Everything,
    /// Nothing is gone.
    Nothing,
    /// About half of the changed paths are gone, chosen by this number.
    Some(u64),
}

pub(crate) fn stateroot_directory(stateroot: &StaterootName) -> String {
    format!("{STATEROOTS}/{stateroot}")
}

pub(crate) fn deployment_directory(id: &DeploymentId) -> String {
    format!("{STATEROOTS}/{}/deploy/{}", id.stateroot, id.directory())
}

impl Machine {
    /// The physical path of a file.
    pub(crate) fn resolve(&self, path: &NodePath) -> String {
        let rel = &path.rel;
        match &path.root {
            Root::Stateroot(stateroot) => format!("{}/{rel}", stateroot_directory(stateroot)),
            Root::Deployment(id) => format!("{}/{rel}", deployment_directory(id)),
            Root::Shared => format!("{CONTAINERS}/lca/{rel}"),
            Root::Booted => {
                let stateroot = stateroot_directory(&self.boot.booted.stateroot);
                let deployment = deployment_directory(&self.boot.booted);
                let (first, rest) = rel.split_once('/').unwrap_or((rel, ""));
                match (first, rest.strip_prefix("lib/containers/")) {
                    ("var", Some(shared)) => format!("{CONTAINERS}/{shared}"),
                    ("var", None) => format!("{stateroot}/{rel}"),
                    ("opt" | "home", _) => format!("{stateroot}/var/{rel}"),
                    _ => format!("{deployment}/{rel}"),
                }
            }
        }
    }

    /// The directory of a root.
    pub(crate) fn root(&self, root: &Root) -> String {
        match root {
            Root::Stateroot(stateroot) => stateroot_directory(stateroot),
            Root::Deployment(id) => deployment_directory(id),
            Root::Shared => format!("{CONTAINERS}/lca"),
            Root::Booted => deployment_directory(&self.boot.booted),
        }
    }

    /// A file of the booted stateroot's `/var`.
    pub(crate) fn var(&self, rel: &str) -> String {
        format!(
            "{}/var/{rel}",
            stateroot_directory(&self.boot.booted.stateroot)
        )
    }

    /// A file of the booted deployment's `/etc`.
    pub(crate) fn etc(&self, rel: &str) -> String {
        format!("{}/etc/{rel}", deployment_directory(&self.boot.booted))
    }

    /// Writes in a way that survives a power cut.
    pub(crate) fn write_durably(&mut self, path: &str, mode: u32, content: impl Into<Arc<[u8]>>) {
        let content = content.into();
        self.cache.write(path, mode, content.clone());
        self.disk.write(path, mode, content);
    }

    /// Makes one filesystem durable: the one that this root lies on.
    pub(crate) fn sync(&mut self, root: &Root) {
        match root {
            Root::Shared => self.disk.copy_from(&self.cache, CONTAINERS),
            Root::Booted | Root::Stateroot(_) | Root::Deployment(_) => self.sync_sysroot(),
        }
    }

    pub(crate) fn sync_sysroot(&mut self) {
        self.disk.copy_from(&self.cache, "/sysroot");
    }

    /// The boot entries, first the default one.
    pub(crate) fn entries(tree: &Tree) -> Vec<BootEntry> {
        tree.content(ENTRIES)
            .and_then(|content| serde_json::from_slice(content).ok())
            .unwrap_or_default()
    }

    /// Writes the boot entries, as libostree does: everything before them is durable, and so are they.
    pub(crate) fn write_entries(&mut self, entries: &[BootEntry]) {
        self.sync_sysroot();
        let text = serde_json::to_vec(entries).unwrap_or_default();
        self.write_durably(ENTRIES, 0o644, text);
    }

    /// Whether the API server answers.
    pub(crate) fn api_answers(&self) -> bool {
        self.boot.api_at.is_some_and(|at| self.boot.uptime >= at)
    }

    /// Starts a unit.
    pub(crate) fn start(&mut self, unit: &str) {
        self.boot.active.insert(unit.to_owned());
        if unit == names::KUBELET_UNIT && self.boot.api_at.is_none() {
            self.boot.api_at = Some(self.boot.uptime + API_STARTS_IN);
        }
    }

    /// The link that enables a unit in the booted deployment.
    pub(crate) fn wants(&self, unit: &str) -> String {
        self.etc(&format!("systemd/system/multi-user.target.wants/{unit}"))
    }

    /// Time passes.
    pub(crate) fn pass_time(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        self.boot.uptime += milliseconds;
    }

    /// The power goes, and what was in memory with it.
    pub fn lose_power(&mut self, loss: Loss) {
        match loss {
            Loss::Everything => {}
            Loss::Nothing => self.disk = self.cache.clone(),
            Loss::Some(seed) => self.write_some(seed),
        }
        self.cache = self.disk.clone();
    }

    /// Some changes have reached the disk by themselves, in no order; directories before what is in them.
    fn write_some(&mut self, seed: u64) {
        let chosen = |path: &str| {
            let mixed = path
                .bytes()
                .fold(seed ^ 0x9e37_79b9_7f4a_7c15, |mixed, byte| {
                    (mixed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
                });
            (mixed >> 32) & 1 == 0
        };
        let changed: Vec<(Arc<str>, Entry)> = self
            .cache
            .entries()
            .filter(|(path, entry)| self.disk.get(path) != Some(entry))
            .map(|(path, entry)| (path.clone(), entry.clone()))
            .collect();
        let gone: Vec<Arc<str>> = self
            .disk
            .entries()
            .filter(|(path, _)| self.cache.get(path).is_none())
            .map(|(path, _)| path.clone())
            .collect();
        // A file goes before its directory: a directory is chosen only when all below it are.
        for path in gone.iter().rev().filter(|path| chosen(path)) {
            if self.disk.below(path).next().is_none() {
                self.disk.remove(path);
            }
        }
        for (path, entry) in changed.into_iter().filter(|(path, _)| chosen(path)) {
            self.disk.put(&path, entry);
        }
    }

    /// Starts the default deployment. `false` = the boot loader found none.
    pub fn power_on(&mut self) -> bool {
        let Some(first) = Self::entries(&self.disk).into_iter().next() else {
            return false;
        };
        self.cache = self.disk.clone();
        self.boot = Boot {
            number: self.boot.number + 1,
            booted: first.id,
            uptime: 0,
            active: BTreeSet::new(),
            api_at: None,
            first_boot_over: false,
        };
        // From the power button to the first unit.
        self.pass_time(10_000);
        let log = self.var(&format!("log/journal/boot-{:04}", self.boot.number));
        self.write_durably(&log, 0o640, *b"booted\n");
        let wanted = self.etc("systemd/system/multi-user.target.wants");
        for unit in self.cache.names(&wanted) {
            if unit != names::POST_PIVOT_UNIT {
                self.start(&unit);
            }
        }
        true
    }

    /// An orderly shutdown: everything reaches the disk.
    pub fn shut_down(&mut self) {
        self.lose_power(Loss::Nothing);
    }

    /// The booted deployment.
    pub fn booted(&self) -> &DeploymentId {
        &self.boot.booted
    }

    /// How often the agent has asked for a reboot.
    pub fn reboots(&self) -> u32 {
        self.reboots
    }

    /// What is on the disk.
    pub fn disk(&self) -> &Tree {
        &self.disk
    }

    /// What the running system sees.
    pub fn cache(&self) -> &Tree {
        &self.cache
    }
}
