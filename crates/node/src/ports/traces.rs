//! What boots leave behind that is none of our files: the system's journal, units, and what the kernel says when it panics.

use api::DeploymentId;

/// One part of what is left.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trace {
    /// A file name for it: letters, digits, `-` and `.`.
    pub name: String,
    /// Its text, not redacted; `Err` says why it cannot be had.
    pub content: Result<Vec<u8>, String>,
}

/// Collecting for people who want to know why a release failed.
pub trait Traces: Send + Sync {
    /// What the boots of this release have left, what matters most first: the end of its journal, and what the kernel left of a
    /// panic; where it `runs`, the states of its units too. Changes nothing, takes at most 20 seconds and a few MiB, and does not
    /// fail as a whole.
    fn left_by(&self, release: &DeploymentId, runs: bool) -> Vec<Trace>;
}
