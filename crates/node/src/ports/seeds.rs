//! Seed images: resolving, fetching and unpacking.

use api::configuration::PublicKey;
use api::{DeploymentId, ImageRef, StaterootName};
use planner::{SeedContent, SeedPin, SeedSignature};

use super::{FetchLimits, PullSecret, Watch};
use crate::PortResult;

/// What to fetch, and what for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchRequest {
    /// What was resolved.
    pub pin: SeedPin,
    /// The stateroot that the seed is for.
    pub stateroot: StaterootName,
    /// Keep the compressed seed until Idle. Without it an interrupted fetch begins anew, and what somebody removes of the
    /// installed seed cannot be had again from the disk.
    pub spool: bool,
    /// How hard the network may be worked.
    pub limits: FetchLimits,
}

/// The registry, the spool of fetched blobs in the shared partition, and the archives inside a seed.
pub trait Seeds: Send + Sync {
    /// Asks the registry what the reference stands for and reads the image's labels. `secret` = content of a docker
    /// configuration file. Fetches nothing big.
    fn resolve(
        &self,
        image: &ImageRef,
        secret: &PullSecret,
        watch: &dyn Watch,
    ) -> PortResult<SeedPin>;

    /// Finds a signature of what was resolved by one of the keys, where the registry has it. `Permanent` when there is
    /// none, or none that is good.
    fn verify(
        &self,
        pin: &SeedPin,
        keys: &[PublicKey],
        secret: &PullSecret,
        watch: &dyn Watch,
    ) -> PortResult<SeedSignature>;

    /// Fetches what the spool lacks, each blob's digest verified, and reads the documents inside. Durable when this
    /// returns; after an interruption at most the last few MiB are fetched again.
    ///
    /// While the seed arrives, its objects may be imported and its archives unpacked below the stateroot, which exists: what
    /// of that is complete, the calls below find. None of it is the stateroot's or a deployment's before the seed's digests
    /// were verified. When this fails the work begins anew, from the spool. Without a spool success says that the calls
    /// below find all of it; one that does not, because it went since, removes [`crate::record::Record::SeedContent`] and is
    /// `Transient`: the seed is fetched again.
    fn fetch(
        &self,
        request: &FetchRequest,
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

    /// Empties the spool and removes what fetches have left for stateroots.
    fn discard(&self) -> PortResult<()>;
}
