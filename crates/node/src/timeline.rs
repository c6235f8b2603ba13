//! Where the time of an upgrade went: its history and the journals of its runs, on one line of time.
//!
//! Journals and history keep whole seconds of the wall clock, so each figure may be off by one, and a clock that was set
//! meanwhile shows. Nothing here decides anything.

mod journals;
mod spans;

pub use journals::Journals;

use api::{History, Stage, Timestamp};
use serde::Serialize;

use spans::Ground;

/// What a stretch of time was spent on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Doing {
    /// A step did its work.
    Working,
    /// Something outside of the agent had to come first: a healthy cluster, an API server.
    Awaiting,
    /// The agent let time pass by itself: a pause before another attempt, the time between two looks, between two runs, or
    /// between its end and its next start.
    Waiting,
    /// The node went down and came up again, until the agent did something in its next boot.
    Rebooting,
}

/// Seconds by what they were spent on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Split {
    /// See [`Doing::Working`].
    pub working: u64,
    /// See [`Doing::Awaiting`].
    pub awaiting: u64,
    /// See [`Doing::Waiting`].
    pub waiting: u64,
    /// See [`Doing::Rebooting`].
    pub rebooting: u64,
}

impl Split {
    fn add(&mut self, doing: Doing, seconds: u64) {
        let sum = match doing {
            Doing::Working => &mut self.working,
            Doing::Awaiting => &mut self.awaiting,
            Doing::Waiting => &mut self.waiting,
            Doing::Rebooting => &mut self.rebooting,
        };
        *sum = sum.saturating_add(seconds);
    }
}

/// One stretch of time: an attempt at a step, or what lay between two.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Stretch {
    /// The plan that it belongs to, or that began behind it.
    pub plan: String,
    /// The step's name; of what lies between steps, what it was.
    pub step: String,
    /// When it began, unix seconds.
    pub start: u64,
    /// How long it took, seconds.
    pub seconds: u64,
    /// What it was spent on.
    pub doing: Doing,
    /// What else is to be said of it: how it failed, or that it goes on. May be empty.
    pub note: String,
}

/// One phase of a stage.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct PhaseTime {
    /// The contract's word; empty for what the stage has no phase for, such as the reboot.
    pub phase: String,
    /// When it began, unix seconds: by the history, or by the journals where these have something of it before. (Behind a pivot the
    /// history is written only once there is an API server, and the phase before it ends there with what is handed over.)
    pub start: u64,
    /// How long it took, or takes so far, seconds; to whichever of the two ends later.
    pub seconds: u64,
    /// How these were spent, as far as journals tell.
    #[serde(flatten)]
    pub split: Split,
    /// In order of time.
    pub stretches: Vec<Stretch>,
}

/// One stage.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct StageTime {
    /// The contract's word.
    pub stage: String,
    /// When it began, unix seconds: by the history, else by the journals.
    pub start: u64,
    /// How long it took, or takes so far, seconds.
    pub seconds: u64,
    /// It has not come to an end that is written down.
    pub open: bool,
    /// How the seconds were spent, as far as journals tell.
    #[serde(flatten)]
    pub split: Split,
    /// In order of time.
    pub phases: Vec<PhaseTime>,
}

/// Where the time of one upgrade went.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// In order of time.
    pub stages: Vec<StageTime>,
    /// All stages together.
    pub total: Split,
    /// Seconds of [`Doing::Waiting`] behind the first reboot: what the agent added to the outage.
    pub waiting_after_boot: u64,
    /// What is missing, and why.
    pub problems: Vec<String>,
}

impl Timeline {
    /// The time of the latest upgrade. `history` is the object's, empty where nobody could read it; `now` is the wall clock, and
    /// `booted` the id of this boot.
    pub fn of(history: &[History], journals: Journals, now: Timestamp, booted: &str) -> Self {
        let Journals { courses, problems } = journals;
        let courses = spans::latest_upgrade(courses);
        let ground = Ground {
            history,
            now: unix(now),
            booted,
        };
        let told = spans::spans(&courses, &ground);
        let mut timeline = Self {
            problems,
            ..Self::default()
        };
        let mut rebooted = false;
        for span in told {
            let (doing, seconds) = (span.stretch.doing, span.stretch.seconds);
            timeline.total.add(doing, seconds);
            rebooted |= doing == Doing::Rebooting;
            if rebooted && doing == Doing::Waiting {
                timeline.waiting_after_boot = timeline.waiting_after_boot.saturating_add(seconds);
            }
            let stage = timeline.stage(span.stage, &ground, span.stretch.start);
            stage.split.add(doing, seconds);
            let phase = span.phase.map_or("", api::Phase::as_str);
            let phase = stage.phase(phase, &ground, span.stretch);
            phase.split.add(doing, seconds);
        }
        for stage in &mut timeline.stages {
            stage.end(&ground);
        }
        timeline
    }

    fn stage(&mut self, stage: Stage, ground: &Ground<'_>, begun: u64) -> &mut StageTime {
        let name = stage.as_str();
        let at = self.stages.iter().position(|found| found.stage == name);
        let at = at.unwrap_or_else(|| {
            self.stages.push(StageTime {
                stage: name.to_owned(),
                start: ground.begun(name).unwrap_or(begun),
                seconds: 0,
                open: true,
                split: Split::default(),
                phases: Vec::new(),
            });
            self.stages.len() - 1
        });
        &mut self.stages[at]
    }
}

impl StageTime {
    /// The phase that this stretch belongs to, with it. A stretch without one follows what was before.
    fn phase(&mut self, phase: &str, ground: &Ground<'_>, stretch: Stretch) -> &mut PhaseTime {
        let known = |found: &PhaseTime| found.phase == phase;
        let at = match phase {
            "" => self
                .phases
                .len()
                .checked_sub(1)
                .filter(|last| known(&self.phases[*last])),
            _ => self.phases.iter().position(known),
        };
        let at = at.unwrap_or_else(|| {
            let told = ground.phase(&self.stage, phase);
            self.phases.push(PhaseTime {
                phase: phase.to_owned(),
                start: told.map_or(stretch.start, |(start, _)| start.min(stretch.start)),
                seconds: 0,
                split: Split::default(),
                stretches: Vec::new(),
            });
            self.phases.len() - 1
        });
        self.phases[at].stretches.push(stretch);
        &mut self.phases[at]
    }

    /// Every stretch is there: how long it all took.
    fn end(&mut self, ground: &Ground<'_>) {
        let ends = |stretches: &[Stretch]| {
            stretches
                .iter()
                .map(|one| one.start.saturating_add(one.seconds))
                .max()
        };
        for phase in &mut self.phases {
            let told = ground.phase(&self.stage, &phase.phase);
            let told = told.and_then(|(_, end)| end);
            let end = told.max(ends(&phase.stretches)).unwrap_or(phase.start);
            phase.seconds = end.saturating_sub(phase.start);
        }
        let completed = ground.completed(&self.stage);
        let last = self
            .phases
            .iter()
            .map(|phase| phase.start.saturating_add(phase.seconds))
            .max();
        self.open = completed.is_none();
        let end = completed.or(last).unwrap_or(self.start);
        self.seconds = end.saturating_sub(self.start);
    }
}

fn unix(time: Timestamp) -> u64 {
    u64::try_from(time.unix()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
