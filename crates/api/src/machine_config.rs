//! As much of a MachineConfig as an upgrade needs (C 4.2 step 9, S 1.3.2).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

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
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

impl File {
    /// FNV-1a of everything but the path: differences have to show, nobody forges them.
    fn mark(&self) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        // Members come in the order of their names, whoever wrote them.
        for (name, value) in &self.rest {
            for byte in format!("{name}={value}\n").bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        format!("{hash:016x}")
    }
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

    /// For each of these paths a mark that is another one where the configuration writes something else there. Of a path that
    /// is written twice, the last one's.
    #[must_use]
    pub fn file_marks(&self) -> BTreeMap<String, String> {
        let files = self.spec.config.storage.files.iter();
        files.map(|file| (file.path.clone(), file.mark())).collect()
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
    fn marks_differ_where_files_do() {
        let mark = |rest: &str| {
            let text = format!(
                r#"{{"spec":{{"config":{{"storage":{{"files":[{{"path":"/etc/x"{rest}}}]}}}}}}}}"#
            );
            let config: MachineConfig = serde_json::from_str(&text).unwrap();
            config.file_marks()["/etc/x"].clone()
        };
        let plain = mark(r#","contents":{"source":"data:,a","compression":""},"mode":420"#);
        assert_eq!(plain.len(), 16);
        assert_eq!(
            plain,
            mark(r#","mode":420,"contents":{"compression":"","source":"data:,a"}"#)
        );
        let others = [
            r#","contents":{"source":"data:,b","compression":""},"mode":420"#,
            r#","contents":{"source":"data:,a","compression":""},"mode":384"#,
            "",
        ];
        for other in others {
            assert_ne!(plain, mark(other), "{other}");
        }
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
