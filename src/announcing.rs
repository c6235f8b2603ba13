//! A run's changes as Kubernetes Events: what `kubectl describe ibu` and `kubectl get events` show.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::names;
use engine::{Event, Presence, RunView, StepRef};
use node::ErrorKind;
use node::ports::{Announcement, Cluster, Severity};
use planner::Disposition;

/// What was told of a run is not told again for this long: a step that is retried all day would fill the list with the same
/// few lines. The API server forgets an Event after an hour.
const TOLD_LASTS: Duration = Duration::from_secs(600);
/// How many events are remembered for that.
const REMEMBERED: usize = 64;
/// Most characters of an error in a note; the API server takes 1,024 bytes altogether.
const ERROR_LIMIT: usize = 700;

/// What was announced lately, over all runs of this process.
#[derive(Default)]
pub(crate) struct Announced(Mutex<VecDeque<(Instant, u64)>>);

impl Announced {
    /// Whether this is new; if so it counts as told.
    fn is_new(&self, run: &str, announcement: &Announcement) -> bool {
        let mut hasher = DefaultHasher::new();
        (run, announcement.reason, &announcement.note).hash(&mut hasher);
        let hash = hasher.finish();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(at, _)| at.elapsed() < TOLD_LASTS);
        if told.iter().any(|(_, other)| *other == hash) {
            return false;
        }
        if told.len() == REMEMBERED {
            told.pop_front();
        }
        told.push_back((Instant::now(), hash));
        true
    }
}

/// Announces one run.
pub(crate) struct Announcing<'a> {
    cluster: &'a dyn Cluster,
    announced: &'a Announced,
    reboot_note: Option<&'static str>,
    /// Which execution of the plan in a row this is, from 1.
    attempt: u32,
    view: RunView,
}

impl<'a> Announcing<'a> {
    pub(crate) fn new(
        cluster: &'a dyn Cluster,
        announced: &'a Announced,
        reboot_note: Option<&'static str>,
        attempt: u32,
    ) -> Self {
        Self {
            cluster,
            announced,
            reboot_note,
            attempt,
            view: RunView::default(),
        }
    }

    /// Tells the cluster what it should know of this event. Never waits, but for the reboot.
    pub(crate) fn record(&mut self, event: &Event) {
        // What is told of an end is in the view before it.
        let told = announcement(&self.view, event, self.attempt);
        self.view.apply(event);
        let run = self.view.run.as_ref().map_or("", |run| run.as_str());
        if let Some(told) = told.filter(|told| self.announced.is_new(run, told)) {
            self.cluster.announce(told);
        }
        if let (Event::StepStarted { step, .. }, Some(note)) = (event, self.reboot_note)
            && step.name == "reboot"
        {
            self.cluster
                .announce(normal(names::EVENT_REBOOT, note.to_owned()));
            // Behind the reboot nobody is there to tell it.
            self.cluster.await_announced();
        }
    }
}

fn normal(reason: &'static str, note: String) -> Announcement {
    Announcement {
        severity: Severity::Normal,
        reason,
        note,
    }
}

fn warning(reason: &'static str, note: String) -> Announcement {
    Announcement {
        severity: Severity::Warning,
        reason,
        note,
    }
}

