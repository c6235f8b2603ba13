//! Object metadata, as much of it as the agent reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::null;
use crate::time::Timestamp;

/// `metadata` of an object. What has no field of its own (`managedFields`, `ownerReferences`,
/// ...) is kept in `rest`, so that nothing is lost between reading and writing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The object's name.
    #[serde(default, deserialize_with = "null::as_default")]
    pub name: String,
    /// Differs between two objects of one name, one of which was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The server's version of the object; opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Counts changes of `spec`; restarts at 1 when the object is created anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// When the server created the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
    /// Annotations; ours are in [`crate::annotation`].
    #[serde(
        default,
        deserialize_with = "null::as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Labels.
    #[serde(
        default,
        deserialize_with = "null::as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Everything else, as it was read.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}
