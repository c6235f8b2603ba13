//! What a seed says of the cluster that it was made on (S 1.4): the image's label and
//! `manifest.json`.

use serde::{Deserialize, Serialize};

use crate::null;

/// The seed info. Every field is optional when reading, as seeds of all ages exist; empty fields
/// are not written but for `has_proxy`, `has_fips` and `additionalTrustBundle`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeedClusterInfo {
    /// The release; must equal `spec.seedImageRef.version`.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub seed_cluster_ocp_version: String,
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
    /// The node's address in old seeds; read it through [`Self::addresses`].
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
    /// The registry that the release came from.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub release_registry: String,
    /// Whether any mirror is configured.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "null::is_false"
    )]
    pub mirror_registry_configured: bool,
    /// The node's hostname.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub sno_hostname: String,
    /// The image that regenerates the cluster's cryptography.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub recert_image_pull_spec: String,
    /// Whether the cluster uses a proxy; always written.
    #[serde(deserialize_with = "null::as_default")]
    pub has_proxy: bool,
    /// The pods' networks; the Go original leaves them out.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub cluster_network_cidr: Vec<String>,
    /// The services' networks; the Go original leaves them out.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_network_cidr: Vec<String>,
    /// Whether the node runs in FIPS mode; always written.
    #[serde(deserialize_with = "null::as_default")]
    pub has_fips: bool,
    /// The CA bundles that the cluster trusts; always written, `null` when unknown.
    #[serde(rename = "additionalTrustBundle")]
    pub additional_trust_bundle: Option<TrustBundleState>,
    /// What is mounted on the shared container storage.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub container_storage_mountpoint_target: String,
    /// The common name of the ingress CA.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub ingress_certificate_cn: String,
    /// The machine networks, as CIDRs.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub machine_networks: Vec<String>,
}

impl SeedClusterInfo {
    /// The node's addresses, whichever field holds them.
    #[must_use]
    pub fn addresses(&self) -> Vec<&str> {
        if self.node_ips.is_empty() && !self.node_ip.is_empty() {
            vec![&self.node_ip]
        } else {
            self.node_ips.iter().map(String::as_str).collect()
        }
    }
}

/// Which CA bundles a cluster trusts, without their content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TrustBundleState {
    /// Whether `openshift-config/user-ca-bundle` holds a bundle.
    #[serde(deserialize_with = "null::as_default")]
    pub has_user_ca_bundle: bool,
    /// The ConfigMap that the Proxy names; empty for none.
    #[serde(deserialize_with = "null::as_default")]
    pub proxy_configmap_name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_info_writes_what_go_writes() {
        let text = r#"{"has_proxy":false,"has_fips":false,"additionalTrustBundle":null}"#;
        assert_eq!(
            serde_json::to_string(&SeedClusterInfo::default()).unwrap(),
            text
        );
        assert_eq!(
            serde_json::from_str::<SeedClusterInfo>(text).unwrap(),
            SeedClusterInfo::default()
        );
        assert_eq!(
            serde_json::from_str::<SeedClusterInfo>("{}").unwrap(),
            SeedClusterInfo::default()
        );
    }

    #[test]
    fn a_seed_of_the_go_original_reads_and_prints_unchanged() {
        let text = concat!(
            r#"{"seed_cluster_ocp_version":"4.17.4","base_domain":"example.com","#,
            r#""cluster_name":"seed","node_ips":["192.0.2.10","2001:db8::10"],"#,
            r#""release_registry":"quay.io","mirror_registry_configured":true,"#,
            r#""sno_hostname":"seed-node","recert_image_pull_spec":"quay.io/x/recert:v0","#,
            r#""has_proxy":true,"has_fips":false,"#,
            r#""additionalTrustBundle":{"hasUserCaBundle":false,"proxyConfigmapName":""},"#,
            r#""container_storage_mountpoint_target":"/dev/disk/by-partlabel/var-lib-containers","#,
            r#""ingress_certificate_cn":"ingress-operator@1730000000","#,
            r#""machine_networks":["192.0.2.0/24","2001:db8::/64"]}"#,
        );
        let info: SeedClusterInfo = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&info).unwrap(), text);
        assert_eq!(info.addresses(), ["192.0.2.10", "2001:db8::10"]);
    }

    #[test]
    fn old_seeds_and_unknown_keys_are_read() {
        let text = r#"{"node_ip":"192.0.2.10","node_ips":null,"has_proxy":false,"future":[1]}"#;
        let info: SeedClusterInfo = serde_json::from_str(text).unwrap();
        assert_eq!(info.addresses(), ["192.0.2.10"]);
        assert!(SeedClusterInfo::default().addresses().is_empty());
    }
}
