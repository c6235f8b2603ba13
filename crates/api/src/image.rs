//! Pull specifications.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::excerpt::excerpt;

/// The transport that every registry client adds by itself; users may write it (C 1.2).
const TRANSPORT: &str = "docker://";

/// A pull specification without a transport, such as `quay.io/org/seed:4.17.4`.
///
/// Checked to be one word that no program takes for an option; whether it names an image only a
/// registry can say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef(String);

/// A text that is no pull specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not an image reference: {reason}")]
pub struct InvalidImageRef {
    text: String,
    reason: &'static str,
}

impl ImageRef {
    /// The pull specification as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first `/`: the registry's host and port (C 3.7 item 1).
    #[must_use]
    pub fn registry(&self) -> &str {
        self.0
            .split_once('/')
            .map_or(self.as_str(), |(registry, _)| registry)
    }
}

impl FromStr for ImageRef {
    type Err = InvalidImageRef;

    fn from_str(text: &str) -> Result<Self, InvalidImageRef> {
        let image = text.strip_prefix(TRANSPORT).unwrap_or(text);
        let reason = match image {
            "" => "it is empty",
            _ if image.len() > 1024 => "it is longer than 1024 bytes",
            _ if image.chars().any(|c| c.is_whitespace() || c.is_control()) => {
                "it contains white space or control characters"
            }
            _ if image.starts_with('-') => "it begins with '-'",
            _ if image.contains("://") => "the only transport that is supported is docker://",
            _ => return Ok(Self(image.to_owned())),
        };
        Err(InvalidImageRef {
            text: excerpt(text),
            reason,
        })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
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
    fn references_are_kept_without_their_transport() {
        let check = |text: &str, image: &str, registry: &str| {
            let parsed: ImageRef = text.parse().unwrap();
            assert_eq!(parsed.as_str(), image);
            assert_eq!(parsed.registry(), registry);
        };
        check(
            "quay.io/org/seed:4.17.4",
            "quay.io/org/seed:4.17.4",
            "quay.io",
        );
        check(
            "docker://10.0.0.1:5000/seed:v1",
            "10.0.0.1:5000/seed:v1",
            "10.0.0.1:5000",
        );
        check(
            "[fd00::1]:5000/a/b@sha256:0",
            "[fd00::1]:5000/a/b@sha256:0",
            "[fd00::1]:5000",
        );
        check("seed", "seed", "seed");
    }

    #[test]
    fn other_texts_are_refused() {
        let check = |text: &str, reason: &str| {
            let error = text.parse::<ImageRef>().unwrap_err();
            assert_eq!(error.reason, reason, "{text}");
        };
        check("", "it is empty");
        check("docker://", "it is empty");
        check("a b", "it contains white space or control characters");
        check("a\nb", "it contains white space or control characters");
        check(
            "a\u{1b}[31m",
            "it contains white space or control characters",
        );
        check("-it/x", "it begins with '-'");
        check("docker://--privileged", "it begins with '-'");
        check(
            "oci://dir",
            "the only transport that is supported is docker://",
        );
        check(
            "docker://docker://x/y",
            "the only transport that is supported is docker://",
        );
        check(&"x".repeat(1025), "it is longer than 1024 bytes");
    }
}
