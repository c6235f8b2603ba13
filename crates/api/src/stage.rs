//! The four values that users write into `spec.stage`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;

/// A stage (C 1.2): what the user asks for, not where the upgrade is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Nothing in progress; asking for it aborts or finalizes.
    Idle,
    /// Install and precache the target release beside the running one.
    Prep,
    /// Switch to the target release and complete it after the reboot.
    Upgrade,
    /// Return to the origin release after the pivot.
    Rollback,
}

impl Stage {
    /// Every stage, in the order in which the controller looks for the one in progress (C 2.3).
    pub const ALL: [Self; 4] = [Self::Idle, Self::Prep, Self::Upgrade, Self::Rollback];

    /// The word in `spec.stage`, `validNextStages` and `history`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Prep => "Prep",
            Self::Upgrade => "Upgrade",
            Self::Rollback => "Rollback",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text in place of a stage that is none; the schema refuses it, an old or hand-made saved CR
/// may hold it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown stage \"{text}\": use one of Idle, Prep, Upgrade, Rollback")]
pub struct UnknownStage {
    /// The text, bounded and escaped.
    text: String,
}

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(text: &str) -> Result<Self, UnknownStage> {
        Self::ALL
            .into_iter()
            .find(|stage| stage.as_str() == text)
            .ok_or_else(|| UnknownStage {
                text: excerpt(text),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_reads_back() {
        for stage in Stage::ALL {
            assert_eq!(stage.as_str().parse(), Ok(stage));
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.as_str());
        }
    }

    #[test]
    fn anything_else_is_named_in_the_error() {
        for text in ["", "prep", " Prep", "Finalize"] {
            let error = text.parse::<Stage>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("unknown stage \"{text}\": use one of Idle, Prep, Upgrade, Rollback")
            );
        }
    }
}
