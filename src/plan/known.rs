//! What could be found out of seed, node and cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use api::network_limits::NetworkLimits;
use api::{DeploymentId, ImageBasedUpgrade, ImageBasedUpgradeSpec, Timestamp};
use cluster::LiveCluster;
use host::{HostFiles, HostMachine, HostOstree, HostSeeds, Layout, Missing};
use node::ports::{Clock, Cluster, Machine, Ostree, PullSecret, Unwatched};
use node::record::{self, Record};
use node::{ErrorKind, PortError, PortResult};
use planner::{ClusterFacts, FetchLimits, NodeFacts, SYSROOT_RESERVE, SeedContent, SeedPin};

use super::Arguments;
use super::document::{ImageCounts, Objects};
use super::images;
use super::objects::{self, Member, Source};
use super::seed::{credentials, named, recorded, resolve, version_of};
use super::signature;
use crate::background::Background;
use crate::node_ports::connect;

/// How often an API server that does not answer is asked, and the pause between.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Everything that could be found out; what could not carries the reason.
pub(super) struct Known {
    pub(super) spec: Result<ImageBasedUpgradeSpec, String>,
    /// What the annotations of the upgrade object say of the network.
    pub(super) limits: Result<NetworkLimits, String>,
    pub(super) booted: Result<DeploymentId, String>,
    pub(super) now: Timestamp,
    pub(super) cluster: Result<ClusterFacts, String>,
    pub(super) node: Result<NodeFacts, String>,
    pub(super) pin: Result<SeedPin, PortError>,
    /// Why no signature was found, where one is required.
    pub(super) signature_fault: Option<(ErrorKind, String)>,
    /// The documents in the seed.
    pub(super) content: Option<SeedContent>,
    /// Prep has the seed.
    pub(super) is_fetched: bool,
    pub(super) reserved: bool,
    pub(super) images: Option<ImageCounts>,
    /// What the seed's index says is missing here; nothing where it has none that can be used.
    pub(super) missing: Option<Missing>,
    /// What the spec refers to, or why nobody knows.
    pub(super) objects: Result<Objects, String>,
}

pub(super) fn chain(error: &PortError) -> String {
    engine::error_chain(error)
}

/// Asks again what failed in passing.
pub(super) fn patiently<T>(ask: impl Fn() -> PortResult<T>) -> PortResult<T> {
    for _ in 1..ATTEMPTS {
        match ask() {
            Err(error) if error.kind() == ErrorKind::Transient => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    ask()
}

impl Known {
    pub(super) fn gather(arguments: &Arguments, background: &Background) -> Self {
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
        let objects = upgrade
            .as_ref()
            .map(|upgrade| referred(&upgrade.spec, cluster.as_ref()))
            .map_err(Clone::clone);
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
        let missing = match &pin {
            Ok(pin) if content.is_none() => {
                missing(&layout, pin, fetch_limits(&limits, &facts), || {
                    credentials(secret.as_deref(), cluster.as_ref())
                })
            }
            _ => None,
        };
        let is_fetched = content.is_some();
        // Of an indexed seed they can be read before it is fetched.
        let content = content.or_else(|| missing.as_ref().map(|missing| missing.content.clone()));
        Self {
            booted: booted(&layout),
            now: Timestamp::from_unix(host::HostClock::new().now()),
            signature_fault,
            node: node.map_err(|error| chain(&error)),
            // Of another seed's installation nothing is known here.
            reserved: reserved.sysroot >= Some(SYSROOT_RESERVE) && is_fetched,
            is_fetched,
            images: match (&content, &facts) {
                (Some(content), Ok(facts)) => {
                    // As precaching has them.
                    let secret = credentials(None, cluster.as_ref()).ok();
                    images::look(content, facts, secret.as_ref())
                }
                _ => None,
            },
            missing,
            objects,
            cluster: facts,
            spec,
            limits,
            pin,
            content,
        }
    }
}

/// What the object refers to: it stays when another image is asked for.
fn referred(spec: &ImageBasedUpgradeSpec, cluster: Result<&LiveCluster, &String>) -> Objects {
    let members = [
        (Member::OadpContent, &spec.oadp_content),
        (Member::ExtraManifests, &spec.extra_manifests),
    ];
    let sources = members.into_iter().flat_map(|(member, references)| {
        references.iter().map(move |reference| Source {
            member,
            reference: reference.clone(),
            data: cluster.map_err(Clone::clone).and_then(|cluster| {
                patiently(|| cluster.config_map(reference)).map_err(|error| chain(&error))
            }),
        })
    });
    objects::judge(&sources.collect::<Vec<_>>())
}

/// What the network may be used for, of what the annotations and the ConfigMap say. Where that is not known, nothing is.
fn fetch_limits(
    own: &Result<NetworkLimits, String>,
    cluster: &Result<ClusterFacts, String>,
) -> Result<FetchLimits, String> {
    let shared = NetworkLimits::of_config_map(&cluster.as_ref()?.configuration);
    let shared = shared.map_err(|error| error.to_string())?;
    Ok(FetchLimits::of((*own.as_ref()?).or(shared)))
}

/// What the seed's index says. Without it, the whole seed is fetched.
fn missing(
    layout: &Layout,
    pin: &SeedPin,
    limits: Result<FetchLimits, String>,
    secret: impl FnOnce() -> PortResult<PullSecret>,
) -> Option<Missing> {
    // Where there is none, nothing is asked for, and there is nothing to warn of.
    pin.index.as_ref()?;
    let limits = match limits {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(error, "the seed's index is not read: no limit is known");
            return None;
        }
    };
    let seeds = HostSeeds::new(layout.clone()).limited(limits);
    let asked = secret().and_then(|secret| patiently(|| seeds.missing(pin, &secret, &Unwatched)));
    asked.unwrap_or_else(|error| {
        let error = chain(&error);
        tracing::warn!(error, "the seed's index cannot be used");
        None
    })
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn the_index_is_read_within_the_limits() {
        let annotations = |value: Option<&str>| {
            let value = value.map(|value| {
                let name = "network-limits.lca.openshift.io/fetch-bandwidth";
                (name.to_owned(), value.to_owned())
            });
            let limits = NetworkLimits::of_annotations(&value.into_iter().collect());
            limits.map_err(|error| error.to_string())
        };
        let cluster = |value: Option<&str>| {
            let value = value.map(|value| ("fetchBandwidth".to_owned(), value.to_owned()));
            ClusterFacts {
                configuration: value.into_iter().collect(),
                ..ClusterFacts::default()
            }
        };
        let check = |own, shared, expect: Option<Option<u64>>| {
            let limits = fetch_limits(&annotations(own), &Ok(cluster(shared)));
            let rate = limits.ok().map(|limits| limits.bytes_per_second);
            assert_eq!(
                rate,
                expect.map(|rate| rate.and_then(NonZeroU64::new)),
                "{own:?} {shared:?}"
            );
        };
        check(None, None, Some(None));
        check(None, Some("2Mi"), Some(Some(2 << 20)));
        check(Some("1Mi"), Some("2Mi"), Some(Some(1 << 20)));
        check(Some("unlimited"), Some("2Mi"), Some(None));
        check(Some("fast"), Some("2Mi"), None);
        check(Some("1Mi"), Some("fast"), None);
        let gone = Err("the API server does not answer".to_owned());
        assert!(fetch_limits(&annotations(None), &gone).is_err());
    }
}
