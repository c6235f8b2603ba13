//! The custom resource `IPConfig`: the other flow that works on the node's deployments (S 6.1). Only what one flow has to know
//! of the other.

use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::null;

/// The one object's name.
pub const NAME: &str = "ipconfig";

/// `IPConfig/ipconfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IpConfig {
    /// What its user wants.
    #[serde(default, deserialize_with = "null::as_default")]
    pub spec: IpConfigSpec,
    /// What its controller says.
    #[serde(default, deserialize_with = "null::as_default")]
    pub status: IpConfigStatus,
}

/// `spec`, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IpConfigSpec {
    /// `Idle`, `Config` or `Rollback`.
    #[serde(default, deserialize_with = "null::as_default")]
    pub stage: String,
}

/// `status`, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IpConfigStatus {
    /// `Idle`, `ConfigInProgress`, `ConfigCompleted`, `RollbackInProgress`, `RollbackCompleted`.
    #[serde(default, deserialize_with = "null::as_default")]
    pub conditions: Vec<Condition>,
}
