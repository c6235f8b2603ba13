//! The run loop.

use std::io;

use serde::{Deserialize, Serialize};

use crate::entry::bounded;
use crate::work::kind_name;
use crate::{
    Conclusion, Entry, Event, EventSink, Journal, JournalError, JournalState, Presence,
    StepContext, StepError, StepRef, StopToken, Work, error_chain,
};

/// How one execution ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<K> {
    /// Every step is done and the journal is closed.
    Completed,
    /// A step failed. The journal is open: run it again to retry, or close it.
    Failed {
        /// The step.
        step: StepRef,
        /// The error's kind.
        kind: K,
        /// The error's chain, at most [`crate::ERROR_TEXT_LIMIT`] bytes.
        error: String,
    },
    /// Stopped on request. The journal is open: run it again to resume, or close it.
    Stopped {
        /// The step that was next or was interrupted.
        step: StepRef,
    },
    /// The journal could not be written. Open it again to resume.
    JournalFailed {
        /// The error's chain.
        error: String,
        /// Whether a full disk was the reason.
        no_space: bool,
    },
}

/// Carries out the plan of an open journal: from the start if it is fresh, else from where the
/// journal and the world say.
///
/// Flow: on resume every step that the journal has as done is probed; from the first one that is
/// absent ([`Event::WorldDisagreed`]) or was not done, each step is started (durable), probed,
/// applied unless present, settled, done (durable). `stop` is checked before each.
///
/// Guarantees: an effect is never applied when the world shows it; `done` is written only after a
/// settle that succeeded in this execution; every event about a step follows its journal entry;
/// exactly one last event for which [`Event::ends_execution`] holds; an error while `stop` is set
/// counts as stopped. A run completed before is only told as completed again; one closed otherwise
/// is [`Outcome::JournalFailed`] and stays as it is.
///
/// `now` gives unix seconds; they are recorded, never compared.
pub fn run<W: Work>(
    work: &mut W,
    journal: &mut Journal<'_, W::Step>,
    events: &mut dyn EventSink,
    stop: &StopToken,
    now: &dyn Fn() -> u64,
) -> Outcome<W::Kind> {
    let mut execution = Execution {
        work,
        journal,
        events,
        stop,
        now,
    };
    match execution.carry_out() {
        Ok(()) => Outcome::Completed,
        Err(End::Failed { step, kind, error }) => Outcome::Failed { step, kind, error },
        Err(End::Stopped { step }) => Outcome::Stopped { step },
        Err(End::Journal(error)) => {
            let no_space = matches!(
                &error,
                JournalError::Store { source, .. } if source.kind() == io::ErrorKind::StorageFull
            );
            let error = bounded(error_chain(&error));
            let at = now();
            events.record(&Event::JournalFailed {
                error: error.clone(),
                at,
            });
            Outcome::JournalFailed { error, no_space }
        }
    }
}

/// Why an execution ended early.
enum End<K> {
    Failed {
        step: StepRef,
        kind: K,
        error: String,
    },
    Stopped {
        step: StepRef,
    },
    Journal(JournalError),
}

impl<K> From<JournalError> for End<K> {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

struct Execution<'a, 's, W: Work> {
    work: &'a mut W,
    journal: &'a mut Journal<'s, W::Step>,
    events: &'a mut dyn EventSink,
    stop: &'a StopToken,
    now: &'a dyn Fn() -> u64,
}

impl<W: Work> Execution<'_, '_, W> {
    fn carry_out(&mut self) -> Result<(), End<W::Kind>> {
        if let Some(at) = self.journal.completed_at() {
            // Completed by a process that died before it could say so to anybody.
            self.events.record(&Event::RunCompleted { at });
            return Ok(());
        }
        let first = self.begin()?;
        let steps = self.journal.header().steps.clone();
        for (index, step) in steps.iter().enumerate().skip(first) {
            self.carry_out_step(index, step)?;
        }
        let at = (self.now)();
        self.journal.close(Conclusion::Completed, self.events, at)?;
        Ok(())
    }

