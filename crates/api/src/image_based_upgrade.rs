//! The custom resource `ImageBasedUpgrade`, version `v1` (C 1.1 to 1.3).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::condition::{Condition, ConditionType};
use crate::metadata::Metadata;
use crate::names;
use crate::null;
use crate::stage::{Stage, UnknownStage};
use crate::time::Timestamp;

/// One image-based upgrade of this node; there is one object, named `upgrade`.
///
/// `kind` and `apiVersion` may be absent when reading (the Go original's saved file has neither).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageBasedUpgrade {
    /// `lca.openshift.io/v1`, or empty where the writer left it out.
    #[serde(
        default,
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub api_version: String,
    /// `ImageBasedUpgrade`, or empty where the writer left it out.
    #[serde(
        default,
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub kind: String,
    /// Name, identity, annotations.
    #[serde(default, deserialize_with = "null::as_default")]
    pub metadata: Metadata,
    /// What the user wants.
    #[serde(default, deserialize_with = "null::as_default")]
    pub spec: ImageBasedUpgradeSpec,
    /// What the controller says; absent on a fresh object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ImageBasedUpgradeStatus>,
}

impl ImageBasedUpgrade {
    /// The object that the controller creates when there is none (C 2.8): stage Idle.
    #[must_use]
    pub fn initial() -> Self {
        Self {
            api_version: names::API_VERSION.to_owned(),
            kind: names::KIND.to_owned(),
            metadata: Metadata {
                name: names::IBU.to_owned(),
                ..Metadata::default()
            },
            spec: ImageBasedUpgradeSpec {
                stage: Some(Stage::Idle.as_str().to_owned()),
                ..ImageBasedUpgradeSpec::default()
            },
            status: None,
        }
    }

    /// The condition of that type, if there is one.
    #[must_use]
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.status
            .as_ref()?
            .conditions
            .iter()
            .find(|condition| condition.type_ == kind.as_str())
    }
}

/// `spec` (C 1.2). Nothing in it is required and nothing has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageBasedUpgradeSpec {
    /// The requested stage as text; see [`Self::stage`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The seed image to upgrade to. Present and empty differs from absent for the CEL rules
    /// (C 1.4), so both are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_image_ref: Option<SeedImageRef>,
    /// ConfigMaps with OADP Backup and Restore objects.
    #[serde(
        default,
        deserialize_with = "null::as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub oadp_content: Vec<ConfigMapRef>,
    /// ConfigMaps with manifests to apply after the pivot.
    #[serde(
        default,
        deserialize_with = "null::as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub extra_manifests: Vec<ConfigMapRef>,
    /// How long the init monitor waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_rollback_on_failure: Option<AutoRollbackOnFailure>,
}

impl ImageBasedUpgradeSpec {
    /// The requested stage; `None` when the field is absent or empty, which means Idle (see the
    /// CEL rules in `crd`).
    ///
    /// # Errors
    /// [`UnknownStage`] for a word that is no stage; the schema refuses it, a saved CR may hold it.
    pub fn stage(&self) -> Result<Option<Stage>, UnknownStage> {
        match self.stage.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some),
        }
    }

    /// The requested version of the seed; empty when there is none.
    #[must_use]
    pub fn seed_version(&self) -> &str {
        self.seed_image_ref
            .as_ref()
            .map_or("", |seed| &seed.version)
    }
}

/// `spec.seedImageRef`: what to install.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeedImageRef {
    /// The OpenShift version of the seed; must equal what the seed says of itself.
    #[serde(
        default,
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub version: String,
    /// The pull specification of the seed image.
    #[serde(
        default,
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub image: String,
    /// The Secret that gives access to the registry; absent: the node's own pull secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<PullSecretRef>,
}

/// `spec.seedImageRef.pullSecretRef`: a Secret in the operator's namespace with the key
/// `.dockerconfigjson`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullSecretRef {
    /// The Secret's name.
    #[serde(default, deserialize_with = "null::as_default")]
    pub name: String,
}

/// A reference to a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConfigMapRef {
    /// The ConfigMap's name.
    #[serde(default, deserialize_with = "null::as_default")]
    pub name: String,
    /// The ConfigMap's namespace.
    #[serde(default, deserialize_with = "null::as_default")]
    pub namespace: String,
}

/// `spec.autoRollbackOnFailure`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoRollbackOnFailure {
    /// Seconds; absent or 0 means 1800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_monitor_timeout_seconds: Option<i64>,
}

/// `status` (C 1.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageBasedUpgradeStatus {
    /// The `metadata.generation` that the last status update saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ordered: `kubectl get` prints the last one (C 1.1).
    #[serde(
        default,
        deserialize_with = "null::as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub conditions: Vec<Condition>,
    /// The stages that may be requested now; words that are no stage are dropped when reading,
    /// as the controller computes the list anew.
    #[serde(
        default,
        deserialize_with = "known_stages",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub valid_next_stages: Vec<Stage>,
    /// Until when the origin's certificates let a rollback work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_availability_expiration: Option<Timestamp>,
    /// When stages and their phases ran (C 2.9).
    #[serde(
        default,
        deserialize_with = "null::as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<History>,
}

fn known_stages<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Stage>, D::Error> {
    let words: Vec<String> = null::as_default(deserializer)?;
    Ok(words.iter().filter_map(|word| word.parse().ok()).collect())
}

/// One entry of `status.history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The stage's word.
    #[serde(default, deserialize_with = "null::as_default")]
    pub stage: String,
    /// In the order in which they started.
    #[serde(
        default,
        deserialize_with = "null::as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub phases: Vec<PhaseHistory>,
    /// When the stage was first handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When the stage succeeded; absent while it runs and after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
}

/// One entry of `status.history[].phases`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseHistory {
    /// One of [`Phase`] in everything that we write.
    #[serde(default, deserialize_with = "null::as_default")]
    pub phase: String,
    /// When the phase started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When the phase ended well; absent while it runs and after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
}

/// The phases of stages in `status.history` (C 2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Prep: the target stateroot is installed.
    Stateroot,
    /// Prep: images are pulled.
    Precache,
    /// Upgrade, in the origin.
    PrePivot,
    /// Upgrade, in the target.
    PostPivot,
}

impl Phase {
    /// Every phase, in the order of an upgrade.
    pub const ALL: [Self; 4] = [
        Self::Stateroot,
        Self::Precache,
        Self::PrePivot,
        Self::PostPivot,
    ];

    /// The word in `status.history[].phases[].phase`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stateroot => "Stateroot",
            Self::Precache => "Precache",
            Self::PrePivot => "PrePivot",
            Self::PostPivot => "PostPivot",
        }
    }

    /// The stage that the phase belongs to.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::Stateroot | Self::Precache => Stage::Prep,
            Self::PrePivot | Self::PostPivot => Stage::Upgrade,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
