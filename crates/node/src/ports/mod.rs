//! What a node can do, cut by intent. Every call may block; none may be made on an async thread.
//!
//! A port reports failures as [`crate::PortError`] with the kind chosen where the failure is understood. Calls named
//! `ensure_*` and `remove_*` are idempotent: the state that they describe is reached, whoever reached it.

mod boot_fallback;
mod clock;
mod cluster;
mod files;
mod images;
mod machine;
mod ostree;
mod seeds;
mod traces;
mod units;

pub use boot_fallback::BootFallback;
pub use clock::{BootId, Clock};
pub use cluster::{
    Announcement, Cluster, Exported, Published, PullSecret, RegistryChange, Severity,
};
pub use files::{Attributes, FileKind, Files, NodePath, Root};
pub use images::{Images, Layer};
pub use machine::{Machine, Reserved};
pub use ostree::{Deployment, DeploymentSpec, Ostree};
pub use planner::{
    ClusterFacts, FallbackState, FetchLimits, Filesystem, Health, HeldImages, NodeFacts,
    SeedContent, SeedPin, SeedSignature, Space, StoredImage, Told,
};
pub use seeds::{FetchRequest, Seeds};
pub use traces::{Trace, Traces};
pub use units::{UnitState, Units};

/// How a long call reports how far it is and learns that it shall stop.
pub trait Watch {
    /// Called after every chunk of work (at most a few MiB or a few hundred files apart). `false` asks the call to end
    /// with an error of kind `Interrupted`.
    fn progress(&self, done: u64, total: Option<u64>, object: &str) -> bool;
}

/// A watch that neither looks nor stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _done: u64, _total: Option<u64>, _object: &str) -> bool {
        true
    }
}

/// All ports of one node. Cheap to copy; every port is shared.
#[derive(Clone, Copy)]
pub struct Ports<'a> {
    /// libostree.
    pub ostree: &'a dyn Ostree,
    /// Container storage.
    pub images: &'a dyn Images,
    /// Seed images: the registry, the spool and the archives inside.
    pub seeds: &'a dyn Seeds,
    /// The hardware and its filesystems.
    pub machine: &'a dyn Machine,
    /// The boot loader's way back.
    pub fallback: &'a dyn BootFallback,
    /// systemd.
    pub units: &'a dyn Units,
    /// What boots leave behind that is none of our files.
    pub traces: &'a dyn Traces,
    /// Files outside ostree's own.
    pub files: &'a dyn Files,
    /// Time and boots.
    pub clock: &'a dyn Clock,
    /// The API server.
    pub cluster: &'a dyn Cluster,
}
