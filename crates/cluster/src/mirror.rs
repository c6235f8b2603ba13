//! Registry mirrors: which sources have one, and the sets as manifests for the target (S 5).

use node::PortResult;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::kind::{self, Kind};
use crate::object::{Meta, list_if_served, nullable};

/// The two kinds of mirror set, each with the member of `spec` that lists them and the file of the Go original.
const SETS: [(&Kind<'static>, &str, &str); 2] = [
    (
        &kind::DIGEST_MIRROR_SET,
        "imageDigestMirrors",
        "image-digest-mirror-set.json",
    ),
    (
        &kind::CONTENT_SOURCE_POLICY,
        "repositoryDigestMirrors",
        "image-content-source-policy-list.json",
    ),
];

#[derive(Deserialize, Default)]
#[serde(default)]
struct Set {
    #[serde(deserialize_with = "nullable")]
    metadata: Map<String, Value>,
    #[serde(deserialize_with = "nullable")]
    spec: Map<String, Value>,
}

/// The registries of all mirror sets' sources, each once, in the order of the sets: what stands before the first `/` (contract 3.7).
pub(crate) async fn sources(connection: &Connection) -> PortResult<Vec<String>> {
    let mut sources: Vec<String> = Vec::new();
    for (kind, member, _) in SETS {
        for set in list_if_served::<Set>(connection, kind).await? {
            let mirrors = set
                .spec
                .get(member)
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let registries = mirrors
                .filter_map(|mirror| mirror.get("source")?.as_str())
                .filter_map(|source| source.split('/').next())
                .filter(|registry| !registry.is_empty());
            for registry in registries {
                if !sources.iter().any(|known| known == registry) {
                    sources.push(registry.to_owned());
                }
            }
        }
    }
    Ok(sources)
}

/// The sets as one list per kind that has any: file name and content.
pub(crate) async fn manifests(connection: &Connection) -> PortResult<Vec<(String, Vec<u8>)>> {
    let mut manifests = Vec::new();
    for (kind, _, file) in SETS {
        let sets = list_if_served::<Set>(connection, kind).await?;
        if !sets.is_empty() {
            manifests.push((
                file.to_owned(),
                manifest(kind, sets).to_string().into_bytes(),
            ));
        }
    }
    Ok(manifests)
}

/// Removes every mirror set, and every catalog: of those that `stay`, by kind and name, none.
pub(crate) async fn remove(connection: &Connection, stay: &[(String, String)]) -> PortResult<()> {
    for kind in [
        &kind::DIGEST_MIRROR_SET,
        &kind::CONTENT_SOURCE_POLICY,
        &kind::CATALOG_SOURCE,
    ] {
        for found in list_if_served::<Named>(connection, kind).await? {
            let Meta {
                name, namespace, ..
            } = &found.metadata;
            let stays = stay
                .iter()
                .any(|(of, named)| of == kind.name && named == name);
            if !stays {
                let call = Call::new(Verb::Delete, kind).named(name);
                let call = match namespace.as_str() {
                    "" => call,
                    namespace => call.within(namespace),
                };
                delete(connection, call).await?;
            }
        }
    }
    Ok(())
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    #[serde(deserialize_with = "nullable")]
    metadata: Meta,
}

/// Deletes an object; gone already is success.
pub(crate) async fn delete(connection: &Connection, call: Call<'_>) -> PortResult<()> {
    match connection.send(&call, None).await {
        Ok(_) | Err(Failure::NotFound(_)) => Ok(()),
        Err(failure) => Err(failure.during(&call)),
    }
}

/// Only what a user writes is kept: name, namespace, labels, annotations and spec.
fn manifest(kind: &Kind<'_>, sets: Vec<Set>) -> Value {
    let kept = ["name", "namespace", "labels", "annotations"];
    let items: Vec<Value> = sets
        .into_iter()
        .map(|mut set| {
            set.metadata.retain(|key, _| kept.contains(&key.as_str()));
            json!({
                "apiVersion": kind.api_version(),
                "kind": kind.name,
                "metadata": set.metadata,
                "spec": set.spec,
            })
        })
        .collect();
    json!({
        "apiVersion": kind.api_version(),
        "kind": format!("{}List", kind.name),
        "metadata": {},
        "items": items,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_hold_what_users_write() {
        let set = serde_json::from_value(json!({
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "1", "labels": {"l": "v"}},
            "spec": {"imageDigestMirrors": [{"source": "quay.io"}]},
            "status": {},
        }))
        .unwrap();
        assert_eq!(
            manifest(&kind::DIGEST_MIRROR_SET, vec![set]),
            json!({
                "apiVersion": "config.openshift.io/v1",
                "kind": "ImageDigestMirrorSetList",
                "metadata": {},
                "items": [{
                    "apiVersion": "config.openshift.io/v1",
                    "kind": "ImageDigestMirrorSet",
                    "metadata": {"name": "a", "labels": {"l": "v"}},
                    "spec": {"imageDigestMirrors": [{"source": "quay.io"}]},
                }],
            })
        );
    }
}
