//! What a decision looks at: the node, the cluster and the records, as they are now.

use std::collections::{BTreeMap, BTreeSet};

use api::configuration::PublicKey;
use api::network_limits::NetworkLimits;
use api::rollback_config::RollbackConfig;
use api::seed_info::SeedClusterInfo;
use api::seed_node::Cpu;
use api::{DeploymentId, Digest, HandoverStamp, ImageRef, StaterootName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::boot::{FailedBoot, FallbackState};
use crate::failure::ErrorKind;
use crate::image_facts::ImageFacts;
use crate::peer::Peer;
use crate::state::Side;
use crate::step::PlanName;
use crate::verdict::VerdictFact;

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
    /// Text of the label that describes the seed's node; `None` = the label is missing, as in seeds of the Go original.
    #[serde(default)]
    pub node_facts: Option<String>,
    /// Text of the label that says where the seed's index lies; `None` = there is no index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// Architecture of the image, as OCI calls it; `None` = the image does not say.
    #[serde(default)]
    pub architecture: Option<String>,
    /// Digests and sizes (bytes) of the layers, lowest first.
    pub layers: Vec<(Digest, u64)>,
    /// Bytes of the manifest and the image's configuration; 0 where nobody counted.
    #[serde(default)]
    pub documents: u64,
    /// Who vouches for the image; `None` = nobody looked, or nobody was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SeedSignature>,
}

/// A verified signature of a seed image.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeedSignature {
    /// The configured key that verified it.
    pub key: PublicKey,
    /// SHA-256 of that key's `SubjectPublicKeyInfo`: what people compare keys by.
    pub fingerprint: Digest,
    /// The repository that the signer named. A mirror's has another name, so that nothing is decided by it.
    #[serde(default)]
    pub reference: Option<String>,
    /// What else the signer said.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
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
    /// Paths of the files that `mco-currentconfig.json` writes.
    #[serde(default)]
    pub files: Vec<String>,
    /// Of each of these files, a mark that differs where the file does.
    #[serde(default)]
    pub file_marks: BTreeMap<String, String>,
    /// Text of the origin file.
    pub origin: String,
    /// Images to precache (`containers.list`), in order, without empty lines.
    pub images: Vec<String>,
}

/// The target, recorded when it was made and never derived again from a spec that can change.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRecord {
    /// Its stateroot.
    pub stateroot: StaterootName,
    /// Its deployment; `None` only inside a plan.
    pub deployment: Option<DeploymentId>,
    /// Its release.
    pub version: String,
    /// Digest of the seed that it was made from.
    pub seed: Digest,
    /// Its images are present.
    pub precached: bool,
}

/// What the checks of a seed need to know of this cluster (contract 3.2 and 3.3).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClusterFacts {
    /// `ClusterVersion/version` `.status.desired.version`.
    pub version: String,
    /// Any of the proxy fields of `Proxy/cluster` `.spec` is set.
    pub has_proxy: bool,
    /// The rendered MachineConfig of the node has `.spec.fips`.
    pub has_fips: bool,
    /// `openshift-config/user-ca-bundle` holds a bundle.
    pub has_user_ca_bundle: bool,
    /// Name of the proxy's trusted CA ConfigMap, empty when there is none.
    pub proxy_config_map: String,
    /// Registry (and port) of the release image: first segment of the version operator's image.
    pub release_registry: String,
    /// Source registries of all mirror sets.
    pub mirror_sources: Vec<String>,
    /// Names of all Nodes.
    pub nodes: Vec<String>,
    /// What is not healthy.
    pub health: Health,
    /// Internal addresses of the node, primary first.
    pub node_ips: Vec<String>,
    /// The machine networks of the installer's configuration, as CIDRs.
    pub machine_networks: Told<Vec<String>>,
    /// Kernel arguments of the MachineConfig that the node runs; those for FIPS are among them.
    pub kernel_arguments: Vec<String>,
    /// Paths of the files that this MachineConfig writes.
    pub files: Vec<String>,
    /// Of each of these files, a mark that differs where the file does.
    pub file_marks: BTreeMap<String, String>,
    /// MachineConfigs of the control plane's pool that the release did not make: name, and a digest of `spec`.
    pub machine_configs: Told<BTreeMap<String, String>>,
    /// Packages of the operators that were installed after the cluster; ours is not among them.
    pub operators: Told<BTreeSet<String>>,
    /// Data of the ConfigMap [`api::configuration::CONFIG_MAP`]; empty when there is none.
    pub configuration: BTreeMap<String, String>,
}

