//! What a cluster is called and what stands in its objects.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::image::{Release, source_dir};
use crate::network::MACHINE_NETWORK;
use crate::pki::ClusterPki;
use crate::registry::pull_secret;

/// `metadata.name` of the install config; the same for seed and target as long as no crypto is
/// regenerated.
pub const CLUSTER_NAME: &str = "sno";
/// `baseDomain` of the install config.
pub const BASE_DOMAIN: &str = "lab.example.com";

/// The public key that the install config, the MachineConfigs and core's authorized keys name.
pub(crate) const SSH_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2L0TVfYSJ3m1o4o7yD3o5h0Jc8cI2hVb7m3W1nXq2r core@lab";
/// What the MachineConfigs add to the kernel's arguments: the first three are OpenShift's, the console is a VM's.
pub(crate) const KERNEL_ARGUMENTS: [&str; 5] = [
    "systemd.unified_cgroup_hierarchy=1",
    "cgroup_no_v1=all",
    "psi=0",
    "console=ttyS0,115200n8",
    "quiet",
];
/// bcrypt of a password that nobody uses.
const KUBEADMIN_HASH: &str = "$2a$10$Jm4tDgTQk5XrT5yqk0mYVOb5wYx1m2bq7yqk0mYVOb5wYx1m2bq7y";

/// What is particular to one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) release: Release,
    /// Hostname, and seed of everything that has to differ between clusters.
    pub(crate) hostname: String,
    /// Random, version 4 in form.
    pub(crate) cluster_id: String,
    /// `<cluster name>-<five characters>`.
    pub(crate) infra_id: String,
    /// Seconds since 1970 of the making of the ingress authority, part of its name.
    pub(crate) created: i64,
}

impl Identity {
    pub(crate) fn random(release: Release, hostname: &str) -> Result<Identity> {
        let cluster_id = fs::read_to_string("/proc/sys/kernel/random/uuid")
            .context("a random cluster id")?
            .trim()
            .to_owned();
        ensure!(cluster_id.len() == 36, "{cluster_id:?} is no UUID");
        Ok(Identity {
            release,
            hostname: hostname.to_owned(),
            infra_id: format!("{CLUSTER_NAME}-{}", &cluster_id[..5]),
            cluster_id,
            created: jiff::Timestamp::now().as_second(),
        })
    }

    /// Name of the rendered MachineConfig of `role`.
    pub(crate) fn rendered(&self, role: &str) -> String {
        format!("rendered-{role}-{}", self.rendered_hash())
    }

    /// A digest in form, the same for all nodes of a release.
    fn rendered_hash(&self) -> String {
        let part = crate::cache::key([b"rendered".as_slice(), self.release.version().as_bytes()]);
        format!("{part}{part}")
    }

    /// The MachineConfig that the node runs, as on disk and in the API.
    pub(crate) fn machine_config(&self, role: &str) -> Value {
        json!({
            "apiVersion": "machineconfiguration.openshift.io/v1",
            "kind": "MachineConfig",
            "metadata": {
                "name": self.rendered(role),
                "annotations": {
                    "machineconfiguration.openshift.io/generated-by-controller-version": "mini-sno",
                    "machineconfiguration.openshift.io/release-image-version": self.release.version(),
                },
            },
            "spec": {
                "osImageURL": "",
                "extensions": [],
                "fips": false,
                "kernelArguments": KERNEL_ARGUMENTS,
                "kernelType": "default",
                "config": {
                    "ignition": {"version": "3.4.0"},
                    "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": [SSH_KEY]}]},
                    "storage": {"files": [
                        {"path": "/etc/mini-sno/cluster", "mode": 420, "overwrite": true,
                         "contents": {"source": "data:,"}},
                        {"path": "/var/lib/kubelet/config.json", "mode": 384, "overwrite": true,
                         "contents": {"source": "data:,"}},
                    ]},
                    "systemd": {"units": [{"name": "kubelet.service", "enabled": true}]},
                },
            },
        })
    }

    /// `crds.yaml`, `objects.yaml` and `openshift.yaml` of `hack/mini-sno/cluster`, filled in.
    pub(crate) fn documents(&self, pki: &ClusterPki) -> Result<Documents> {
        let dir = source_dir().join("cluster");
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let mut words = self.words();
        let install_config = fill(&read("install-config.yaml")?, &words)?;
        words.insert("INSTALL_CONFIG".into(), inside_json(&install_config));
        for (name, text) in pki.words() {
            words.insert(format!("B64_{name}"), STANDARD.encode(&text));
            words.insert(name, inside_json(&text));
        }
        let mut objects = fill(&read("objects.yaml")?, &words)?;
        for role in ["master", "worker"] {
            objects.push_str(&format!("\n---\n{}\n", self.machine_config(role)));
        }
        Ok(Documents {
            crds: read("crds.yaml")?,
            objects,
            openshift: fill(&read("openshift.yaml")?, &words)?,
        })
    }

    fn words(&self) -> BTreeMap<String, String> {
        let version = self.release.version();
        let minor = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
        let digest = crate::cache::key([version.as_bytes()]).repeat(4);
        [
            ("RELEASE", version),
            ("MINOR", minor),
            ("RELEASE_DIGEST", &digest),
            ("CLUSTER", CLUSTER_NAME),
            ("DOMAIN", BASE_DOMAIN),
            ("CLUSTER_ID", &self.cluster_id),
            ("INFRA", &self.infra_id),
            ("RENDERED", &self.rendered_hash()),
            ("MACHINE_NETWORK", MACHINE_NETWORK),
            ("SSH_KEY", SSH_KEY),
            ("B64_PULL_SECRET", &STANDARD.encode(pull_secret())),
            ("B64_KUBEADMIN", &STANDARD.encode(KUBEADMIN_HASH)),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
    }
}

/// YAML to create in a new cluster, in this order.
pub(crate) struct Documents {
    pub(crate) crds: String,
    pub(crate) objects: String,
    /// Objects whose status has to be written by itself.
    pub(crate) openshift: String,
}

/// Replaces every `@WORD@` that `words` knows.
fn fill(text: &str, words: &BTreeMap<String, String>) -> Result<String> {
    let mut text = text.to_owned();
    for (name, word) in words {
        text = text.replace(&format!("@{name}@"), word);
    }
    let left =
        text.split('@').skip(1).step_by(2).find(|word| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        });
    ensure!(
        left.is_none(),
        "nothing to fill in for @{}@",
        left.unwrap_or("")
    );
    Ok(text)
}

fn inside_json(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
