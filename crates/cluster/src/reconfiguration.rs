//! What the target must know to take over this cluster's identity, as far as the API server knows it (S 3.6, 4A.5).

use api::Secret;
use api::reconfiguration::{
    API_VERSION, ClientAuthCrypto, IngressCrypto, KubeApiCrypto, KubeconfigCryptoRetention,
    SeedReconfiguration, ServingCrypto, TrustBundle,
};
use node::{ErrorKind, PortError, PortResult};
use serde::Deserialize;

use crate::call::Call;
use crate::cluster_version;
use crate::connection::Connection;
use crate::facts::{CA_BUNDLE_KEY, CONFIG_NAMESPACE, only_node, proxy, release_registry, trust};
use crate::kind;
use crate::object::{self, config_map_value, missing, nullable, secret_text};

/// Where the signers of the API server's certificates live.
const SIGNERS: &str = "openshift-kube-apiserver-operator";
/// Where the ingress CA lives.
const INGRESS: &str = "openshift-ingress-operator";
/// The ingress CA's Secret.
const ROUTER_CA: &str = "router-ca";

/// Everything but what lies on disk (SSH keys, chrony).
pub(crate) async fn read(connection: &Connection) -> PortResult<SeedReconfiguration> {
    let install = InstallConfig::read(connection).await?;
    let node = only_node(connection).await?;
    let proxy = proxy(connection).await?;
    let trust = trust(connection, &proxy).await?;
    let (proxy_settings, proxy_status) = if proxy.spec.is_set() {
        (Some(proxy.spec.settings()), Some(proxy.status))
    } else {
        (None, None)
    };
    let hostname = node
        .addresses("Hostname")
        .into_iter()
        .next()
        .ok_or_else(|| {
            missing(format!(
                "Node {} has no address of type Hostname",
                node.metadata.name
            ))
        })?;
    Ok(SeedReconfiguration {
        api_version: API_VERSION,
        cluster_id: cluster_version::id(connection).await?,
        infra_id: infrastructure_name(connection).await?,
        release_registry: release_registry(connection).await?,
        kubeconfig_crypto_retention: crypto(connection).await?,
        kubeadmin_password_hash: kubeadmin_hash(connection).await?,
        pull_secret: Secret::from(
            secret_text(
                connection,
                CONFIG_NAMESPACE,
                "pull-secret",
                api::names::DOCKER_CONFIG_KEY,
            )
            .await?,
        ),
        node_ips: node.addresses("InternalIP"),
        hostname,
        base_domain: install.base_domain,
        cluster_name: install.cluster_name,
        machine_networks: install.machine_networks,
        install_config: install.text,
        proxy: proxy_settings,
        status_proxy: proxy_status,
        additional_trust_bundle: TrustBundle {
            user_ca_bundle: trust.user_bundle,
            proxy_configmap_name: trust.proxy_name,
            proxy_configmap_bundle: trust.proxy_bundle,
        },
        node_labels: node.metadata.labels,
        ..SeedReconfiguration::default()
    })
}

