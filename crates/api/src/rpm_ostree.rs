//! `rpm-ostree status --json`, as much of it as seeds need (S 1.3.5, 1.3.6).

use serde::{Deserialize, Serialize};

use crate::deployment::{DeploymentId, InvalidDeploymentId};
use crate::null;

/// The node's deployments in boot order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The first boots next.
    #[serde(deserialize_with = "null::as_default")]
    pub deployments: Vec<Deployment>,
}

/// One deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deployment {
    /// A [`DeploymentId`] as text.
    #[serde(deserialize_with = "null::as_default")]
    pub id: String,
    /// The stateroot.
    #[serde(deserialize_with = "null::as_default")]
    pub osname: String,
    /// Counts deployments of one commit in one stateroot.
    #[serde(deserialize_with = "null::as_default")]
    pub serial: u32,
    /// The ostree commit.
    #[serde(deserialize_with = "null::as_default")]
    pub checksum: String,
    /// The commit's version.
    #[serde(
        deserialize_with = "null::as_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub version: String,
    /// Whether the node runs it.
    #[serde(deserialize_with = "null::as_default")]
    pub booted: bool,
    /// Whether it is written only at shutdown.
    #[serde(deserialize_with = "null::as_default")]
    pub staged: bool,
}

impl Deployment {
    /// A deployment that is complete on disk.
    #[must_use]
    pub fn new(id: &DeploymentId, version: &str, booted: bool) -> Self {
        Self {
            id: id.to_string(),
            osname: id.stateroot.to_string(),
            serial: id.serial,
            checksum: id.checksum.clone(),
            version: version.to_owned(),
            booted,
            staged: false,
        }
    }
}

/// Why the booted deployment is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootedError {
    /// No deployment is marked as booted, or more than one.
    #[error("{0} deployments are marked as booted, expected exactly one")]
    Count(usize),
    /// The booted deployment has no usable id.
    #[error("the booted deployment has no usable id")]
    Id(#[source] InvalidDeploymentId),
}

impl Status {
    /// The one booted deployment.
    ///
    /// # Errors
    /// [`BootedError`] when there is none, more than one, or its id cannot be read.
    pub fn booted(&self) -> Result<DeploymentId, BootedError> {
        let booted: Vec<_> = self.deployments.iter().filter(|d| d.booted).collect();
        match booted.as_slice() {
            [one] => one.id.parse().map_err(BootedError::Id),
            other => Err(BootedError::Count(other.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKSUM: &str = "ed4a0d25a3f1c3e5b0aa4ee5a3ddc1f2e35e0e4b3c1a8f0c5d66a6d9a5ab719c";

    #[test]
    fn the_booted_deployment_is_found_wherever_it_stands() {
        let text = format!(
            r#"{{"deployments":[{{"unlocked":"none","requested-local-packages":[],"booted":false,
            "id":"rhcos_4.18.0-{CHECKSUM}.0","osname":"rhcos_4.18.0","staged":false}},
            {{"booted":true,"id":"rhcos_192-0-2-10-{CHECKSUM}.1","osname":"rhcos_192-0-2-10",
            "serial":1,"checksum":"{CHECKSUM}","version":null,"staged":null,"pinned":false}}],
            "transaction":null,"cached-update":null,"update-driver":null}}"#
        );
        let status: Status = serde_json::from_str(&text).unwrap();
        let booted = status.booted().unwrap();
        assert_eq!(booted.stateroot.as_str(), "rhcos_192-0-2-10");
        assert_eq!(booted.directory(), format!("{CHECKSUM}.1"));
    }

    #[test]
    fn what_we_write_reads_back() {
        let id: DeploymentId = format!("rhcos_4.17.4-{CHECKSUM}.0").parse().unwrap();
        let status = Status {
            deployments: vec![Deployment::new(&id, "417.94", true)],
        };
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(
            serde_json::from_str::<Status>(&text).unwrap().booted(),
            Ok(id)
        );
    }

    #[test]
    fn doubt_is_an_error() {
        let check = |text: &str, message: &str| {
            let status: Status = serde_json::from_str(text).unwrap();
            assert_eq!(status.booted().unwrap_err().to_string(), message);
        };
        check(
            "{}",
            "0 deployments are marked as booted, expected exactly one",
        );
        check(
            r#"{"deployments":[{"booted":true},{"booted":true}]}"#,
            "2 deployments are marked as booted, expected exactly one",
        );
        check(
            r#"{"deployments":[{"booted":true,"id":"rhcos"}]}"#,
            "the booted deployment has no usable id",
        );
    }
}
