//! The name of one run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of one run: 1 to 64 ASCII letters, digits, `-`, `_` or `.`, not beginning with `.`.
///
/// Given by the caller and safe as part of a file name, which is what a [`crate::JournalStore`]
/// makes of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// Text that is not a [`RunId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("run id of {length} bytes is not 1 to 64 of letters, digits, '-', '_', '.'")]
pub struct RunIdError {
    /// Length of the refused text in bytes; the text itself may be anything and is not repeated.
    pub length: usize,
}

impl RunId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, RunIdError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let ok =
            (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(legal);
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(RunIdError { length: text.len() })
        }
    }
}

impl TryFrom<String> for RunId {
    type Error = RunIdError;

    fn try_from(text: String) -> Result<Self, RunIdError> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::RunId;

    #[test]
    fn only_names_that_are_safe_in_a_path_are_run_ids() {
        let long = "a".repeat(64);
        let too_long = "a".repeat(65);
        for (text, legal) in [
            ("prep-1", true),
            ("2026.11_X", true),
            (long.as_str(), true),
            (too_long.as_str(), false),
            ("", false),
            (".", false),
            ("..", false),
            (".hidden", false),
            ("a/b", false),
            ("a\0", false),
            ("é", false),
        ] {
            assert_eq!(text.parse::<RunId>().is_ok(), legal, "{text:?}");
        }
    }
}
