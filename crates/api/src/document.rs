//! Reading JSON documents that come from outside.

use serde::de::DeserializeOwned;

/// The longest description of what is wrong, in characters: the parser quotes the document.
const LIMIT: usize = 200;

/// Why a document is not what it should be: one line, and short whatever the document holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at line {line} column {column}")]
pub struct Malformed {
    reason: String,
    line: usize,
    column: usize,
}

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        Self::new(text.strip_suffix(&place).unwrap_or(&text), line, column)
    }
}

impl Malformed {
    /// From what another parser says: `text`, of which one line is kept and not more than 200 characters, and where.
    #[must_use]
    pub fn new(text: &str, line: usize, column: usize) -> Self {
        let mut reason = String::new();
        for character in text.chars().take(LIMIT) {
            if character.is_control() {
                reason.extend(character.escape_debug());
            } else {
                reason.push(character);
            }
        }
        if text.chars().nth(LIMIT).is_some() {
            reason.push_str("...");
        }
        Self {
            reason,
            line,
            column,
        }
    }
}

/// Parses a document.
///
/// # Errors
/// [`Malformed`] when it is no JSON, or of another form than is wanted.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(bytes).map_err(Malformed::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed_info::SeedClusterInfo;

    #[test]
    fn errors_say_where_and_stay_short() {
        fn check(text: &str, expect: &str) {
            let error = parse::<SeedClusterInfo>(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expect);
        }
        check("", "EOF while parsing a value at line 1 column 0");
        check("{\n,", "key must be a string at line 2 column 1");
        check(
            r#"{"has_proxy":"a\nb"}"#,
            r#"invalid type: string "a\nb", expected a boolean at line 1 column 19"#,
        );
        let long = "x".repeat(100_000);
        check(
            &format!(r#"{{"has_proxy":"{long}"}}"#),
            &format!(
                "invalid type: string \"{}... at line 1 column 100015",
                &long[..LIMIT - 22]
            ),
        );
    }
}
