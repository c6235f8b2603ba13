//! As much of a MachineConfig as an upgrade needs (C 4.2 step 9, S 1.3.2).

use serde::Deserialize;

use crate::names;
use crate::null;

/// A rendered MachineConfig: `/etc/machine-config-daemon/currentconfig` and a seed's
/// `mco-currentconfig.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MachineConfig {
    /// What the node is to be like.
    #[serde(deserialize_with = "null::as_default")]
    pub spec: MachineConfigSpec,
}

/// `spec` of a MachineConfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MachineConfigSpec {
    /// Kernel arguments, each as one argument, spaces and quotes included.
    #[serde(deserialize_with = "null::as_default")]
    pub kernel_arguments: Vec<String>,
    /// Whether the node runs in FIPS mode.
    #[serde(deserialize_with = "null::as_default")]
    pub fips: bool,
    #[serde(deserialize_with = "null::as_default")]
    config: Ignition,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Ignition {
    #[serde(deserialize_with = "null::as_default")]
    storage: Storage,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Storage {
    #[serde(deserialize_with = "null::as_default")]
    files: Vec<File>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct File {
    #[serde(deserialize_with = "null::as_default")]
    path: String,
}

impl MachineConfig {
    /// The kernel arguments of a node that runs this configuration: its own, then the pair that
    /// FIPS needs.
    #[must_use]
    pub fn kernel_arguments(&self) -> Vec<String> {
        let mut arguments = self.spec.kernel_arguments.clone();
        if self.spec.fips {
            arguments.extend(names::FIPS_KERNEL_ARGUMENTS.map(str::to_owned));
        }
        arguments
    }

    /// The paths of the files that the configuration writes.
    pub fn file_paths(&self) -> impl Iterator<Item = &str> {
        self.spec
            .config
            .storage
            .files
            .iter()
            .map(|file| file.path.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_read() {
        let text = r#"{"apiVersion":"machineconfiguration.openshift.io/v1","kind":"MachineConfig",
            "metadata":{"name":"rendered-master-1","creationTimestamp":null},
            "spec":{"baseOSExtensionsContainerImage":"","config":{"ignition":{"version":"3.4.0"},
            "storage":{"files":[{"path":"/var/lib/ovn-ic/etc/enable_dynamic_cpu_affinity",
            "contents":{"source":"data:,"}},{"path":"/etc/x"}]}},"extensions":null,"fips":true,
            "kernelArguments":["systemd.unified_cgroup_hierarchy=1","a=\"b c\""],
            "kernelType":"default","osImageURL":""}}"#;
        let config: MachineConfig = serde_json::from_str(text).unwrap();
        assert_eq!(
            config.kernel_arguments(),
            [
                "systemd.unified_cgroup_hierarchy=1",
                "a=\"b c\"",
                "fips=1",
                "boot=LABEL=boot"
            ]
        );
        assert_eq!(
            config.file_paths().collect::<Vec<_>>(),
            ["/var/lib/ovn-ic/etc/enable_dynamic_cpu_affinity", "/etc/x"]
        );
    }

    #[test]
    fn nulls_and_absences_are_nothing() {
        for text in [
            "{}",
            r#"{"spec":null}"#,
            r#"{"spec":{"kernelArguments":null,"fips":false,"config":null}}"#,
            r#"{"spec":{"config":{"storage":{"files":null}}}}"#,
        ] {
            let config: MachineConfig = serde_json::from_str(text).unwrap();
            assert!(config.kernel_arguments().is_empty());
            assert_eq!(config.file_paths().count(), 0);
        }
    }
}
