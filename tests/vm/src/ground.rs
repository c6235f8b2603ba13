//! What scenarios stand on: a lab with a registry of seeds, and moments of an upgrade to start from.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use boxed::site::{agent_binary, conditions, seed_storage};
use boxed::{AGENT_UNIT, Lab, NodeConfig, Registry, Release, cache, succeed};

use crate::accelerator::Accelerator;
use crate::frozen::Frozen;
use crate::machine::{BOOT_LIMIT, Vm};
use crate::serial::Mark;
use crate::site::Site;
use crate::{disk, supply};

/// A moment of an upgrade from 4.16.9 to 4.17.4 that is kept, so that a scenario need not live through what comes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The old release serves its API; the agent was not there yet.
    Serving,
    /// The agent has made its upgrade object, which is Idle.
    Idle,
    /// Prep is completed.
    Prepared,
    /// The new release runs and the upgrade is completed.
    Upgraded,
}

/// What of this crate decides what a machine that serves is like.
const SOURCES: [&str; 2] = [include_str!("hardware.rs"), include_str!("accelerator.rs")];

/// A lab with a registry in it. One scenario runs at a time: all have the same address. For several at once there are
/// several grounds ([`Ground::beside`]), which share what is kept.
#[derive(Debug)]
pub struct Ground {
    /// Runs as long as this does. Declared before the lab, and so gone before it.
    _registry: Registry,
    lab: Arc<Lab>,
    shared: Arc<Shared>,
}

/// What was made once for all grounds.
#[derive(Debug)]
struct Shared {
    config: NodeConfig,
    supply: PathBuf,
    /// What registries begin with.
    storage: PathBuf,
    kept: Mutex<BTreeMap<Moment, Frozen>>,
    /// In whose directory all this is.
    lab: Arc<Lab>,
}

impl Ground {
    /// A lab with the seeds of `releases`, made by the agent under test in a box or taken from the cache.
    ///
    /// # Errors
    /// When a part of it cannot be made.
    pub fn prepare(purpose: &str, releases: &[Release]) -> Result<Ground> {
        let agent = agent_binary()?;
        let config = NodeConfig::new("site", Release::V4_16_9, 10);
        let mut seeds = Vec::new();
        for release in releases {
            seeds.push(seed_storage(*release, &agent)?);
        }
        let lab = Arc::new(Lab::new(purpose)?);
        let storage = lab.dir().join("seeds");
        fs::create_dir(&storage).with_context(|| format!("creating {}", storage.display()))?;
        for seed in seeds {
            copy_tree(&seed, &storage)?;
        }
        let brought = lab.dir().join("brought");
        fs::create_dir(&brought).with_context(|| format!("creating {}", brought.display()))?;
        fs::copy(&agent, brought.join("lifecycle-agent"))
            .with_context(|| format!("copying {}", agent.display()))?;
        fs::write(brought.join("lifecycle-agent.service"), AGENT_UNIT)
            .context("writing the agent's unit")?;
        let supply = supply::with(lab.dir(), &brought)?;
        let shared = Shared {
            config,
            supply,
            storage,
            kept: Mutex::default(),
            lab: Arc::clone(&lab),
        };
        Ground::open(lab, Arc::new(shared))
    }

    /// One more ground like this one, for what happens there at the same time. It has its own lab and registry, and shares
    /// the moments that are kept.
    ///
    /// # Errors
    /// When its lab cannot be made.
    pub fn beside(&self) -> Result<Ground> {
        let lab = Arc::new(Lab::new("beside")?);
        Ground::open(lab, Arc::clone(&self.shared))
    }

    fn open(lab: Arc<Lab>, shared: Arc<Shared>) -> Result<Ground> {
        lab.add_address(shared.config.address)?;
        let storage = lab.dir().join("registry-storage");
        fs::create_dir(&storage).with_context(|| format!("creating {}", storage.display()))?;
        copy_tree(&shared.storage, &storage)?;
        let registry = lab.start_metered_registry(&storage)?;
        Ok(Ground {
            _registry: registry,
            lab,
            shared,
        })
    }

    /// The lab.
    #[must_use]
    pub fn lab(&self) -> &Arc<Lab> {
        &self.lab
    }

    /// A site that is at `moment` now, lived through once and then kept as long as the ground is.
    ///
    /// # Errors
    /// When the way there fails.
    pub fn at(&self, moment: Moment) -> Result<Site> {
        let reached = self.reach(&mut self.kept(), moment);
        let frozen = reached.with_context(|| format!("on the way to the moment {moment:?}"))?;
        self.start(&frozen)
    }

