//! History by the contract's 2.9: begun once, ended once, and only success ends a stage.

use api::{ImageBasedUpgradeStatus, Phase, Stage};
use planner::{Side, State, end_pre_pivot, project};

use crate::sample::{occasion, say, time};

/// `Stage begun-ended [Phase begun-ended, ...]`, seconds since the beginning, `.` while something runs.
fn shown(status: &ImageBasedUpgradeStatus) -> Vec<String> {
    let at = |time: Option<api::Timestamp>| {
        let seconds = time.map(|time| time.unix() - crate::sample::time(0).unix());
        seconds.map_or_else(|| ".".to_owned(), |seconds| seconds.to_string())
    };
    let span = |begun, ended| format!("{}-{}", at(begun), at(ended));
    let entry = |entry: &api::History| {
        let phases: Vec<String> = entry
            .phases
            .iter()
            .map(|p| format!("{} {}", p.phase, span(p.start_time, p.completion_time)))
            .collect();
        let times = span(entry.start_time, entry.completion_time);
        format!("{} {times} [{}]", entry.stage, phases.join(", "))
    };
    status.history.iter().map(entry).collect()
}

#[test]
fn stages_and_phases_begin_once_and_end_once() {
    let mut status = ImageBasedUpgradeStatus::default();
    let mut second = 0;
    let mut pass = |state, phase: Option<Phase>, expected: &[&str]| {
        second += 1;
        let mut decision = say(state, Side::Origin, "m");
        decision.said.phase = phase;
        status = project(&status, Stage::Prep, &decision, occasion(1, second));
        assert_eq!(shown(&status), expected, "{state} at {second}");
    };
    use Phase::{PostPivot, PrePivot, Precache, Stateroot};
    pass(State::Idle, None, &[]);
    pass(State::PrepInProgress, None, &["Prep 2-. []"]);
    let one = ["Prep 2-. [Stateroot 3-.]"];
    pass(State::PrepInProgress, Some(Stateroot), &one);
    pass(State::PrepInProgress, Some(Stateroot), &one);
    // A pass that does not know the phase ends none.
    pass(State::PrepInProgress, None, &one);
    let two = ["Prep 2-. [Stateroot 3-6, Precache 6-.]"];
    pass(State::PrepInProgress, Some(Precache), &two);
    pass(State::PrepInProgress, Some(Precache), &two);
    let prep = "Prep 2-8 [Stateroot 3-6, Precache 6-8]";
    pass(State::PrepCompleted, None, &[prep]);
    pass(State::PrepCompleted, None, &[prep]);
    pass(State::UpgradeInProgress, None, &[prep, "Upgrade 10-. []"]);
    let pre = [prep, "Upgrade 10-. [PrePivot 11-.]"];
    pass(State::UpgradeInProgress, Some(PrePivot), &pre);
    // A phase of another stage is none of this one's.
    pass(State::UpgradeInProgress, Some(Precache), &pre);
    let post = [prep, "Upgrade 10-. [PrePivot 11-13, PostPivot 13-.]"];
    pass(State::UpgradeInProgress, Some(PostPivot), &post);
    let upgrade = "Upgrade 10-14 [PrePivot 11-13, PostPivot 13-14]";
    pass(State::UpgradeCompleted, None, &[prep, upgrade]);
    pass(
        State::RollbackInProgress,
        None,
        &[prep, upgrade, "Rollback 15-. []"],
    );
    pass(
        State::RollbackFailed,
        None,
        &[prep, upgrade, "Rollback 15-. []"],
    );
    pass(
        State::RollbackCompleted,
        None,
        &[prep, upgrade, "Rollback 15-17 []"],
    );
    pass(State::Finalizing, None, &[]);
    pass(State::Idle, None, &[]);
}

#[test]
fn failure_ends_neither_stage_nor_phase() {
    for (running, failed, phase, expected) in [
        (
            State::PrepInProgress,
            State::PrepFailed,
            Some(Phase::Stateroot),
            "Prep 1-. [Stateroot 1-.]",
        ),
        (
            State::UpgradeInProgress,
            State::UpgradeFailed,
            Some(Phase::PrePivot),
            "Upgrade 1-. [PrePivot 1-.]",
        ),
        (
            State::RollbackInProgress,
            State::RollbackFailed,
            None,
            "Rollback 1-. []",
        ),
    ] {
        let mut decision = say(running, Side::Origin, "m");
        decision.said.phase = phase;
        let status = ImageBasedUpgradeStatus::default();
        let status = project(&status, Stage::Prep, &decision, occasion(1, 1));
        let failed = say(failed, Side::Origin, "m");
        let status = project(&status, Stage::Prep, &failed, occasion(1, 2));
        assert_eq!(shown(&status), [expected]);
    }
}

#[test]
fn every_way_to_idle_forgets_the_history() {
    for state in [
        State::Idle,
        State::Aborting,
        State::AbortFailed,
        State::Finalizing,
        State::FinalizeFailed,
    ] {
        let status = crate::reachable::plain(State::UpgradeFailed);
        assert!(!status.history.is_empty());
        let decision = say(state, Side::Origin, "m");
        let status = project(&status, Stage::Idle, &decision, occasion(2, 2));
        assert!(status.history.is_empty(), "{state}");
    }
}

#[test]
fn the_handed_over_object_has_left_the_first_phase() {
    let mut decision = say(State::UpgradeInProgress, Side::Origin, "m");
    decision.said.phase = Some(Phase::PrePivot);
    let status = ImageBasedUpgradeStatus::default();
    let mut status = project(&status, Stage::Upgrade, &decision, occasion(1, 1));
    end_pre_pivot(&mut status, time(5));
    assert_eq!(shown(&status), ["Upgrade 1-. [PrePivot 1-5]"]);
    end_pre_pivot(&mut status, time(9));
    assert_eq!(shown(&status), ["Upgrade 1-. [PrePivot 1-5]"]);
}