/// A fact that decides nothing by itself, or why it is not known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Told<T> {
    /// It is this.
    Known(T),
    /// Nobody could say, with the cause chain.
    Unknown(String),
}

impl<T: Default> Default for Told<T> {
    fn default() -> Self {
        Told::Known(T::default())
    }
}

/// What is not healthy, by the checks of the contract's 5.4; empty lists are good news.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// Names of ClusterOperators that are not ready.
    pub operators: Vec<String>,
    /// Names of MachineConfigPools that are not ready.
    pub pools: Vec<String>,
    /// What is wrong with SR-IOV, in the contract's words; nothing where it is not installed.
    pub sriov: Vec<String>,
    /// What is wrong with OADP, in the contract's words; nothing where it is not installed or not configured.
    pub backups: Vec<String>,
    /// What is wrong with the Node, in the contract's words.
    pub node: Vec<String>,
    /// Names of ClusterServiceVersions that are not ready; ours are not among them.
    pub service_versions: Vec<String>,
    /// Names of CertificateSigningRequests on which nobody has decided.
    pub signing_requests: Vec<String>,
}

/// A filesystem that an installation fills.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, PartialOrd, Ord)]
pub enum Filesystem {
    /// The root filesystem, with the ostree repository and all stateroots.
    Sysroot,
    /// Boot entries and kernels.
    Boot,
    /// Container storage, and the spool in it.
    Containers,
}

impl Filesystem {
    /// All of them.
    pub const ALL: [Filesystem; 3] = [
        Filesystem::Sysroot,
        Filesystem::Boot,
        Filesystem::Containers,
    ];

    /// Where it is mounted.
    pub fn path(self) -> &'static str {
        match self {
            Filesystem::Sysroot => api::path::SYSROOT,
            Filesystem::Boot => api::path::BOOT,
            Filesystem::Containers => api::path::CONTAINERS,
        }
    }
}

/// How full a filesystem is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Space {
    /// Which one.
    pub filesystem: Filesystem,
    /// Equal for paths that lie on the same filesystem.
    pub device: u64,
    /// Its size in bytes.
    pub total: u64,
    /// Bytes that may still be written.
    pub available: u64,
}

/// What the checks need to know of this node; gathered in Prep only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeFacts {
    /// The architecture, as OCI calls it.
    pub architecture: String,
    /// The processor.
    pub cpu: Cpu,
    /// One more than the highest number of a CPU that is there, online or not: numbers have gaps where CPUs are offline.
    pub cpu_numbers: u32,
    /// CPUs that the system keeps for itself, as a list; empty for none.
    pub reserved_cpus: Told<String>,
    /// How full the filesystems are.
    pub spaces: Vec<Space>,
    /// `/var/lib/containers` is a mount of its own.
    pub containers_mounted: bool,
    /// `What=` of its mount unit as the unit's file has it; empty for none.
    pub storage_target: Told<String>,
    /// Bytes of the running release's kernel and initial RAM disk.
    pub boot_files: u64,
    /// Bytes of the pinned seed that are spooled already.
    pub spooled: u64,
    /// libostree can make another deployment the default.
    pub default_switch: Told<bool>,
    /// The boot loader can return by itself from a release that does not come up; `Err` says why not.
    pub boot_fallback: Result<(), String>,
    /// When the first certificate expires that a rollback to this release needs, in seconds since 1970.
    pub certificates_until: Told<i64>,
}

/// The node's facts, or why there are none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodeKnowledge {
    /// Nobody looked, because no decision needs them now.
    NotLooked,
    /// Here they are.
    Known(Box<NodeFacts>),
    /// Looking failed, with the cause chain.
    Unknown(String),
}

/// Facts of the cluster, or why there are none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClusterKnowledge {
    /// Nobody asked, because no decision needs them now.
    NotAsked,
    /// Here they are.
    Known(Box<ClusterFacts>),
    /// The question failed.
    Unknown {
        /// How.
        kind: ErrorKind,
        /// Why, with the cause chain.
        error: String,
    },
}

