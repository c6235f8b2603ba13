//! What happens in a run, told once to any number of readers.

use serde::{Deserialize, Serialize};

use crate::{Conclusion, Presence, Progress, RunId};

/// Which step of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRef {
    /// Position in the plan, from 0.
    pub index: usize,
    /// The step's journal name.
    pub name: String,
}

/// Something that happened in a run. Whatever the journal records is told after it is durable there.
///
/// One execution (one call of [`crate::run`]) begins with `RunStarted` or `RunResumed` (before it
/// at most `JournalRepaired`; a run completed before is told by `RunCompleted` alone) and ends with exactly one event for which [`Event::ends_execution`]
/// holds. A run ends for good with exactly one for which [`Event::ends_run`] holds. Times are the
/// caller's, in unix seconds.
///
/// Old readers see events added later as [`Event::Unknown`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A new run began; nothing has been done yet.
    RunStarted {
        /// The run.
        run: RunId,
        /// The plan's name.
        plan: String,
        /// Journal names of the plan's steps, in order.
        steps: Vec<String>,
        /// When.
        at: u64,
    },
    /// A run went on after a stop, a failure, or the end of the process that ran it.
    RunResumed {
        /// The run.
        run: RunId,
        /// The plan's name.
        plan: String,
        /// Journal names of the plan's steps, in order.
        steps: Vec<String>,
        /// How many steps, from the first, the journal has as done.
        done: usize,
        /// When.
        at: u64,
    },
    /// The journal ended in a line cut off by a crash; the line was dropped. What it would have
    /// said is found out again by probing.
    JournalRepaired {
        /// The run.
        run: RunId,
        /// Bytes dropped.
        dropped: u64,
    },
    /// A step began.
    StepStarted {
        /// The step.
        step: StepRef,
        /// When.
        at: u64,
    },
    /// A step got further. Lossy: any reader may drop any of these.
    StepProgress {
        /// The step.
        step: StepRef,
        /// How far.
        progress: Progress,
    },
    /// A step's effect is there and durable.
    StepDone {
        /// The step.
        step: StepRef,
        /// What the probe found: `Present` means that nothing had to be done.
        presence: Presence,
        /// When.
        at: u64,
    },
    /// A step failed. The execution ends; whether the run does is for the caller to decide.
    StepFailed {
        /// The step.
        step: StepRef,
        /// The error's kind, as the caller's type serializes.
        kind: String,
        /// The error's chain, at most [`crate::ERROR_TEXT_LIMIT`] bytes.
        error: String,
        /// When.
        at: u64,
    },
    /// The journal has the step as done, but its effect is not there. The world wins: the run goes
    /// on from this step. (A step that is present before the journal knows it is no disagreement:
    /// a killed predecessor did it, and `StepDone` says `Present`.)
    WorldDisagreed {
        /// The step.
        step: StepRef,
        /// When.
        at: u64,
    },
    /// All steps are done. Ends the execution and the run.
    RunCompleted {
        /// When.
        at: u64,
    },
    /// The execution was stopped on request. The run may be resumed, or closed.
    RunStopped {
        /// The step that was next or was interrupted.
        step: StepRef,
        /// When.
        at: u64,
    },
    /// The execution failed, as the `StepFailed` before it says. The run may be resumed, or closed.
    RunFailed {
        /// The step.
        step: StepRef,
        /// When.
        at: u64,
    },
    /// The execution ended because the journal could not be written. Nothing is known to be wrong
    /// with the world; the run may be resumed after opening the journal again.
    JournalFailed {
        /// The error's chain.
        error: String,
        /// When.
        at: u64,
    },
    /// The run was closed without being completed and will not be resumed. Ends the run.
    RunClosed {
        /// The run.
        run: RunId,
        /// How it ended; never `Completed`.
        conclusion: Conclusion,
        /// When.
        at: u64,
    },
    /// An event of a newer version.
    #[serde(other)]
    Unknown,
}

impl Event {
    /// Whether this is the last event of one execution (one call of [`crate::run`]).
    #[must_use]
    pub fn ends_execution(&self) -> bool {
        match self {
            Self::RunCompleted { .. }
            | Self::RunStopped { .. }
            | Self::RunFailed { .. }
            | Self::JournalFailed { .. } => true,
            Self::RunStarted { .. }
            | Self::RunResumed { .. }
            | Self::JournalRepaired { .. }
            | Self::StepStarted { .. }
            | Self::StepProgress { .. }
            | Self::StepDone { .. }
            | Self::StepFailed { .. }
            | Self::WorldDisagreed { .. }
            | Self::RunClosed { .. }
            | Self::Unknown => false,
        }
    }

    /// Whether this is the last event of the run: it will not be resumed.
    #[must_use]
    pub fn ends_run(&self) -> bool {
        matches!(self, Self::RunCompleted { .. } | Self::RunClosed { .. })
    }

    /// Whether a reader that is too slow may drop it without folding wrongly.
    #[must_use]
    pub fn lossy(&self) -> bool {
        matches!(self, Self::StepProgress { .. })
    }
}

/// A reader of events. Called on the worker's thread: it must not block.
pub trait EventSink {
    /// Takes note of one event.
    fn record(&mut self, event: &Event);
}

impl EventSink for Vec<Event> {
    fn record(&mut self, event: &Event) {
        self.push(event.clone());
    }
}

/// Any closure over events is a reader.
impl<F: FnMut(&Event)> EventSink for F {
    fn record(&mut self, event: &Event) {
        self(event);
    }
}
