//! The API server, with its etcd in the booted stateroot's `/var`.

use std::collections::{BTreeMap, BTreeSet};

use api::ip_config::IpConfig;
use api::reconfiguration::{
    ClientAuthCrypto, IngressCrypto, KubeApiCrypto, KubeconfigCryptoRetention, SeedReconfiguration,
    ServingCrypto, TrustBundle,
};
use api::{ImageBasedUpgrade, ImageBasedUpgradeStatus, Secret, Timestamp, path};
use node::ports::{
    Announcement, Cluster, ClusterFacts, Exported, Health, NodePath, Published, PullSecret,
    RegistryChange,
};
use node::{ErrorKind, PortError, PortResult};

use crate::machine::Machine;
use crate::node::{Node, PUBLISH};
use crate::template::NAMED;

/// How long operators take to be ready behind the API server, milliseconds.
const OPERATORS_TAKE: u64 = 2500;

/// Where etcd keeps an object.
fn key(machine: &Machine, name: &str) -> String {
    machine.var(&format!("lib/etcd/{name}"))
}

fn value(machine: &Machine, name: &str) -> String {
    let text = machine.cache.text(&key(machine, name));
    text.unwrap_or_default().to_owned()
}

fn take(machine: &mut Machine, name: &str) {
    let key = key(machine, name);
    machine.cache.remove(&key);
    machine.disk.remove(&key);
}

/// Where etcd keeps what was applied, by the file that it came from.
const MANIFESTS: &str = "manifests";
/// Where etcd keeps the other flow's object.
const IP_CONFIG: &str = "ipconfig";
/// The file of the site's mirrors.
const MIRRORS: &str = "image-digest-mirror-set.json";

/// Mirror sets and catalogs of seeds have such names.
fn is_mirror(name: &str) -> bool {
    name == MIRRORS || name.starts_with("mirror")
}

fn put(machine: &mut Machine, name: &str, text: impl Into<String>) {
    let key = key(machine, name);
    machine.write_durably(&key, 0o600, text.into().into_bytes());
}

pub(crate) fn live(machine: &Machine) -> Option<ImageBasedUpgrade> {
    serde_json::from_str(&value(machine, "upgrade")).ok()
}

/// Stores the object at the next resource version.
pub(crate) fn store(machine: &mut Machine, mut ibu: ImageBasedUpgrade) {
    let revision = value(machine, "revision").parse::<u64>().unwrap_or(0) + 1;
    put(machine, "revision", revision.to_string());
    ibu.metadata.resource_version = Some(revision.to_string());
    if let Ok(text) = serde_json::to_string(&ibu) {
        put(machine, "upgrade", text);
    }
}

/// Stores the object as the API server takes a change of it: `generation` counts changes of `spec`.
pub(crate) fn change(machine: &mut Machine, edit: impl FnOnce(&mut ImageBasedUpgrade)) {
    if let Some(mut ibu) = live(machine) {
        let before = ibu.spec.clone();
        edit(&mut ibu);
        if ibu.spec != before {
            ibu.metadata.generation = ibu.metadata.generation.map(|number| number + 1);
        }
        store(machine, ibu);
    }
}

fn create(machine: &mut Machine, mut ibu: ImageBasedUpgrade) {
    ibu.metadata.uid = Some(format!("uid-{}", machine.boot.number));
    ibu.metadata.generation = Some(1);
    let now = i64::try_from(machine.now / 1000).unwrap_or(i64::MAX);
    ibu.metadata.creation_timestamp = Some(Timestamp::from_unix(now));
    ibu.status = None;
    store(machine, ibu);
}

impl Node {
    fn call(&self, call: &'static str, object: &str) -> PortResult<()> {
        self.operation(call, &object)?;
        if self.see(Machine::api_answers) {
            return Ok(());
        }
        Err(PortError::plain(
            ErrorKind::Transient,
            "the API server does not answer",
        ))
    }
}

impl Cluster for Node {
    fn upgrade(&self) -> PortResult<Option<ImageBasedUpgrade>> {
        self.call("get upgrade", "")?;
        Ok(self.see(live))
    }