    /// A site that goes on from `frozen`.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn start(&self, frozen: &Frozen) -> Result<Site> {
        let Shared { config, supply, .. } = &*self.shared;
        Vm::start(&self.lab, config.address, frozen, Some(supply)).map(Site::new)
    }

    /// Whoever comes first lives through the moment; the others wait for it.
    fn reach(&self, kept: &mut BTreeMap<Moment, Frozen>, moment: Moment) -> Result<Frozen> {
        if let Some(frozen) = kept.get(&moment) {
            return Ok(frozen.clone());
        }
        let go = |stage: &'static str| move |site: &Site| site.go(stage).map(drop);
        let frozen = match moment {
            Moment::Serving => serving(&self.shared.config)?,
            Moment::Idle => self.next(kept, Moment::Serving, moment, install_agent)?,
            Moment::Prepared => self.next(kept, Moment::Idle, moment, go("Prep"))?,
            Moment::Upgraded => self.next(kept, Moment::Prepared, moment, go("Upgrade"))?,
        };
        kept.insert(moment, frozen.clone());
        Ok(frozen)
    }

    fn next(
        &self,
        kept: &mut BTreeMap<Moment, Frozen>,
        from: Moment,
        to: Moment,
        live: impl FnOnce(&Site) -> Result<()>,
    ) -> Result<Frozen> {
        let site = self.start(&self.reach(kept, from)?)?;
        live(&site).map_err(|error| site.with_evidence(error))?;
        let dir = self.shared.lab.dir().join(format!("{to:?}"));
        site.vm.freeze(&dir)
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Moment, Frozen>> {
        let kept = self.shared.kept.lock();
        kept.unwrap_or_else(PoisonError::into_inner)
    }
}

fn copy_tree(from: &Path, into: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto"])
        .arg(from.join("."))
        .arg(into);
    succeed(&mut copy).map(drop)
}

/// A node without agent whose API serves, booted once and then kept in the cache.
fn serving(config: &NodeConfig) -> Result<Frozen> {
    let disk = disk::ensure(config)?;
    let qemu = succeed(Command::new("qemu-system-x86_64").arg("--version"))?;
    let accelerator = Accelerator::find()?.name();
    let words = [qemu.as_bytes(), accelerator.as_bytes()];
    let parts = SOURCES.map(str::as_bytes).into_iter().chain(words);
    let key = cache::key(parts.chain([disk.as_os_str().as_encoded_bytes()]));
    let dir = cache::entry(&format!("vm-serving-{key}"), |dir| {
        let lab = Arc::new(Lab::new("serving")?);
        lab.add_address(config.address)?;
        let vm = Vm::start(&lab, config.address, &Frozen::fresh(disk.clone()), None)?;
        vm.wait_up(Mark::default())?;
        vm.wait_guest()?;
        vm.wait_api()?;
        // What is still starting would take its time from every scenario.
        let state = vm.exec(&["systemctl", "is-system-running", "--wait"])?;
        let failed = vm.run_in_guest(&["systemctl", "--failed", "--no-legend", "--plain"])?;
        ensure!(failed.is_empty(), "{}: {failed}", state.stdout.trim_end());
        vm.freeze(dir).map(drop)
    })?;
    // What nobody used for two days goes; the disk is used through this.
    for used in [Some(dir.as_path()), disk.parent()].into_iter().flatten() {
        touch(used)?;
    }
    Ok(Frozen::of(&dir))
}

fn touch(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|file| file.set_modified(SystemTime::now()))
        .with_context(|| format!("touching {}", dir.display()))
}

/// Brings the agent under test along and starts it, as a person would install it.
fn install_agent(site: &Site) -> Result<()> {
    site.vm.script(&format!(
        "mount -o ro {device} /mnt
         install -D -m 0755 /mnt/lifecycle-agent /usr/local/bin/lifecycle-agent
         install -m 0644 /mnt/lifecycle-agent.service /etc/systemd/system/
         umount /mnt
         systemctl enable --now lifecycle-agent.service",
        device = supply::DEVICE
    ))?;
    let idle = |ibu: &serde_json::Value| conditions(ibu).contains(&("Idle", "True"));
    site.object(|object| object.wait(BOOT_LIMIT, idle))?;
    // Written and settled: the moment is the same for whoever cuts the power right after it.
    site.vm.script("sync")?;
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}
