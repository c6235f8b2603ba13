//! `plan`: what an upgrade would do, and what is in its way, with no side effects: nothing is written on the node, in the
//! cluster or in the registry.

mod print;
mod signature;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use api::network_limits::NetworkLimits;
use api::{
    DeploymentId, ImageBasedUpgrade, ImageBasedUpgradeSpec, ImageRef, SeedImageRef, Timestamp,
};
use clap::ValueEnum;
use cluster::LiveCluster;
use host::{HostFiles, HostImages, HostMachine, HostOstree, HostSeeds, Layout};
use node::ports::{Clock, Cluster, Images, Machine, Ostree, PullSecret, Seeds, Unwatched};
use node::record::{self, Record};
use node::{ErrorKind, PortError, PortResult};
use planner::check::{Severity, Subject, answers, needs};
use planner::{
    ClusterFacts, Filesystem, NodeFacts, PrecachePolicy, SYSROOT_RESERVE, SeedContent, SeedPin,
};
use serde::Serialize;

use crate::background::Background;
use crate::cli::{ApiServer, print as print_text};
use crate::node_ports::connect;

/// How often an API server that does not answer is asked, and the pause between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What the estimate of the duration assumes.
const FETCHED_PER_SECOND: u64 = 20 << 20;
const INSTALLED_PER_SECOND: u64 = 60 << 20;
const SECONDS_PER_IMAGE: u64 = 10;

/// What to preview.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The seed image; without it, what the upgrade object's spec asks for.
    #[arg(long)]
    image: Option<String>,
    /// The seed's version; without it, what the seed says of itself.
    #[arg(long, requires = "image")]
    version: Option<String>,
    /// Credentials for the seed's registry: a docker configuration file (with a `/` in its name), or a Secret in the
    /// operator's namespace; without it, the node's own.
    #[arg(long)]
    pull_secret: Option<String>,
    /// Format.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    api: ApiServer,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// Prints the preview. The exit status is 0 when nothing blocks, 1 when something does, 2 when nobody could tell.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let background = Background::start()?;
    let document = Known::gather(arguments, &background).document();
    let text = match arguments.output {
        Format::Text => print::text(&document),
        Format::Json => format!("{:#}\n", serde_json::to_value(&document)?),
        Format::Yaml => serde_yaml_ng::to_string(&document)?,
    };
    print_text(&text)?;
    Ok(document.verdict.exit_status())
}

/// The whole answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Clear,
    Blocked,
    CouldNotTell,
}

impl Outcome {
    fn exit_status(self) -> ExitCode {
        ExitCode::from(match self {
            Outcome::Clear => 0,
            Outcome::Blocked => 1,
            Outcome::CouldNotTell => 2,
        })
    }
}

/// The preview. Names and meanings of the members are stable; `null` is what is not known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    verdict: Outcome,
    /// As it was asked for.
    image: String,
    digest: Option<String>,
    /// What became of the signature, in the words of the check of this name.
    signature: String,
    running_version: Option<String>,
    seed_version: Option<String>,
    fetch: Option<Fetch>,
    space: Vec<SpaceRow>,
    kernel_arguments: Option<Changes>,
    images: Option<ImageCounts>,
    estimate: Option<Estimate>,
    checks: Vec<CheckRow>,
    blockers: Vec<String>,
    could_not_tell: Vec<String>,
    warnings: Vec<String>,
}

/// Bytes of the seed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fetch {
    compressed_bytes: u64,
    spooled_bytes: u64,
    fetch_bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpaceRow {
    filesystem: &'static str,
    needed_bytes: Option<u64>,
    available_bytes: Option<u64>,
    total_bytes: Option<u64>,
    /// The need is an estimate.
    estimated: bool,
    basis: String,
}

