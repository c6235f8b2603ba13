//! Names of stateroots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::excerpt::excerpt;
use crate::version::OcpVersion;

/// The name of a stateroot: one component of a path below `/ostree/deploy`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StaterootName(String);

/// A text that cannot name a stateroot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" cannot name a stateroot: {reason}")]
pub struct InvalidStaterootName {
    text: String,
    reason: &'static str,
}

impl StaterootName {
    /// The stateroot that an upgrade to that version installs: `rhcos_` and the version with
    /// every `-` replaced by `_` (C 3.6).
    #[must_use]
    pub fn for_version(version: &OcpVersion) -> Self {
        Self(format!("rhcos_{}", version.as_str().replace('-', "_")))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StaterootName {
    type Err = InvalidStaterootName;

    fn from_str(text: &str) -> Result<Self, InvalidStaterootName> {
        let reason = match text {
            "" => "it is empty",
            "." | ".." => "it is a relative path",
            _ if text.len() > 255 => "it is longer than 255 bytes",
            _ if text.starts_with('-') => "it begins with '-'",
            _ if text.contains('/') => "it contains '/'",
            _ if text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
                "it contains white space or control characters"
            }
            _ => return Ok(Self(text.to_owned())),
        };
        Err(InvalidStaterootName {
            text: excerpt(text),
            reason,
        })
    }
}

impl fmt::Display for StaterootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for StaterootName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for StaterootName {
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
    fn names_follow_versions() {
        let check = |version: &str, name: &str| {
            let stateroot = StaterootName::for_version(&version.parse().unwrap());
            assert_eq!(stateroot.as_str(), name);
            assert_eq!(name.parse(), Ok(stateroot));
        };
        check("4.17.4", "rhcos_4.17.4");
        check("4.16.0-rc.1", "rhcos_4.16.0_rc.1");
        check("4.16.0-0.ci-x+b-c", "rhcos_4.16.0_0.ci_x+b_c");
    }

    #[test]
    fn names_that_are_no_path_component_are_refused() {
        let check = |text: &str, reason: &str| {
            let error = text.parse::<StaterootName>().unwrap_err();
            assert_eq!(error.reason, reason, "{text}");
        };
        check("", "it is empty");
        check(".", "it is a relative path");
        check("..", "it is a relative path");
        check("../rhcos", "it contains '/'");
        check("-rf", "it begins with '-'");
        check("a b", "it contains white space or control characters");
        check("a\0", "it contains white space or control characters");
        check(&"x".repeat(256), "it is longer than 255 bytes");
        assert!("rhcos".parse::<StaterootName>().is_ok());
        assert!("rhcos_192-0-2-10_x".parse::<StaterootName>().is_ok());
    }
}
