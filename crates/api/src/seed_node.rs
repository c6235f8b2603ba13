//! What a seed made here says of its node: the label [`crate::label::SEED_NODE_FACTS`]. Seeds of the Go original have
//! none; every field is optional when reading.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The node that a seed was made on, as far as an upgrade compares it with its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeedNodeFacts {
    /// The architecture as OCI calls it (`amd64`, `arm64`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// The processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// CPUs that the system keeps for itself, as a list (`0-1,32-33`); empty for none, `None` when nobody knew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_cpus: Option<String>,
    /// MachineConfigs of the control plane's pool that the release did not make: name, and a digest of `spec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_configs: Option<BTreeMap<String, String>>,
    /// Kernel arguments of the MachineConfig that the node runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_arguments: Option<Vec<String>>,
    /// Packages of the operators that were installed after the cluster; ours is not among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operators: Option<BTreeSet<String>>,
    /// What an installation occupies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed: Option<InstalledSize>,
}

/// A processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// As the kernel prints it.
    pub model: String,
    /// Sockets.
    pub sockets: u32,
    /// Cores of all sockets.
    pub cores: u32,
    /// Threads of all cores: the CPUs that the kernel counts.
    pub threads: u32,
}

/// Bytes that an installation occupies where nothing of it is there yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstalledSize {
    /// Of the root filesystem: ostree objects, `/var` and `/etc`.
    pub sysroot: u64,
    /// Of `/boot`: kernel and initial RAM disk.
    pub boot: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_written() {
        let empty = SeedNodeFacts::default();
        assert_eq!(serde_json::to_string(&empty).unwrap(), "{}");
        let text = concat!(
            r#"{"architecture":"amd64","cpu":{"model":"A","sockets":1,"cores":2,"threads":4},"#,
            r#""reserved_cpus":"0-1","machine_configs":{"50-x":"ab"},"kernel_arguments":["a=b"],"#,
            r#""operators":["ptp-operator"],"installed":{"sysroot":1,"boot":2}}"#
        );
        let facts: SeedNodeFacts = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&facts).unwrap(), text);
        assert_eq!(
            serde_json::from_str::<SeedNodeFacts>(r#"{"future":1}"#).unwrap(),
            empty
        );
    }
}
