//! Journals put one behind another, and what lies between their lines.

use api::{History, Phase, Stage};
use engine::{Attempt, AttemptEnd, Course, Presence};
use planner::PlanName;

use super::{Doing, Stretch, unix};
use crate::steps::awaits;

/// The step whose beginning is the reboot call.
const REBOOT: &str = "reboot";

/// What is known besides journals.
pub(super) struct Ground<'a> {
    pub(super) history: &'a [History],
    /// Unix seconds.
    pub(super) now: u64,
    /// Id of this boot.
    pub(super) booted: &'a str,
}

impl Ground<'_> {
    fn entry(&self, stage: &str) -> Option<&History> {
        self.history.iter().find(|entry| entry.stage == stage)
    }

    pub(super) fn begun(&self, stage: &str) -> Option<u64> {
        self.entry(stage)?.start_time.map(unix)
    }

    pub(super) fn completed(&self, stage: &str) -> Option<u64> {
        self.entry(stage)?.completion_time.map(unix)
    }

    /// When a phase began, and when it ended.
    pub(super) fn phase(&self, stage: &str, phase: &str) -> Option<(u64, Option<u64>)> {
        let mut phases = self.entry(stage)?.phases.iter();
        let found = phases.find(|found| found.phase == phase)?;
        Some((unix(found.start_time?), found.completion_time.map(unix)))
    }
}

/// A stretch and where it belongs.
pub(super) struct Span {
    pub(super) stage: Stage,
    pub(super) phase: Option<Phase>,
    pub(super) stretch: Stretch,
}

/// The runs of the latest upgrade, in order of time: those behind the end of the one before.
pub(super) fn latest_upgrade(mut courses: Vec<Course>) -> Vec<Course> {
    // What only another version knows cannot be placed.
    courses.retain(|course| plan(course).is_some());
    courses.sort_by(|one, other| (one.started, &one.run).cmp(&(other.started, &other.run)));
    let ends = |course: &Course| stage(course) == Stage::Idle;
    // The upgrade's own end, where it has come to one.
    let own = courses
        .iter()
        .rev()
        .take_while(|course| ends(course))
        .count();
    let before = courses.len() - own;
    let first = courses[..before]
        .iter()
        .rposition(ends)
        .map_or(0, |last| last + 1);
    courses.split_off(first)
}

/// Every stretch of the runs, which are in order of time.
pub(super) fn spans(courses: &[Course], ground: &Ground<'_>) -> Vec<Span> {
    let mut line = Line {
        ground,
        spans: Vec::new(),
        before: None,
    };
    for (at, course) in courses.iter().enumerate() {
        line.lead_to(course);
        line.run(course, at + 1 == courses.len());
    }
    line.lead_out();
    line.spans
}

/// What a run leaves behind it.
struct Before<'c> {
    course: &'c Course,
    /// Until when time is accounted for.
    at: u64,
    /// The reboot call was made.
    reboots: bool,
}

struct Line<'c> {
    ground: &'c Ground<'c>,
    spans: Vec<Span>,
    before: Option<Before<'c>>,
}

impl<'c> Line<'c> {
    /// What lies between the runs so far and this one.
    fn lead_to(&mut self, course: &'c Course) {
        let (name, every) = (stage(course), plan(course).and_then(PlanName::looks_every));
        let begun = self.ground.begun(name.as_str());
        let Some(before) = &self.before else {
            let from = begun.unwrap_or(course.started);
            self.pause(course, from, course.started, every);
            return;
        };
        let (at, earlier, reboots) = (before.at, before.course, before.reboots);
        let other_boot = earlier.boot_id != course.boot_id;
        if stage(earlier) == name {
            if other_boot {
                self.reboot(course, at, course.started);
            } else {
                // A reboot that did not happen is over with its run.
                self.pause(course, at, course.started, every);
            }
            return;
        }
        // Between two stages the user has the word.
        self.end_stage(earlier, at, reboots && other_boot, course.started);
        if let Some(begun) = begun {
            self.pause(course, begun.max(at), course.started, every);
        }
    }

    /// What lies behind the last run.
    fn lead_out(&mut self) {
        if let Some(Before {
            course,
            at,
            reboots,
        }) = self.before.take()
        {
            let other_boot = course.boot_id != self.ground.booted;
            self.end_stage(course, at, reboots && other_boot, self.ground.now);
        }
    }

    /// From the last run of a stage to its completion, where that is known.
    fn end_stage(&mut self, course: &'c Course, at: u64, rebooted: bool, latest: u64) {
        let completed = self.ground.completed(stage(course).as_str());
        let end = completed
            .filter(|end| *end > at)
            .map(|end| end.min(latest.max(at)));
        match end {
            Some(end) if rebooted => self.reboot(course, at, end),
            Some(end) => self.pause(course, at, end, None),
            // A stage that has failed has no time of completion.
            None if rebooted => self.reboot(course, at, at),
            None => {}
        }
    }

