//! Objects of the origin that the target takes over as they are: mirror sets, local storage, and what cert-manager keeps
//! (S 5).

use std::collections::BTreeSet;

use node::PortResult;
use node::ports::Exported;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::Call;
use crate::connection::Connection;
use crate::kind::{self, Kind};
use crate::mirror;
use crate::object::{self, list_if_served, nullable};
use crate::reconfiguration::common_name;

/// Members of `metadata` that belong to this cluster's server and owners.
const NOT_CARRIED: [&str; 6] = [
    "uid",
    "resourceVersion",
    "managedFields",
    "generation",
    "ownerReferences",
    "creationTimestamp",
];

/// Everything, in no order that matters: the target goes by the files' names.
pub(crate) async fn read(connection: &Connection) -> PortResult<Exported> {
    let mut exported = Exported {
        manifests: mirror::manifests(connection).await?,
        keys: Vec::new(),
    };
    local_storage(connection, &mut exported).await?;
    certificates(connection, &mut exported).await?;
    Ok(exported)
}

/// Each LocalVolume, and the storage classes that it names.
async fn local_storage(connection: &Connection, exported: &mut Exported) -> PortResult<()> {
    let mut classes = BTreeSet::new();
    for volume in list_if_served::<Value>(connection, &kind::LOCAL_VOLUME).await? {
        let devices = volume["spec"]["storageClassDevices"].as_array();
        let named = devices.into_iter().flatten();
        classes.extend(
            named
                .filter_map(|device| device["storageClassName"].as_str())
                .map(str::to_owned),
        );
        let file = format!(
            "LocalVolume_{}_{}.json",
            text(&volume["metadata"]["name"]),
            text(&volume["metadata"]["namespace"])
        );
        exported
            .manifests
            .push((file, manifest(&kind::LOCAL_VOLUME, volume)));
    }
    for class in classes {
        let found: Value = connection
            .read(Call::get(&kind::STORAGE_CLASS, &class))
            .await?;
        let file = format!("StorageClass_{class}_.json");
        exported
            .manifests
            .push((file, manifest(&kind::STORAGE_CLASS, found)));
    }
    Ok(())
}

/// As a manifest: with its type, and without what belongs to the server.
fn manifest(kind: &Kind<'_>, mut object: Value) -> Vec<u8> {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !NOT_CARRIED.contains(&key.as_str()));
    }
    if let Some(members) = object.as_object_mut() {
        members.remove("status");
        members.insert("apiVersion".to_owned(), json!(kind.api_version()));
        members.insert("kind".to_owned(), json!(kind.name));
    }
    object.to_string().into_bytes()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Certificate {
    #[serde(deserialize_with = "nullable")]
    metadata: object::Meta,
    #[serde(deserialize_with = "nullable")]
    spec: CertificateSpec,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct CertificateSpec {
    #[serde(deserialize_with = "nullable")]
    secret_name: String,
}

/// The Secret of each certificate, the namespace around it, and its key once more by the name that the certificate has.
async fn certificates(connection: &Connection, exported: &mut Exported) -> PortResult<()> {
    let certificates: Vec<Certificate> = list_if_served(connection, &kind::CERTIFICATE).await?;
    let secrets = certificates
        .into_iter()
        .map(|found| (found.metadata.namespace, found.spec.secret_name));
    let secrets: BTreeSet<(String, String)> =
        secrets.filter(|(_, name)| !name.is_empty()).collect();
    let mut namespaces = BTreeSet::new();
    for (namespace, name) in secrets {
        let call = Call::get(&kind::SECRET, &name).within(&namespace);
        let Some(secret) = connection.look_for::<Value>(call).await? else {
            continue;
        };
        if let Some(key) = key(&secret, &namespace, &name) {
            exported.keys.push(key);
        }
        let file = format!("03_certmanager_Secret_{name}_{namespace}.json");
        exported
            .manifests
            .push((file, manifest(&kind::SECRET, secret)));
        if is_users(&namespace) {
            namespaces.insert(namespace);
        }
    }
    for namespace in namespaces {
        let found: Value = connection
            .read(Call::get(&kind::NAMESPACE, &namespace))
            .await?;
        let file = format!("01_certmanager_Namespace_{namespace}.json");
        exported
            .manifests
            .push((file, manifest(&kind::NAMESPACE, found)));
    }
    Ok(())
}

/// Whether a namespace is none that every cluster has.
fn is_users(namespace: &str) -> bool {
    !(namespace.starts_with("openshift-")
        || namespace.starts_with("kube-")
        || matches!(namespace, "default" | "openshift"))
}

/// File and content of a Secret's key. None where it has no key or no certificate with a name, or one that could not stand in a
/// file's name, or that the Go original's rules could not be written with (S 4A.3).
fn key(secret: &Value, namespace: &str, name: &str) -> Option<(String, Vec<u8>)> {
    let secret: object::Secret = serde_json::from_value(secret.clone()).ok()?;
    let (certificate, key) = (secret.value("tls.crt")?, secret.value("tls.key")?);
    let named = String::from_utf8(certificate).ok();
    let named = named.and_then(|pem| common_name(&pem).ok());
    let usable = named.filter(|cn| {
        let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | ':' | ',');
        !cn.contains("__") && !cn.contains(odd) && cn.len() <= 200
    });
    let Some(cn) = usable else {
        tracing::warn!(
            namespace,
            name,
            "the key of this Secret is not carried over: its certificate has no name that a file could have"
        );
        return None;
    };
    Some((format!("CN={cn}__{namespace}_{name}.key"), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_hold_no_trace_of_their_server() {
        let object = json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 2,
                "ownerReferences": [], "creationTimestamp": "t", "managedFields": [], "labels": {"l": "v"}},
            "spec": {"x": 1}, "status": {"y": 2},
        });
        let found: Value = serde_json::from_slice(&manifest(&kind::LOCAL_VOLUME, object)).unwrap();
        let expected = json!({
            "apiVersion": "local.storage.openshift.io/v1", "kind": "LocalVolume",
            "metadata": {"name": "a", "namespace": "n", "labels": {"l": "v"}},
            "spec": {"x": 1},
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn namespaces_of_users() {
        for (namespace, expect) in [
            ("openshift-ingress", false),
            ("kube-system", false),
            ("default", false),
            ("openshift", false),
            ("shop", true),
            ("openshifty", true),
        ] {
            assert_eq!(is_users(namespace), expect, "{namespace}");
        }
    }
}
