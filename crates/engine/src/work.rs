//! What the caller gives the engine: steps and how they are carried out.

use std::error::Error;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::StepContext;

/// What a program runs: its steps, how each is carried out, and the kinds of its errors.
///
/// # What a step must promise
///
/// - `probe` is cheap, changes nothing, and answers from the world, never from memory.
/// - Once done, a step stays `Present` until the run is closed: no later step of the same plan
///   undoes it. On resume every done step is probed again, and an absent one is applied again.
/// - `apply` interrupted anywhere leaves a world in which `probe` says `Absent` or the whole effect
///   is there, and in which `apply` works again.
/// - `settle` makes the effect survive a power cut. It is called also when `probe` said `Present`,
///   because a killed predecessor may have left the effect in the page cache only.
pub trait Work {
    /// One step, complete in itself: carrying it out makes no choices. Never holds secrets, since
    /// it is written to the journal.
    type Step: Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug;
    /// The caller's classes of error. Should serialize as a string (an enum without fields).
    type Kind: Serialize + DeserializeOwned + Copy + Eq + fmt::Debug;

    /// The step's name in journal and events, for example `deploy-stateroot`.
    fn name(step: &Self::Step) -> &'static str;

    /// Whether the step's effect is there already.
    ///
    /// # Errors
    /// When the world cannot be asked.
    fn probe(
        &mut self,
        step: &Self::Step,
        context: &StepContext<'_>,
    ) -> Result<Presence, StepError<Self::Kind>>;

    /// Brings the effect about. A long one asks [`StepContext::stopped`] often and gives up with
    /// any error once it is true.
    ///
    /// # Errors
    /// When the effect could not be brought about.
    fn apply(
        &mut self,
        step: &Self::Step,
        context: &StepContext<'_>,
    ) -> Result<(), StepError<Self::Kind>>;

    /// Makes the effect durable; returns when it is.
    ///
    /// # Errors
    /// When that is not certain.
    fn settle(
        &mut self,
        step: &Self::Step,
        context: &StepContext<'_>,
    ) -> Result<(), StepError<Self::Kind>>;
}

/// Answer of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// The effect is missing or incomplete: the step must be applied.
    Absent,
    /// The whole effect is there, though perhaps not durable yet.
    Present,
}

/// Why a step failed: the error, and its class chosen where the error was understood.
///
/// Displays as `source` does; the chain continues with the source's own source.
#[derive(Debug)]
pub struct StepError<K> {
    /// What follows from the failure is decided from this alone.
    pub kind: K,
    /// What happened, for people.
    pub source: Box<dyn Error + Send + Sync>,
}

impl<K> StepError<K> {
    /// An error of a kind; `source` may be a plain string.
    pub fn new(kind: K, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            source: source.into(),
        }
    }
}

impl<K> fmt::Display for StepError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl<K: fmt::Debug> Error for StepError<K> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

/// Prints an error and its sources, outermost first, joined by `": "`.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    // Far above any real chain; ends one whose sources form a ring.
    const LEVELS: usize = 64;
    let mut text = error.to_string();
    let mut next = error.source();
    for _ in 1..LEVELS {
        let Some(source) = next else { break };
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// A kind as journal and events write it: its serialized form, without quotes when it is a string.
pub(crate) fn kind_name<K: Serialize + fmt::Debug>(kind: K) -> String {
    match serde_json::to_value(&kind) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(_) => format!("{kind:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_chain_prints_each_level_once() {
        let chain = |e: StepError<u8>| error_chain(&e);
        assert_eq!(chain(StepError::new(0, "plain")), "plain");
        let nested = Outer(std::io::Error::other("no space"));
        assert_eq!(chain(StepError::new(0, nested)), "outer: no space");
    }

    #[test]
    fn a_kind_is_written_as_its_serialized_name() {
        assert_eq!(kind_name(Presence::Absent), "absent");
        assert_eq!(kind_name(7u8), "7");
    }
}
