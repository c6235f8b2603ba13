//! Label keys, by the object that carries them (C 11.2, S 1.1).

/// On objects and in a Backup's selector: the backup's name.
pub const BACKUP: &str = "lca.openshift.io/backup";
/// On a Backup and its deletion request: the cluster's id.
pub const CLUSTER_ID: &str = "config.openshift.io/clusterID";
/// On objects in policies: the version that they are for.
pub const TARGET_OCP_VERSION: &str = "lca.openshift.io/target-ocp-version";
/// On the Node of a single-node cluster.
pub const NODE_ROLE_MASTER: &str = "node-role.kubernetes.io/master";
/// On the Node of a single-node cluster.
pub const NODE_ROLE_CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
/// On the Node of a single-node cluster.
pub const NODE_ROLE_WORKER: &str = "node-role.kubernetes.io/worker";
/// On a MachineConfig: the role that it is for.
pub const MACHINE_CONFIG_ROLE: &str = "machineconfiguration.openshift.io/role";
/// On our pods.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// The value of [`APP_NAME`] on our pods.
pub const APP_NAME_VALUE: &str = "lifecycle-agent-operator";

/// On a seed image: the format's version, [`crate::seed_format::VERSION`].
pub const SEED_FORMAT_VERSION: &str = "com.openshift.lifecycle-agent.seed_format_version";
/// On a seed image: the seed info as JSON ([`crate::seed_info::SeedClusterInfo`]).
pub const SEED_CLUSTER_INFO: &str = "com.openshift.lifecycle-agent.seed_cluster_info";
/// On a seed image that was made here: what its node is like, as JSON ([`crate::seed_node::SeedNodeFacts`]).
pub const SEED_NODE_FACTS: &str = "com.openshift.lifecycle-agent.seed_node_facts";
/// On a seed image that was made here: where its index lies, as JSON (`docs/seed-format.md`).
pub const SEED_INDEX: &str = "com.openshift.lifecycle-agent.seed_index";
