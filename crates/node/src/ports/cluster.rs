//! The API server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use api::ip_config::IpConfig;
use api::reconfiguration::SeedReconfiguration;
use api::{ImageBasedUpgrade, ImageBasedUpgradeStatus};
use planner::{ClusterFacts, Health};

use crate::PortResult;

/// Registry credentials: the content of a docker configuration file. Never printed.
#[derive(Clone, Eq, PartialEq)]
pub struct PullSecret(pub Vec<u8>);

impl fmt::Debug for PullSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PullSecret(..)")
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Published {
    /// Stored: the object as it is now.
    Stored(Box<ImageBasedUpgrade>),
    /// Somebody else wrote first; read again and decide anew.
    Conflict,
}

/// How much a Kubernetes Event wants to be looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// Something went as it should.
    Normal,
    /// Something failed.
    Warning,
}

/// A Kubernetes Event about the upgrade object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Announcement {
    /// How much it wants to be looked at.
    pub severity: Severity,
    /// Why it is told: one of the `EVENT_` names of [`api::names`].
    pub reason: &'static str,
    /// What happened, for people; beyond 1,024 bytes it is cut off.
    pub note: String,
}

/// Objects of this cluster that the target takes over, as files: name and content.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Exported {
    /// Manifests that the target applies.
    pub manifests: Vec<(String, Vec<u8>)>,
    /// Private keys whose certificates cert-manager keeps.
    pub keys: Vec<(String, Vec<u8>)>,
}

impl fmt::Debug for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
            files.iter().map(|(name, _)| name.clone()).collect()
        };
        f.debug_struct("Exported")
            .field("manifests", &names(&self.manifests))
            .field("keys", &names(&self.keys))
            .finish()
    }
}

/// Which registry stands for which.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegistryChange {
    /// The seed's registry.
    pub seed: String,
    /// The seed had mirrors.
    pub mirrored: bool,
    /// This site's registry.
    pub site: String,
}

/// Everything said to the API server. Errors of a server that is away, slow or overloaded are `Transient`.
pub trait Cluster: Send + Sync {
    /// The live `ImageBasedUpgrade/upgrade`, not from a cache.
    fn upgrade(&self) -> PortResult<Option<ImageBasedUpgrade>>;

    /// Replaces the status, if the object is still at `seen`'s resource version.
    fn publish(
        &self,
        seen: &ImageBasedUpgrade,
        status: &ImageBasedUpgradeStatus,
    ) -> PortResult<Published>;

    /// Creates the initial object, unless there is one.
    fn ensure_upgrade(&self) -> PortResult<()>;

    /// Makes the live object equal to a saved one (metadata that belongs to the server excepted), status too.
    /// Repeating it is harmless.
    fn restore_upgrade(&self, saved: &ImageBasedUpgrade) -> PortResult<()>;

    /// Sets (or removes) one annotation of the live object.
    fn annotate(&self, key: &str, value: Option<&str>) -> PortResult<()>;

    /// The live `IPConfig/ipconfig`, not from a cache; `None` where there is none, or no such kind.
    fn ip_config(&self) -> PortResult<Option<IpConfig>>;

    /// The facts that the checks need.
    fn facts(&self) -> PortResult<ClusterFacts>;

    /// What is not healthy (contract 5.4), alone: asked again and again while it is waited for.
    fn health(&self) -> PortResult<Health>;

    /// Credentials for the seed's registry: key `.dockerconfigjson` of a Secret in the operator's namespace.
    fn pull_secret(&self, name: &str) -> PortResult<PullSecret>;

    /// Every image that a Pod of the cluster names, of containers of all kinds. `Permanent` where Pods may not be seen.
    fn pod_images(&self) -> PortResult<BTreeSet<String>>;

    /// What the target must know to take over this cluster's identity, as far as the API server knows it; what lies on disk
    /// (SSH keys, chrony) is left empty.
    fn reconfiguration(&self) -> PortResult<SeedReconfiguration>;

    /// Objects that the target takes over as they are: mirror sets, local storage, what cert-manager keeps.
    fn exported(&self) -> PortResult<Exported>;

    /// Gives the objects that hold the cluster's settings a site's content: pull secret, trusted authorities, the
    /// administrator's password, the installer's configuration, the proxy. What is so already is left alone.
    fn configure(&self, document: &SeedReconfiguration) -> PortResult<()>;

    /// Removes all mirror sets and catalogs but for those among these manifests (file name and content).
    fn remove_mirrors(&self, but: &[(String, Vec<u8>)]) -> PortResult<()>;

    /// Applies every object of a manifest: creates it, or replaces what is there under its name. `file` is its name, for
    /// errors.
    fn apply(&self, file: &str, content: &[u8]) -> PortResult<()>;

    /// Replaces the registry of the version operator's images, where mirrors ask for it (contract 3.7).
    fn set_release_registry(&self, change: &RegistryChange) -> PortResult<()>;

    /// Gives a Node labels; others stay. `Transient` while there is no such Node: kubelet makes it.
    fn label_node(&self, node: &str, labels: &BTreeMap<String, String>) -> PortResult<()>;

    /// Whether the API server answers.
    fn ready(&self) -> bool;

    /// `ClusterVersion/version` `.spec.clusterID`.
    fn cluster_id(&self) -> PortResult<String>;

    /// Sets the cluster's id.
    fn set_cluster_id(&self, id: &str) -> PortResult<()>;

    /// Takes an event about the IBU to post (contract 10.4). Never waits; what cannot be posted is lost.
    fn announce(&self, announcement: Announcement);

    /// Waits until what was announced is posted, at most two seconds: for what must be told before a reboot.
    fn await_announced(&self);
}
