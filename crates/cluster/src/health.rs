//! What is not healthy, by the contract's 5.4.

mod operators;

use api::{label, message};
use node::PortResult;
use node::ports::Health;
use serde::Deserialize;

use crate::call::Call;
use crate::connection::Connection;
use crate::kind;
use crate::object::{Condition, Meta, Node, condition, list_if_served, nullable};

/// Labels that the Node of a single-node cluster has, in the contract's order.
const ROLES: [&str; 3] = [
    label::NODE_ROLE_CONTROL_PLANE,
    label::NODE_ROLE_MASTER,
    label::NODE_ROLE_WORKER,
];

/// The topology whose Node is examined.
const SINGLE_REPLICA: &str = "SingleReplica";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Operator {
    #[serde(deserialize_with = "nullable")]
    metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    status: OperatorStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OperatorStatus {
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
}

impl Operator {
    fn is_ready(&self) -> bool {
        let status = |type_| condition(&self.status.conditions, type_);
        status("Available") == "True"
            && status("Progressing") != "True"
            && status("Degraded") != "True"
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pool {
    #[serde(deserialize_with = "nullable")]
    metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    status: PoolStatus,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct PoolStatus {
    #[serde(deserialize_with = "nullable")]
    machine_count: i64,
    #[serde(deserialize_with = "nullable")]
    ready_machine_count: i64,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
}

impl Pool {
    /// Unlike the Go original, a pool that says of itself that it is degraded or updating is not ready either; but what a
    /// pool without machines says is about no node, and a single node's `worker` pool has none.
    fn is_ready(&self) -> bool {
        let status = |type_| condition(&self.status.conditions, type_);
        self.status.machine_count == 0
            || self.status.machine_count == self.status.ready_machine_count
                && status("Updating") != "True"
                && status("Degraded") != "True"
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Infrastructure {
    #[serde(deserialize_with = "nullable")]
    status: InfrastructureStatus,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct InfrastructureStatus {
    #[serde(deserialize_with = "nullable")]
    infrastructure_topology: String,
}

/// Reads it live.
pub(crate) async fn read(connection: &Connection, nodes: &[Node]) -> PortResult<Health> {
    let operators: Vec<Operator> = list_if_served(connection, &kind::CLUSTER_OPERATOR).await?;
    let pools: Vec<Pool> = list_if_served(connection, &kind::MACHINE_CONFIG_POOL).await?;
    let infrastructure: Infrastructure = connection
        .read(Call::get(&kind::INFRASTRUCTURE, "cluster"))
        .await?;
    let examined = infrastructure.status.infrastructure_topology == SINGLE_REPLICA;
    let not_ready = operators.into_iter().filter(|found| !found.is_ready());
    let pools = pools.into_iter().filter(|found| !found.is_ready());
    Ok(Health {
        operators: not_ready.map(|found| found.metadata.name).collect(),
        pools: pools.map(|found| found.metadata.name).collect(),
        node: nodes
            .iter()
            .filter(|_| examined)
            .flat_map(troubles)
            .collect(),
        sriov: operators::sriov(connection).await?,
        backups: operators::backups(connection).await?,
        service_versions: operators::service_versions(connection).await?,
        signing_requests: operators::signing_requests(connection).await?,
    })
}

fn troubles(node: &Node) -> Vec<String> {
    let name = &node.metadata.name;
    let mut wrong = Vec::new();
    if node.condition("Ready") != "True" {
        wrong.push(message::node_not_ready(name));
    }
    if node.condition("NetworkUnavailable") == "True" {
        wrong.push(message::node_network_unavailable(name));
    }
    let lacking = ROLES
        .into_iter()
        .filter(|role| !node.metadata.labels.contains_key(*role));
    wrong.extend(lacking.map(|role| message::node_without_label(role, name)));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_and_pools() {
        let operator = |text: &str| {
            let found: Operator = serde_json::from_str(text).unwrap();
            found.is_ready()
        };
        let conditions = |list: &[(&str, &str)]| {
            let list = list
                .iter()
                .map(|(type_, status)| format!(r#"{{"type":"{type_}","status":"{status}"}}"#));
            let list: Vec<String> = list.collect();
            format!(r#"{{"status":{{"conditions":[{}]}}}}"#, list.join(","))
        };
        let check = |list: &[(&str, &str)], ready: bool| {
            assert_eq!(operator(&conditions(list)), ready, "{list:?}");
        };
        check(&[("Available", "True")], true);
        check(&[("Available", "True"), ("Progressing", "Unknown")], true);
        check(&[("Available", "True"), ("Progressing", "True")], false);
        check(&[("Available", "True"), ("Degraded", "True")], false);
        check(&[("Available", "Unknown")], false);
        check(&[], false);
        assert!(!operator(r#"{"status":null}"#));

        let pool = |text: &str| {
            let found: Pool = serde_json::from_str(text).unwrap();
            found.is_ready()
        };
        assert!(pool(
            r#"{"status":{"machineCount":1,"readyMachineCount":1}}"#
        ));
        assert!(pool(r#"{"status":{"machineCount":0}}"#));
        assert!(!pool(
            r#"{"status":{"machineCount":1,"readyMachineCount":0}}"#
        ));
        let says = |machines: u32, type_: &str| {
            pool(&format!(
                r#"{{"status":{{"machineCount":{machines},"readyMachineCount":{machines},
                    "conditions":[{{"type":"{type_}","status":"True"}}]}}}}"#
            ))
        };
        assert!(!says(1, "Degraded") && !says(1, "Updating") && says(1, "Updated"));
        // Without machines it is about no node.
        assert!(says(0, "Degraded") && says(0, "Updating"));
    }

    #[test]
    fn nodes() {
        let check = |text: &str, expect: &[&str]| {
            let node: Node = serde_json::from_str(text).unwrap();
            assert_eq!(troubles(&node), expect);
        };
        let labels = r#""labels":{"node-role.kubernetes.io/master":"",
            "node-role.kubernetes.io/control-plane":"","node-role.kubernetes.io/worker":""}"#;
        let ready = r#"{"type":"Ready","status":"True"}"#;
        check(
            &format!(
                r#"{{"metadata":{{"name":"a",{labels}}},"status":{{"conditions":[{ready}]}}}}"#
            ),
            &[],
        );
        check(
            r#"{"metadata":{"name":"a"},"status":{"conditions":[
                {"type":"NetworkUnavailable","status":"True"}]}}"#,
            &[
                "node is not yet ready: a",
                "node network unavailable: a",
                "node missing node-role.kubernetes.io/control-plane label: a",
                "node missing node-role.kubernetes.io/master label: a",
                "node missing node-role.kubernetes.io/worker label: a",
            ],
        );
    }
}
