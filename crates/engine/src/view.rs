//! What a run looks like: the fold over its events, or over its journal.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::journal::closed_event;
use crate::replay::{Replay, replay};
use crate::{
    Conclusion, Entry, Event, Header, JournalError, Pace, Presence, Progress, RunId, StepRef,
};

/// A run as readers show it. Begin with [`RunView::from_journal`], [`crate::Journal::view`] or
/// [`RunView::default`] and fold events with [`RunView::apply`]; the result is the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunView {
    /// The run; `None` before its first event.
    pub run: Option<RunId>,
    /// The plan's name.
    pub plan_name: String,
    /// When the run began, unix seconds; `None` if the fold began with a resumed run.
    pub started: Option<u64>,
    /// When the last recorded thing happened, unix seconds.
    pub last_at: u64,
    /// The plan's steps.
    pub steps: Vec<StepView>,
    /// The step that runs now.
    pub current: Option<usize>,
    /// How far the current step is, where it told.
    pub progress: Option<Progress>,
    /// How fast the current step gets on. Known to folds by [`RunView::apply_at`] only, and never
    /// written down.
    #[serde(skip)]
    pub pace: Pace,
    /// The last failure, until the step that failed is done.
    pub last_error: Option<FailureView>,
    /// How the last execution or the run ended; `None` while it goes on or after a crash.
    pub end: Option<RunEnd>,
    /// Whether the run is over for good.
    pub closed: bool,
}

/// One step of a [`RunView`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// Journal name.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// When it was last started, unix seconds, if known.
    pub started: Option<u64>,
    /// When it was done or failed, unix seconds, if known.
    pub ended: Option<u64>,
    /// For a done step: whether it had been there already.
    pub presence: Option<Presence>,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Not begun, or interrupted.
    Pending,
    /// Begun.
    Running,
    /// Its effect is there and durable.
    Done,
    /// Its last attempt failed.
    Failed,
}

/// A failure of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    /// The step.
    pub step: StepRef,
    /// The error's kind, as the caller's type serializes.
    pub kind: String,
    /// The error's chain.
    pub error: String,
    /// When, unix seconds.
    pub at: u64,
}

impl FailureView {
    /// The kind as the caller's type; `None` if it is not one of its values.
    #[must_use]
    pub fn kind_as<K: DeserializeOwned>(&self) -> Option<K> {
        serde_json::from_value(Value::String(self.kind.clone())).ok()
    }
}

/// How an execution or a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunEnd {
    /// Every step is done.
    Completed,
    /// A step failed; [`RunView::last_error`] says how.
    Failed,
    /// Stopped on request.
    Stopped,
    /// Not gone on with: the journal cannot be written or used.
    Interrupted,
}

impl From<Conclusion> for RunEnd {
    fn from(conclusion: Conclusion) -> Self {
        match conclusion {
            Conclusion::Completed => Self::Completed,
            Conclusion::Failed => Self::Failed,
            Conclusion::Stopped => Self::Stopped,
            Conclusion::Interrupted => Self::Interrupted,
        }
    }
}

impl RunView {
    /// The view of a journal's bytes, of any program of this format; a last line cut off by a
    /// crash is ignored.
    ///
    /// # Errors
    /// [`JournalError`], but neither `OtherProgram` nor `Store`.
    pub fn from_journal(bytes: &[u8]) -> Result<Self, JournalError> {
        let Replay {
            header, entries, ..
        } = replay::<Value>(bytes, None)?;
        Ok(Self::of(&header, &entries))
    }

    /// The view of a journal read already.
    pub(crate) fn of<S>(header: &Header<S>, entries: &[Entry]) -> Self {
        let mut view = Self::default();
        view.apply(&Event::RunStarted {
            run: header.run.clone(),
            plan: header.plan_name.clone(),
            steps: header.names.clone(),
            at: header.started,
        });
        for entry in entries {
            view.apply_entry(header, entry);
        }
        view
    }

    fn apply_entry<S>(&mut self, header: &Header<S>, entry: &Entry) {
        let step = |index: usize| StepRef {
            index,
            name: header.names.get(index).cloned().unwrap_or_default(),
        };
        match entry {
            Entry::Resumed { at } => self.apply(&Event::RunResumed {
                run: header.run.clone(),
                plan: header.plan_name.clone(),
                steps: header.names.clone(),
                done: 0,
                at: *at,
            }),
            Entry::Started { index, at, .. } => {
                self.apply(&Event::StepStarted {
                    step: step(*index),
                    at: *at,
                });
            }
            Entry::Done {
                index,
                presence,
                at,
            } => self.apply(&Event::StepDone {
                step: step(*index),
                presence: *presence,
                at: *at,
            }),
            Entry::Failed {
                index,
                kind,
                error,
                at,
            } => {
                self.apply(&Event::StepFailed {
                    step: step(*index),
                    kind: kind.clone(),
                    error: error.clone(),
                    at: *at,
                });
                self.apply(&Event::RunFailed {
                    step: step(*index),
                    at: *at,
                });
            }
            Entry::Stopped { index, at, .. } => {
                self.apply(&Event::RunStopped {
                    step: step(*index),
                    at: *at,
                });
            }
            Entry::Closed { conclusion, at } => {
                self.apply(&closed_event(&header.run, *conclusion, *at));
            }
        }
    }

