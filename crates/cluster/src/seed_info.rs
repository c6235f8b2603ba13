//! What a seed says of the cluster that it is made on (S 1.4).

use api::seed_info::{SeedClusterInfo, TrustBundleState};
use node::PortResult;

use crate::cluster_version;
use crate::connection::Connection;
use crate::facts::{self, only_node, proxy, release_registry, trust};
use crate::machine_config;
use crate::mirror;
use crate::object::missing;
use crate::reconfiguration::{InstallConfig, ingress_cn};

/// The part of the seed info that the API server does not know.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SeedHost {
    /// What is mounted on the shared container storage; empty for nothing.
    pub container_storage_target: String,
    /// The image that regenerates cryptography; empty for none.
    pub recert_image: String,
}

/// The whole seed info. The networks are filled though the Go original leaves them out: its reader needs them.
pub(crate) async fn read(connection: &Connection, host: &SeedHost) -> PortResult<SeedClusterInfo> {
    let install = InstallConfig::read(connection).await?;
    let node = only_node(connection).await?;
    let proxy = proxy(connection).await?;
    let trust = trust(connection, &proxy).await?;
    let sno_hostname = node
        .addresses("Hostname")
        .into_iter()
        .next()
        .ok_or_else(|| {
            missing(format!(
                "Node {} has no address of type Hostname",
                node.metadata.name
            ))
        })?;
    Ok(SeedClusterInfo {
        seed_cluster_ocp_version: cluster_version::release(connection).await?,
        base_domain: install.base_domain,
        cluster_name: install.cluster_name,
        node_ips: node.addresses("InternalIP"),
        release_registry: release_registry(connection).await?,
        mirror_registry_configured: !mirror::sources(connection).await?.is_empty(),
        sno_hostname,
        recert_image_pull_spec: host.recert_image.clone(),
        has_proxy: proxy.spec.is_set(),
        has_fips: machine_config::current(connection, &node).await?.spec.fips,
        additional_trust_bundle: Some(TrustBundleState {
            has_user_ca_bundle: !trust.user_bundle.is_empty(),
            proxy_configmap_name: trust.proxy_name,
        }),
        container_storage_mountpoint_target: host.container_storage_target.clone(),
        ingress_certificate_cn: ingress_cn(connection).await?,
        machine_networks: install.machine_networks,
        ..facts::networks(connection).await?
    })
}