    /// Tells the beginning; returns the step to go on with.
    fn begin(&mut self) -> Result<usize, End<W::Kind>> {
        let run = self.journal.header().run.clone();
        if let Some(dropped) = self.journal.take_dropped() {
            self.events.record(&Event::JournalRepaired {
                run: run.clone(),
                dropped,
            });
        }
        let plan = self.journal.header().plan_name.clone();
        let steps = self.journal.header().names.clone();
        if self.journal.is_fresh() {
            let at = self.journal.header().started;
            self.events.record(&Event::RunStarted {
                run,
                plan,
                steps,
                at,
            });
            return Ok(0);
        }
        self.journal.compact()?;
        let at = (self.now)();
        self.journal.append(Entry::Resumed { at })?;
        let done = match self.journal.state() {
            JournalState::Between { done } | JournalState::Running { index: done } => done,
            // `Resumed` after `Closed` was refused above.
            JournalState::Closed { .. } => 0,
        };
        self.events.record(&Event::RunResumed {
            run,
            plan,
            steps,
            done,
            at,
        });
        self.first_missing(done)
    }

    /// Probes the steps that the journal has as done; returns the first one to carry out.
    fn first_missing(&mut self, done: usize) -> Result<usize, End<W::Kind>> {
        let steps = self.journal.header().steps.clone();
        for (index, step) in steps.iter().enumerate().take(done) {
            self.check_stop(index)?;
            let probed = self.call(index, |work, context| work.probe(step, context));
            match probed {
                Ok(Presence::Present) => {}
                Ok(Presence::Absent) => {
                    let at = (self.now)();
                    self.events.record(&Event::WorldDisagreed {
                        step: self.name(index),
                        at,
                    });
                    return Ok(index);
                }
                Err(error) => return Err(self.end_step(index, error)),
            }
        }
        Ok(done)
    }

    fn carry_out_step(&mut self, index: usize, step: &W::Step) -> Result<(), End<W::Kind>> {
        self.check_stop(index)?;
        let name = self.name(index);
        let at = (self.now)();
        self.journal.append(Entry::Started {
            index,
            name: name.name.clone(),
            at,
        })?;
        self.events.record(&Event::StepStarted {
            step: name.clone(),
            at,
        });
        let effected = self.call(index, |work, context| {
            let presence = work.probe(step, context)?;
            if presence == Presence::Absent {
                work.apply(step, context)?;
            }
            work.settle(step, context)?;
            Ok(presence)
        });
        match effected {
            Ok(presence) => {
                let at = (self.now)();
                self.journal.append(Entry::Done {
                    index,
                    presence,
                    at,
                })?;
                self.events.record(&Event::StepDone {
                    step: name,
                    presence,
                    at,
                });
                Ok(())
            }
            Err(error) => Err(self.end_step(index, error)),
        }
    }

    fn call<T>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut W, &StepContext<'_>) -> Result<T, StepError<W::Kind>>,
    ) -> Result<T, StepError<W::Kind>> {
        let step = self.name(index);
        let context = StepContext::new(self.stop, step, self.events);
        act(self.work, &context)
    }

    fn check_stop(&mut self, index: usize) -> Result<(), End<W::Kind>> {
        if self.stop.is_stopped() {
            Err(self.end_stopped(index, None))
        } else {
            Ok(())
        }
    }

    /// Records why a step did not get done.
    fn end_step(&mut self, index: usize, error: StepError<W::Kind>) -> End<W::Kind> {
        let text = bounded(error_chain(&error));
        if self.stop.is_stopped() {
            return self.end_stopped(index, Some(text));
        }
        let step = self.name(index);
        let kind = kind_name(error.kind);
        let at = (self.now)();
        let entry = Entry::Failed {
            index,
            kind: kind.clone(),
            error: text.clone(),
            at,
        };
        if let Err(error) = self.journal.append(entry) {
            return End::Journal(error);
        }
        self.events.record(&Event::StepFailed {
            step: step.clone(),
            kind,
            error: text.clone(),
            at,
        });
        self.events.record(&Event::RunFailed {
            step: step.clone(),
            at,
        });
        End::Failed {
            step,
            kind: error.kind,
            error: text,
        }
    }

    fn end_stopped(&mut self, index: usize, error: Option<String>) -> End<W::Kind> {
        let step = self.name(index);
        let at = (self.now)();
        if let Err(error) = self.journal.append(Entry::Stopped { index, error, at }) {
            return End::Journal(error);
        }
        self.events.record(&Event::RunStopped {
            step: step.clone(),
            at,
        });
        End::Stopped { step }
    }

    fn name(&self, index: usize) -> StepRef {
        let name = self
            .journal
            .header()
            .names
            .get(index)
            .cloned()
            .unwrap_or_default();
        StepRef { index, name }
    }
}
