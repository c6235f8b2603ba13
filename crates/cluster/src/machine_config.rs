//! MachineConfigs: the one that the node runs, and those that the release did not make.

use std::collections::BTreeMap;

use api::machine_config::MachineConfig;
use api::{annotation, label};
use node::PortResult;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::call::Call;
use crate::connection::Connection;
use crate::kind;
use crate::object::{List, Meta, Node, missing, nullable};

/// On what the machine config operator makes of a release.
const GENERATED: &str = "machineconfiguration.openshift.io/generated-by-controller-version";
/// The role whose pool a single node belongs to.
const ROLE: &str = "master";
/// Made by the installer with the keys of the one cluster: an upgrade carries them over by itself.
const INSTALLERS: &str = "99-master-ssh";
/// Bytes of a digest that are kept: differences have to show, nobody forges them.
const DIGEST: usize = 8;

/// Whether the node says which MachineConfig it runs.
pub(crate) fn is_named(node: &Node) -> bool {
    let annotations = &node.metadata.annotations;
    annotations.contains_key(annotation::CURRENT_MACHINE_CONFIG)
}

/// The MachineConfig that the node runs.
pub(crate) async fn current(connection: &Connection, node: &Node) -> PortResult<MachineConfig> {
    let annotation = annotation::CURRENT_MACHINE_CONFIG;
    let name = node.metadata.annotations.get(annotation).ok_or_else(|| {
        let name = &node.metadata.name;
        missing(format!("Node {name} has no annotation {annotation}"))
    })?;
    connection
        .read(Call::get(&kind::MACHINE_CONFIG, name))
        .await
}

/// The MachineConfigs of the control plane's pool that users made, or operators for them: name, and a digest of `spec`.
pub(crate) async fn made_by_users(connection: &Connection) -> PortResult<BTreeMap<String, String>> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Object {
        #[serde(deserialize_with = "nullable")]
        metadata: Meta,
        #[serde(deserialize_with = "nullable")]
        spec: Value,
    }
    let list: List<Object> = connection
        .read(Call::list_metadata(&kind::MACHINE_CONFIG))
        .await?;
    let mut made = BTreeMap::new();
    for Object { metadata, .. } in list.items {
        let role = metadata.labels.get(label::MACHINE_CONFIG_ROLE);
        let by_users = role.is_some_and(|role| role == ROLE)
            && !metadata.annotations.contains_key(GENERATED)
            && metadata.name != INSTALLERS;
        if by_users {
            let call = Call::get(&kind::MACHINE_CONFIG, &metadata.name);
            let object: Object = connection.read(call).await?;
            made.insert(metadata.name, digest(&object.spec));
        }
    }
    Ok(made)
}

/// Of the value, however it was written: members print in the order of their names.
fn digest(value: &Value) -> String {
    let hash = Sha256::digest(value.to_string().as_bytes());
    let part = hash.iter().take(DIGEST);
    part.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_members_makes_no_difference() {
        let read = |text: &str| digest(&serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"{"a":1,"b":[2]}"#), read(r#"{"b":[2], "a":1}"#));
        assert_ne!(read(r#"{"a":1}"#), read(r#"{"a":2}"#));
        assert_eq!(read("{}").len(), 2 * DIGEST);
    }
}
