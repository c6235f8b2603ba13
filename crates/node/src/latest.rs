//! The latest run, as the pass and every other reader sees it: the fold over its events.

use std::fmt;
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
    place(view).map_or_else(String::new, |place| place.to_string())
}

fn place(view: &RunView) -> Option<Place> {
    let at = view.current?;
    let step = view.steps.get(at)?;
    let amount = view.progress.as_ref().map(|progress| {
        let (scale, unit) = match progress.unit {
            Unit::Bytes => (1 << 20, " MiB"),
            Unit::Items => (1, ""),
        };
        let total = progress.total.map(|total| total / scale);
        Amount {
            done: progress.done / scale,
            total,
            unit: unit.to_owned(),
        }
    });
    Some(Place {
        step: step.name.clone(),
        number: at + 1,
        steps: view.steps.len(),
        amount,
    })
}

/// Where a run is: the end of an in-progress condition's message, for programs that show it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The step's name.
    pub step: String,
    /// The step's number, from 1.
    pub number: usize,
    /// How many steps the plan has.
    pub steps: usize,
    /// How far the step is, where it tells.
    pub amount: Option<Amount>,
}

/// How far a step is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Amount {
    /// Units done.
    pub done: u64,
    /// Units altogether, where known.
    pub total: Option<u64>,
    /// ` MiB`, or empty for things that are counted.
    pub unit: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} ({} of {})", self.step, self.number, self.steps)?;
        match &self.amount {
            None => Ok(()),
            Some(Amount {
                done,
                total: Some(total),
                unit,
            }) => write!(f, ": {done} of {total}{unit}"),
            Some(Amount {
                done,
                total: None,
                unit,
            }) => write!(f, ": {done}{unit}"),
        }
    }
}

impl Place {
    /// Finds the place that a message ends in, and what stands before it.
    pub fn find(message: &str) -> Option<(&str, Place)> {
        let at = message.rfind("step ")?;
        let (before, text) = message.split_at(at);
        let (step, rest) = text.strip_prefix("step ")?.split_once(" (")?;
        let (count, rest) = rest.split_once(')')?;
        let (number, steps) = count.split_once(" of ")?;
        let amount = match rest.strip_prefix(": ") {
            None if rest.is_empty() => None,
            None => return None,
            Some(amount) => Some(Amount::parse(amount)?),
        };
        let step = step.to_owned();
        let (number, steps) = (number.parse().ok()?, steps.parse().ok()?);
        Some((
            before.trim_end_matches([' ', '.']),
            Place {
                step,
                number,
                steps,
                amount,
            },
        ))
    }
}

impl Amount {
    fn parse(text: &str) -> Option<Self> {
        let (text, unit) = match text.strip_suffix(" MiB") {
            Some(number) => (number, " MiB"),
            None => (text, ""),
        };
        let (done, total) = match text.split_once(" of ") {
            Some((done, total)) => (done, Some(total.parse().ok()?)),
            None => (text, None),
        };
        Some(Self {
            done: done.parse().ok()?,
            total,
            unit: unit.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again_in_the_message_that_it_ends() {
        let amounts = [
            None,
            Some(Amount {
                done: 118,
                total: Some(611),
                unit: " MiB".to_owned(),
            }),
            Some(Amount {
                done: 118,
                total: None,
                unit: " MiB".to_owned(),
            }),
            Some(Amount {
                done: 3,
                total: Some(9),
                unit: String::new(),
            }),
        ];
        for amount in amounts {
            let place = Place {
                step: "unpack-var".to_owned(),
                number: 5,
                steps: 8,
                amount,
            };
            for before in ["", "Stateroot setup job in progress", "one step back"] {
                let message = format!("{before}. {place}");
                assert_eq!(
                    Place::find(&message),
                    Some((before, place.clone())),
                    "{message}"
                );
            }
        }
        for message in ["", "In progress", "step by step", "step x (1 of 2): soon"] {
            assert_eq!(Place::find(message), None, "{message}");
        }
    }
}
