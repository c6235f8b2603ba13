//! The hardware and its filesystems: what a seed must fit to, and space that is kept.

use api::DeploymentId;
use planner::{NodeFacts, SeedPin, Told};

use super::NodePath;
use crate::PortResult;

/// Space that is kept for the way back.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reserved {
    /// Bytes of the root filesystem; `None` = there is no such file.
    pub sysroot: Option<u64>,
    /// Bytes of `/boot`; `None` = there is no such file.
    pub boot: Option<u64>,
}

/// What this node is made of.
pub trait Machine: Send + Sync {
    /// The facts that the checks need; `pin` says of which seed spooled bytes are counted. Cheap: nothing is read but
    /// small files.
    fn facts(&self, pin: Option<&SeedPin>) -> PortResult<NodeFacts>;

    /// When the first certificate expires that a deployment needs to come up healthy, in seconds since 1970: kubelet's and those
    /// of static pods. It need not be booted.
    fn certificates_until(&self, deployment: &DeploymentId) -> PortResult<Told<i64>>;

    /// What is kept.
    fn reserved(&self) -> PortResult<Reserved>;

    /// Keeps space in files outside of every stateroot ([`api::path::SYSROOT_RESERVE`], [`api::path::BOOT_RESERVE`]),
    /// allocated and not only sized. Durable when this returns. A full filesystem is `Permanent`, and then nothing is kept.
    fn reserve(&self, sysroot: u64, boot: u64) -> PortResult<()>;

    /// Gives back a small part of what is kept on `/sysroot`, some 1 MiB; `false` = nothing is kept there any more. Durable when
    /// this returns.
    fn release_part(&self) -> PortResult<bool>;

    /// Gives the space back; nothing kept is success. Durable when this returns.
    fn release(&self) -> PortResult<()>;

    /// Makes the node's bundle of authorities anew from its anchors (`update-ca-trust`). Not durable by itself.
    fn trust_authorities(&self) -> PortResult<()>;

    /// Configures the network as the document at `state` describes it (`nmstatectl`), durably. A release without that program is
    /// `Permanent`; a network that does not come about as described is as it was before, and `Transient`.
    fn apply_network_state(&self, state: &NodePath) -> PortResult<()>;

    /// Looks for the volume that brings a node which is being installed its configuration, and copies what is on it to
    /// [`api::path::OPENSHIFT`]; `false` = there is no such volume. What is there afterwards is whole and durable, or has no
    /// [`api::path::RECONFIGURATION`]. A volume that has none is `Permanent`.
    fn take_configuration(&self) -> PortResult<bool>;

    /// Looks for LVM's volumes on the devices that it may look at, and activates them (`pvscan`). A node without LVM has none.
    fn activate_volumes(&self) -> PortResult<()>;
}
