//! Which position follows which, written down by hand, and every condition list that walking along it can give.

use std::sync::LazyLock;

use api::{Condition, ConditionStatus, ConditionType, ImageBasedUpgradeStatus, Reason, Stage};
use planner::{Decision, Refusal, Side, State, parse, project};

use crate::sample::{occasion, say, shown};

/// Every step from one position to another: with the stage that is asked for while it is made.
pub(crate) const EDGES: &[(State, State, Stage)] = {
    use Stage::{Idle, Prep, Rollback, Upgrade};
    use State as S;
    &[
        (S::Uninitialized, S::Idle, Idle),
        (S::Idle, S::PrepInProgress, Prep),
        (S::PrepInProgress, S::PrepFailed, Prep),
        (S::PrepInProgress, S::PrepCompleted, Prep),
        (S::PrepInProgress, S::Aborting, Idle),
        (S::PrepFailed, S::Aborting, Idle),
        (S::PrepCompleted, S::Aborting, Idle),
        (S::PrepCompleted, S::UpgradeInProgress, Upgrade),
        (S::UpgradeInProgress, S::UpgradeFailed, Upgrade),
        (S::UpgradeInProgress, S::UpgradeCompleted, Upgrade),
        (S::UpgradeInProgress, S::Aborting, Idle),
        (S::UpgradeInProgress, S::RollbackInProgress, Rollback),
        (S::UpgradeFailed, S::Aborting, Idle),
        (S::UpgradeFailed, S::RollbackInProgress, Rollback),
        (S::UpgradeCompleted, S::Finalizing, Idle),
        (S::UpgradeCompleted, S::RollbackInProgress, Rollback),
        (S::RollbackInProgress, S::RollbackFailed, Rollback),
        (S::RollbackInProgress, S::RollbackCompleted, Rollback),
        (S::RollbackFailed, S::RollbackCompleted, Rollback),
        (S::RollbackCompleted, S::Finalizing, Idle),
        (S::Aborting, S::AbortFailed, Idle),
        (S::Aborting, S::Idle, Idle),
        (S::AbortFailed, S::Idle, Idle),
        (S::Finalizing, S::FinalizeFailed, Idle),
        (S::Finalizing, S::Idle, Idle),
        (S::FinalizeFailed, S::Idle, Idle),
        (S::Contradictory, S::Aborting, Idle),
        (S::Contradictory, S::RollbackInProgress, Rollback),
    ]
};

/// Whether the table above has the step, whoever asks for it.
pub(crate) fn is_edge(from: State, to: State) -> bool {
    EDGES.iter().any(|(a, b, _)| (*a, *b) == (from, to))
}

/// Condition lists that no position produces, with what is wrong with them.
pub(crate) fn contradictions() -> Vec<(&'static str, Vec<Condition>)> {
    use api::ConditionStatus::{False, True, Unknown};
    use api::ConditionType as T;
    let one = |type_, status, reason| {
        Condition::new(type_, status, reason, "m", 1, crate::sample::time(0))
    };
    let idle = || one(T::Idle, False, api::Reason::InProgress);
    let run = api::Reason::InProgress;
    let fail = api::Reason::Failed;
    let mut stranger = idle();
    stranger.type_ = "Ready".to_owned();
    vec![
        ("a stranger", vec![idle(), stranger]),
        (
            "the same type twice",
            vec![idle(), one(T::PrepInProgress, True, run), idle()],
        ),
        ("no Idle", vec![one(T::PrepInProgress, True, run)]),
        (
            "no Idle, and refused",
            vec![one(
                T::PrepInProgress,
                False,
                api::Reason::InvalidTransition,
            )],
        ),
        (
            "idle and busy",
            vec![
                one(T::Idle, True, api::Reason::Idle),
                one(T::PrepInProgress, True, run),
            ],
        ),
        ("busy with nothing", vec![idle()]),
        (
            "completed and running",
            vec![
                idle(),
                one(T::PrepInProgress, True, run),
                one(T::PrepCompleted, True, api::Reason::Completed),
            ],
        ),
        (
            "failed and running",
            vec![
                idle(),
                one(T::UpgradeCompleted, False, fail),
                one(T::UpgradeInProgress, True, run),
            ],
        ),
        (
            "ended without an end",
            vec![idle(), one(T::RollbackInProgress, False, fail)],
        ),
        (
            "nobody knows whether completed",
            vec![idle(), one(T::PrepCompleted, Unknown, fail)],
        ),
    ]
}

