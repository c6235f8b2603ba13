//! The verdict on an upgrade behind its pivot, `/var/lib/lca/verdict.json` in the target: does it stay, or does the node go back?
//!
//! Ours: the Go original has none, and its monitor can roll back what its operator has completed (C 12.5, rows 53 to 55). Whoever
//! decides first (the controller, the first boot's service, the init monitor) creates the file, whole and durable, if there is none;
//! everybody obeys what stands in it, and nobody changes it. It stays for as long as the stateroot: a completed upgrade is never
//! rolled back automatically, whatever happens to the other records. `docs/rollback.md` has the table of what each reader does
//! with each content.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// The longest reason, in bytes: a condition's text has room for more, and this is kept on a disk that may be full.
const REASON_LIMIT: usize = 1024;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The target stays.
    Completed,
    /// The node goes back to the origin.
    Rollback,
}

impl Outcome {
    /// The word in the file and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Rollback => "rollback",
        }
    }
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judge {
    /// The controller, by health and by failures behind the first boot.
    Controller,
    /// The service of the first boot.
    PostPivot,
    /// The init monitor, by its deadline or its count of boots.
    InitMonitor,
    /// The user, by asking for Rollback before the upgrade had completed.
    User,
}

impl Judge {
    /// The word in the file and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::PostPivot => "post-pivot",
            Self::InitMonitor => "init-monitor",
            Self::User => "user",
        }
    }
}

/// The content of the file, inside the frame with a checksum that all records have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// [`FORMAT`].
    pub format: u32,
    /// What was decided.
    pub outcome: Outcome,
    /// Who decided.
    pub judge: Judge,
    /// Why, on one line, without secrets; becomes the text of the condition. At most 1,024 bytes.
    pub reason: String,
    /// When, by the wall clock: for people.
    pub decided_at: Timestamp,
    /// In which boot.
    pub boot_id: String,
}

impl Verdict {
    /// A verdict of now. The reason is brought onto one line and cut off where it is too long.
    #[must_use]
    pub fn new(
        outcome: Outcome,
        judge: Judge,
        reason: &str,
        decided_at: Timestamp,
        boot_id: &str,
    ) -> Self {
        Self {
            format: FORMAT,
            outcome,
            judge,
            reason: bounded(reason),
            decided_at,
            boot_id: boot_id.to_owned(),
        }
    }
}

/// The reason as a verdict holds it.
#[must_use]
pub fn bounded(reason: &str) -> String {
    let line = reason.replace(char::is_control, " ");
    if line.len() <= REASON_LIMIT {
        return line;
    }
    let room = REASON_LIMIT - "...".len();
    let ends = line
        .char_indices()
        .map(|(at, letter)| at + letter.len_utf8());
    let end = ends.take_while(|end| *end <= room).last();
    format!(
        "{}...",
        line.get(..end.unwrap_or_default()).unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_has_this_text() {
        let verdict = Verdict::new(
            Outcome::Rollback,
            Judge::InitMonitor,
            "too late\nby far",
            Timestamp::from_unix(1_700_000_000),
            "boot-1",
        );
        let text = r#"{"format":1,"outcome":"rollback","judge":"init-monitor","reason":"too late by far","decidedAt":"2023-11-14T22:13:20Z","bootId":"boot-1"}"#;
        assert_eq!(serde_json::to_string(&verdict).unwrap(), text);
        assert_eq!(serde_json::from_str::<Verdict>(text).unwrap(), verdict);
        for outcome in [Outcome::Completed, Outcome::Rollback] {
            let word = serde_json::to_value(outcome).unwrap();
            assert_eq!(word, outcome.as_str());
        }
        for judge in [
            Judge::Controller,
            Judge::PostPivot,
            Judge::InitMonitor,
            Judge::User,
        ] {
            assert_eq!(serde_json::to_value(judge).unwrap(), judge.as_str());
        }
    }

    #[test]
    fn reasons_are_bounded() {
        let check = |text: &str, length: usize| assert_eq!(bounded(text).len(), length);
        check("short", 5);
        check(&"x".repeat(1024), 1024);
        check(&"x".repeat(1025), 1024);
        // No letter is cut in two.
        check(&"ä".repeat(1000), 1023);
    }
}
