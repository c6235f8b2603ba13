//! Journals and histories as an upgrade leaves them.

use api::PhaseHistory;
use engine::{Attempt, AttemptEnd, Conclusion, Course, Presence};

use super::*;

fn attempt(step: &str, started: u64, ended: impl Into<Option<u64>>) -> Attempt {
    let ended = ended.into();
    Attempt {
        step: step.to_owned(),
        started,
        ended,
        end: ended.map_or(AttemptEnd::Open, |_| AttemptEnd::Done(Presence::Absent)),
    }
}

fn failed(step: &str, started: u64, ended: u64) -> Attempt {
    Attempt {
        end: AttemptEnd::Failed("reset".to_owned()),
        ..attempt(step, started, ended)
    }
}

fn course(plan: &str, boot: &str, started: u64, attempts: Vec<Attempt>) -> Course {
    let ends = attempts.iter().map(|one| one.ended.unwrap_or(one.started));
    let last_at = ends.max().unwrap_or(started);
    Course {
        run: format!("{started:012}-{boot}").parse().unwrap(),
        plan_name: plan.to_owned(),
        boot_id: boot.to_owned(),
        started,
        conclusion: attempts
            .last()
            .is_none_or(|last| last.ended.is_some())
            .then_some(Conclusion::Completed),
        attempts,
        last_at,
        torn: false,
    }
}

fn at(second: i64) -> Option<Timestamp> {
    Some(Timestamp::from_unix(second))
}

fn entry(stage: &str, start: i64, end: Option<Timestamp>, phases: &[(&str, i64, i64)]) -> History {
    let phases = phases.iter().map(|(phase, start, end)| PhaseHistory {
        phase: (*phase).to_owned(),
        start_time: at(*start),
        completion_time: at(*end),
    });
    History {
        stage: stage.to_owned(),
        phases: phases.collect(),
        start_time: at(start),
        completion_time: end,
    }
}

/// Prep at 100, an upgrade at 200 with 40 s of reboot, a rollback at 400.
fn there_and_back() -> (Vec<History>, Vec<Course>) {
    let history = vec![
        entry("Prep", 100, at(131), &[("Stateroot", 100, 131)]),
        entry(
            "Upgrade",
            200,
            at(300),
            &[("PrePivot", 200, 224), ("PostPivot", 275, 300)],
        ),
        entry("Rollback", 400, at(450), &[]),
    ];
    let courses = vec![
        // Of an upgrade before, which has ended.
        course("pivot", "a", 10, vec![attempt("set-default", 10, 20)]),
        course("finalize", "a", 30, vec![attempt("remove-records", 30, 31)]),
        course(
            "fetch-seed",
            "a",
            102,
            vec![
                failed("fetch-seed", 102, 110),
                attempt("fetch-seed", 114, 130),
            ],
        ),
        course(
            "pivot",
            "a",
            222,
            vec![
                attempt("export-configuration", 222, 224),
                attempt("reboot", 225, None),
            ],
        ),
        course(
            "reconfigure",
            "b",
            265,
            vec![
                attempt("set-hostname", 265, 267),
                attempt("await-api", 267, 287),
            ],
        ),
        course(
            "complete",
            "b",
            297,
            vec![attempt("record-verdict", 297, 299)],
        ),
        course(
            "return",
            "b",
            401,
            vec![
                attempt("set-default", 401, 402),
                attempt("reboot", 402, None),
            ],
        ),
    ];
    (history, courses)
}

fn timeline(history: &[History], courses: Vec<Course>) -> Timeline {
    let journals = Journals {
        courses,
        problems: Vec::new(),
    };
    Timeline::of(history, journals, Timestamp::from_unix(500), "a2")
}

fn split(working: u64, awaiting: u64, waiting: u64, rebooting: u64) -> Split {
    Split {
        working,
        awaiting,
        waiting,
        rebooting,
    }
}

