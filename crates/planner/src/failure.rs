//! Kinds of failure and what follows from each: the one table that decides between retrying, failing and stopping.

use serde::{Deserialize, Serialize};

use crate::facts::RunFact;

/// What kind of failure an operation met, chosen where the failure is understood (architecture, section 3).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// Something outside was away or slow: the same attempt may succeed later.
    Transient,
    /// Somebody else holds what is needed (a sysroot lock, a running transaction); it will be free later.
    Busy,
    /// The same attempt will fail again until somebody changes the input.
    Permanent,
    /// The world is not what the records say; nothing may be deleted on such ground.
    Contradiction,
    /// A stop was asked for, or the process ended, in the middle of the work.
    Interrupted,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Disposition {
    /// Run the same work again after this many seconds.
    Retry {
        /// Seconds to wait before the next attempt.
        after: u64,
    },
    /// The stage has failed; its message says why.
    Fail,
    /// Go on where the work was left.
    Resume,
}

/// Longest wait between two attempts, in seconds. The Go original's backoff grows to 16 minutes, more than half of
/// the time an upgrade has (contract 2.1).
pub const LONGEST_BACKOFF: u64 = 30;

/// Seconds to wait before attempt `attempt + 1`, when `attempt` attempts (counted from 1) have failed: 1, 2, 4, 8, 16
/// and then [`LONGEST_BACKOFF`].
pub fn backoff(attempt: u32) -> u64 {
    1u64.checked_shl(attempt.saturating_sub(1))
        .map_or(LONGEST_BACKOFF, |wait| wait.clamp(1, LONGEST_BACKOFF))
}

/// The table. A contradiction fails the stage like a permanent failure does: the stage stops where it is, and failing
/// deletes nothing.
pub fn disposition(kind: ErrorKind, attempt: u32) -> Disposition {
    match kind {
        ErrorKind::Transient | ErrorKind::Busy => Disposition::Retry {
            after: backoff(attempt),
        },
        ErrorKind::Permanent | ErrorKind::Contradiction => Disposition::Fail,
        ErrorKind::Interrupted => Disposition::Resume,
    }
}

/// Whether a run that failed for good is to be tried again all the same: for work that nobody can do without.
pub(crate) fn due(run: &RunFact) -> bool {
    matches!(run, RunFact::Failed { since, .. } if *since >= LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_and_stays_below_its_cap() {
        let waits: Vec<u64> = (0..9).chain([40, 64, 65, u32::MAX]).map(backoff).collect();
        assert_eq!(waits, [1, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30]);
    }
}