    fn publish(
        &self,
        seen: &ImageBasedUpgrade,
        status: &ImageBasedUpgradeStatus,
    ) -> PortResult<Published> {
        self.call(PUBLISH, "")?;
        if self.conflicts() {
            self.effect(|machine| change(machine, |_| {}))?;
        }
        let version = self.see(live).and_then(|ibu| ibu.metadata.resource_version);
        if version != seen.metadata.resource_version {
            return Ok(Published::Conflict);
        }
        self.effect(|machine| change(machine, |ibu| ibu.status = Some(status.clone())))?;
        self.operation("published", &"")?;
        let stored = self.see(live).unwrap_or_else(|| seen.clone());
        Ok(Published::Stored(Box::new(stored)))
    }

    fn ensure_upgrade(&self) -> PortResult<()> {
        self.call("ensure_upgrade", "")?;
        if self.see(live).is_none() {
            self.effect(|machine| create(machine, ImageBasedUpgrade::initial()))?;
        }
        self.operation("ensured_upgrade", &"")
    }

    fn restore_upgrade(&self, saved: &ImageBasedUpgrade) -> PortResult<()> {
        self.call("restore_upgrade", "")?;
        if self.see(live).is_none() {
            self.effect(|machine| create(machine, saved.clone()))?;
            self.operation("restore_upgrade: created", &"")?;
        }
        let same = self.see(live).is_some_and(|live| {
            live.spec == saved.spec && live.metadata.annotations == saved.metadata.annotations
        });
        if !same {
            self.effect(|machine| change(machine, |live| live.status = None))?;
            self.operation("restore_upgrade: status taken away", &"")?;
            self.effect(|machine| {
                change(machine, |live| {
                    live.spec = saved.spec.clone();
                    live.metadata.labels = saved.metadata.labels.clone();
                    live.metadata.annotations = saved.metadata.annotations.clone();
                });
            })?;
            self.operation("restore_upgrade: updated", &"")?;
        }
        self.effect(|machine| change(machine, |live| live.status = saved.status.clone()))?;
        self.operation("restored_upgrade", &"")
    }

    fn annotate(&self, key: &str, value: Option<&str>) -> PortResult<()> {
        self.call("annotate", key)?;
        self.effect(|machine| {
            change(machine, |live| {
                match value {
                    Some(value) => live.metadata.annotations.insert(key.into(), value.into()),
                    None => live.metadata.annotations.remove(key),
                };
            });
        })?;
        self.operation("annotated", &key)
    }

    fn ip_config(&self) -> PortResult<Option<IpConfig>> {
        self.call("get ip_config", "")?;
        Ok(self.see(|machine| serde_json::from_str(&value(machine, IP_CONFIG)).ok()))
    }

    fn facts(&self) -> PortResult<ClusterFacts> {
        self.call("cluster facts", "")?;
        Ok(ClusterFacts {
            version: self.see(|machine| value(machine, "version")),
            release_registry: "registry.site:5000".to_owned(),
            nodes: vec!["site-node".to_owned()],
            configuration: self.see(|machine| {
                serde_json::from_str(&value(machine, "configuration")).unwrap_or_default()
            }),
            ..ClusterFacts::default()
        })
    }

    fn health(&self) -> PortResult<Health> {
        self.call("cluster health", "")?;
        Ok(self.see(|machine| {
            // Operators take a while after the API server.
            let young = machine
                .boot
                .api_at
                .is_none_or(|at| machine.boot.uptime < at + OPERATORS_TAKE);
            let ill = machine.ill.as_ref() == Some(&machine.boot.booted.stateroot);
            Health {
                operators: (young || ill)
                    .then(|| "authentication".to_owned())
                    .into_iter()
                    .collect(),
                ..Health::default()
            }
        }))
    }

    fn pull_secret(&self, name: &str) -> PortResult<PullSecret> {
        self.call("pull_secret", name)?;
        Ok(PullSecret(b"{\"auths\":{}}".to_vec()))
    }

    fn pod_images(&self) -> PortResult<BTreeSet<String>> {
        self.call("pod_images", "")?;
        Ok(BTreeSet::from([NAMED.to_owned()]))
    }

