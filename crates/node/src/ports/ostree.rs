//! libostree's sysroot.

use api::{DeploymentId, StaterootName};

use super::Watch;
use crate::PortResult;

/// One deployment as libostree lists it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deployment {
    /// Stateroot, checksum and serial.
    pub id: DeploymentId,
    /// The running system is this one.
    pub booted: bool,
    /// Its kernel arguments, in order.
    pub kernel_arguments: Vec<String>,
}

/// What to deploy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeploymentSpec {
    /// The stateroot; it exists.
    pub stateroot: StaterootName,
    /// Checksum of the commit; it is in the repository.
    pub commit: String,
    /// Kernel arguments, complete and in order.
    pub kernel_arguments: Vec<String>,
    /// Text of the `.origin` file, as the seed carries it.
    pub origin: String,
}

/// The sysroot of the node. Every changing call takes libostree's sysroot lock; when somebody else holds it for
/// longer than a few seconds the call ends with kind `Busy`.
pub trait Ostree: Send + Sync {
    /// All deployments in boot order: the first is what the boot loader starts by default.
    fn deployments(&self) -> PortResult<Vec<Deployment>>;

    /// Names of all stateroots on disk, with or without deployments; sorted.
    fn stateroots(&self) -> PortResult<Vec<StaterootName>>;

    /// Whether the commit is in the repository and complete: every object that it reaches is there.
    fn has_commit(&self, checksum: &str) -> PortResult<bool>;

    /// Whether the commit was imported as a whole and is protected from being pruned before it is deployed. Quick: whether
    /// all of it is still there is found out by [`Ostree::deploy`], after whose refusal this says no.
    fn is_imported(&self, checksum: &str) -> PortResult<bool>;

    /// Makes the stateroot (`os-init`), unless it exists. Durable when this returns.
    fn ensure_stateroot(&self, stateroot: &StaterootName) -> PortResult<()>;

    /// Deploys a commit into a stateroot as the last in boot order: what boots by default does not change, whatever
    /// version of libostree runs. Durable when this returns. A commit that somebody has pruned since, wholly or in part, is
    /// not deployed (`Transient`: it can be imported again).
    fn deploy(&self, spec: &DeploymentSpec) -> PortResult<DeploymentId>;

    /// Makes a deployment the default by writing the reordered list; the others keep their order. Durable when this
    /// returns. The commit point of a pivot. A deployment that is not there is a `Contradiction`.
    fn set_default(&self, deployment: &DeploymentId) -> PortResult<()>;

    /// The boot loader's id of the entry of `of` once `default` is the default: libostree names entries by their place in the
    /// list and names all of them anew with each change. A deployment that is not there is a `Contradiction`, and
    /// `Permanent` where nobody knows how this libostree names entries.
    fn entry_after(&self, default: &DeploymentId, of: &DeploymentId) -> PortResult<String>;

    /// Takes a deployment out of the list and removes its files. Gone already is success; the booted one is refused
    /// (`Contradiction`).
    fn undeploy(&self, deployment: &DeploymentId) -> PortResult<()>;

    /// Removes a stateroot's directory with all that is in it. Gone already is success; one that has a deployment is
    /// refused (`Contradiction`). Long: reports and stops through `watch`.
    fn remove_stateroot(&self, stateroot: &StaterootName, watch: &dyn Watch) -> PortResult<()>;

    /// Removes refs that no deployment needs and prunes unreachable objects.
    fn prune(&self) -> PortResult<()>;
}
