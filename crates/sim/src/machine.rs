//! The machine: what is on its disk, what is in memory, and what power does to both.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use api::{DeploymentId, StaterootName, names};
use node::ports::{NodePath, Root, SeedSignature};
use serde::{Deserialize, Serialize};

use crate::seed_image::{Commit, SeedImage};
use crate::tree::Tree;

/// Where libostree keeps stateroots.
pub(crate) const STATEROOTS: &str = "/sysroot/ostree/deploy";
/// The list of deployments in boot order, in place of the boot loader's entries.
pub(crate) const ENTRIES: &str = "/boot/loader/entries";
/// The boot loader's configuration, what it reads of ours, and its variables.
pub(crate) const GRUB_CONFIGURATION: &str = "/boot/grub2/grub.cfg";
pub(crate) const GRUB_DROP_IN: &str = "/boot/grub2/custom.cfg";
pub(crate) const GRUB_VARIABLES: &str = "/boot/grub2/grubenv";
/// The repository.
pub(crate) const REPOSITORY: &str = "/sysroot/ostree/repo";
/// The filesystem that all stateroots share.
pub(crate) const CONTAINERS: &str = "/containers";
/// How long the API server takes to answer after its start.
const API_STARTS_IN: u64 = 1500;

/// Where this is in `/etc`, kubelet starts no API server.
pub const BROKEN: &str = "kubelet-broken";

/// One boot entry.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct BootEntry {
    pub id: DeploymentId,
    pub kernel_arguments: Vec<String>,
}

/// The boot loader's variables.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Armed {
    pub entry: String,
    pub left: u32,
}

/// The boot loader's id of the entry at a place of a list: the number counts down from the default's.
pub(crate) fn boot_entry(entries: usize, place: usize) -> String {
    format!("ostree-{}", entries.saturating_sub(place))
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
    /// The early unit has done its work.
    pub early_over: bool,
}

