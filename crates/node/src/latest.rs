//! The latest run, as the pass and every other reader sees it: the fold over its events.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{Event, EventSink, Outcome, RunView, StopToken, Unit};
use planner::{ErrorKind, PlanName, RunFact};

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
        let inner = self.lock();
        let Some(plan) = inner.plan else {
            return RunFact::None;
        };
        match &inner.end {
            None => RunFact::Running {
                plan,
                progress: describe(&inner.view),
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

impl EventSink for LatestRun {
    fn record(&mut self, event: &Event) {
        self.lock().view.apply(event);
    }
}

/// Where a run is, in one line: `step import-commit (2 of 8): 118 of 611 MiB`.
pub fn describe(view: &RunView) -> String {
    let Some(step) = view.current.and_then(|at| Some((at, view.steps.get(at)?))) else {
        return String::new();
    };
    let (at, step) = step;
    let place = format!("step {} ({} of {})", step.name, at + 1, view.steps.len());
    let Some(progress) = &view.progress else {
        return place;
    };
    let scale = match progress.unit {
        Unit::Bytes => 1 << 20,
        Unit::Items => 1,
    };
    let unit = match progress.unit {
        Unit::Bytes => " MiB",
        Unit::Items => "",
    };
    let done = progress.done / scale;
    match progress.total {
        Some(total) => format!("{place}: {done} of {}{unit}", total / scale),
        None => format!("{place}: {done}{unit}"),
    }
}