#[test]
fn each_second_of_an_upgrade_is_told_once() {
    let (history, courses) = there_and_back();
    let told = timeline(&history, courses);
    let stages: Vec<_> = told
        .stages
        .iter()
        .map(|stage| {
            (
                stage.stage.as_str(),
                stage.start,
                stage.seconds,
                stage.split,
            )
        })
        .collect();
    assert_eq!(
        stages,
        [
            // 2 s before the run, 4 s of back-off, 1 s until it was told.
            ("Prep", 100, 31, split(24, 0, 7, 0)),
            // The gate is looked at every 20 s, health behind the pivot every second.
            ("Upgrade", 200, 100, split(7, 2 + 20 + 9, 20 + 1 + 1, 40)),
            ("Rollback", 400, 50, split(1, 0, 1, 48)),
        ]
    );
    for stage in &told.stages {
        let Split {
            working,
            awaiting,
            waiting,
            rebooting,
        } = stage.split;
        assert_eq!(working + awaiting + waiting + rebooting, stage.seconds);
        assert!(!stage.open);
    }
    assert_eq!(told.waiting_after_boot, 1 + 1 + 1);
    let upgrade = &told.stages[1];
    let phases: Vec<_> = upgrade
        .phases
        .iter()
        .map(|phase| (phase.phase.as_str(), phase.start, phase.seconds))
        .collect();
    assert_eq!(
        phases,
        [("PrePivot", 200, 25), ("", 225, 40), ("PostPivot", 265, 35)]
    );
    let steps: Vec<_> = upgrade.phases[2]
        .stretches
        .iter()
        .map(|one| (one.step.as_str(), one.start, one.seconds, one.doing))
        .collect();
    assert_eq!(
        steps,
        [
            ("set-hostname", 265, 2, Doing::Working),
            ("await-api", 267, 20, Doing::Awaiting),
            ("await", 287, 9, Doing::Awaiting),
            ("pause", 296, 1, Doing::Waiting),
            ("record-verdict", 297, 2, Doing::Working),
            ("pause", 299, 1, Doing::Waiting),
        ]
    );
}

#[test]
fn journals_alone_tell_what_they_can() {
    let (_, courses) = there_and_back();
    let told = timeline(&[], courses);
    let stages: Vec<_> = told
        .stages
        .iter()
        .map(|stage| (stage.stage.as_str(), stage.start, stage.split))
        .collect();
    assert_eq!(
        stages,
        [
            ("Prep", 102, split(24, 0, 4, 0)),
            ("Upgrade", 222, split(7, 20 + 9, 1, 40)),
            // Nobody wrote down when the node was back.
            ("Rollback", 401, split(1, 0, 0, 0)),
        ]
    );
    assert!(told.stages.iter().all(|stage| stage.open));
    let last = &told.stages[2].phases[0].stretches;
    assert_eq!(last[1].note, "less than a second, or not written down");
    assert_eq!(timeline(&[], Vec::new()), Timeline::default());
}

#[test]
fn what_goes_on_takes_until_now_and_what_was_cut_off_is_said() {
    let check = |boot: &str, seconds: u64, note: &str| {
        let attempts = vec![attempt("fetch-seed", 480, None)];
        let told = timeline(&[], vec![course("fetch-seed", boot, 480, attempts)]);
        let one = &told.stages[0].phases[0].stretches[0];
        assert_eq!((one.seconds, one.note.as_str()), (seconds, note));
    };
    check("a2", 20, "goes on, or was cut off");
    check("a1", 0, "cut off");
}

#[test]
fn clocks_that_go_back_and_plans_that_nobody_knows_do_no_harm() {
    let (history, mut courses) = there_and_back();
    courses.push(course("levitate", "b", 420, Vec::new()));
    courses[4].attempts[1].ended = Some(1);
    courses[5].started = u64::MAX;
    let told = timeline(&history, courses);
    assert_eq!(told.stages.len(), 3);
}