/// The installer's configuration, kept in the cluster.
pub(crate) struct InstallConfig {
    pub(crate) base_domain: String,
    pub(crate) cluster_name: String,
    pub(crate) machine_networks: Vec<String>,
    text: Secret,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct InstallDocument {
    #[serde(deserialize_with = "nullable")]
    base_domain: String,
    #[serde(deserialize_with = "nullable")]
    metadata: object::NameRef,
    #[serde(deserialize_with = "nullable")]
    networking: Networking,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Networking {
    #[serde(deserialize_with = "nullable")]
    machine_network: Vec<MachineNetwork>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MachineNetwork {
    #[serde(deserialize_with = "nullable")]
    cidr: String,
}

impl InstallConfig {
    pub(crate) async fn read(connection: &Connection) -> PortResult<Self> {
        let (namespace, name, key) = ("kube-system", "cluster-config-v1", "install-config");
        let text = config_map_value(connection, namespace, name, key).await?;
        if text.is_empty() {
            return Err(missing(format!(
                "ConfigMap {namespace}/{name} has no key {key}"
            )));
        }
        Self::parse(text)
            .map_err(|error| error.within(format!("reading {key} in ConfigMap {namespace}/{name}")))
    }

    fn parse(text: String) -> PortResult<Self> {
        let document: InstallDocument = serde_yaml_ng::from_str(&text).map_err(|error| {
            // The parser's words may quote the document, which may hold credentials; the place is enough.
            let place = error.location().map_or_else(String::new, |place| {
                format!(" at line {}, column {}", place.line(), place.column())
            });
            missing(format!(
                "it is not the YAML that the installer writes{place}"
            ))
        })?;
        let cluster_name = document.metadata.name;
        for (value, member) in [
            (&document.base_domain, "baseDomain"),
            (&cluster_name, "metadata.name"),
        ] {
            if value.is_empty() {
                return Err(missing(format!("it has no {member}")));
            }
        }
        let mut machine_networks = Vec::new();
        for network in document.networking.machine_network {
            if !is_cidr(&network.cidr) {
                return Err(missing(format!(
                    "machine network {:?} is not a CIDR",
                    network.cidr.chars().take(80).collect::<String>()
                )));
            }
            machine_networks.push(network.cidr);
        }
        Ok(Self {
            base_domain: document.base_domain,
            cluster_name,
            machine_networks,
            text: Secret::from(text),
        })
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let (Ok(address), Ok(length)) = (address.parse::<std::net::IpAddr>(), length.parse::<u8>())
    else {
        return false;
    };
    length <= if address.is_ipv4() { 32 } else { 128 }
}

async fn infrastructure_name(connection: &Connection) -> PortResult<String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Infrastructure {
        #[serde(deserialize_with = "nullable")]
        status: Status,
    }
    #[derive(Deserialize, Default)]
    #[serde(default, rename_all = "camelCase")]
    struct Status {
        #[serde(deserialize_with = "nullable")]
        infrastructure_name: String,
    }
    let found: Infrastructure = connection
        .read(Call::get(&kind::INFRASTRUCTURE, "cluster"))
        .await?;
    Ok(found.status.infrastructure_name)
}

/// What keeps existing kubeconfigs valid: the keys that sign, and the certificate that logins are checked against.
async fn crypto(connection: &Connection) -> PortResult<KubeconfigCryptoRetention> {
    let signer = async |name: &str| {
        secret_text(connection, SIGNERS, name, "tls.key")
            .await
            .map(Secret::from)
    };
    let admin_ca = "admin-kubeconfig-client-ca";
    let admin_ca_certificate =
        config_map_value(connection, CONFIG_NAMESPACE, admin_ca, CA_BUNDLE_KEY).await?;
    if admin_ca_certificate.is_empty() {
        return Err(missing(format!(
            "ConfigMap {CONFIG_NAMESPACE}/{admin_ca} has no key {CA_BUNDLE_KEY}"
        )));
    }
    Ok(KubeconfigCryptoRetention {
        kube_api_crypto: KubeApiCrypto {
            serving_crypto: ServingCrypto {
                localhost_signer_private_key: signer("localhost-serving-signer").await?,
                service_network_signer_private_key: signer("service-network-serving-signer")
                    .await?,
                loadbalancer_external_signer_private_key: signer("loadbalancer-serving-signer")
                    .await?,
            },
            client_auth_crypto: ClientAuthCrypto {
                admin_ca_certificate,
            },
        },
        ingress_crypto: IngressCrypto {
            ingress_ca: secret_text(connection, INGRESS, ROUTER_CA, "tls.key")
                .await?
                .into(),
            ingress_certificate_cn: ingress_cn(connection).await?,
        },
    })
}

/// The common name of the ingress CA's certificate.
pub(crate) async fn ingress_cn(connection: &Connection) -> PortResult<String> {
    let pem = secret_text(connection, INGRESS, ROUTER_CA, "tls.crt").await?;
    common_name(&pem)
        .map_err(|error| error.within(format!("reading tls.crt of Secret {INGRESS}/{ROUTER_CA}")))
}

/// The common name of the first certificate in `pem`.
pub(crate) fn common_name(pem: &str) -> PortResult<String> {
    use x509_cert::Certificate;
    use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
    use x509_cert::der::oid::db::rfc4519::CN;

    let chain = Certificate::load_pem_chain(pem.as_bytes()).map_err(|error| {
        PortError::new(ErrorKind::Permanent, "it is not a PEM certificate", error)
    })?;
    let subject = chain
        .first()
        .map(|certificate| certificate.tbs_certificate().subject());
    subject
        .into_iter()
        .flat_map(|subject| subject.iter())
        .filter(|attribute| attribute.oid == CN)
        .find_map(|attribute| {
            let utf8 = attribute
                .value
                .decode_as::<Utf8StringRef<'_>>()
                .map(|text| text.as_str().to_owned());
            utf8.or_else(|_| {
                attribute
                    .value
                    .decode_as::<PrintableStringRef<'_>>()
                    .map(|text| text.as_str().to_owned())
            })
            .ok()
        })
        .filter(|name| !name.is_empty())
        .ok_or_else(|| missing("its certificate's subject has no common name".to_owned()))
}

/// The hash of the kubeadmin password; empty if the administrator has removed it.
async fn kubeadmin_hash(connection: &Connection) -> PortResult<Secret> {
    let call = Call::get(&kind::SECRET, "kubeadmin").within("kube-system");
    let found: Option<object::Secret> = connection.look_for(call).await?;
    let hash = found.and_then(|secret| secret.value("kubeadmin"));
    Ok(Secret::from(
        hash.and_then(|hash| String::from_utf8(hash).ok())
            .unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn install_configs() {
        let check = |text: &str, expect: Result<(&str, &str, &[&str]), &str>| {
            let found = InstallConfig::parse(text.to_owned());
            match (found, expect) {
                (Ok(found), Ok((domain, name, networks))) => {
                    assert_eq!(
                        (found.base_domain.as_str(), found.cluster_name.as_str()),
                        (domain, name)
                    );
                    assert_eq!(found.machine_networks, networks);
                }
                (Err(error), Err(text)) => assert_eq!(error.to_string(), text),
                (found, expect) => panic!("{:?} instead of {expect:?}", found.map(|_| ())),
            }
        };
        check(
            "baseDomain: example.com\nmetadata: {name: sno, creationTimestamp: null}\nnetworking:\n  machineNetwork:\n  - cidr: 192.0.2.0/24\n  - cidr: 2001:db8::/64\n",
            Ok(("example.com", "sno", &["192.0.2.0/24", "2001:db8::/64"])),
        );
        check(
            "baseDomain: a\nmetadata: {name: b}\nnetworking: null\n",
            Ok(("a", "b", &[])),
        );
        check("metadata: {name: b}", Err("it has no baseDomain"));
        check("baseDomain: a", Err("it has no metadata.name"));
        check(
            "pullSecret: [secret",
            Err("it is not the YAML that the installer writes at line 2, column 1"),
        );
        for cidr in [
            "192.0.2.0",
            "192.0.2.0/33",
            "2001:db8::/129",
            "x/24",
            "192.0.2.0/-1",
        ] {
            check(
                &format!(
                    "baseDomain: a\nmetadata: {{name: b}}\nnetworking: {{machineNetwork: [{{cidr: '{cidr}'}}]}}"
                ),
                Err(&format!("machine network {cidr:?} is not a CIDR")),
            );
        }
    }

    #[test]
    fn what_is_no_certificate_is_said_so() {
        for text in [
            "",
            "text",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(common_name(text).is_err(), "{text:?}");
        }
    }
}