/// The latest run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RunFact {
    /// There is none, or it belongs to something that has ended.
    None,
    /// It runs.
    Running {
        /// Its plan.
        plan: PlanName,
        /// Where it is, for people.
        progress: String,
    },
    /// It was cut off: by a stop, a crash or a power cut.
    Interrupted {
        /// Its plan.
        plan: PlanName,
    },
    /// It completed.
    Completed {
        /// Its plan.
        plan: PlanName,
    },
    /// It failed.
    Failed {
        /// Its plan.
        plan: PlanName,
        /// How.
        kind: ErrorKind,
        /// Why, with the cause chain.
        error: String,
        /// How many runs of this plan have failed in a row; at least 1.
        attempt: u32,
        /// Seconds since it failed.
        since: u64,
    },
}

/// What is kept of the failed boots of the release that the node returned from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum EvidenceFact {
    /// Nobody looked, or nothing was returned from.
    #[default]
    None,
    /// It lies in this directory.
    Sealed(String),
    /// Nothing is kept yet, and this release is still there.
    Due(DeploymentId),
}

/// How far this site's reconfiguration in the target has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PostPivot {
    /// It runs, or waits to be run.
    Running {
        /// Where it is, for people; empty when nobody knows.
        progress: String,
    },
    /// It has ended well.
    Finished,
    /// It has failed and is tried again by systemd.
    Failing {
        /// Why, with the cause chain.
        error: String,
    },
}

/// Everything that a decision looks at besides spec and conditions.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Wall clock, for what people read.
    pub now: Timestamp,
    /// Id of this boot.
    pub boot_id: String,
    /// An id for a run that may be started now; never used twice.
    pub run_id: String,
    /// The booted deployment; `Err` says why nobody knows.
    pub booted: Result<DeploymentId, String>,
    /// What boots by default.
    pub default: Option<DeploymentId>,
    /// Which side of the pivot is booted.
    pub side: Side,
    /// The origin recorded at the pivot.
    pub origin: Option<DeploymentId>,
    /// The prepared target.
    pub target: Option<TargetRecord>,
    /// The seed as resolved for this Prep.
    pub pin: Option<SeedPin>,
    /// The fetched seed's documents.
    pub content: Option<SeedContent>,
    /// Stateroots on disk that this upgrade made or recorded, and that are not booted.
    pub removable: Vec<StaterootName>,
    /// The cluster.
    pub cluster: ClusterKnowledge,
    /// The other flow that works on the node's deployments; looked at only where this one is about to leave Idle.
    pub peer: Peer,
    /// The node.
    pub node: NodeKnowledge,
    /// Space is reserved: the installation has begun.
    pub reserved: bool,
    /// The latest run.
    pub run: RunFact,
    /// The reconfiguration; looked at on the target side only.
    pub post_pivot: PostPivot,
    /// The verdict on the upgrade: in the target its own, in an origin that the node returned to unasked the one that the target
    /// left behind.
    pub verdict: VerdictFact,
    /// The user has not switched off that a failed upgrade behind the pivot leads back.
    pub returns: bool,
    /// The init monitor may still run, at this boot or a later one; looked at behind the completion only.
    pub monitor_armed: bool,
    /// Until when the origin can be returned to, because of its certificates (contract 5.5); `None` = nobody knows, or looked.
    pub rollback_until: Option<Timestamp>,
    /// The node rebooted behind the commit point of a pivot and runs the origin again, asked by nobody.
    pub returned: bool,
    /// The release that the boot loader returned from.
    pub failed_boot: Option<FailedBoot>,
    /// What is kept of the boots that led back here; looked at in an origin behind a failed upgrade only.
    pub evidence: EvidenceFact,
    /// The boot loader's way back; looked at around a pivot only.
    pub fallback: FallbackState,
    /// The prepared target brings none of our programs, and so nobody who would give back what Prep took; looked at before a
    /// pivot only.
    pub foreign_target: bool,
    /// Anything is left that abort or finalize would remove.
    pub leftovers: bool,
    /// The user has asked for a clean-up that failed to be tried now.
    pub cleanup_now: bool,
    /// The target's images.
    pub images: ImageFacts,
    /// What annotations of the upgrade say of the network, or what is wrong with them.
    pub limits: Result<NetworkLimits, String>,
    /// The automatic rollback's configuration as annotations and spec ask for it.
    pub rollback_config: RollbackConfig,
}

impl Facts {
    /// The stamp of a pivot that is planned now.
    pub(crate) fn stamp(&self, origin: &DeploymentId, target: &DeploymentId) -> HandoverStamp {
        HandoverStamp {
            format: api::handover::FORMAT,
            run_id: self.run_id.clone(),
            boot_id: self.boot_id.clone(),
            origin: origin.clone(),
            target: target.clone(),
        }
    }
}
