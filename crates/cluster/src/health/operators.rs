//! What operators that were installed after the cluster say of their own objects, and what waits for a signature. A kind that
//! is not served is that of an operator that is not installed.

use std::collections::BTreeSet;

use api::message;
use node::PortResult;
use serde::Deserialize;

use crate::call::Call;
use crate::connection::Connection;
use crate::kind;
use crate::object::{Condition, Meta, condition, list_if_served, list_or_unserved, nullable};

/// The namespace of OADP.
const BACKUP_NAMESPACE: &str = "openshift-adp";

/// Without the copies that a namespace has of each operator that watches all of them: they say nothing of their own, and may
/// be hundreds of large objects.
const NO_COPIES: &str = "labelSelector=%21olm.copiedFrom";

/// What is in the names of our own ClusterServiceVersions: whoever upgrades the agent does not wait for itself.
const OWN: &str = "lifecycle-agent";

/// As much as is looked at of any of these objects.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    #[serde(deserialize_with = "nullable")]
    metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(deserialize_with = "nullable")]
    sync_status: String,
    #[serde(deserialize_with = "nullable")]
    phase: String,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
}

impl Object {
    fn says(&self, condition_type: &str) -> bool {
        condition(&self.status.conditions, condition_type) == "True"
    }
}

/// What is wrong with SR-IOV.
pub(super) async fn sriov(connection: &Connection) -> PortResult<Vec<String>> {
    let states = list_or_unserved(connection, &Call::list(&kind::SRIOV_NODE_STATE)).await?;
    Ok(judge_sriov(states.as_deref()))
}

fn judge_sriov(states: Option<&[Object]>) -> Vec<String> {
    let wrong = match states {
        None => None,
        Some([]) => Some(message::NO_SRIOV_NODE_STATES),
        Some(states) => {
            let synced = |state: &Object| state.status.sync_status == "Succeeded";
            (!states.iter().all(synced)).then_some(message::SRIOV_NOT_READY)
        }
    };
    wrong.map(str::to_owned).into_iter().collect()
}

/// What is wrong with OADP.
pub(super) async fn backups(connection: &Connection) -> PortResult<Vec<String>> {
    let call = Call::list(&kind::DATA_PROTECTION_APPLICATION).within(BACKUP_NAMESPACE);
    let applications: Vec<Object> = list_or_unserved(connection, &call)
        .await?
        .unwrap_or_default();
    if applications.is_empty() {
        return Ok(Vec::new());
    }
    if !applications.iter().any(|found| found.says("Reconciled")) {
        return Ok(vec![message::BACKUPS_NOT_RECONCILED.to_owned()]);
    }
    let call = Call::list(&kind::BACKUP_STORAGE_LOCATION).within(BACKUP_NAMESPACE);
    let places: Option<Vec<Object>> = list_or_unserved(connection, &call).await?;
    Ok(judge_places(&places.unwrap_or_default()))
}

fn judge_places(places: &[Object]) -> Vec<String> {
    if places.is_empty() {
        return vec![message::NO_BACKUP_STORAGE.to_owned()];
    }
    let wrong = places
        .iter()
        .filter(|place| place.status.phase != "Available");
    wrong
        .map(|place| message::backup_storage_not_available(&place.metadata.name))
        .collect()
}

/// Names of operators' ClusterServiceVersions that are not there yet.
pub(super) async fn service_versions(connection: &Connection) -> PortResult<Vec<String>> {
    let call = Call::list(&kind::CLUSTER_SERVICE_VERSION).asking(NO_COPIES);
    let found: Option<Vec<Object>> = list_or_unserved(connection, &call).await?;
    let found = found.unwrap_or_default().into_iter();
    let names: BTreeSet<String> = found
        .filter(|version| version.status.phase != "Succeeded")
        .map(|version| version.metadata.name)
        .filter(|name| !name.contains(OWN))
        .collect();
    Ok(names.into_iter().collect())
}

/// Names of CertificateSigningRequests on which nobody has decided. Unlike for the Go original a denied one is settled: it
/// would hold everything up until the cluster forgets it.
pub(super) async fn signing_requests(connection: &Connection) -> PortResult<Vec<String>> {
    let requests: Vec<Object> = list_if_served(connection, &kind::SIGNING_REQUEST).await?;
    let pending = requests
        .into_iter()
        .filter(|request| !request.says("Approved") && !request.says("Denied"));
    Ok(pending.map(|request| request.metadata.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(statuses: &[&str]) -> Vec<Object> {
        let object = |status: &&str| {
            let text = format!(r#"{{"metadata":{{"name":"x"}},"status":{status}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        statuses.iter().map(object).collect()
    }

    #[test]
    fn sriov() {
        let check = |states: Option<&[&str]>, expect: &[&str]| {
            let states = states.map(objects);
            assert_eq!(judge_sriov(states.as_deref()), expect);
        };
        check(None, &[]);
        check(Some(&[]), &["no SriovNetworkNodeStates present"]);
        let synced = r#"{"syncStatus":"Succeeded"}"#;
        check(Some(&[synced]), &[]);
        for other in [r#"{"syncStatus":"InProgress"}"#, "{}", "null"] {
            check(Some(&[synced, other]), &["sriovNetworkNodeState not ready"]);
        }
    }

    #[test]
    fn places_for_backups() {
        let check = |places: &[&str], expect: &[&str]| {
            assert_eq!(judge_places(&objects(places)), expect);
        };
        check(&[], &["backupsStorageLocations not yet created"]);
        check(&[r#"{"phase":"Available"}"#], &[]);
        for other in [r#"{"phase":"Unavailable"}"#, "{}", "null"] {
            check(&[other], &["backupStorageLocation x not available"]);
        }
    }
}
