//! Readers of a run's events: the log, Kubernetes Events, metrics, and whoever waits to look again.

use std::time::{Duration, Instant};

use engine::{Event, EventSink, Outcome};
use node::ErrorKind;

use crate::announcing::Announcing;
use crate::metrics::Metrics;

/// The status is written at most this often while a run only progresses.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Tells every event to every reader.
pub(crate) struct Telling<'a, N: FnMut()> {
    announcing: Announcing<'a>,
    metrics: Metrics,
    nudge: N,
    nudged: Option<Instant>,
}

impl<'a, N: FnMut()> Telling<'a, N> {
    /// `nudge` is called when readers of the run's view shall look.
    pub(crate) fn new(announcing: Announcing<'a>, metrics: Metrics, nudge: N) -> Self {
        Self {
            announcing,
            metrics,
            nudge,
            nudged: None,
        }
    }
}

impl<N: FnMut()> EventSink for Telling<'_, N> {
    fn record(&mut self, event: &Event) {
        log(event);
        self.metrics.record(event);
        self.announcing.record(event);
        let rested = self
            .nudged
            .is_none_or(|last| last.elapsed() >= PROGRESS_EVERY);
        if rested || !event.lossy() {
            self.nudged = Some(Instant::now());
            (self.nudge)();
        }
    }
}

fn log(event: &Event) {
    match event {
        Event::StepProgress { step, progress } => tracing::debug!(
            step = step.name,
            done = progress.done,
            total = progress.total,
            object = progress.object,
            "progress"
        ),
        Event::RunStarted {
            run, plan, steps, ..
        } => {
            tracing::info!(run = run.as_str(), plan, steps = steps.len(), "run started");
        }
        Event::RunResumed {
            run,
            plan,
            done,
            steps,
            ..
        } => {
            tracing::info!(
                run = run.as_str(),
                plan,
                done,
                steps = steps.len(),
                "run resumed"
            );
        }
        Event::StepStarted { step, .. } => tracing::info!(step = step.name, "step started"),
        Event::StepDone { step, presence, .. } => {
            tracing::info!(step = step.name, ?presence, "step done");
        }
        Event::StepFailed {
            step, kind, error, ..
        } => {
            tracing::warn!(step = step.name, kind, error, "step failed");
        }
        Event::WorldDisagreed { step, .. } => {
            tracing::warn!(
                step = step.name,
                "the journal has this step as done and the node has not"
            );
        }
        Event::JournalRepaired { dropped, .. } => {
            tracing::warn!(dropped, "dropped a torn line at the end of the journal");
        }
        Event::JournalFailed { error, .. } => {
            tracing::error!(error, "the journal cannot be written")
        }
        Event::RunCompleted { .. } => tracing::info!("run completed"),
        Event::RunStopped { step, .. } => tracing::info!(step = step.name, "run stopped"),
        Event::RunFailed { step, .. } => tracing::warn!(step = step.name, "run failed"),
        Event::RunClosed {
            run, conclusion, ..
        } => {
            tracing::info!(run = run.as_str(), ?conclusion, "run closed");
        }
        Event::Unknown => {}
    }
}

/// A worker that panicked, as an outcome: the run is interrupted and gone on with.
pub(crate) fn lost_worker(step: &str) -> Outcome<ErrorKind> {
    Outcome::JournalFailed {
        error: format!("the worker ended unexpectedly in {step}"),
        no_space: false,
    }
}
