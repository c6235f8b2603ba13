//! A site to upgrade: a node of the old release with the agent, and a registry with a seed of the
//! new one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cache::cache_dir;
use crate::command::succeed;
use crate::install::NodeConfig;
use crate::upgrade_object::UpgradeObject;
use crate::{Lab, Node, REGISTRY_ADDRESS, Registry, Release};

/// How long a stage may take before a site gives up waiting for it.
const STAGE_LIMIT: Duration = Duration::from_secs(300);

/// The site. Its parts end with it.
#[derive(Debug)]
pub struct Site {
    /// The node that is upgraded.
    pub node: Node,
    /// The registry with the seed.
    pub registry: Registry,
    /// The network that they share.
    pub lab: Lab,
}

/// The `lifecycle-agent` program under test: `LCA_AGENT`, or the one beside the running program or
/// test.
///
/// # Errors
/// When there is none.
pub fn agent_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("LCA_AGENT") {
        return Ok(path.into());
    }
    let exe = std::env::current_exe().context("finding the running program")?;
    let found = exe
        .ancestors()
        .map(|dir| dir.join("lifecycle-agent"))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "no lifecycle-agent beside {}: build it, or name it in LCA_AGENT",
            exe.display()
        )
    })
}

/// The node's own credentials for the registry.
const PULL_SECRET: &str = "/var/lib/kubelet/config.json";

/// Name of the seed image of a release.
#[must_use]
pub fn seed_image(release: Release) -> String {
    format!("{REGISTRY_ADDRESS}/seed:{}", release.version())
}

/// An image that every site can pull: what a seed lists for precaching.
const WORKLOAD: &str = "registry.lab:5000/workload/recert:v0";

/// The images that a seed lists for precaching: all but the first are built on it.
pub const WORKLOADS: [&str; 4] = [
    "registry.lab:5000/workload/base:v0",
    WORKLOAD,
    "registry.lab:5000/workload/plugin:v0",
    "registry.lab:5000/workload/driver:v0",
];

/// Gives the registry images to precache, from the node's own storage.
///
/// # Errors
/// When the node is off or podman fails.
pub fn push_workload(node: &Node) -> Result<()> {
    let (base, rest) = (WORKLOADS[0], WORKLOADS[1..].join(" "));
    // A MiB of what no archive makes smaller in each, so that their bytes can be told from what is around them.
    let script = format!(
        "set -e; cd $(mktemp -d); name() {{ echo $1 >name; head -c 1048576 /dev/urandom >>name; }}; \
         name {base}; tar -c name | podman import --quiet - {base}; \
         for image in {rest}; do \
         name $image; printf 'FROM {base}\\nCOPY name /name\\n' >Containerfile; \
         podman build --quiet --tag $image .; done; \
         for image in {base} {rest}; do podman push --quiet --authfile {PULL_SECRET} $image; done"
    );
    node.run(&["sh", "-c", &script]).map(drop)
}

/// The command that makes a seed of `release`, as a user types it.
#[must_use]
pub fn seed_command(release: Release) -> Vec<String> {
    let image = seed_image(release);
    [
        "lifecycle-agent",
        "seed",
        "create",
        "--image",
        &image,
        "--authfile",
        PULL_SECRET,
    ]
    .into_iter()
    .chain(["--recert-image", WORKLOAD])
    .map(ToOwned::to_owned)
    .collect()
}

