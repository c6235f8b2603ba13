//! The latest run, as the pass and every other reader sees it: the fold over its events.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{Event, Outcome, RunView, StopToken};
use planner::{ErrorKind, PlanName, RunFact};

use crate::place::describe;

/// Shared between the pass, which reads it, and the worker, which carries a run out.
#[derive(Clone, Default)]
pub struct LatestRun(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    plan: Option<PlanName>,
    view: RunView,
    stop: StopToken,
    end: Option<End>,
    /// Failed runs of this plan in a row.
    attempts: u32,
    told: Option<Told>,
}

/// What the passes were told of a step that gets on, and when: within one second of the uptime all are told the same, so that
/// a status that says it is written at most once a second, however often somebody looks.
struct Told {
    uptime: u64,
    step: Option<usize>,
    text: String,
}

enum End {
    Completed,
    Interrupted,
    Failed {
        kind: ErrorKind,
        error: String,
        uptime: u64,
    },
}

impl LatestRun {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run of a plan begins; the token stops it.
    pub fn begin(&self, plan: PlanName) -> StopToken {
        let mut inner = self.lock();
        let attempts = if inner.plan == Some(plan) {
            inner.attempts
        } else {
            0
        };
        *inner = Inner {
            plan: Some(plan),
            attempts,
            ..Inner::default()
        };
        inner.stop.clone()
    }

    /// The run ended, `uptime` seconds after boot.
    pub fn end(&self, outcome: &Outcome<ErrorKind>, uptime: u64) {
        let mut inner = self.lock();
        let failed = |kind, error: &str| End::Failed {
            kind,
            error: error.to_owned(),
            uptime,
        };
        let end = match outcome {
            Outcome::Completed => End::Completed,
            Outcome::Stopped { .. } => End::Interrupted,
            Outcome::Failed {
                kind: ErrorKind::Interrupted,
                ..
            } => End::Interrupted,
            Outcome::Failed { kind, error, .. } => failed(*kind, error),
            // A full disk stays full until somebody frees space.
            Outcome::JournalFailed {
                error,
                no_space: true,
            } => failed(ErrorKind::Permanent, error),
            Outcome::JournalFailed { error, .. } => failed(ErrorKind::Transient, error),
        };
        inner.attempts = if matches!(end, End::Failed { .. }) {
            inner.attempts + 1
        } else {
            0
        };
        inner.end = Some(end);
    }

    /// Asks the run that is under way to stop.
    pub fn stop(&self) {
        self.lock().stop.stop();
    }

    /// Whether a run is under way.
    pub fn running(&self) -> bool {
        let inner = self.lock();
        inner.plan.is_some() && inner.end.is_none()
    }

    /// Forgets an ended run: it has no meaning in another position.
    pub fn forget(&self) {
        let mut inner = self.lock();
        if inner.end.is_some() {
            *inner = Inner::default();
        }
    }

    /// What a decision needs to know.
    pub fn fact(&self, uptime: u64) -> RunFact {
        let mut inner = self.lock();
        let Some(plan) = inner.plan else {
            return RunFact::None;
        };
        match &inner.end {
            None => RunFact::Running {
                plan,
                progress: inner.tell(uptime),
            },
            Some(End::Completed) => RunFact::Completed { plan },
            Some(End::Interrupted) => RunFact::Interrupted { plan },
            Some(End::Failed {
                kind,
                error,
                uptime: failed,
            }) => RunFact::Failed {
                plan,
                kind: *kind,
                error: error.clone(),
                attempt: inner.attempts,
                since: uptime.saturating_sub(*failed),
            },
        }
    }

    /// The run as readers show it.
    pub fn view(&self) -> RunView {
        self.lock().view.clone()
    }
}

impl LatestRun {
    /// What an earlier execution of the run that goes on now has shown: its last failure, and when it began.
    pub fn look_back(&self, view: RunView) {
        self.lock().view = view;
    }

    /// Folds one event of the run in, `uptime` seconds after boot.
    pub fn record(&self, event: &Event, uptime: u64) {
        self.lock().view.apply_at(event, uptime);
    }

    /// Failed runs of this plan in a row, before the one under way.
    pub fn attempts(&self) -> u32 {
        self.lock().attempts
    }
}

impl Inner {
    fn tell(&mut self, uptime: u64) -> String {
        let step = self.view.current;
        if let Some(told) = &self.told
            && told.uptime == uptime
            && told.step == step
        {
            return told.text.clone();
        }
        let text = describe(&self.view);
        self.told = Some(Told {
            uptime,
            step,
            text: text.clone(),
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use engine::{Progress, StepRef, Unit};

    use super::*;

    #[test]
    fn what_is_told_changes_once_a_second_and_with_each_step() {
        let latest = LatestRun::default();
        drop(latest.begin(PlanName::InstallStateroot));
        let step = |index| StepRef {
            index,
            name: format!("step-{index}"),
        };
        let progress = |index, done| Event::StepProgress {
            step: step(index),
            progress: Progress {
                done,
                total: None,
                unit: Unit::Items,
                object: String::new(),
            },
        };
        let begun = |index| Event::StepStarted {
            step: step(index),
            at: 1,
        };
        let run = Event::RunStarted {
            run: "r1".parse().unwrap(),
            plan: "install-stateroot".to_owned(),
            steps: vec!["step-0".to_owned(), "step-1".to_owned()],
            at: 1,
        };
        let told = |uptime| match latest.fact(uptime) {
            RunFact::Running { progress, .. } => progress,
            other => panic!("{other:?}"),
        };
        let check = |event: &Event, uptime, expect: &str| {
            latest.record(event, uptime);
            assert_eq!(told(uptime), expect, "{event:?}");
        };
        check(&run, 10, "");
        check(&begun(0), 10, "step step-0 (1 of 2)");
        check(&progress(0, 1), 10, "step step-0 (1 of 2)");
        check(&progress(0, 2), 11, "step step-0 (1 of 2): 2");
        check(&progress(0, 3), 11, "step step-0 (1 of 2): 2");
        check(&begun(1), 11, "step step-1 (2 of 2)");
        check(&progress(1, 9), 12, "step step-1 (2 of 2): 9");
        assert_eq!(
            latest.view().progress.map(|progress| progress.done),
            Some(9)
        );
    }
}
