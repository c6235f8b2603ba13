//! Which histories a journal may tell.

use crate::{Conclusion, Entry};

/// Where a journal's history stands. Done steps are always the first ones of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalState {
    /// No step is running; the first `done` steps are done.
    Between {
        /// How many.
        done: usize,
    },
    /// Step `index` was started and its end is not recorded; all before it are done.
    Running {
        /// Which.
        index: usize,
    },
    /// The run is over.
    Closed {
        /// How it ended.
        conclusion: Conclusion,
    },
}

/// An entry that cannot follow the history before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry:?} cannot follow {state:?} in a plan of {steps} steps")]
pub struct Illegal {
    /// The state before it.
    pub state: JournalState,
    /// The entry.
    pub entry: Entry,
    /// How many steps the plan has.
    pub steps: usize,
}

impl JournalState {
    /// The state of a journal that has only a header.
    pub const START: Self = Self::Between { done: 0 };

    /// How many steps, from the first, are done. All of them for a run closed as completed, and
    /// unknown (`None`) for one closed otherwise.
    #[must_use]
    pub fn done(self, steps: usize) -> Option<usize> {
        match self {
            Self::Between { done } => Some(done),
            Self::Running { index } => Some(index),
            Self::Closed {
                conclusion: Conclusion::Completed,
            } => Some(steps),
            Self::Closed { .. } => None,
        }
    }

    /// The state after `entry`, in a plan of `steps` steps.
    ///
    /// # Errors
    /// [`Illegal`] for every entry that the run loop would not write there.
    pub fn after(self, entry: &Entry, steps: usize) -> Result<Self, Illegal> {
        use JournalState::{Between, Closed, Running};
        match (entry, self) {
            (Entry::Resumed { .. }, Between { done }) => Ok(Between { done }),
            // The process died inside the step, or in writing how it ended.
            (Entry::Resumed { .. }, Running { index }) => Ok(Between { done: index }),

            // Going back to a done step (the world lost it) voids what follows it.
            (Entry::Started { index, .. }, Between { done })
                if *index <= done && *index < steps =>
            {
                Ok(Running { index: *index })
            }

            (Entry::Done { index, .. }, Running { index: running }) if *index == running => {
                Ok(Between { done: running + 1 })
            }

            (Entry::Failed { index, .. }, Running { index: running }) if *index == running => {
                Ok(Between { done: running })
            }
            // A done step could not be probed again: it stays done.
            (Entry::Failed { index, .. }, Between { done }) if *index < done => {
                Ok(Between { done })
            }

            (Entry::Stopped { index, .. }, Running { index: running }) if *index == running => {
                Ok(Between { done: running })
            }
            (Entry::Stopped { index, .. }, Between { done })
                if *index <= done && *index < steps =>
            {
                Ok(Between { done })
            }

            (Entry::Closed { conclusion, .. }, Between { done }) => match conclusion {
                Conclusion::Completed if done != steps => Err(()),
                conclusion => Ok(Closed {
                    conclusion: *conclusion,
                }),
            },
            (Entry::Closed { conclusion, .. }, Running { .. })
                if *conclusion != Conclusion::Completed =>
            {
                Ok(Closed {
                    conclusion: *conclusion,
                })
            }

            (Entry::Started { .. }, Between { .. } | Running { .. })
            | (Entry::Done { .. }, Between { .. } | Running { .. })
            | (Entry::Failed { .. }, Between { .. } | Running { .. })
            | (Entry::Stopped { .. }, Between { .. } | Running { .. })
            | (Entry::Closed { .. }, Running { .. })
            | (_, Closed { .. }) => Err(()),
        }
        .map_err(|()| Illegal {
            state: self,
            entry: entry.clone(),
            steps,
        })
    }
}

/// The shortest history with the same meaning: what later entries made void is left out.
///
/// A step retried for days would otherwise fill the disk with its failures.
pub(crate) fn canonical(entries: &[Entry]) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::new();
    let mut done = 0;
    for entry in entries {
        match entry {
            Entry::Started { index, .. } => {
                kept.retain(|old| {
                    matches!(old, Entry::Started { index: i, .. } | Entry::Done { index: i, .. }
                        if i < index)
                });
                done = *index;
            }
            Entry::Resumed { .. } => kept.retain(|old| match old {
                Entry::Started { .. } | Entry::Done { .. } => true,
                Entry::Failed { index, .. } => *index == done,
                Entry::Resumed { .. } | Entry::Stopped { .. } | Entry::Closed { .. } => false,
            }),
            Entry::Done { index, .. } => done = index + 1,
            Entry::Failed { .. } | Entry::Stopped { .. } | Entry::Closed { .. } => {}
        }
        kept.push(entry.clone());
    }
    kept
}
