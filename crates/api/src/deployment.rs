//! Identities of deployments.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::excerpt::excerpt;
use crate::stateroot::StaterootName;

/// Names one deployment: `<stateroot>-<checksum>.<serial>`, as rpm-ostree prints it (S 1.3.6).
///
/// The stateroot's name may contain `-`; the checksum begins after the last one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId {
    /// The stateroot that the deployment belongs to.
    pub stateroot: StaterootName,
    /// The ostree commit: 64 lower-case hexadecimal digits.
    pub checksum: String,
    /// Counts deployments of one commit in one stateroot.
    pub serial: u32,
}

/// A text that is no deployment id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a deployment id of the form <stateroot>-<checksum>.<serial>")]
pub struct InvalidDeploymentId {
    text: String,
}

impl DeploymentId {
    /// `<checksum>.<serial>`: the name of the deployment's directory and origin file.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("{}.{}", self.checksum, self.serial)
    }
}

impl FromStr for DeploymentId {
    type Err = InvalidDeploymentId;

    fn from_str(text: &str) -> Result<Self, InvalidDeploymentId> {
        let parse = || {
            let (stateroot, deployment) = text.rsplit_once('-')?;
            let (checksum, serial) = deployment.split_once('.')?;
            let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if checksum.len() != 64 || !checksum.bytes().all(lower_hex) {
                return None;
            }
            if !serial.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            Some(Self {
                stateroot: stateroot.parse().ok()?,
                checksum: checksum.to_owned(),
                serial: serial.parse().ok()?,
            })
        };
        parse().ok_or_else(|| InvalidDeploymentId {
            text: excerpt(text),
        })
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{}", self.stateroot, self.checksum, self.serial)
    }
}

impl Serialize for DeploymentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeploymentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back() {
        let checksum = "0123456789abcdef".repeat(4);
        for stateroot in ["rhcos", "rhcos_4.17.4", "rhcos_192-0-2-10"] {
            let text = format!("{stateroot}-{checksum}.1");
            let id: DeploymentId = text.parse().unwrap();
            assert_eq!(id.stateroot.as_str(), stateroot);
            assert_eq!(id.directory(), format!("{checksum}.1"));
            assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let checksum = "0123456789abcdef".repeat(4);
        for text in [
            String::new(),
            checksum.clone(),
            format!("rhcos-{checksum}"),
            format!("rhcos-{checksum}."),
            format!("rhcos-{checksum}.+1"),
            format!("rhcos-{checksum}.99999999999"),
            format!("-{checksum}.0"),
            format!("a/b-{checksum}.0"),
            format!("rhcos-{}.0", &checksum[1..]),
            format!("rhcos-{}.0", checksum.to_uppercase()),
        ] {
            assert!(text.parse::<DeploymentId>().is_err(), "{text}");
        }
    }
}
