//! OpenShift versions.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::excerpt::excerpt;

/// The longest version text that is read; longer ones cannot be part of a stateroot's name.
const LENGTH_LIMIT: usize = 128;

/// A three-part semantic version, `X.Y.Z[-pre][+meta]` (C 3.2 item 1).
///
/// Leading zeros are accepted, as the Go original does, and the text is kept as it was written:
/// two versions are equal when their texts are. For "newer than" use [`Self::precedence`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OcpVersion {
    text: String,
    release: [u64; 3],
}

/// A text that is no three-part semantic version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a version of the form X.Y.Z: {reason}")]
pub struct InvalidVersion {
    text: String,
    reason: &'static str,
}

impl OcpVersion {
    /// The version as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `X.Y`, for texts such as channel names.
    #[must_use]
    pub fn minor(&self) -> String {
        format!("{}.{}", self.release[0], self.release[1])
    }

    /// Semantic version precedence: build metadata does not count, a release is higher than its
    /// pre-releases, numeric identifiers are lower than others, a longer pre-release list is
    /// higher on an equal prefix. `Equal` does not mean equal texts, so this is not `Ord`.
    #[must_use]
    pub fn precedence(&self, other: &Self) -> Ordering {
        self.release.cmp(&other.release).then_with(|| {
            match (self.pre_release(), other.pre_release()) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(a), Some(b)) => compare_pre_release(a, b),
            }
        })
    }

    /// Whether this version takes precedence over the other.
    #[must_use]
    pub fn is_higher_than(&self, other: &Self) -> bool {
        self.precedence(other) == Ordering::Greater
    }

    fn pre_release(&self) -> Option<&str> {
        let (version, _) = split_metadata(&self.text);
        version.split_once('-').map(|(_, pre)| pre)
    }
}

fn split_metadata(text: &str) -> (&str, Option<&str>) {
    match text.split_once('+') {
        Some((version, metadata)) => (version, Some(metadata)),
        None => (text, None),
    }
}

fn compare_pre_release(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match compare_identifier(a, b) {
                Ordering::Equal => {}
                decided => return decided,
            },
        }
    }
}

fn compare_identifier(a: &str, b: &str) -> Ordering {
    let numeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match (numeric(a), numeric(b)) {
        (true, true) => {
            // Compared as digits, so that no identifier is too long for an integer type.
            let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
            a.len().cmp(&b.len()).then_with(|| a.cmp(b))
        }
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.cmp(b),
    }
}

impl FromStr for OcpVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let invalid = |reason| InvalidVersion {
            text: excerpt(text),
            reason,
        };
        if text.len() > LENGTH_LIMIT {
            return Err(invalid("longer than 128 characters"));
        }
        let (version, metadata) = split_metadata(text);
        let (release, pre_release) = match version.split_once('-') {
            Some((release, pre_release)) => (release, Some(pre_release)),
            None => (version, None),
        };
        let identifiers_are_valid = |list: &str| {
            list.split('.').all(|identifier| {
                !identifier.is_empty()
                    && identifier
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
        };
        if !pre_release.is_none_or(identifiers_are_valid) {
            return Err(invalid(
                "the pre-release may have letters, digits, '-' and single dots",
            ));
        }
        if !metadata.is_none_or(identifiers_are_valid) {
            return Err(invalid(
                "the build metadata may have letters, digits, '-' and single dots",
            ));
        }
        let mut numbers = [0; 3];
        let mut parts = release.split('.');
        for number in &mut numbers {
            let part = parts
                .next()
                .ok_or_else(|| invalid("three numbers are needed"))?;
            if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(invalid("each of the three parts must be a number"));
            }
            *number = part.parse().map_err(|_| invalid("a number is too large"))?;
        }
        if parts.next().is_some() {
            return Err(invalid("more than three numbers"));
        }
        Ok(Self {
            text: text.to_owned(),
            release: numbers,
        })
    }
}

impl fmt::Display for OcpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Serialize for OcpVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for OcpVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> OcpVersion {
        text.parse().unwrap()
    }

    #[test]
    fn versions_rise_in_this_order() {
        let rising = [
            "4.9.0",
            "4.16.0-0",
            "4.16.0-1",
            "4.16.0-11",
            "4.16.0-ec.1",
            "4.16.0-ec.1.0",
            "4.16.0-rc.1",
            "4.16.0-rc.2",
            "4.16.0-rc.10",
            "4.16.0-rc.x",
            "4.16.0",
            "4.16.9",
            "4.16.10",
            "4.17.0-rc.0",
            "4.17.4",
            "10.0.0",
        ];
        for (i, a) in rising.iter().enumerate() {
            for (j, b) in rising.iter().enumerate() {
                assert_eq!(version(a).precedence(&version(b)), i.cmp(&j), "{a} and {b}");
            }
        }
    }

    #[test]
    fn some_texts_have_equal_precedence() {
        for (a, b) in [
            ("4.16.0", "4.16.0+build.5"),
            ("4.16.0", "4.016.00"),
            ("4.16.0-rc.01", "4.16.0-rc.1+x"),
        ] {
            assert_eq!(version(a).precedence(&version(b)), Ordering::Equal);
            assert!(!version(a).is_higher_than(&version(b)));
            assert_ne!(version(a), version(b));
        }
    }

    #[test]
    fn versions_print_as_they_were_written() {
        for text in [
            "4.17.0-rc.1",
            "04.1.0+a-b.c",
            "4.16.0-0.nightly-2024-05-01-111315",
        ] {
            assert_eq!(version(text).to_string(), text);
        }
        assert_eq!(version("4.17.0-rc.1").minor(), "4.17");
    }

    #[test]
    fn other_texts_are_refused() {
        let check = |text: &str, reason: &str| {
            let error = text.parse::<OcpVersion>().unwrap_err();
            assert_eq!(error.reason, reason, "{text}");
        };
        check("", "each of the three parts must be a number");
        check("4.17", "three numbers are needed");
        check("v4.17.0", "each of the three parts must be a number");
        check("4.17.0.1", "more than three numbers");
        check("4.17.-1", "each of the three parts must be a number");
        check("4.17.99999999999999999999", "a number is too large");
        check(
            "4.17.0-",
            "the pre-release may have letters, digits, '-' and single dots",
        );
        check(
            "4.17.0-rc..1",
            "the pre-release may have letters, digits, '-' and single dots",
        );
        check(
            "4.17.0-rc/1",
            "the pre-release may have letters, digits, '-' and single dots",
        );
        check(
            "4.17.0+",
            "the build metadata may have letters, digits, '-' and single dots",
        );
        check("4.17.0 ", "each of the three parts must be a number");
        check(
            &format!("4.17.{}", "1".repeat(200)),
            "longer than 128 characters",
        );
    }
}
