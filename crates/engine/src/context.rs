//! What a step may ask and tell while it runs.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};

use crate::{Event, EventSink, StepRef, StopToken};

/// What a step's progress counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Whole objects: files, images, manifests.
    Items,
}

/// How far a step is. Never journaled; readers may drop any of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Units finished so far.
    pub done: u64,
    /// Units altogether, where known.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
    /// What is worked on now, for people: an image, a file. Empty if there is nothing to name.
    pub object: String,
}

/// Given to every call of a step: whether to stop, and where to report progress.
pub struct StepContext<'a> {
    stop: &'a StopToken,
    step: StepRef,
    events: RefCell<&'a mut dyn EventSink>,
}

impl<'a> StepContext<'a> {
    /// The context of one step. The engine makes its own; this is for testing a step alone.
    pub fn new(stop: &'a StopToken, step: StepRef, events: &'a mut dyn EventSink) -> Self {
        Self {
            stop,
            step,
            events: RefCell::new(events),
        }
    }

    /// Whether the run was asked to stop. A step that takes longer than a moment asks at every
    /// chunk and gives up with any error: while a stop is asked for, errors count as stopped.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    /// The token itself, for threads that a step starts and joins.
    #[must_use]
    pub fn stop_token(&self) -> &StopToken {
        self.stop
    }

    /// Which step of the plan this is.
    #[must_use]
    pub fn step(&self) -> &StepRef {
        &self.step
    }

    /// Reports progress as [`Event::StepProgress`]. Call it as often as is natural, but not per
    /// byte: limiting the rate is the reader's business.
    pub fn progress(&self, progress: Progress) {
        // Borrowed already only if a reader called back into the step: lossy by contract.
        if let Ok(mut events) = self.events.try_borrow_mut() {
            events.record(&Event::StepProgress {
                step: self.step.clone(),
                progress,
            });
        }
    }
}
