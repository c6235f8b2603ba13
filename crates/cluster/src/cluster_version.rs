//! `ClusterVersion/version`: the cluster's release and id.

use node::PortResult;
use serde_json::json;

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::kind;
use crate::object::{ClusterVersion, missing};

/// The name of the one object.
const NAME: &str = "version";

async fn read(connection: &Connection) -> PortResult<ClusterVersion> {
    connection
        .read(Call::get(&kind::CLUSTER_VERSION, NAME))
        .await
}

/// The release that the cluster runs or is updating to.
pub(crate) async fn release(connection: &Connection) -> PortResult<String> {
    let version = read(connection).await?.status.desired.version;
    if version.is_empty() {
        return Err(missing(
            "ClusterVersion version has no status.desired.version; wait for the version operator"
                .to_owned(),
        ));
    }
    Ok(version)
}

/// The cluster's id.
pub(crate) async fn id(connection: &Connection) -> PortResult<String> {
    let id = read(connection).await?.spec.cluster_id;
    if id.is_empty() {
        return Err(missing(
            "ClusterVersion version has no spec.clusterID".to_owned(),
        ));
    }
    Ok(id)
}

/// Sets the cluster's id, unless it is that already.
pub(crate) async fn set_id(connection: &Connection, id: &str) -> PortResult<()> {
    if read(connection).await?.spec.cluster_id == id {
        return Ok(());
    }
    let call = Call::new(Verb::Patch, &kind::CLUSTER_VERSION).named(NAME);
    let body = json!({ "spec": { "clusterID": id } });
    connection
        .send(&call, Some(&body))
        .await
        .map(drop)
        .map_err(|failure| failure.during(&call))
}