/// Every status (times, generations and texts aside) that walking along the edges gives, refusals on the way included.
pub(crate) fn statuses() -> &'static [(State, ImageBasedUpgradeStatus)] {
    static ALL: LazyLock<Vec<(State, ImageBasedUpgradeStatus)>> = LazyLock::new(walk);
    &ALL
}

fn walk() -> Vec<(State, ImageBasedUpgradeStatus)> {
    let mut found: Vec<(State, ImageBasedUpgradeStatus)> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut next = vec![(State::Uninitialized, ImageBasedUpgradeStatus::default())];
    for (_, conditions) in contradictions() {
        let status = ImageBasedUpgradeStatus {
            conditions,
            ..ImageBasedUpgradeStatus::default()
        };
        next.push((State::Contradictory, status));
    }
    while let Some((state, status)) = next.pop() {
        if !seen.insert((state, shown(&status.conditions))) {
            continue;
        }
        for (_, to, stage) in EDGES.iter().filter(|(from, ..)| *from == state) {
            let decision = say(*to, Side::Origin, &format!("text of {to}"));
            next.push((*to, project(&status, *stage, &decision, occasion(2, 2))));
        }
        for (decision, stage) in refusals(state) {
            next.push((state, project(&status, stage, &decision, occasion(2, 2))));
        }
        found.push((state, status));
    }
    found.sort_by_key(|(state, status)| (*state, shown(&status.conditions)));
    found
}

/// A position that goes on with a refused request over it, for every stage that some side refuses there.
pub(crate) fn refusals(state: State) -> Vec<(Decision, Stage)> {
    let refused = |stage, side| match planner::transition(state, side, stage) {
        planner::Transition::Refuse(refusal) => Some((stage, refusal)),
        _ => None,
    };
    let mut all: Vec<(Stage, Refusal)> = Vec::new();
    for stage in Stage::ALL {
        for side in [Side::Origin, Side::Target] {
            all.extend(refused(stage, side).filter(|found| !all.contains(found)));
        }
    }
    let told = |(stage, refusal)| {
        let mut decision = say(state, Side::Origin, &format!("text of {state}"));
        decision.said.refused = Some((stage, refusal));
        (decision, stage)
    };
    all.into_iter().map(told).collect()
}

/// A status with a stage blocked, as the IP configuration flow leaves it.
pub(crate) fn blocked(
    mut status: ImageBasedUpgradeStatus,
    stage: Stage,
) -> ImageBasedUpgradeStatus {
    let type_ = ConditionType::in_progress(stage);
    status.conditions.retain(|c| c.kind() != Some(type_));
    status.conditions.push(Condition::new(
        type_,
        ConditionStatus::False,
        Reason::Blocked,
        api::message::IP_CONFIG_NOT_IDLE,
        1,
        crate::sample::time(0),
    ));
    status
}

/// The plainest status of a position: nothing lies over it and nothing precedes it that need not.
pub(crate) fn plain(state: State) -> ImageBasedUpgradeStatus {
    let fits = |(found, status): &&(State, ImageBasedUpgradeStatus)| {
        *found == state && parse(&status.conditions).overlay == planner::Overlay::None
    };
    let shortest = statuses()
        .iter()
        .filter(fits)
        .min_by_key(|(_, status)| status.conditions.len());
    shortest.unwrap().1.clone()
}
