//! Which seed the preview is of.

use std::path::Path;

use api::{ImageBasedUpgradeSpec, ImageRef, SeedImageRef};
use cluster::LiveCluster;
use host::{HostFiles, HostSeeds, Layout};
use node::ports::{Cluster, PullSecret, Seeds, Unwatched};
use node::record::{self, Record};
use node::{ErrorKind, PortError, PortResult};
use planner::SeedPin;

use super::known::patiently;

/// The spec that the command line asks for.
pub(super) fn named(image: &str, version: Option<&str>) -> ImageBasedUpgradeSpec {
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
pub(super) fn version_of(pin: &SeedPin) -> Option<String> {
    let info: api::seed_info::SeedClusterInfo =
        serde_json::from_str(pin.cluster_info.as_deref()?).ok()?;
    Some(info.seed_cluster_ocp_version)
}

/// What Prep resolved this image to.
pub(super) fn recorded(seed: Option<&SeedImageRef>, layout: &Layout) -> Option<SeedPin> {
    let image: ImageRef = seed?.image.parse().ok()?;
    let files = HostFiles::new(layout.clone());
    let pin: Option<SeedPin> = record::read(&files, Record::SeedPin).ok()?;
    pin.filter(|pin| pin.image == image)
}

/// Asks the registry, in memory only.
pub(super) fn resolve(
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

pub(super) fn credentials(
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