/// Makes a seed on `node` as a user would, and pushes it to the lab's registry.
///
/// # Errors
/// When the node is off or `seed create` fails; what it printed is in the error.
pub fn create_seed(node: &Node, release: Release) -> Result<String> {
    push_workload(node)?;
    let command = seed_command(release);
    node.run(&command.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A registry's storage with the seed of `release`, made by this very agent: once, then cached.
///
/// # Errors
/// When the seed cannot be made.
pub fn seed_storage(release: Release, agent: &Path) -> Result<PathBuf> {
    let repo = crate::Image::ensure()?.repo();
    let built = repo
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy();
    // The number is raised with what is in a seed because of this module.
    let key = format!("{}-{}-{}-3", release.version(), built, digest(agent)?);
    let seeds = cache_dir().join("mini-sno/seeds");
    let kept = seeds.join(&key);
    if kept.is_dir() {
        return Ok(kept);
    }
    fs::create_dir_all(&seeds).with_context(|| format!("creating {}", seeds.display()))?;
    let made = tempfile::tempdir_in(&seeds).context("making a directory for the seed")?;
    let lab = Lab::new("seed")?;
    let registry = lab.start_registry(Some(made.path()))?;
    let node = lab.install(&NodeConfig::new("seed", release, 20).with_agent(agent))?;
    node.boot()?;
    node.wait_api()?;
    create_seed(&node, release)?;
    node.power_off_hard();
    drop(registry);
    forget_older(&seeds)?;
    let made = made.keep();
    match fs::rename(&made, &kept) {
        Ok(()) => Ok(kept),
        // Somebody else was first.
        Err(_) if kept.is_dir() => {
            fs::remove_dir_all(&made)?;
            Ok(kept)
        }
        Err(error) => Err(error).with_context(|| format!("keeping the seed in {}", kept.display())),
    }
}

/// Seeds of earlier builds are of no use; a few are kept for builds that take turns.
fn forget_older(seeds: &Path) -> Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(seeds)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    kept.sort();
    for (_, path) in kept.iter().rev().skip(4) {
        // Somebody else may remove it too.
        let _ = fs::remove_dir_all(path);
    }
    Ok(())
}

fn digest(path: &Path) -> Result<String> {
    let text = succeed(Command::new("sha256sum").arg("--binary").arg(path))?;
    Ok(text.chars().take(16).collect())
}

impl Site {
    /// A powered-off node of 4.16.9 with the agent, and a metered registry with the agent's seed of 4.17.4.
    ///
    /// # Errors
    /// When a part cannot be made.
    pub fn install(purpose: &str) -> Result<Site> {
        let agent = agent_binary()?;
        let storage = seed_storage(Release::V4_17_4, &agent)?;
        let lab = Lab::new(purpose)?;
        // A copy: what a test pushes or damages must not stay.
        let copy = lab.dir().join("registry-storage");
        succeed(
            Command::new("cp")
                .args(["-a", "--reflink=auto"])
                .arg(&storage)
                .arg(&copy),
        )?;
        let registry = lab.start_metered_registry(&copy)?;
        let node =
            lab.install(&NodeConfig::new("site", Release::V4_16_9, 10).with_agent(&agent))?;
        Ok(Site {
            node,
            registry,
            lab,
        })
    }

    /// As [`Site::install`], booted, with its API server and upgrade object.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot(purpose: &str) -> Result<Site> {
        let site = Site::install(purpose)?;
        site.node.boot()?;
        site.node.wait_api()?;
        site.wait(Duration::from_secs(60), |ibu| {
            conditions(ibu).contains(&("Idle", "True"))
        })?;
        Ok(site)
    }

    fn object<T>(&self, act: impl FnOnce(&UpgradeObject<'_>) -> Result<T>) -> Result<T> {
        act(&UpgradeObject {
            kubectl: &|args| self.node.kubectl(args),
            stage_limit: STAGE_LIMIT,
            pause: Duration::from_millis(100),
        })
    }

    /// The upgrade object.
    ///
    /// # Errors
    /// When the API server does not answer, or there is none.
    pub fn upgrade(&self) -> Result<Value> {
        self.object(|object| object.get())
    }

    /// The journal of the run that the agent began last in `stateroot`; empty if there is none.
    ///
    /// # Errors
    /// When the journals cannot be listed.
    pub fn last_run(&self, stateroot: &str) -> Result<String> {
        let runs = self.node.sysroot().var(stateroot).join("lib/lca/runs");
        let entries = match fs::read_dir(&runs) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
            entries => entries.with_context(|| format!("listing {}", runs.display()))?,
        };
        let mut newest = None;
        for entry in entries {
            let path = entry?.path();
            let is_journal = path
                .extension()
                .is_some_and(|extension| extension == "jsonl");
            // One that goes meanwhile is an old one.
            if is_journal && let Ok(made) = fs::metadata(&path).and_then(|found| found.created()) {
                newest = newest.max(Some((made, path)));
            }
        }
        let text = newest.map(|(_, path)| fs::read_to_string(path));
        Ok(text.and_then(Result::ok).unwrap_or_default())
    }

    /// Merges `patch` into the upgrade object, as `kubectl patch` does.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn patch(&self, patch: &Value) -> Result<()> {
        self.object(|object| object.patch(patch))
    }

    /// Asks for Prep with the site's seed.
    ///
    /// # Errors
    /// As [`Site::patch`].
    pub fn request_prep(&self) -> Result<()> {
        self.object(|object| object.request_prep(Release::V4_17_4))
    }

    /// Asks for a stage.
    ///
    /// # Errors
    /// As [`Site::patch`].
    pub fn request(&self, stage: &str) -> Result<()> {
        self.object(|object| object.request(stage))
    }

    /// Waits until the upgrade object satisfies `wanted`, however often the node reboots meanwhile.
    ///
    /// # Errors
    /// When it does not within `limit`; the error shows the last object's conditions.
    pub fn wait(&self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        self.object(|object| object.wait(limit, wanted))
    }

    /// Waits until a stage has ended well.
    ///
    /// # Errors
    /// When it fails or takes longer than five minutes.
    pub fn wait_stage(&self, stage: &str) -> Result<Value> {
        self.object(|object| object.wait_stage(stage))
    }

    /// Asks for a stage and waits until it has ended well.
    ///
    /// # Errors
    /// As [`Site::request`] and [`Site::wait_stage`].
    pub fn go(&self, stage: &str) -> Result<Value> {
        match stage {
            "Prep" => self.request_prep()?,
            _ => self.request(stage)?,
        }
        self.wait_stage(stage)
    }
}

/// Types and statuses of an upgrade object's conditions, in order.
#[must_use]
pub fn conditions(ibu: &Value) -> Vec<(&str, &str)> {
    let list = ibu["status"]["conditions"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    list.iter()
        .filter_map(|found| Some((found["type"].as_str()?, found["status"].as_str()?)))
        .collect()
}

/// The message of an upgrade object's condition; empty where there is none.
#[must_use]
pub fn message(ibu: &Value, type_: &str) -> String {
    let list = ibu["status"]["conditions"].as_array();
    let found = list
        .into_iter()
        .flatten()
        .find(|found| found["type"] == type_);
    let text = found.and_then(|found| found["message"].as_str());
    text.unwrap_or_default().to_owned()
}
