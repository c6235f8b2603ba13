//! What the target is told about the cluster that it becomes (S 3.6):
//! `cluster-configuration/manifest.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::null;
use crate::secret::Secret;

/// The only version of the document.
pub const API_VERSION: i64 = 1;

/// The reconfiguration. Empty fields are not written but for `api_version`,
/// `KubeconfigCryptoRetention` and `additionalTrustBundle`; keys in CamelCase are those that the
/// Go original leaves untagged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeedReconfiguration {
    /// [`API_VERSION`] in what we write.
    #[serde(deserialize_with = "null::as_default")]
    pub api_version: i64,
    /// The DNS domain below which the cluster's name stands.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub base_domain: String,
    /// The cluster's name.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub cluster_name: String,
    /// The cluster's id; mandatory in practice.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub cluster_id: String,
    /// The infrastructure's name.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub infra_id: String,
    /// The node's address in old documents; read it through [`Self::addresses`].
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub node_ip: String,
    /// The node's internal addresses, primary first.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub node_ips: Vec<String>,
    /// The registry that releases come from.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub release_registry: String,
    /// The node's hostname; empty: what the kernel has.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub hostname: String,
    /// Keys that keep existing kubeconfigs valid; always written.
    #[serde(
        rename = "KubeconfigCryptoRetention",
        deserialize_with = "null::as_default"
    )]
    pub kubeconfig_crypto_retention: KubeconfigCryptoRetention,
    /// Public keys that may log in as `core`.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ssh_key: String,
    /// The SSH server's keys.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub server_ssh_keys: Vec<ServerSshKey>,
    /// The hash of the administrator's password; empty: the Secret is deleted.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Secret::is_empty"
    )]
    pub kubeadmin_password_hash: Secret,
    /// An nmstate document; not used by upgrades.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Secret::is_empty"
    )]
    pub raw_nm_state_config: Secret,
    /// The cluster's pull secret; mandatory in practice.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Secret::is_empty"
    )]
    pub pull_secret: Secret,
    /// The machine network in old documents.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub machine_network: String,
    /// The machine networks, as CIDRs, one per address family in use.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub machine_networks: Vec<String>,
    /// The proxy as configured; both proxies or neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// The proxy as in effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_proxy: Option<Proxy>,
    /// The installer's configuration; may carry credentials.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Secret::is_empty"
    )]
    pub install_config: Secret,
    /// `/etc/chrony.conf`.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub chrony_config: String,
    /// The CA bundles that the cluster trusts; always written.
    #[serde(
        rename = "additionalTrustBundle",
        deserialize_with = "null::as_default"
    )]
    pub additional_trust_bundle: TrustBundle,
    /// The Node's labels.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub node_labels: BTreeMap<String, String>,
}

impl SeedReconfiguration {
    /// The node's addresses, whichever field holds them.
    #[must_use]
    pub fn addresses(&self) -> Vec<&str> {
        either(&self.node_ips, &self.node_ip)
    }

    /// The machine networks, whichever field holds them.
    #[must_use]
    pub fn networks(&self) -> Vec<&str> {
        either(&self.machine_networks, &self.machine_network)
    }
}

/// A list, or the single value that documents had in its place.
fn either<'d>(list: &'d [String], single: &'d str) -> Vec<&'d str> {
    if list.is_empty() && !single.is_empty() {
        vec![single]
    } else {
        list.iter().map(String::as_str).collect()
    }
}

/// Keys that keep existing kubeconfigs valid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeconfigCryptoRetention {
    /// Of the API server.
    #[serde(rename = "KubeAPICrypto", deserialize_with = "null::as_default")]
    pub kube_api_crypto: KubeApiCrypto,
    /// Of the ingress (the three s are the contract's).
    #[serde(rename = "IngresssCrypto", deserialize_with = "null::as_default")]
    pub ingress_crypto: IngressCrypto,
}

impl KubeconfigCryptoRetention {
    /// The files that hold it for whoever regenerates the target's certificates, in [`crate::path::KUBECONFIG_CRYPTO`]
    /// (S 4A.5): name and content.
    #[must_use]
    pub fn files(&self) -> [(&'static str, &str); 5] {
        let serving = &self.kube_api_crypto.serving_crypto;
        [
            (
                "admin-kubeconfig-client-ca.crt",
                &self.kube_api_crypto.client_auth_crypto.admin_ca_certificate,
            ),
            (
                "loadbalancer-serving-signer.key",
                serving.loadbalancer_external_signer_private_key.expose(),
            ),
            (
                "localhost-serving-signer.key",
                serving.localhost_signer_private_key.expose(),
            ),
            (
                "service-network-serving-signer.key",
                serving.service_network_signer_private_key.expose(),
            ),
            (
                "ingresskey-ingress-operator.key",
                self.ingress_crypto.ingress_ca.expose(),
            ),
        ]
    }
}

/// The API server's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeApiCrypto {
    /// Keys that sign the server's certificates.
    #[serde(rename = "ServingCrypto", deserialize_with = "null::as_default")]
    pub serving_crypto: ServingCrypto,
    /// What administrators' certificates are checked against.
    #[serde(rename = "ClientAuthCrypto", deserialize_with = "null::as_default")]
    pub client_auth_crypto: ClientAuthCrypto,
}

/// Keys that sign the API server's certificates, PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServingCrypto {
    /// `localhost-serving-signer`.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Secret::is_empty"
    )]
    pub localhost_signer_private_key: Secret,
    /// `service-network-serving-signer`.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Secret::is_empty"
    )]
    pub service_network_signer_private_key: Secret,
    /// `loadbalancer-serving-signer`.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Secret::is_empty"
    )]
    pub loadbalancer_external_signer_private_key: Secret,
}

