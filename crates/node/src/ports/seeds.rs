//! Seed images: resolving, fetching and unpacking.

use api::{DeploymentId, ImageRef, StaterootName};
use planner::{SeedContent, SeedPin};

use super::{PullSecret, Watch};
use crate::PortResult;

/// The registry, the spool of fetched blobs in the shared partition, and the archives inside a seed.
pub trait Seeds: Send + Sync {
    /// Asks the registry what the reference stands for and reads the image's labels. `secret` = content of a docker
    /// configuration file. Fetches nothing big.
    fn resolve(&self, image: &ImageRef, secret: &PullSecret) -> PortResult<SeedPin>;

    /// Fetches what the spool lacks, each blob's digest verified, and reads the documents inside. Durable when this
    /// returns; after an interruption finished blobs are not fetched again.
    fn fetch(
        &self,
        pin: &SeedPin,
        secret: &PullSecret,
        watch: &dyn Watch,
    ) -> PortResult<SeedContent>;

    /// Imports the ostree objects of the spooled seed into the node's repository, each verified by its checksum.
    fn import_commit(&self, pin: &SeedPin, commit: &str, watch: &dyn Watch) -> PortResult<()>;

    /// Unpacks `/var` into a stateroot.
    fn unpack_var(
        &self,
        pin: &SeedPin,
        stateroot: &StaterootName,
        watch: &dyn Watch,
    ) -> PortResult<()>;

    /// Unpacks `/etc` over a deployment's and removes what the seed says was deleted.
    fn unpack_etc(
        &self,
        pin: &SeedPin,
        deployment: &DeploymentId,
        watch: &dyn Watch,
    ) -> PortResult<()>;

    /// Empties the spool.
    fn discard(&self) -> PortResult<()>;
}
