//! Seed images: resolving, fetching and unpacking.

use api::{DeploymentId, Digest, ImageRef, SeedClusterInfo, StaterootName};
use serde::{Deserialize, Serialize};

use super::{PullSecret, Watch};
use crate::PortResult;

/// A seed image, resolved once: from here on only digests are used.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeedPin {
    /// The reference as the user wrote it.
    pub image: ImageRef,
    /// Digest of the manifest that it stood for.
    pub digest: Digest,
    /// Value of the label that names the seed format's version; `None` = the label is missing.
    pub format_version: Option<String>,
    /// Text of the label that describes the seed cluster; `None` = the label is missing.
    pub cluster_info: Option<String>,
    /// Digests and sizes (bytes) of the layers, lowest first.
    pub layers: Vec<(Digest, u64)>,
}

/// What a plan needs to know of a fetched seed: the small documents inside.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeedContent {
    /// Digest of the manifest that this was read from.
    pub digest: Digest,
    /// `manifest.json`.
    pub info: SeedClusterInfo,
    /// Checksum of the commit that the seed had booted (`rpm-ostree.json`).
    pub commit: String,
    /// Kernel arguments of `mco-currentconfig.json`, in order; those for FIPS are among them.
    pub kernel_arguments: Vec<String>,
    /// Text of the origin file.
    pub origin: String,
    /// Images to precache (`containers.list`), in order, without empty lines.
    pub images: Vec<String>,
}

/// The registry, the spool of fetched blobs in the shared partition, and the archives inside a seed.
pub trait Seeds: Send + Sync {
    /// Asks the registry what the reference stands for and reads the image's labels. `secret` = content of a docker
    /// configuration file. Fetches nothing big.
    fn resolve(&self, image: &ImageRef, secret: &PullSecret) -> PortResult<SeedPin>;

    /// Fetches what the spool lacks, each blob's digest verified, and reads the documents inside. Durable when this
    /// returns; after an interruption finished blobs are not fetched again.
    fn fetch(&self, pin: &SeedPin, secret: &PullSecret, watch: &dyn Watch) -> PortResult<SeedContent>;

    /// Imports the ostree objects of the spooled seed into the node's repository, each verified by its checksum.
    fn import_commit(&self, pin: &SeedPin, commit: &str, watch: &dyn Watch) -> PortResult<()>;

    /// Unpacks `/var` into a stateroot.
    fn unpack_var(&self, pin: &SeedPin, stateroot: &StaterootName, watch: &dyn Watch) -> PortResult<()>;

    /// Unpacks `/etc` over a deployment's and removes what the seed says was deleted.
    fn unpack_etc(&self, pin: &SeedPin, deployment: &DeploymentId, watch: &dyn Watch) -> PortResult<()>;

    /// Empties the spool.
    fn discard(&self) -> PortResult<()>;
}
