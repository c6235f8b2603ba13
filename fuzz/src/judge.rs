//! What an error's text must be like.

use std::error::Error;
use std::fmt::Display;

/// Longest text of a whole chain of errors, in bytes: it goes into a condition, a log line and an Event.
const LIMIT: usize = 4096;

/// Checks the text of an error with all its causes, and gives it.
pub(crate) fn error(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    line(&text)
}

/// Checks a text that is shown to people: one line, not too long, nothing that a terminal would obey.
pub(crate) fn line(text: &dyn Display) -> String {
    let text = text.to_string();
    assert!(!text.is_empty(), "a text that says nothing");
    assert!(text.len() <= LIMIT, "a text of {} bytes", text.len());
    assert!(
        !text.chars().any(char::is_control),
        "a text with control characters: {text:?}"
    );
    text
}
