//! What the API server adds to the images that a seed wants precached, and what it takes away (S 1.3.1).

use std::collections::BTreeSet;

use node::PortResult;
use serde::Deserialize;

use crate::connection::Connection;
use crate::kind;
use crate::object::{list_if_served, nullable};

/// Images of operators for platforms that a single node is not: parts of their names.
const FOREIGN: [&str; 3] = ["-for-microsoft-azure", "-for-gcp", "-for-csi"];

/// The operators' view of a cluster's images.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContainerImages {
    /// Images that installed operators may start: add each unless it is listed.
    pub related: BTreeSet<String>,
    /// Images of catalogs, which are always pulled: remove them.
    pub catalogs: BTreeSet<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Operator {
    #[serde(deserialize_with = "nullable")]
    spec: OperatorSpec,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct OperatorSpec {
    #[serde(deserialize_with = "nullable")]
    related_images: Vec<ImageOf>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Catalog {
    #[serde(deserialize_with = "nullable")]
    spec: ImageOf,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ImageOf {
    #[serde(deserialize_with = "nullable")]
    image: String,
}

/// Both lists; empty on a cluster without the operator framework.
pub(crate) async fn read(connection: &Connection) -> PortResult<ContainerImages> {
    let operators: Vec<Operator> =
        list_if_served(connection, &kind::CLUSTER_SERVICE_VERSION).await?;
    let catalogs: Vec<Catalog> = list_if_served(connection, &kind::CATALOG_SOURCE).await?;
    let related = operators
        .into_iter()
        .flat_map(|operator| operator.spec.related_images);
    Ok(ContainerImages {
        related: related
            .map(|related| related.image)
            .filter(|image| !image.is_empty() && !FOREIGN.iter().any(|part| image.contains(part)))
            .collect(),
        catalogs: catalogs
            .into_iter()
            .map(|catalog| catalog.spec.image)
            .filter(|image| !image.is_empty())
            .collect(),
    })
}