/// What the cluster is told of an event, behind those that `view` has seen.
fn announcement(view: &RunView, event: &Event, attempt: u32) -> Option<Announcement> {
    let plan = &view.plan_name;
    let place = |step: &StepRef| {
        let (number, steps) = (step.index + 1, view.steps.len());
        format!("step {} ({number} of {steps}) of {plan}", step.name)
    };
    let took = |since: Option<u64>, at: u64| {
        since.map_or_else(String::new, |since| {
            format!(" in {} s", at.saturating_sub(since))
        })
    };
    Some(match event {
        // The first progress says that the step takes its time. Most take less than the API server does to store an event, and
        // twenty of them behind an abort would hold up its answer to the user's next patch.
        Event::StepProgress { step, .. } if view.progress.is_none() => normal(
            names::EVENT_STEP_STARTED,
            format!("{} started", place(step)),
        ),
        // Nothing changed.
        Event::StepDone {
            presence: Presence::Present,
            ..
        } if view.progress.is_none() => return None,
        Event::StepDone { step, presence, at } => {
            let since = view.steps.get(step.index).and_then(|step| step.started);
            let how = match presence {
                Presence::Present => ": there already".to_owned(),
                Presence::Absent => took(since, *at),
            };
            let note = format!("{} completed{how}", place(step));
            normal(names::EVENT_STEP_COMPLETED, note)
        }
        Event::StepFailed {
            step, kind, error, ..
        } => {
            let error = node::beginning(error, ERROR_LIMIT);
            let note = format!("{} failed ({kind}): {error}", place(step));
            warning(names::EVENT_STEP_FAILED, note)
        }
        Event::RunFailed { .. } => {
            let failure = view.last_error.as_ref()?;
            let kind = failure.kind_as::<ErrorKind>()?;
            let Disposition::Retry { after } = planner::disposition(kind, attempt) else {
                return None;
            };
            let error = node::beginning(&failure.error, ERROR_LIMIT);
            let note = format!("{plan} is tried again in {after} s: {error}");
            warning(names::EVENT_RETRY_WAITING, note)
        }
        Event::RunResumed {
            plan, steps, done, ..
        } => {
            let note = format!("{plan} goes on: {done} of {} steps are done", steps.len());
            normal(names::EVENT_RUN_RESUMED, note)
        }
        Event::RunStopped { step, .. } => {
            normal(names::EVENT_RUN_STOPPED, format!("{} stopped", place(step)))
        }
        Event::RunCompleted { at } => {
            let note = format!("{plan} completed{}", took(view.started, *at));
            normal(names::EVENT_RUN_COMPLETED, note)
        }
        Event::JournalFailed { error, .. } => {
            let error = node::beginning(error, ERROR_LIMIT);
            let note = format!("{plan} was interrupted: {error}");
            warning(names::EVENT_RETRY_WAITING, note)
        }
        Event::RunStarted { .. }
        | Event::StepStarted { .. }
        | Event::StepProgress { .. }
        | Event::JournalRepaired { .. }
        | Event::WorldDisagreed { .. }
        | Event::RunClosed { .. }
        | Event::Unknown => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(index: usize, name: &str) -> StepRef {
        let name = name.to_owned();
        StepRef { index, name }
    }

    fn started(run: &str) -> Event {
        Event::RunStarted {
            run: run.parse().unwrap(),
            plan: "install-stateroot".to_owned(),
            steps: vec!["clear-stateroot".to_owned(), "import-commit".to_owned()],
            at: 100,
        }
    }

    fn progress(step: StepRef) -> Event {
        let progress = engine::Progress {
            done: 1,
            total: None,
            unit: engine::Unit::Bytes,
            object: String::new(),
        };
        Event::StepProgress { step, progress }
    }

    fn failed(kind: &str, error: &str) -> [Event; 2] {
        let (step, at) = (step(1, "import-commit"), 130);
        [
            Event::StepFailed {
                step: step.clone(),
                kind: kind.to_owned(),
                error: error.to_owned(),
                at,
            },
            Event::RunFailed { step, at },
        ]
    }

    /// What is told of a list of events: the type's letter, the reason and the note.
    fn told(events: &[Event], attempt: u32) -> Vec<String> {
        let announced = Announced::default();
        let mut view = RunView::default();
        let mut told = Vec::new();
        for event in events {
            let announcement = announcement(&view, event, attempt);
            view.apply(event);
            let run = view.run.as_ref().map_or("", |run| run.as_str());
            told.extend(announcement.filter(|a| announced.is_new(run, a)));
        }
        let line = |a: Announcement| format!("{:?} {}: {}", a.severity, a.reason, a.note);
        told.into_iter().map(line).collect()
    }

    #[test]
    fn a_run_is_told_by_its_changes_and_long_steps_by_their_beginning() {
        let mut events = vec![
            started("r1"),
            Event::StepStarted {
                step: step(0, "clear-stateroot"),
                at: 100,
            },
            Event::StepDone {
                step: step(0, "clear-stateroot"),
                presence: Presence::Present,
                at: 101,
            },
            Event::StepStarted {
                step: step(1, "import-commit"),
                at: 101,
            },
            progress(step(1, "import-commit")),
            progress(step(1, "import-commit")),
        ];
        events.extend(failed("transient", "fetching\na blob"));
        events.extend([
            Event::RunResumed {
                run: "r1".parse().unwrap(),
                plan: "install-stateroot".to_owned(),
                steps: vec!["clear-stateroot".to_owned(), "import-commit".to_owned()],
                done: 1,
                at: 132,
            },
            Event::StepStarted {
                step: step(1, "import-commit"),
                at: 132,
            },
            Event::StepDone {
                step: step(1, "import-commit"),
                presence: Presence::Absent,
                at: 140,
            },
            Event::RunCompleted { at: 140 },
        ]);
        assert_eq!(
            told(&events, 2),
            [
                "Normal StepStarted: step import-commit (2 of 2) of install-stateroot started",
                "Warning StepFailed: step import-commit (2 of 2) of install-stateroot failed (transient): fetching a blob",
                "Warning RetryWaiting: install-stateroot is tried again in 2 s: fetching a blob",
                "Normal RunResumed: install-stateroot goes on: 1 of 2 steps are done",
                "Normal StepCompleted: step import-commit (2 of 2) of install-stateroot completed in 8 s",
                "Normal RunCompleted: install-stateroot completed in 40 s",
            ]
        );
        // What told of its beginning tells its end.
        let mut long = vec![started("r1")];
        let (step, at) = (step(0, "clear-stateroot"), 100);
        let begun = Event::StepStarted {
            step: step.clone(),
            at,
        };
        long.extend([begun, progress(step.clone()), progress(step.clone())]);
        let presence = Presence::Present;
        long.push(Event::StepDone { step, presence, at });
        assert_eq!(
            told(&long, 1),
            [
                "Normal StepStarted: step clear-stateroot (1 of 2) of install-stateroot started",
                "Normal StepCompleted: step clear-stateroot (1 of 2) of install-stateroot completed: there already",
            ]
        );
    }

    #[test]
    fn a_failure_for_good_is_not_waited_for() {
        let mut events = vec![started("r1")];
        events.extend(failed("permanent", "no such image"));
        assert_eq!(
            told(&events, 1),
            [
                "Warning StepFailed: step import-commit (2 of 2) of install-stateroot failed (permanent): no such image"
            ]
        );
    }

    #[test]
    fn the_same_of_one_run_is_told_once_and_of_another_again() {
        let again = |run: &str| [vec![started(run)], failed("busy", "locked").to_vec()].concat();
        assert_eq!(told(&[again("r1"), again("r1")].concat(), 9).len(), 2);
        assert_eq!(told(&[again("r1"), again("r2")].concat(), 9).len(), 4);
    }

    #[test]
    fn notes_stay_below_what_the_api_server_takes() {
        let mut events = vec![started("r1")];
        events.extend(failed("transient", &"é".repeat(4096)));
        for note in told(&events, 1) {
            assert!(note.chars().count() < 900, "{note}");
        }
    }
}