    fn reconfiguration(&self) -> PortResult<SeedReconfiguration> {
        self.call("reconfiguration", "")?;
        Ok(self.see(|machine| {
            let secret = machine.resolve(&NodePath::booted(path::PULL_SECRET));
            let secret = machine.cache.text(&secret).unwrap_or_default();
            let hostname = machine.cache.text(&machine.etc("hostname"));
            let key = |of: &str| Secret::new(format!("key of {of}"));
            SeedReconfiguration {
                api_version: api::reconfiguration::API_VERSION,
                base_domain: "example.com".to_owned(),
                cluster_name: "site".to_owned(),
                cluster_id: value(machine, "cluster-id"),
                infra_id: "site-x7k2p".to_owned(),
                hostname: hostname.unwrap_or_default().trim_end().to_owned(),
                node_ips: vec!["192.0.2.10".to_owned()],
                machine_networks: vec!["192.0.2.0/24".to_owned()],
                release_registry: "registry.site:5000".to_owned(),
                kubeconfig_crypto_retention: KubeconfigCryptoRetention {
                    kube_api_crypto: KubeApiCrypto {
                        serving_crypto: ServingCrypto {
                            localhost_signer_private_key: key("localhost"),
                            service_network_signer_private_key: key("service network"),
                            loadbalancer_external_signer_private_key: key("load balancer"),
                        },
                        client_auth_crypto: ClientAuthCrypto {
                            admin_ca_certificate: "authority of administrators".to_owned(),
                        },
                    },
                    ingress_crypto: IngressCrypto {
                        ingress_ca: key("ingress"),
                        ingress_certificate_cn: "ingress-operator@1730000000".to_owned(),
                    },
                },
                kubeadmin_password_hash: Secret::new("hash of the site".to_owned()),
                install_config: Secret::new("install config of the site".to_owned()),
                pull_secret: Secret::new(secret.to_owned()),
                additional_trust_bundle: TrustBundle {
                    user_ca_bundle: "an authority of the site".to_owned(),
                    ..TrustBundle::default()
                },
                node_labels: [("zone".to_owned(), "the site's".to_owned())].into(),
                ..SeedReconfiguration::default()
            }
        }))
    }

    fn exported(&self) -> PortResult<Exported> {
        self.call("exported", "")?;
        let manifest = (MIRRORS.to_owned(), b"mirrors of the site".to_vec());
        Ok(Exported {
            manifests: vec![manifest],
            keys: vec![(
                "CN=shop__shop_tls.key".to_owned(),
                b"key of a shop".to_vec(),
            )],
        })
    }

    fn configure(&self, document: &SeedReconfiguration) -> PortResult<()> {
        self.call("configure", "")?;
        let settings = [
            ("pull-secret", document.pull_secret.expose()),
            (
                "user-ca-bundle",
                &document.additional_trust_bundle.user_ca_bundle,
            ),
        ];
        for (name, text) in settings {
            self.effect(|machine| put(machine, name, text))?;
            self.operation("configured", &name)?;
        }
        Ok(())
    }

    fn remove_mirrors(&self, but: &[(String, Vec<u8>)]) -> PortResult<()> {
        self.call("remove_mirrors", "")?;
        for name in self.see(|machine| machine.cache.names(&key(machine, MANIFESTS))) {
            let stays = but.iter().any(|(file, _)| *file == name);
            if is_mirror(&name) && !stays {
                self.effect(|machine| take(machine, &format!("{MANIFESTS}/{name}")))?;
                self.operation("removed a mirror", &name)?;
            }
        }
        Ok(())
    }

    fn apply(&self, file: &str, content: &[u8]) -> PortResult<()> {
        self.call("apply", file)?;
        let text = String::from_utf8_lossy(content).into_owned();
        self.effect(|machine| put(machine, &format!("{MANIFESTS}/{file}"), text))?;
        self.operation("applied", &file)
    }

    fn set_release_registry(&self, change: &RegistryChange) -> PortResult<()> {
        self.call("set_release_registry", &change.site)?;
        self.effect(|machine| put(machine, "release-registry", change.site.as_str()))?;
        self.operation("release_registry_set", &change.site)
    }

    fn label_node(&self, node: &str, labels: &BTreeMap<String, String>) -> PortResult<()> {
        self.call("label_node", node)?;
        for (label, text) in labels {
            self.effect(|machine| put(machine, &format!("nodes/{node}/{label}"), text.as_str()))?;
            self.operation("labelled", &label)?;
        }
        Ok(())
    }

    fn ready(&self) -> bool {
        self.see(Machine::api_answers)
    }

    fn cluster_id(&self) -> PortResult<String> {
        self.call("cluster_id", "")?;
        Ok(self.see(|machine| value(machine, "cluster-id")))
    }

    fn set_cluster_id(&self, id: &str) -> PortResult<()> {
        self.call("set_cluster_id", id)?;
        self.effect(|machine| put(machine, "cluster-id", id))?;
        self.operation("cluster_id_set", &id)
    }

    fn announce(&self, announcement: Announcement) {
        self.lock().announced.push(announcement);
    }

    fn await_announced(&self) {}
}