/// A node with everything that belongs to it. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(crate) disk: Tree,
    pub(crate) cache: Tree,
    /// Paths that may differ between the two.
    unsynced: BTreeSet<Arc<str>>,
    /// Paths that somebody who checks has not looked at yet: on the disk, and in memory.
    unchecked: (Vec<Arc<str>>, Vec<Arc<str>>),
    pub(crate) boot: Boot,
    pub(crate) now: u64,
    /// Reboots that the agent asked for.
    pub(crate) reboots: u32,
    /// A stateroot whose release does not come up.
    pub(crate) broken: Option<StaterootName>,
    /// A stateroot whose operators never become ready.
    pub(crate) ill: Option<StaterootName>,
    /// Libostree does not say which deployment is booted.
    pub(crate) booted_hidden: bool,
    /// Nothing more fits onto the filesystem that all stateroots share.
    pub(crate) shared_full: bool,
    /// A stateroot that somebody picks in the boot loader's menu at the next start.
    picked: Option<StaterootName>,
    /// Files of a volume that brings a configuration, by their paths on it.
    pub(crate) configuration_volume: BTreeMap<String, Vec<u8>>,
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
    /// A machine that is switched off.
    pub(crate) fn new(
        disk: Tree,
        booted: DeploymentId,
        registry: BTreeMap<String, SeedImage>,
        commits: BTreeMap<String, Commit>,
    ) -> Self {
        Self {
            cache: disk.clone(),
            disk,
            unsynced: BTreeSet::new(),
            unchecked: (Vec::new(), Vec::new()),
            boot: Boot {
                number: 0,
                booted,
                uptime: 0,
                active: BTreeSet::new(),
                api_at: None,
                first_boot_over: false,
                early_over: false,
            },
            now: 1_750_000_000_000,
            reboots: 0,
            broken: None,
            ill: None,
            booted_hidden: false,
            shared_full: false,
            picked: None,
            configuration_volume: BTreeMap::new(),
            registry: Arc::new(registry),
            commits: Arc::new(commits),
        }
    }

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
        self.cache.write(path, mode, content);
        self.disk.follow(&self.cache, path);
    }

    /// Makes one filesystem durable: the one that this root lies on.
    pub(crate) fn sync(&mut self, root: &Root) {
        match root {
            Root::Shared => self.sync_below(CONTAINERS),
            Root::Booted | Root::Stateroot(_) | Root::Deployment(_) => self.sync_sysroot(),
        }
    }

    pub(crate) fn sync_sysroot(&mut self) {
        self.sync_below("/sysroot");
    }

    fn sync_below(&mut self, filesystem: &str) {
        self.look();
        let (synced, rest): (BTreeSet<_>, BTreeSet<_>) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|path| path.starts_with(filesystem));
        self.unsynced = rest;
        for path in synced {
            self.disk.follow(&self.cache, &path);
        }
    }

    /// Takes note of what was touched.
    fn look(&mut self) {
        let memory = self.cache.take_touched();
        self.unsynced.extend(memory.iter().cloned());
        self.unchecked.1.extend(memory);
        self.unchecked.0.extend(self.disk.take_touched());
    }

    /// Paths that were touched since the last call: on the disk, and in memory.
    pub(crate) fn take_unchecked(&mut self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        self.look();
        std::mem::take(&mut self.unchecked)
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
        let works = self.cache.get(&self.etc(BROKEN)).is_none();
        if unit == names::KUBELET_UNIT && self.boot.api_at.is_none() && works {
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
        self.look();
        let unsynced = std::mem::take(&mut self.unsynced);
        // A file is removed before its directory, and a directory made before its files.
        let mixed = |path: &str, seed: u64| {
            let mut hasher = DefaultHasher::new();
            (path, seed).hash(&mut hasher);
            hasher.finish() & 1 == 0
        };
        let written = |path: &str| match loss {
            Loss::Everything => false,
            Loss::Nothing => true,
            Loss::Some(seed) => mixed(path, seed),
        };
        let (gone, made): (Vec<_>, Vec<_>) = unsynced
            .iter()
            .filter(|path| written(path))
            .partition(|path| self.cache.get(path).is_none());
        for path in gone.iter().rev() {
            if self.disk.below(path).next().is_none() {
                self.disk.remove(path);
            }
        }
        for path in made {
            self.disk.follow(&self.cache, path);
        }
        self.cache = self.disk.clone();
        self.look();
        self.unsynced.clear();
    }

    /// Whether a power cut would lose anything.
    pub(crate) fn has_unsynced(&self) -> bool {
        self.disk.fingerprint() != self.cache.fingerprint()
    }

    /// What the boot loader's variables say.
    pub(crate) fn variables(tree: &Tree) -> Option<Armed> {
        serde_json::from_slice(tree.content(GRUB_VARIABLES)?).ok()
    }

    /// The same, where its configuration looks at them.
    pub(crate) fn armed(tree: &Tree) -> Option<Armed> {
        tree.get(GRUB_DROP_IN)?;
        Self::variables(tree)
    }

    /// Overwrites the boot loader's variables.
    pub(crate) fn set_armed(&mut self, armed: Option<&Armed>) {
        let text = armed.map_or_else(Vec::new, |armed| {
            serde_json::to_vec(armed).unwrap_or_default()
        });
        self.write_durably(GRUB_VARIABLES, 0o600, text);
    }

    /// What the boot loader starts; each time costs an attempt.
    fn load(&mut self) -> Option<BootEntry> {
        let entries = Self::entries(&self.disk);
        let first = entries.first().cloned();
        let Some(mut armed) = Self::armed(&self.disk) else {
            return first;
        };
        if armed.left > 0 {
            armed.left -= 1;
            self.set_armed(Some(&armed));
            return first;
        }
        let places = entries.iter().enumerate();
        let mut named =
            places.filter(|(place, _)| boot_entry(entries.len(), *place) == armed.entry);
        named.next().map(|(_, entry)| entry.clone()).or(first)
    }

    /// The operators of the release in this stateroot do not become ready from now on.
    pub fn sicken_release(&mut self, stateroot: &StaterootName) {
        self.ill = Some(stateroot.clone());
    }

    /// From now on nobody is told which deployment is booted.
    pub fn hide_booted(&mut self) {
        self.booted_hidden = true;
    }

    /// The release in this stateroot does not come up from now on: it panics, and the machine starts again.
    pub fn break_release(&mut self, stateroot: &StaterootName) {
        self.broken = Some(stateroot.clone());
    }

    /// Somebody fills the filesystem that all stateroots share.
    pub fn fill_shared(&mut self) {
        self.shared_full = true;
    }

    /// Somebody picks the release in this stateroot in the boot loader's menu, once.
    pub fn pick_release(&mut self, stateroot: &StaterootName) {
        self.picked = Some(stateroot.clone());
    }

    /// Somebody attaches a volume with the configuration of a node that is being installed.
    pub fn attach_configuration(&mut self, files: BTreeMap<String, Vec<u8>>) {
        self.configuration_volume = files;
    }

    /// Starts what the boot loader starts, again where it does not come up. `false` = nothing comes up.
    pub fn power_on(&mut self) -> bool {
        /// Times that a person watches it.
        const STARTS: u32 = 20;
        let broken = self.broken.clone();
        let comes_up = |entry: &BootEntry| Some(&entry.id.stateroot) != broken.as_ref();
        let picked = self.picked.take();
        let picked = Self::entries(&self.disk)
            .into_iter()
            .find(|entry| Some(&entry.id.stateroot) == picked.as_ref());
        let mut starts = picked
            .into_iter()
            .chain((0..STARTS).map_while(|_| self.load()));
        let Some(first) = starts.find(comes_up) else {
            return false;
        };
        self.boot = Boot {
            number: self.boot.number + 1,
            booted: first.id,
            uptime: 0,
            active: BTreeSet::new(),
            api_at: None,
            first_boot_over: false,
            early_over: false,
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

    /// Somebody else writes a file: on the disk and in memory.
    pub fn tamper(&mut self, path: &str, content: &[u8]) {
        self.write_durably(path, 0o600, content);
    }

    /// Somebody else deploys what the default is made of in a stateroot of their own, as the last one.
    pub fn deploy_foreign(&mut self, stateroot: &StaterootName) {
        let mut entries = Self::entries(&self.disk);
        let Some(mut entry) = entries.first().cloned() else {
            return;
        };
        entry.id.stateroot = stateroot.clone();
        self.tamper(
            &format!("/sysroot/ostree/deploy/{stateroot}/var/lib/kept"),
            b"somebody's",
        );
        entries.push(entry);
        self.write_entries(&entries);
    }

    /// Somebody else removes what has nothing below it: from the disk and from memory.
    pub fn erase(&mut self, path: &str) {
        self.look();
        self.remove(path);
    }

    /// Removes a file, durably.
    pub fn remove(&mut self, path: &str) {
        self.cache.remove(path);
        self.disk.remove(path);
    }

    /// Somebody pushes what `other` names under the name `reference` too. What had that name stays in the registry, without
    /// a name. Nothing happens where the registry has neither.
    pub fn move_tag(&mut self, reference: &str, other: &str) {
        let images = Arc::make_mut(&mut self.registry);
        let Some((old, mut moved)) = images
            .get(reference)
            .cloned()
            .zip(images.get(other).cloned())
        else {
            return;
        };
        moved.pin.image = old.pin.image.clone();
        images.insert(format!("{reference}@{}", old.pin.digest), old);
        images.insert(reference.to_owned(), moved);
    }

    /// Somebody signs the image `reference`, if the registry has it.
    pub fn sign(&mut self, reference: &str, signature: SeedSignature) {
        let images = Arc::make_mut(&mut self.registry);
        if let Some(image) = images.get_mut(reference) {
            image.signature = Some(signature);
        }
    }

    /// The physical path of a file of the running system.
    pub fn path(&self, absolute: &str) -> String {
        self.resolve(&NodePath::booted(absolute))
    }

    pub(crate) fn booted_stateroot(&self) -> StaterootName {
        self.boot.booted.stateroot.clone()
    }

    /// Somebody sets the clock forward or back, in seconds.
    pub fn move_clock(&mut self, seconds: i64) {
        self.now = self.now.saturating_add_signed(seconds.saturating_mul(1000));
    }

    /// What boots by default, as the boot entries have it.
    pub fn default(&self) -> Option<DeploymentId> {
        Self::entries(&self.disk)
            .into_iter()
            .next()
            .map(|entry| entry.id)
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
