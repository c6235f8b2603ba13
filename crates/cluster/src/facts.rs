//! What the checks of a seed need to know of this cluster (contract 3.3).

use api::machine_config::MachineConfig;
use api::seed_info::SeedClusterInfo;
use node::ports::ClusterFacts;
use node::{ErrorKind, PortError, PortResult};

use crate::call::Call;
use crate::cluster_version;
use crate::connection::Connection;
use crate::kind;
use crate::mirror;
use crate::object::{Deployment, List, Network, Node, Proxy, config_map_value, missing};

/// The namespace of what administrators configure.
pub(crate) const CONFIG_NAMESPACE: &str = "openshift-config";
/// The ConfigMap of the CAs that users add.
pub(crate) const USER_CA_BUNDLE: &str = "user-ca-bundle";
/// The key of a CA bundle.
pub(crate) const CA_BUNDLE_KEY: &str = "ca-bundle.crt";
/// Names the MachineConfig that the node runs.
const CURRENT_CONFIG: &str = "machineconfiguration.openshift.io/currentConfig";

/// All facts, read live.
pub(crate) async fn read(connection: &Connection) -> PortResult<ClusterFacts> {
    let proxy = proxy(connection).await?;
    let trust = trust(connection, &proxy).await?;
    Ok(ClusterFacts {
        version: cluster_version::release(connection).await?,
        has_proxy: proxy.spec.is_set(),
        has_fips: fips(connection, &only_node(connection).await?).await?,
        has_user_ca_bundle: !trust.user_bundle.is_empty(),
        proxy_config_map: trust.proxy_name,
        release_registry: release_registry(connection).await?,
        mirror_sources: mirror::sources(connection).await?,
    })
}

pub(crate) async fn proxy(connection: &Connection) -> PortResult<Proxy> {
    connection.read(Call::get(&kind::PROXY, "cluster")).await
}

/// The CA bundles that the cluster trusts.
pub(crate) struct Trust {
    pub(crate) user_bundle: String,
    /// Empty for none.
    pub(crate) proxy_name: String,
    pub(crate) proxy_bundle: String,
}

/// A proxy's bundle counts when it holds anything. The user's bundle may be missing though the proxy names it, as it
/// does by default; another one may not.
pub(crate) async fn trust(connection: &Connection, proxy: &Proxy) -> PortResult<Trust> {
    let bundle = async |name: &str| {
        config_map_value(connection, CONFIG_NAMESPACE, name, CA_BUNDLE_KEY).await
    };
    let user_bundle = bundle(USER_CA_BUNDLE).await?;
    let named = proxy.spec.trusted_ca.name.as_str();
    let proxy_bundle = match named {
        "" => String::new(),
        USER_CA_BUNDLE => user_bundle.clone(),
        other => bundle(other).await?,
    };
    if proxy_bundle.is_empty() && !named.is_empty() && named != USER_CA_BUNDLE {
        return Err(missing(format!(
            "proxy trustedCA configmap {CONFIG_NAMESPACE}/{named} exists but is empty"
        )));
    }
    let proxy_name = if proxy_bundle.is_empty() {
        String::new()
    } else {
        named.to_owned()
    };
    Ok(Trust {
        user_bundle,
        proxy_name,
        proxy_bundle,
    })
}

/// The cluster's only node.
pub(crate) async fn only_node(connection: &Connection) -> PortResult<Node> {
    let list: List<Node> = connection.read(Call::list(&kind::NODE)).await?;
    let count = list.items.len();
    match list.items.into_iter().next() {
        Some(node) if count == 1 => Ok(node),
        // kubelet registers it a moment after the API server answers, and anew when the node's name changes.
        None => Err(PortError::plain(
            ErrorKind::Transient,
            "expected exactly one node, got 0",
        )),
        _ => Err(missing(format!("expected exactly one node, got {count}"))),
    }
}

/// Whether the MachineConfig that the node runs asks for FIPS mode.
pub(crate) async fn fips(connection: &Connection, node: &Node) -> PortResult<bool> {
    let name = node
        .metadata
        .annotations
        .get(CURRENT_CONFIG)
        .ok_or_else(|| {
            missing(format!(
                "Node {} has no annotation {CURRENT_CONFIG}",
                node.metadata.name
            ))
        })?;
    let config: MachineConfig = connection
        .read(Call::get(&kind::MACHINE_CONFIG, name))
        .await?;
    Ok(config.spec.fips)
}

/// The registry, with its port, that the version operator's image comes from.
pub(crate) async fn release_registry(connection: &Connection) -> PortResult<String> {
    const NAME: &str = "cluster-version-operator";
    const NAMESPACE: &str = "openshift-cluster-version";
    let deployment: Deployment = connection
        .read(Call::get(&kind::DEPLOYMENT, NAME).within(NAMESPACE))
        .await?;
    let image = deployment.image().ok_or_else(|| {
        missing(format!(
            "Deployment {NAMESPACE}/{NAME} has no container image"
        ))
    })?;
    Ok(image.split('/').next().unwrap_or_default().to_owned())
}

/// The networks of pods and services, alone in a seed info. A cluster without the object has none to tell.
pub(crate) async fn networks(connection: &Connection) -> PortResult<SeedClusterInfo> {
    let network: Option<Network> = connection
        .look_for(Call::get(&kind::NETWORK, "cluster"))
        .await?;
    let status = network.unwrap_or_default().status;
    Ok(SeedClusterInfo {
        cluster_network_cidr: status
            .cluster_network
            .into_iter()
            .map(|range| range.cidr)
            .collect(),
        service_network_cidr: status.service_network,
        ..SeedClusterInfo::default()
    })
}
