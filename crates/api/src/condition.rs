//! Conditions: what users and tools read to see where an upgrade is (C 2.4).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::null;
use crate::stage::Stage;
use crate::time::Timestamp;

/// The most characters that the schema allows in a condition's message (C 1.3).
pub const MESSAGE_LIMIT: usize = 32_768;

/// A condition as it stands in `status.conditions`.
///
/// `type_` and `reason` are kept as text, so that no object is unreadable because somebody else
/// wrote a condition into it; [`Self::kind`] and [`Self::known_reason`] give the closed enums.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// One of [`ConditionType`] in everything that we write.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether the condition holds.
    pub status: ConditionStatus,
    /// The `metadata.generation` that the condition speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    #[serde(default, deserialize_with = "null::as_default")]
    pub last_transition_time: Timestamp,
    /// One of [`Reason`] in everything that we write.
    #[serde(default, deserialize_with = "null::as_default")]
    pub reason: String,
    /// For people; never longer than [`MESSAGE_LIMIT`] in what we write.
    #[serde(default, deserialize_with = "null::as_default")]
    pub message: String,
}

impl Condition {
    /// A condition with its message bounded by [`bounded_message`].
    #[must_use]
    pub fn new(
        kind: ConditionType,
        status: ConditionStatus,
        reason: Reason,
        message: &str,
        observed_generation: i64,
        last_transition_time: Timestamp,
    ) -> Self {
        Self {
            type_: kind.as_str().to_owned(),
            status,
            observed_generation: Some(observed_generation),
            last_transition_time,
            reason: reason.as_str().to_owned(),
            message: bounded_message(message),
        }
    }

    /// The type, unless it is none of ours.
    #[must_use]
    pub fn kind(&self) -> Option<ConditionType> {
        self.type_.parse().ok()
    }

    /// The reason, unless it is none of ours.
    #[must_use]
    pub fn known_reason(&self) -> Option<Reason> {
        self.reason.parse().ok()
    }
}

/// Defines a closed set of words with its text forms in both directions.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$doc:meta])* $variant:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word as it is written.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $(stringify!($variant) => Ok(Self::$variant),)*
                    other => {
                        Err(UnknownWord { what: $what, text: crate::excerpt::excerpt(other) })
                    }
                }
            }
        }
    };
}

/// A condition type or reason that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} \"{text}\"")]
pub struct UnknownWord {
    what: &'static str,
    text: String,
}

words! {
    /// The seven condition types (C 2.4).
    ConditionType, "condition type" {
        /// True when nothing is in progress; False with the reason why not.
        Idle,
        /// True while Prep runs.
        PrepInProgress,
        /// True when Prep succeeded, False when it failed.
        PrepCompleted,
        /// True while Upgrade runs, across the reboot.
        UpgradeInProgress,
        /// True when Upgrade succeeded, False when it failed.
        UpgradeCompleted,
        /// True while Rollback runs, across the reboot.
        RollbackInProgress,
        /// True when Rollback succeeded, False when it failed.
        RollbackCompleted,
    }
}

impl ConditionType {
    /// The condition that says whether the stage is in progress (C 2.4, second table).
    #[must_use]
    pub const fn in_progress(stage: Stage) -> Self {
        match stage {
            Stage::Idle => Self::Idle,
            Stage::Prep => Self::PrepInProgress,
            Stage::Upgrade => Self::UpgradeInProgress,
            Stage::Rollback => Self::RollbackInProgress,
        }
    }

    /// The condition that says how the stage ended (C 2.4, second table).
    #[must_use]
    pub const fn completed(stage: Stage) -> Self {
        match stage {
            Stage::Idle => Self::Idle,
            Stage::Prep => Self::PrepCompleted,
            Stage::Upgrade => Self::UpgradeCompleted,
            Stage::Rollback => Self::RollbackCompleted,
        }
    }
}

