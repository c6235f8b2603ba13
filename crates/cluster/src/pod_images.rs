//! Images that Pods name (contract 3.9): what nobody may remove, whether a container runs at this moment or not.

use std::collections::BTreeSet;

use node::PortResult;
use serde::Deserialize;

use crate::call::Call;
use crate::connection::Connection;
use crate::kind;
use crate::object::{List, nullable};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pod {
    #[serde(deserialize_with = "nullable")]
    spec: Spec,
    #[serde(deserialize_with = "nullable")]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(deserialize_with = "nullable")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "nullable")]
    init_containers: Vec<Container>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_containers: Vec<Container>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Container {
    #[serde(deserialize_with = "nullable")]
    image: String,
}

/// What kubelet found under those names.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(deserialize_with = "nullable")]
    container_statuses: Vec<Found>,
    #[serde(deserialize_with = "nullable")]
    init_container_statuses: Vec<Found>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_container_statuses: Vec<Found>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Found {
    #[serde(deserialize_with = "nullable")]
    image: String,
    #[serde(rename = "imageID", deserialize_with = "nullable")]
    image_id: String,
}

impl Pod {
    fn images(self) -> impl Iterator<Item = String> {
        let Spec {
            containers,
            init_containers,
            ephemeral_containers,
        } = self.spec;
        let Status {
            container_statuses,
            init_container_statuses,
            ephemeral_container_statuses,
        } = self.status;
        let named = [containers, init_containers, ephemeral_containers];
        let found = [
            container_statuses,
            init_container_statuses,
            ephemeral_container_statuses,
        ];
        let named = named.into_iter().flatten().map(|container| container.image);
        let found = found.into_iter().flatten();
        let found = found.flat_map(|found| [found.image, found.image_id]);
        named.chain(found).filter(|image| !image.is_empty())
    }
}

pub(crate) async fn read(connection: &Connection) -> PortResult<BTreeSet<String>> {
    let pods: List<Pod> = connection.read(Call::list(&kind::POD)).await?;
    Ok(pods.items.into_iter().flat_map(Pod::images).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_of_all_kinds_count() {
        let check = |pod: serde_json::Value, expect: &[&str]| {
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let images: BTreeSet<String> = pod.images().collect();
            assert_eq!(
                images.iter().map(String::as_str).collect::<Vec<_>>(),
                expect
            );
        };
        check(json!({}), &[]);
        check(json!({"spec": {"containers": null}, "status": null}), &[]);
        check(
            json!({
                "spec": {
                    "containers": [{"name": "a", "image": "q/a:1"}, {"name": "b"}],
                    "initContainers": [{"image": "q/i:1"}],
                    "ephemeralContainers": [{"image": "q/e:1"}],
                },
                "status": {
                    "containerStatuses": [{"image": "q/a:1", "imageID": "q/a@sha256:1"}, {"imageID": ""}],
                    "initContainerStatuses": [{"image": "q/i:1", "imageID": "q/i@sha256:2"}],
                },
            }),
            &["q/a:1", "q/a@sha256:1", "q/e:1", "q/i:1", "q/i@sha256:2"],
        );
    }
}