    fn run(&mut self, course: &'c Course, last: bool) {
        let mut at = course.started;
        let mut reboots = false;
        let mut failed = false;
        for (number, attempt) in course.attempts.iter().enumerate() {
            if failed {
                self.add(
                    course,
                    "pause",
                    at,
                    attempt.started,
                    Doing::Waiting,
                    "before another attempt",
                );
                at = at.max(attempt.started);
            }
            let final_one = number + 1 == course.attempts.len();
            // Keeping the journal is part of the work.
            let from = at.min(attempt.started);
            match (&attempt.end, attempt.ended) {
                (AttemptEnd::Open, _) if attempt.step == REBOOT => {
                    reboots = true;
                    let note = "until it was asked for";
                    self.add(course, REBOOT, from, attempt.started, Doing::Working, note);
                    at = at.max(attempt.started);
                }
                (AttemptEnd::Open, _) => {
                    at = self.cut_off(course, attempt, from, final_one && last);
                }
                (_, ended) => {
                    let ended = ended.unwrap_or(attempt.started);
                    self.step(course, attempt, from, ended);
                    at = at.max(ended);
                }
            }
            failed = matches!(attempt.end, AttemptEnd::Failed(_) | AttemptEnd::Stopped);
            // A process that was not there does nothing, whyever.
            failed |= attempt.end == AttemptEnd::Open && !final_one;
        }
        let at = at.max(course.last_at);
        let at = self.before.as_ref().map_or(at, |before| before.at.max(at));
        self.before = Some(Before {
            course,
            at,
            reboots,
        });
    }

    /// An attempt that nobody has written down the end of; until when it is known.
    fn cut_off(&mut self, course: &Course, attempt: &Attempt, from: u64, newest: bool) -> u64 {
        let running = newest && course.conclusion.is_none() && course.boot_id == self.ground.booted;
        let (until, note) = if running {
            (self.ground.now, "goes on, or was cut off")
        } else {
            (attempt.started, "cut off")
        };
        let doing = awaits(&attempt.step).map_or(Doing::Working, |_| Doing::Awaiting);
        self.push(course, &attempt.step, from, until, doing, note);
        until
    }

    fn step(&mut self, course: &Course, attempt: &Attempt, from: u64, ended: u64) {
        let note = match &attempt.end {
            AttemptEnd::Failed(error) => format!("failed: {}", crate::beginning(error, 200)),
            AttemptEnd::Stopped => "stopped".to_owned(),
            AttemptEnd::Done(Presence::Present) => "was done already".to_owned(),
            AttemptEnd::Done(_) | AttemptEnd::Open => String::new(),
        };
        match awaits(&attempt.step) {
            None => self.push(course, &attempt.step, from, ended, Doing::Working, &note),
            Some(every) => {
                let came = ended.saturating_sub(every).max(from);
                self.push(course, &attempt.step, from, came, Doing::Awaiting, &note);
                self.add(
                    course,
                    "look",
                    came,
                    ended,
                    Doing::Waiting,
                    "until the next look",
                );
            }
        }
    }

    /// Time between runs: all the agent's own, or, where something outside is looked for, at most the time between two looks.
    fn pause(&mut self, course: &Course, from: u64, until: u64, every: Option<u64>) {
        let came = every.map_or(from, |every| until.saturating_sub(every).max(from));
        self.add(
            course,
            "await",
            from,
            came,
            Doing::Awaiting,
            "until what it needs is there",
        );
        self.add(course, "pause", came, until, Doing::Waiting, "between runs");
    }

    fn reboot(&mut self, course: &Course, from: u64, until: u64) {
        let note = if until > from {
            ""
        } else {
            "less than a second, or not written down"
        };
        let span = stretch(course, REBOOT, from, until, Doing::Rebooting, note);
        self.spans.push(Span {
            stage: stage(course),
            phase: None,
            stretch: span,
        });
    }

    /// A stretch that is worth a line only if it took time.
    fn add(
        &mut self,
        course: &Course,
        what: &str,
        from: u64,
        until: u64,
        doing: Doing,
        note: &str,
    ) {
        if until > from {
            self.push(course, what, from, until, doing, note);
        }
    }

    fn push(
        &mut self,
        course: &Course,
        what: &str,
        from: u64,
        until: u64,
        doing: Doing,
        note: &str,
    ) {
        self.spans.push(Span {
            stage: stage(course),
            phase: plan(course).and_then(PlanName::phase),
            stretch: stretch(course, what, from, until, doing, note),
        });
    }
}

fn stretch(
    course: &Course,
    step: &str,
    from: u64,
    until: u64,
    doing: Doing,
    note: &str,
) -> Stretch {
    Stretch {
        plan: course.plan_name.clone(),
        step: step.to_owned(),
        start: from,
        seconds: until.saturating_sub(from),
        doing,
        note: note.to_owned(),
    }
}

fn plan(course: &Course) -> Option<PlanName> {
    PlanName::parse(&course.plan_name)
}

/// The stage that a run serves. Runs of plans that nobody knows are not looked at.
fn stage(course: &Course) -> Stage {
    plan(course).map_or(Stage::Idle, PlanName::stage)
}
