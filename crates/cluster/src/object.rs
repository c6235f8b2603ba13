//! Other objects, as far as they are read here. Whatever is missing or null reads as empty.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use node::{ErrorKind, PortError, PortResult};
use serde::{Deserialize, Deserializer};

use crate::call::Call;
use crate::connection::Connection;
use crate::kind::{self, Kind};

/// Reads `null` as the type's default.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A list of objects.
#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(crate) struct List<T> {
    #[serde(default = "Vec::new", deserialize_with = "nullable")]
    pub(crate) items: Vec<T>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Meta {
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) namespace: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct ConfigMap {
    #[serde(deserialize_with = "nullable")]
    pub(crate) data: BTreeMap<String, String>,
}

/// No `Debug`: nothing of it may be printed.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Secret {
    #[serde(deserialize_with = "nullable")]
    data: BTreeMap<String, String>,
}

impl Secret {
    /// The value of `key`. `None` if there is no such key or its value is not base64, which the server never stores.
    pub(crate) fn value(&self, key: &str) -> Option<Vec<u8>> {
        STANDARD.decode(self.data.get(key)?).ok()
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct ClusterVersion {
    #[serde(deserialize_with = "nullable")]
    pub(crate) spec: ClusterVersionSpec,
    #[serde(deserialize_with = "nullable")]
    pub(crate) status: ClusterVersionStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct ClusterVersionSpec {
    #[serde(rename = "clusterID", deserialize_with = "nullable")]
    pub(crate) cluster_id: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct ClusterVersionStatus {
    #[serde(deserialize_with = "nullable")]
    pub(crate) desired: Release,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Release {
    #[serde(deserialize_with = "nullable")]
    pub(crate) version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Proxy {
    #[serde(deserialize_with = "nullable")]
    pub(crate) spec: ProxySpec,
    #[serde(deserialize_with = "nullable")]
    pub(crate) status: api::reconfiguration::Proxy,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ProxySpec {
    #[serde(deserialize_with = "nullable")]
    http_proxy: String,
    #[serde(deserialize_with = "nullable")]
    https_proxy: String,
    #[serde(deserialize_with = "nullable")]
    no_proxy: String,
    #[serde(rename = "trustedCA", deserialize_with = "nullable")]
    pub(crate) trusted_ca: NameRef,
}

impl ProxySpec {
    pub(crate) fn is_set(&self) -> bool {
        ![&self.http_proxy, &self.https_proxy, &self.no_proxy]
            .into_iter()
            .all(String::is_empty)
    }

    pub(crate) fn settings(&self) -> api::reconfiguration::Proxy {
        api::reconfiguration::Proxy {
            http_proxy: self.http_proxy.clone().into(),
            https_proxy: self.https_proxy.clone().into(),
            no_proxy: self.no_proxy.clone(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct NameRef {
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Node {
    #[serde(deserialize_with = "nullable")]
    pub(crate) metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    status: NodeStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeStatus {
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<Address>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
}

/// A condition, of whatever kind of object.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Condition {
    #[serde(rename = "type", deserialize_with = "nullable")]
    type_: String,
    #[serde(deserialize_with = "nullable")]
    status: String,
}

/// The status of the condition `type_`; empty for none.
pub(crate) fn condition<'c>(conditions: &'c [Condition], type_: &str) -> &'c str {
    let found = conditions.iter().find(|condition| condition.type_ == type_);
    found.map_or("", |condition| &condition.status)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Address {
    #[serde(rename = "type", deserialize_with = "nullable")]
    type_: String,
    #[serde(deserialize_with = "nullable")]
    address: String,
}

impl Node {
    /// The status of its condition `type_`; empty for none.
    pub(crate) fn condition(&self, type_: &str) -> &str {
        condition(&self.status.conditions, type_)
    }

    /// The addresses of type `type_`, in the Node's order.
    pub(crate) fn addresses(&self, type_: &str) -> Vec<String> {
        let of_type = |address: &&Address| address.type_ == type_;
        self.status
            .addresses
            .iter()
            .filter(of_type)
            .map(|found| found.address.clone())
            .collect()
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Deployment {
    #[serde(deserialize_with = "nullable")]
    spec: DeploymentSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DeploymentSpec {
    #[serde(deserialize_with = "nullable")]
    template: PodTemplate,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodTemplate {
    #[serde(deserialize_with = "nullable")]
    spec: PodSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodSpec {
    #[serde(deserialize_with = "nullable")]
    containers: Vec<Container>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Container {
    #[serde(deserialize_with = "nullable")]
    image: String,
}

impl Deployment {
    /// The image of its first container.
    pub(crate) fn image(&self) -> Option<&str> {
        let container = self.spec.template.spec.containers.first()?;
        (!container.image.is_empty()).then_some(container.image.as_str())
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Network {
    #[serde(deserialize_with = "nullable")]
    pub(crate) status: NetworkStatus,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NetworkStatus {
    #[serde(deserialize_with = "nullable")]
    pub(crate) cluster_network: Vec<AddressRange>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) service_network: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct AddressRange {
    #[serde(deserialize_with = "nullable")]
    pub(crate) cidr: String,
}

/// All objects of a kind; none where the kind is not served.
pub(crate) async fn list_if_served<T: serde::de::DeserializeOwned>(
    connection: &Connection,
    kind: &'static Kind<'static>,
) -> PortResult<Vec<T>> {
    let found = list_or_unserved(connection, &Call::list(kind)).await?;
    Ok(found.unwrap_or_default())
}

/// The objects that `call` lists; `None` where their kind is not served.
pub(crate) async fn list_or_unserved<T: serde::de::DeserializeOwned>(
    connection: &Connection,
    call: &Call<'_>,
) -> PortResult<Option<Vec<T>>> {
    match connection.ask::<List<T>>(call, None).await {
        Ok(list) => Ok(Some(list.items)),
        Err(crate::failure::Failure::NotServed) => Ok(None),
        Err(failure) => Err(failure.during(call)),
    }
}

/// The data of a ConfigMap, empty if there is none.
pub(crate) async fn config_map(
    connection: &Connection,
    namespace: &str,
    name: &str,
) -> PortResult<BTreeMap<String, String>> {
    let call = Call::get(&kind::CONFIG_MAP, name).within(namespace);
    let found: Option<ConfigMap> = connection.look_for(call).await?;
    Ok(found.unwrap_or_default().data)
}

/// The value of `key` of a ConfigMap, empty if either is missing.
pub(crate) async fn config_map_value(
    connection: &Connection,
    namespace: &str,
    name: &str,
    key: &str,
) -> PortResult<String> {
    let mut data = config_map(connection, namespace, name).await?;
    Ok(data.remove(key).unwrap_or_default())
}

/// The value of `key` of a Secret that must hold text there.
pub(crate) async fn secret_text(
    connection: &Connection,
    namespace: &str,
    name: &str,
    key: &str,
) -> PortResult<String> {
    let call = Call::get(&kind::SECRET, name).within(namespace);
    let secret: Secret = connection.read(call).await?;
    let text = secret
        .value(key)
        .and_then(|value| String::from_utf8(value).ok());
    text.filter(|text| !text.is_empty()).ok_or_else(|| {
        missing(format!(
            "Secret {namespace}/{name} has no text under key {key}"
        ))
    })
}

/// A member that an object must have is not there.
pub(crate) fn missing(text: String) -> PortError {
    PortError::plain(ErrorKind::Permanent, text)
}