/// What administrators' certificates are checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientAuthCrypto {
    /// A certificate, PEM.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub admin_ca_certificate: String,
}

/// The ingress's CA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IngressCrypto {
    /// The CA's private key, PEM, despite its name.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Secret::is_empty"
    )]
    pub ingress_ca: Secret,
    /// The common name of the CA's certificate.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ingress_certificate_cn: String,
}

/// A file of the SSH server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerSshKey {
    /// The name in `/etc/ssh`; whoever writes the file must check that it is one.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub file_name: String,
    /// The file's content, PEM or a public key.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Secret::is_empty"
    )]
    pub file_content: Secret,
}

/// A proxy's URLs, which may carry credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Proxy {
    /// For HTTP.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Secret::is_empty"
    )]
    pub http_proxy: Secret,
    /// For HTTPS.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Secret::is_empty"
    )]
    pub https_proxy: Secret,
    /// What to reach directly, separated by commas.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub no_proxy: String,
}

/// The CA bundles that a cluster trusts, PEM; all three are always written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrustBundle {
    /// `openshift-config/user-ca-bundle`.
    #[serde(rename = "userCaBundle", deserialize_with = "null::as_default")]
    pub user_ca_bundle: String,
    /// The ConfigMap that the Proxy names.
    #[serde(rename = "proxyConfigmapName", deserialize_with = "null::as_default")]
    pub proxy_configmap_name: String,
    /// That ConfigMap's bundle.
    #[serde(rename = "proxyConfigmapBundle", deserialize_with = "null::as_default")]
    pub proxy_configmap_bundle: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the Go original writes it, every field filled.
    const BY_GO: &str = r#"{"api_version":1,"base_domain":"example.com","cluster_name":"sno","cluster_id":"7f2d1b1e-5d0f-4b5e-8f3a-2b1c0d9e8f7a","infra_id":"sno-x7k2p","node_ips":["192.0.2.20","2001:db8::20"],"release_registry":"quay.io","hostname":"sno-node","KubeconfigCryptoRetention":{"KubeAPICrypto":{"ServingCrypto":{"localhost_signer_private_key":"SECRET-1","service_network_signer_private_key":"SECRET-2","loadbalancer_external_signer_private_key":"SECRET-3"},"ClientAuthCrypto":{"admin_ca_certificate":"CERT"}},"IngresssCrypto":{"ingress_ca":"SECRET-4","ingress_certificate_cn":"ingress-operator@1730000000"}},"ssh_key":"ssh-ed25519 AAAA core","server_ssh_keys":[{"file_name":"ssh_host_ed25519_key","file_content":"SECRET-5"}],"kubeadmin_password_hash":"SECRET-6","raw_nm_state_config":"SECRET-7","pull_secret":"SECRET-8","machine_networks":["192.0.2.0/24","2001:db8::/64"],"proxy":{"httpProxy":"http://u:SECRET-9@proxy:3128","httpsProxy":"http://u:SECRET-9@proxy:3128","noProxy":".example.com"},"status_proxy":{"httpProxy":"http://u:SECRET-9@proxy:3128","noProxy":".cluster.local,.svc"},"install_config":"SECRET-10","chrony_config":"server ntp.example.com iburst\n","additionalTrustBundle":{"userCaBundle":"CERT","proxyConfigmapName":"user-ca-bundle","proxyConfigmapBundle":"CERT"},"node_labels":{"node-role.kubernetes.io/master":""}}"#;

    #[test]
    fn a_full_document_reads_and_prints_unchanged() {
        let document: SeedReconfiguration = serde_json::from_str(BY_GO).unwrap();
        assert_eq!(serde_json::to_string(&document).unwrap(), BY_GO);
        assert_eq!(document.addresses(), ["192.0.2.20", "2001:db8::20"]);
    }

    #[test]
    fn an_empty_document_keeps_what_go_keeps() {
        let document = SeedReconfiguration {
            api_version: API_VERSION,
            ..Default::default()
        };
        let text = r#"{"api_version":1,"KubeconfigCryptoRetention":{"KubeAPICrypto":{"ServingCrypto":{},"ClientAuthCrypto":{}},"IngresssCrypto":{}},"additionalTrustBundle":{"userCaBundle":"","proxyConfigmapName":"","proxyConfigmapBundle":""}}"#;
        assert_eq!(serde_json::to_string(&document).unwrap(), text);
        assert_eq!(
            serde_json::from_str::<SeedReconfiguration>(text).unwrap(),
            document
        );
    }

    #[test]
    fn old_and_sparse_documents_are_read() {
        let text = r#"{"api_version":1,"node_ip":"192.0.2.20","machine_network":"192.0.2.0/24","proxy":null,"KubeconfigCryptoRetention":null,"additionalTrustBundle":null,"server_ssh_keys":null,"node_labels":null,"future":{}}"#;
        let document: SeedReconfiguration = serde_json::from_str(text).unwrap();
        assert_eq!(document.addresses(), ["192.0.2.20"]);
        assert_eq!(document.networks(), ["192.0.2.0/24"]);
        assert_eq!(document.proxy, None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let document: SeedReconfiguration = serde_json::from_str(BY_GO).unwrap();
        assert_eq!(BY_GO.matches("SECRET").count(), 12);
        for shown in [format!("{document:?}"), format!("{document:#?}")] {
            assert!(!shown.contains("SECRET"), "{shown}");
            assert!(
                shown.contains("sno-node") && shown.contains("redacted"),
                "{shown}"
            );
        }
    }
}