#[derive(Serialize)]
struct Changes {
    added: Vec<String>,
    removed: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageCounts {
    total: usize,
    present: usize,
    to_pull: Vec<String>,
}

#[derive(Serialize)]
struct Estimate {
    seconds: u64,
    basis: String,
}

#[derive(Serialize)]
struct CheckRow {
    name: &'static str,
    moment: String,
    verdict: &'static str,
    severity: Option<&'static str>,
    text: String,
}

/// Everything that could be found out; what could not carries the reason.
struct Known {
    spec: Result<ImageBasedUpgradeSpec, String>,
    /// What the annotations of the upgrade object say of the network.
    limits: Result<NetworkLimits, String>,
    booted: Result<DeploymentId, String>,
    now: Timestamp,
    cluster: Result<ClusterFacts, String>,
    node: Result<NodeFacts, String>,
    pin: Result<SeedPin, PortError>,
    /// Why no signature was found, where one is required.
    signature_fault: Option<(ErrorKind, String)>,
    content: Option<SeedContent>,
    reserved: bool,
    present: Option<BTreeSet<String>>,
}

fn chain(error: &PortError) -> String {
    engine::error_chain(error)
}

/// Asks again what failed in passing.
fn patiently<T>(ask: impl Fn() -> PortResult<T>) -> PortResult<T> {
    for _ in 1..ATTEMPTS {
        match ask() {
            Err(error) if error.kind() == ErrorKind::Transient => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    ask()
}

impl Known {
    fn gather(arguments: &Arguments, background: &Background) -> Self {
        let layout = Layout::running();
        let cluster = connect(&arguments.api, background).map(|connection| {
            let handle = background.handle().clone();
            LiveCluster::new(connection, handle, api::names::NAMESPACE, "plan")
        });
        let cluster = cluster.map_err(|error| chain(&error));
        let upgrade = cluster
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|cluster| patiently(|| cluster.upgrade()).map_err(|error| chain(&error)))
            .map(Option::unwrap_or_default);
        let spec = match &arguments.image {
            Some(image) => Ok(named(image, arguments.version.as_deref())),
            None => upgrade
                .clone()
                .map(|upgrade: ImageBasedUpgrade| upgrade.spec),
        };
        // Where the object cannot be read, rows of their own say that the cluster does not answer.
        let annotations =
            upgrade.map_or_else(|_| BTreeMap::new(), |upgrade| upgrade.metadata.annotations);
        let limits = NetworkLimits::of_annotations(&annotations).map_err(|error| error.to_string());
        let mut seed = spec
            .as_ref()
            .ok()
            .and_then(|spec| spec.seed_image_ref.clone());
        let secret = seed.as_ref().and_then(|seed| seed.pull_secret_ref.as_ref());
        let secret = arguments
            .pull_secret
            .clone()
            .or_else(|| secret.map(|secret| secret.name.clone()));
        // What a Prep that is under way goes by, whatever the tag stands for by now.
        let recorded = match arguments.image {
            None => recorded(seed.as_ref(), &layout),
            Some(_) => None,
        };
        let mut pin = recorded.map_or_else(
            || resolve(seed.as_ref(), secret.as_deref(), &layout, cluster.as_ref()),
            Ok,
        );
        if let (Ok(pin), Some(seed)) = (&pin, seed.as_mut())
            && arguments.image.is_some()
            && seed.version.is_empty()
        {
            seed.version = version_of(pin).unwrap_or_default();
        }
        let spec = spec.map(|spec| ImageBasedUpgradeSpec {
            seed_image_ref: seed,
            ..spec
        });
        let machine = HostMachine::new(layout.clone());
        let node = machine.facts(pin.as_ref().ok());
        let reserved = machine.reserved().unwrap_or_default();
        let content: Option<SeedContent> =
            record::read(&HostFiles::new(layout.clone()), Record::SeedContent)
                .ok()
                .flatten();
        let digest = pin.as_ref().ok().map(|pin| &pin.digest);
        let content = content.filter(|content| Some(&content.digest) == digest);
        let facts = cluster
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|cluster| patiently(|| cluster.facts()).map_err(|error| chain(&error)));
        let signature_fault = match (&facts, &mut pin) {
            (Ok(facts), Ok(pin)) => signature::verify(facts, pin, || {
                let secret = credentials(secret.as_deref(), cluster.as_ref())?;
                Ok((HostSeeds::new(layout.clone()), secret))
            }),
            _ => None,
        };
        Self {
            booted: booted(&layout),
            now: Timestamp::from_unix(host::HostClock::new().now()),
            cluster: facts,
            signature_fault,
            node: node.map_err(|error| chain(&error)),
            // Of another seed's installation nothing is known here.
            reserved: reserved.sysroot >= Some(SYSROOT_RESERVE) && content.is_some(),
            present: content
                .as_ref()
                .and_then(|_| HostImages::new().present(&|| false).ok()),
            spec,
            limits,
            pin,
            content,
        }
    }

    fn document(&self) -> Document {
        let refused = matches!(&self.pin, Err(error) if error.kind() == ErrorKind::Permanent);
        let unresolved = self.pin.as_ref().err().map(chain).unwrap_or_default();
        let subject = Subject {
            spec: self.spec.as_ref().map_err(String::as_str),
            booted: self.booted.as_ref().map_err(String::as_str),
            now: self.now,
            cluster: self.cluster.as_ref().map_err(String::as_str),
            node: self.node.as_ref().map_err(String::as_str),
            pin: self.pin.as_ref().map_err(|_| unresolved.as_str()),
            refused,
            signature_fault: signature::told(&self.signature_fault),
            content: self.content.as_ref(),
            reserved: self.reserved,
            limits: self.limits.as_ref().map_err(String::as_str),
            // What the environment of the controller says is not known here.
            precaching: PrecachePolicy::default(),
        };
        let answers = answers(&subject);
        let listed = |severity: Severity| -> Vec<String> {
            let found = answers
                .iter()
                .filter(|answer| answer.severity() == Some(severity));
            found
                .map(|answer| format!("{}: {}", answer.check.name, answer.verdict.text()))
                .collect()
        };
        let worst = answers.iter().filter_map(|answer| answer.severity()).max();
        let seed = self.spec.as_ref().ok();
        let seed = seed.and_then(|spec| spec.seed_image_ref.clone());
        let seed = seed.unwrap_or_default();
        Document {
            verdict: match worst {
                Some(Severity::Blocker) => Outcome::Blocked,
                Some(Severity::CouldNotTell) => Outcome::CouldNotTell,
                Some(Severity::Warning) | None => Outcome::Clear,
            },
            image: seed.image,
            digest: self.pin.as_ref().ok().map(|pin| pin.digest.to_string()),
            signature: signature::row(&answers),
            running_version: self
                .cluster
                .as_ref()
                .ok()
                .map(|found| found.version.clone()),
            seed_version: Some(seed.version).filter(|version| !version.is_empty()),
            fetch: self.fetch(),
            space: self.space(&subject),
            kernel_arguments: self.kernel_arguments(),
            images: self.images(),
            estimate: self.estimate(&subject),
            blockers: listed(Severity::Blocker),
            could_not_tell: listed(Severity::CouldNotTell),
            warnings: listed(Severity::Warning),
            checks: answers
                .iter()
                .map(|answer| CheckRow {
                    name: answer.check.name,
                    moment: answer.check.moment.to_string(),
                    verdict: answer.verdict.as_str(),
                    severity: answer.severity().map(Severity::as_str),
                    text: answer.verdict.text().to_owned(),
                })
                .collect(),
        }
    }

    fn fetch(&self) -> Option<Fetch> {
        let pin = self.pin.as_ref().ok()?;
        let compressed_bytes = pin.layers.iter().map(|(_, size)| size).sum();
        let spooled_bytes = self.node.as_ref().map_or(0, |node| node.spooled);
        Some(Fetch {
            compressed_bytes,
            spooled_bytes,
            fetch_bytes: compressed_bytes.saturating_sub(spooled_bytes),
        })
    }

    fn space(&self, subject: &Subject<'_>) -> Vec<SpaceRow> {
        let needs = needs(subject).unwrap_or_default();
        let spaces = self.node.as_ref().map(|node| node.spaces.as_slice());
        let row = |filesystem: Filesystem| {
            let need = needs.iter().find(|need| need.filesystem == filesystem);
            let spaces = spaces.unwrap_or_default().iter();
            let space = spaces.clone().find(|space| space.filesystem == filesystem);
            SpaceRow {
                filesystem: filesystem.path(),
                needed_bytes: need.map(|need| need.bytes),
                available_bytes: space.map(|space| space.available),
                total_bytes: space.map(|space| space.total),
                estimated: need.is_some_and(|need| need.estimated),
                basis: need.map_or_else(String::new, |need| need.basis.clone()),
            }
        };
        Filesystem::ALL.map(row).into()
    }

    fn kernel_arguments(&self) -> Option<Changes> {
        let label = || {
            let text = self.pin.as_ref().ok()?.node_facts.as_deref()?;
            let facts: api::seed_node::SeedNodeFacts = serde_json::from_str(text).ok()?;
            facts.kernel_arguments
        };
        let content = self.content.as_ref();
        let seed = content
            .map(|content| content.kernel_arguments.clone())
            .or_else(label)?;
        let own = &self.cluster.as_ref().ok()?.kernel_arguments;
        let only = |of: &[String], other: &[String]| -> Vec<String> {
            let missing = of.iter().filter(|argument| !other.contains(argument));
            missing.cloned().collect()
        };
        Some(Changes {
            added: only(&seed, own),
            removed: only(own, &seed),
        })
    }

    fn images(&self) -> Option<ImageCounts> {
        let (content, cluster) = (self.content.as_ref()?, self.cluster.as_ref().ok()?);
        let present = self.present.as_ref()?;
        let wanted = planner::images(content, cluster);
        let total = wanted.len();
        let to_pull: Vec<String> = wanted
            .into_iter()
            .filter(|image| !present.contains(image))
            .collect();
        Some(ImageCounts {
            total,
            present: total - to_pull.len(),
            to_pull,
        })
    }

    fn estimate(&self, subject: &Subject<'_>) -> Option<Estimate> {
        let fetch = self.fetch()?.fetch_bytes;
        let needs = needs(subject)?;
        let installed: u64 = needs
            .iter()
            .filter(|need| need.filesystem == Filesystem::Sysroot)
            .map(|need| need.bytes.saturating_sub(SYSROOT_RESERVE))
            .sum();
        let images = self.images().map(|images| images.to_pull.len());
        let pulls = images.unwrap_or_default() as u64 * SECONDS_PER_IMAGE;
        // Fetching and installing overlap.
        let seed = (fetch / FETCHED_PER_SECOND).max(installed / INSTALLED_PER_SECOND);
        let basis = format!(
            "{} MiB/s from the registry, {} MiB/s to the disk, {}",
            FETCHED_PER_SECOND >> 20,
            INSTALLED_PER_SECOND >> 20,
            match images {
                Some(_) => format!("{SECONDS_PER_IMAGE} s an image"),
                None => "without the images to precache, which are not known yet".to_owned(),
            }
        );
        Some(Estimate {
            seconds: seed + pulls,
            basis,
        })
    }
}

/// The spec that the command line asks for.
fn named(image: &str, version: Option<&str>) -> ImageBasedUpgradeSpec {
    ImageBasedUpgradeSpec {
        seed_image_ref: Some(SeedImageRef {
            version: version.unwrap_or_default().to_owned(),
            image: image.to_owned(),
            pull_secret_ref: None,
        }),
        ..ImageBasedUpgradeSpec::default()
    }
}

/// The version that a seed says it is of.
fn version_of(pin: &SeedPin) -> Option<String> {
    let info: api::seed_info::SeedClusterInfo =
        serde_json::from_str(pin.cluster_info.as_deref()?).ok()?;
    Some(info.seed_cluster_ocp_version)
}

fn booted(layout: &Layout) -> Result<DeploymentId, String> {
    let deployments = HostOstree::new(layout.clone())
        .deployments()
        .map_err(|error| chain(&error))?;
    let mut booted = deployments.into_iter().filter(|found| found.booted);
    match (booted.next(), booted.next()) {
        (Some(only), None) => Ok(only.id),
        (None, _) => Err("no deployment is known to be booted".to_owned()),
        (Some(_), Some(_)) => Err("more than one deployment is listed as booted".to_owned()),
    }
}

/// What Prep resolved this image to.
fn recorded(seed: Option<&SeedImageRef>, layout: &Layout) -> Option<SeedPin> {
    let image: ImageRef = seed?.image.parse().ok()?;
    let files = HostFiles::new(layout.clone());
    let pin: Option<SeedPin> = record::read(&files, Record::SeedPin).ok()?;
    pin.filter(|pin| pin.image == image)
}

/// Asks the registry, in memory only.
fn resolve(
    seed: Option<&SeedImageRef>,
    secret: Option<&str>,
    layout: &Layout,
    cluster: Result<&LiveCluster, &String>,
) -> PortResult<SeedPin> {
    // What is wrong with the reference is a row of its own.
    let image = seed.and_then(|seed| seed.image.parse::<ImageRef>().ok());
    let image = image.ok_or_else(|| {
        PortError::plain(ErrorKind::Busy, "no image that could be asked for is known")
    })?;
    let secret = credentials(secret, cluster)?;
    let seeds = HostSeeds::new(layout.clone());
    patiently(|| seeds.resolve(&image, &secret, &Unwatched))
}

fn credentials(
    secret: Option<&str>,
    cluster: Result<&LiveCluster, &String>,
) -> PortResult<PullSecret> {
    let file = match secret {
        Some(name) if !name.contains('/') => {
            let cluster = cluster.map_err(|error| {
                let text = format!("reading the credentials in Secret {name}: {error}");
                PortError::plain(ErrorKind::Transient, text)
            })?;
            return patiently(|| cluster.pull_secret(name));
        }
        Some(path) => Path::new(path),
        None => Path::new(api::path::PULL_SECRET),
    };
    std::fs::read(file).map(PullSecret).map_err(|error| {
        let text = format!("reading the credentials in {}", file.display());
        PortError::new(ErrorKind::Permanent, text, error)
    })
}
