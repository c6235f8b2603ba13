//! What a decision looks at: the node, the cluster and the records, as they are now.

use api::rollback_config::RollbackConfig;
use api::seed_info::SeedClusterInfo;
use api::{DeploymentId, Digest, HandoverStamp, ImageRef, StaterootName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::failure::ErrorKind;
use crate::state::Side;
use crate::step::PlanName;

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
}

/// Facts of the cluster, or why there are none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClusterKnowledge {
    /// Nobody asked, because no decision needs them now.
    NotAsked,
    /// Here they are.
    Known(ClusterFacts),
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
    /// The latest run.
    pub run: RunFact,
    /// The reconfiguration; looked at on the target side only.
    pub post_pivot: PostPivot,
    /// The node rebooted behind the commit point of a pivot and runs the origin again, asked by nobody.
    pub returned: bool,
    /// Anything is left that abort or finalize would remove.
    pub leftovers: bool,
    /// The user has asked for a clean-up that failed to be tried now.
    pub cleanup_now: bool,
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