words! {
    /// The reasons of conditions (C 2.4).
    Reason, "condition reason" {
        /// Nothing in progress.
        Idle,
        /// The stage succeeded.
        Completed,
        /// The stage failed.
        Failed,
        /// Part of the contract, written by nobody.
        TimedOut,
        /// The stage runs.
        InProgress,
        /// An abort runs.
        Aborting,
        /// Part of the contract, written by nobody.
        AbortCompleted,
        /// An abort could not clean up.
        AbortFailed,
        /// A finalize runs.
        Finalizing,
        /// Part of the contract, written by nobody.
        FinalizeCompleted,
        /// A finalize could not clean up.
        FinalizeFailed,
        /// The requested stage is not possible now.
        InvalidTransition,
        /// The IP configuration flow holds the node.
        Blocked,
        /// The counterpart of `Blocked` on the IP configuration's object.
        ConfigurationInProgress,
    }
}

/// Whether a condition holds. Anything else than the two certain words reads as `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows; we never write it.
    #[serde(other)]
    Unknown,
}

impl ConditionStatus {
    /// The word as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The message, or its head and tail with a note between them if it is longer than
/// [`MESSAGE_LIMIT`] bytes (which is at most as many characters as the schema counts).
///
/// Both ends are kept because errors say what failed first and why last. Cuts fall between
/// characters.
#[must_use]
pub fn bounded_message(message: &str) -> String {
    const NOTE: &str = " ... (shortened) ... ";
    if message.len() <= MESSAGE_LIMIT {
        return message.to_owned();
    }
    let half = (MESSAGE_LIMIT - NOTE.len()) / 2;
    let mut head = half;
    while !message.is_char_boundary(head) {
        head -= 1;
    }
    let mut tail = message.len() - half;
    while !message.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{}{NOTE}{}", &message[..head], &message[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for kind in ConditionType::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
        }
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
        let error = "Ready".parse::<ConditionType>().unwrap_err();
        assert_eq!(error.to_string(), "unknown condition type \"Ready\"");
        let error = "idle".parse::<Reason>().unwrap_err();
        assert_eq!(error.to_string(), "unknown condition reason \"idle\"");
    }

    #[test]
    fn conditions_print_as_kubernetes_writes_them() {
        let condition = Condition::new(
            ConditionType::PrepInProgress,
            ConditionStatus::True,
            Reason::InProgress,
            "In progress",
            3,
            "2024-02-01T19:05:00Z".parse().unwrap(),
        );
        let text = r#"{"type":"PrepInProgress","status":"True","observedGeneration":3,"lastTransitionTime":"2024-02-01T19:05:00Z","reason":"InProgress","message":"In progress"}"#;
        assert_eq!(serde_json::to_string(&condition).unwrap(), text);
        assert_eq!(serde_json::from_str::<Condition>(text).unwrap(), condition);
    }

    #[test]
    fn foreign_conditions_are_read() {
        let text = r#"{"type":"Ready","status":"Maybe","lastTransitionTime":null,"reason":"X"}"#;
        let condition: Condition = serde_json::from_str(text).unwrap();
        assert_eq!(condition.kind(), None);
        assert_eq!(condition.known_reason(), None);
        assert_eq!(condition.status, ConditionStatus::Unknown);
        assert_eq!(condition.last_transition_time, Timestamp::default());
    }

    #[test]
    fn messages_are_bounded_and_keep_both_ends() {
        let check = |message: &str, whole: bool| {
            let bounded = bounded_message(message);
            assert!(bounded.len() <= MESSAGE_LIMIT, "{}", bounded.len());
            assert_eq!(bounded == message, whole);
            let (head, tail) = (message.chars().next(), message.chars().last());
            assert_eq!(bounded.chars().next(), head);
            assert_eq!(bounded.chars().last(), tail);
        };
        check("", true);
        check(&"x".repeat(MESSAGE_LIMIT), true);
        check(&format!("a{}z", "x".repeat(MESSAGE_LIMIT - 1)), false);
        for shift in 0..4 {
            check(
                &format!("{}{}", "a".repeat(shift), "💥".repeat(20_000)),
                false,
            );
        }
    }
}