    /// Folds one event in and keeps the pace. `second` is of a clock that does not go back.
    pub fn apply_at(&mut self, event: &Event, second: u64) {
        let before = self.progress.as_ref().map(|progress| progress.unit);
        self.apply(event);
        if let (Event::StepProgress { .. }, Some(progress)) = (event, &self.progress) {
            if before.is_some_and(|unit| unit != progress.unit) {
                self.pace = Pace::default();
            }
            self.pace.observe(progress.done, second);
        }
    }

    /// Folds one event in. Events of another run begin its view anew.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::RunStarted {
                run,
                plan,
                steps,
                at,
            } => {
                *self = Self::begin(run, plan, steps);
                self.started = Some(*at);
                self.last_at = *at;
            }
            Event::RunResumed {
                run,
                plan,
                steps,
                done,
                at,
            } => {
                if self.run.as_ref() != Some(run) {
                    *self = Self::begin(run, plan, steps);
                    self.steps
                        .iter_mut()
                        .take(*done)
                        .for_each(|s| s.state = StepState::Done);
                }
                self.interrupt_step();
                self.end = None;
                self.last_at = *at;
            }
            Event::StepStarted { step, at } => {
                // Whatever was known of this step and later ones is void.
                for later in self.steps.iter_mut().skip(step.index) {
                    *later = StepView::pending(&later.name);
                }
                if let Some(own) = self.steps.get_mut(step.index) {
                    own.state = StepState::Running;
                    own.started = Some(*at);
                }
                self.current = Some(step.index);
                self.progress = None;
                self.pace = Pace::default();
                self.last_at = *at;
            }
            Event::StepProgress { step, progress } => {
                if self.current == Some(step.index) {
                    self.progress = Some(progress.clone());
                }
            }
            Event::StepDone { step, presence, at } => {
                if let Some(own) = self.steps.get_mut(step.index) {
                    own.state = StepState::Done;
                    own.ended = Some(*at);
                    own.presence = Some(*presence);
                }
                if self
                    .last_error
                    .as_ref()
                    .is_some_and(|e| e.step.index <= step.index)
                {
                    self.last_error = None;
                }
                self.leave_step(*at);
            }
            Event::StepFailed {
                step,
                kind,
                error,
                at,
            } => {
                // A done step that could not be probed again stays done.
                if let Some(own) = self.steps.get_mut(step.index)
                    && own.state != StepState::Done
                {
                    own.state = StepState::Failed;
                    own.ended = Some(*at);
                }
                self.last_error = Some(FailureView {
                    step: step.clone(),
                    kind: kind.clone(),
                    error: error.clone(),
                    at: *at,
                });
                self.leave_step(*at);
            }
            Event::RunCompleted { at } => {
                self.last_error = None;
                self.finish(RunEnd::Completed, true, *at);
            }
            Event::RunStopped { at, .. } => self.finish(RunEnd::Stopped, false, *at),
            Event::RunFailed { at, .. } => self.finish(RunEnd::Failed, false, *at),
            Event::RunClosed {
                run,
                conclusion,
                at,
            } => {
                if self.run.as_ref() == Some(run) {
                    self.finish((*conclusion).into(), true, *at);
                }
            }
            // The one end that no journal shows: there the run looks as after a crash.
            Event::JournalFailed { at, .. } => self.finish(RunEnd::Interrupted, false, *at),
            Event::JournalRepaired { .. } | Event::WorldDisagreed { .. } | Event::Unknown => {}
        }
    }

    /// How many steps are done.
    #[must_use]
    pub fn done(&self) -> usize {
        self.steps
            .iter()
            .filter(|step| step.state == StepState::Done)
            .count()
    }

    fn begin(run: &RunId, plan: &str, steps: &[String]) -> Self {
        Self {
            run: Some(run.clone()),
            plan_name: plan.to_owned(),
            steps: steps.iter().map(|name| StepView::pending(name)).collect(),
            ..Self::default()
        }
    }

    /// The current step, if any, did not come to an end that is known.
    fn interrupt_step(&mut self) {
        if let Some(step) = self.current.and_then(|index| self.steps.get_mut(index)) {
            step.state = StepState::Pending;
        }
        self.current = None;
        self.progress = None;
        self.pace = Pace::default();
    }

    fn leave_step(&mut self, at: u64) {
        self.current = None;
        self.progress = None;
        self.pace = Pace::default();
        self.last_at = at;
    }

    fn finish(&mut self, end: RunEnd, closed: bool, at: u64) {
        self.interrupt_step();
        self.end = Some(end);
        self.closed = closed;
        self.last_at = at;
    }
}

impl StepView {
    fn pending(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: StepState::Pending,
            started: None,
            ended: None,
            presence: None,
        }
    }
}
