//! What the checks of a seed need to know of this cluster (contract 3.3).

use std::collections::BTreeSet;

use api::seed_info::SeedClusterInfo;
use node::ports::{ClusterFacts, Health, Told};
use node::{ErrorKind, PortError, PortResult};
use serde::Deserialize;

use crate::call::Call;
use crate::cluster_version;
use crate::connection::Connection;
use crate::health;
use crate::kind;
use crate::machine_config;
use crate::mirror;
use crate::object::{
    Deployment, List, NameRef, Network, Node, Proxy, config_map, config_map_value, list_if_served,
    missing, nullable,
};
use crate::reconfiguration::InstallConfig;

/// The namespace of what administrators configure.
pub(crate) const CONFIG_NAMESPACE: &str = "openshift-config";
/// The ConfigMap of the CAs that users add.
pub(crate) const USER_CA_BUNDLE: &str = "user-ca-bundle";
/// The Deployment that brings the release about.
pub(crate) const VERSION_OPERATOR: &str = "cluster-version-operator";
/// Its namespace.
pub(crate) const VERSION_OPERATOR_NAMESPACE: &str = "openshift-cluster-version";
/// The key of a CA bundle.
pub(crate) const CA_BUNDLE_KEY: &str = "ca-bundle.crt";

/// All facts, read live. `namespace` is the operator's.
pub(crate) async fn read(connection: &Connection, namespace: &str) -> PortResult<ClusterFacts> {
    let proxy = proxy(connection).await?;
    let trust = trust(connection, &proxy).await?;
    let nodes = nodes(connection).await?;
    // Where there are several, a check of its own says so; what is read of one is still told.
    let configured = nodes.iter().find(|node| machine_config::is_named(node));
    let Some(node) = configured.or(nodes.first()) else {
        // kubelet registers it a moment after the API server answers, and anew when the node's name changes.
        return Err(PortError::plain(
            ErrorKind::Transient,
            api::message::not_one_node(0),
        ));
    };
    let config = machine_config::current(connection, node).await?;
    let install = told(InstallConfig::read(connection).await)?;
    Ok(ClusterFacts {
        version: cluster_version::release(connection).await?,
        has_proxy: proxy.spec.is_set(),
        has_fips: config.spec.fips,
        has_user_ca_bundle: !trust.user_bundle.is_empty(),
        proxy_config_map: trust.proxy_name,
        release_registry: release_registry(connection).await?,
        mirror_sources: mirror::sources(connection).await?,
        nodes: nodes
            .iter()
            .map(|node| node.metadata.name.clone())
            .collect(),
        health: health::read(connection, &nodes).await?,
        node_ips: node.addresses("InternalIP"),
        machine_networks: match install {
            Told::Known(install) => Told::Known(install.machine_networks),
            Told::Unknown(error) => Told::Unknown(error),
        },
        kernel_arguments: config.kernel_arguments(),
        files: config.file_paths().map(str::to_owned).collect(),
        file_marks: config.file_marks(),
        machine_configs: told(machine_config::made_by_users(connection).await)?,
        operators: told(operators(connection).await)?,
        configuration: config_map(connection, namespace, api::configuration::CONFIG_MAP).await?,
    })
}

/// A fact that decides nothing by itself: what will not pass is why it is not known.
fn told<T>(result: PortResult<T>) -> PortResult<Told<T>> {
    match result {
        Ok(value) => Ok(Told::Known(value)),
        Err(error) if error.kind() == ErrorKind::Permanent => {
            Ok(Told::Unknown(node::error_chain(&error)))
        }
        Err(error) => Err(error),
    }
}

/// The package that we come in.
const OWN_PACKAGE: &str = "lifecycle-agent";

/// Packages of the operators that were installed after the cluster, but for ours.
pub(crate) async fn operators(connection: &Connection) -> PortResult<BTreeSet<String>> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Subscription {
        #[serde(deserialize_with = "nullable")]
        spec: NameRef,
    }
    let subscriptions: Vec<Subscription> = list_if_served(connection, &kind::SUBSCRIPTION).await?;
    let names = subscriptions.into_iter().map(|found| found.spec.name);
    Ok(names
        .filter(|name| !name.is_empty() && name != OWN_PACKAGE)
        .collect())
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

/// What is not healthy. A cluster that has no Node yet cannot tell.
pub(crate) async fn health(connection: &Connection) -> PortResult<Health> {
    let nodes = nodes(connection).await?;
    if nodes.is_empty() {
        let text = api::message::not_one_node(0);
        return Err(PortError::plain(ErrorKind::Transient, text));
    }
    health::read(connection, &nodes).await
}

async fn nodes(connection: &Connection) -> PortResult<Vec<Node>> {
    let list: List<Node> = connection.read(Call::list(&kind::NODE)).await?;
    Ok(list.items)
}

/// The cluster's only node.
pub(crate) async fn only_node(connection: &Connection) -> PortResult<Node> {
    let nodes = nodes(connection).await?;
    let count = nodes.len();
    let unexpected = api::message::not_one_node(count);
    match nodes.into_iter().next() {
        Some(node) if count == 1 => Ok(node),
        None => Err(PortError::plain(ErrorKind::Transient, unexpected)),
        _ => Err(missing(unexpected)),
    }
}

/// The registry, with its port, that the version operator's image comes from.
pub(crate) async fn release_registry(connection: &Connection) -> PortResult<String> {
    let call = Call::get(&kind::DEPLOYMENT, VERSION_OPERATOR).within(VERSION_OPERATOR_NAMESPACE);
    let deployment: Deployment = connection.read(call).await?;
    let image = deployment.image().ok_or_else(|| {
        missing(format!(
            "Deployment {VERSION_OPERATOR_NAMESPACE}/{VERSION_OPERATOR} has no container image"
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
