//! Writes a decision into status: the one place that orders conditions and keeps history.

use api::{
    Condition, ConditionStatus, ConditionType, History, ImageBasedUpgradeStatus, Phase,
    PhaseHistory, Reason, Stage, Timestamp, message,
};

use crate::boot::FailedBoot;
use crate::decide::Decision;
use crate::state::{Side, State, find, parse};

/// Where and when a status is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Occasion {
    /// `metadata.generation` of the object that the decision was made for.
    pub generation: i64,
    /// Wall clock.
    pub now: Timestamp,
}

/// The status after a decision. Equal to `previous` when nothing that a user sees has changed.
pub fn project(
    previous: &ImageBasedUpgradeStatus,
    requested: Stage,
    decision: &Decision,
    occasion: Occasion,
) -> ImageBasedUpgradeStatus {
    let mut status = previous.clone();
    conditions(&mut status.conditions, decision, occasion);
    for type_ in [
        ConditionType::in_progress(requested),
        ConditionType::completed(requested),
    ] {
        if let Some(found) = status
            .conditions
            .iter_mut()
            .find(|found| found.kind() == Some(type_))
        {
            found.observed_generation = Some(occasion.generation);
        }
    }
    history(&mut status.history, decision, occasion.now);
    status.observed_generation = Some(occasion.generation);
    status.valid_next_stages = decision.valid_next.to_vec();
    if let Some(until) = decision.said.rollback_until {
        status.rollback_availability_expiration = Some(until);
    }
    if matches!(decision.state, State::Idle | State::RollbackInProgress) {
        status.rollback_availability_expiration = None;
    }
    status
}

/// One condition to be set.
struct Wanted<'a>(ConditionType, ConditionStatus, Reason, &'a str);

fn conditions(list: &mut Vec<Condition>, decision: &Decision, occasion: Occasion) {
    if decision.state == State::Contradictory {
        let mut told = list.clone();
        tell_refusal(&mut told, decision, occasion);
        // A refusal that would make the list look like a position is not told: it would decide what is not known. Nor is one
        // that has no single condition to stand in.
        if parse(&told).state == State::Contradictory && single(&told, decision) {
            *list = told;
        }
        return;
    }
    write(list, decision, occasion);
    if parse(list).state != decision.state {
        // The way out of a contradiction: what no position produces is dropped.
        list.clear();
        write(list, decision, occasion);
    }
}

/// Takes back what lies over the position, but for the refusal that is made again (contract 2.6, item 1) and the stage that
/// still waits: an `Idle` that was overwritten stands first again, the others go.
fn clear_overlays(list: &mut Vec<Condition>, decision: &Decision, occasion: Occasion) {
    let refused = decision
        .said
        .refused
        .map(|(stage, _)| ConditionType::in_progress(stage));
    let blocked = decision.said.blocked.as_ref();
    let blocked = blocked.map(|(stage, _)| ConditionType::in_progress(*stage));
    let stale = |condition: &Condition| match condition.known_reason() {
        Some(Reason::InvalidTransition) => condition.kind() != refused,
        Some(Reason::Blocked) => condition.kind() != blocked,
        _ => false,
    };
    let idle = Some(ConditionType::Idle);
    if let Some(at) = list
        .iter()
        .position(|condition| condition.kind() == idle && stale(condition))
    {
        let overwritten = list.remove(at);
        let plain = Condition {
            reason: Reason::InProgress.as_str().to_owned(),
            message: message::IN_PROGRESS.to_owned(),
            observed_generation: Some(occasion.generation),
            ..overwritten
        };
        list.insert(0, plain);
    }
    list.retain(|condition| condition.kind() == idle || !stale(condition));
    if decision.state == State::Idle {
        list.retain(|condition| {
            condition.kind() == idle
                || condition.kind() == refused
                    && condition.known_reason() == Some(Reason::InvalidTransition)
                || condition.kind() == blocked && condition.known_reason() == Some(Reason::Blocked)
        });
    }
}

fn single(list: &[Condition], decision: &Decision) -> bool {
    decision.said.refused.is_none_or(|(stage, _)| {
        let type_ = Some(ConditionType::in_progress(stage));
        list.iter()
            .filter(|condition| condition.kind() == type_)
            .count()
            == 1
    })
}

fn tell_refusal(list: &mut Vec<Condition>, decision: &Decision, occasion: Occasion) {
    if let Some((stage, refusal)) = decision.said.refused {
        set(
            list,
            ConditionType::in_progress(stage),
            ConditionStatus::False,
            Reason::InvalidTransition,
            refusal.message(),
            occasion,
        );
    }
}

fn write(list: &mut Vec<Condition>, decision: &Decision, occasion: Occasion) {
    use ConditionStatus::{False, True};
    use ConditionType as Type;
    use Reason::{
        AbortFailed, Aborting, Completed, Failed, FinalizeFailed, Finalizing, InProgress,
    };

    clear_overlays(list, decision, occasion);
    let say = decision.said.message.as_str();
    let busy_idle = Wanted(Type::Idle, False, InProgress, message::IN_PROGRESS);
    let prepared = worked(
        list,
        decision,
        Type::PrepInProgress,
        message::PREP_COMPLETED,
    );
    let upgraded = worked(
        list,
        decision,
        Type::UpgradeInProgress,
        message::UPGRADE_COMPLETED,
    );
    let wanted: Vec<Wanted<'_>> = match decision.state {
        State::Uninitialized | State::Contradictory => vec![],
        State::Idle => vec![Wanted(Type::Idle, True, Reason::Idle, message::IDLE)],
        State::PrepInProgress => vec![
            busy_idle,
            Wanted(Type::PrepInProgress, True, InProgress, say),
        ],
        State::PrepFailed => vec![
            busy_idle,
            Wanted(Type::PrepCompleted, False, Failed, message::PREP_FAILED),
            Wanted(Type::PrepInProgress, False, Failed, say),
        ],
        State::PrepCompleted => vec![
            busy_idle,
            Wanted(Type::PrepInProgress, False, Completed, &prepared),
            Wanted(Type::PrepCompleted, True, Completed, say),
        ],
        State::UpgradeInProgress => vec![
            busy_idle,
            Wanted(Type::UpgradeInProgress, True, InProgress, say),
        ],
        State::UpgradeFailed => vec![
            busy_idle,
            Wanted(
                Type::UpgradeCompleted,
                False,
                Failed,
                message::UPGRADE_FAILED,
            ),
            Wanted(Type::UpgradeInProgress, False, Failed, say),
        ],
        State::UpgradeCompleted => vec![
            busy_idle,
            Wanted(Type::UpgradeInProgress, False, Completed, &upgraded),
            Wanted(
                Type::UpgradeCompleted,
                True,
                Completed,
                message::UPGRADE_COMPLETED,
            ),
        ],
        State::RollbackInProgress => vec![
            busy_idle,
            Wanted(
                Type::UpgradeCompleted,
                False,
                Failed,
                message::ROLLBACK_REQUESTED,
            ),
            Wanted(
                Type::UpgradeInProgress,
                False,
                Failed,
                message::ROLLBACK_REQUESTED,
            ),
            Wanted(Type::RollbackInProgress, True, InProgress, say),
        ],
        State::RollbackFailed => vec![
            busy_idle,
            Wanted(
                Type::RollbackCompleted,
                False,
                Failed,
                message::ROLLBACK_FAILED,
            ),
            Wanted(Type::RollbackInProgress, False, Failed, say),
        ],
        State::RollbackCompleted => vec![
            busy_idle,
            Wanted(
                Type::RollbackInProgress,
                False,
                Completed,
                message::ROLLBACK_COMPLETED,
            ),
            Wanted(
                Type::RollbackCompleted,
                True,
                Completed,
                message::ROLLBACK_COMPLETED,
            ),
        ],
        State::Aborting => vec![Wanted(Type::Idle, False, Aborting, say)],
        State::AbortFailed => vec![Wanted(Type::Idle, False, AbortFailed, say)],
        State::Finalizing => vec![Wanted(Type::Idle, False, Finalizing, say)],
        State::FinalizeFailed => vec![Wanted(Type::Idle, False, FinalizeFailed, say)],
    };
    for Wanted(type_, status, reason, message) in wanted {
        // A refused Idle says more than "In progress"; it is set below.
        if type_ == Type::Idle && matches!(decision.said.refused, Some((Stage::Idle, _))) {
            continue;
        }
        set(list, type_, status, reason, message, occasion);
    }
    tell_refusal(list, decision, occasion);
    if let Some((stage, text)) = &decision.said.blocked {
        let type_ = ConditionType::in_progress(*stage);
        set(list, type_, False, Reason::Blocked, text, occasion);
    }
}

/// Text of the condition of work that is finished: what was done, once it is said, for as long as the position lasts.
fn worked(list: &[Condition], decision: &Decision, type_: ConditionType, usual: &str) -> String {
    let said = decision.said.work.clone();
    let before = find(list, type_)
        .filter(|found| found.known_reason() == Some(Reason::Completed))
        .map(|found| found.message.clone());
    said.or(before).unwrap_or_else(|| usual.to_owned())
}

/// Sets one condition as the contract's 2.4 has it: a condition whose status changes, and `Idle` always when anything of it
/// changes, moves to the end, because `kubectl get` prints the last element. What changes neither status nor place keeps
/// its transition time.
fn set(
    list: &mut Vec<Condition>,
    type_: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: &str,
    occasion: Occasion,
) {
    let new = Condition::new(
        type_,
        status,
        reason,
        message,
        occasion.generation,
        occasion.now,
    );
    let Some(at) = list
        .iter()
        .position(|condition| condition.kind() == Some(type_))
    else {
        list.push(new);
        return;
    };
    let old = &list[at];
    let same = old.status == new.status && old.reason == new.reason && old.message == new.message;
    if same {
        return;
    }
    let flips = old.status != new.status;
    let moves = at + 1 < list.len() && (flips || type_ == ConditionType::Idle);
    let last_transition_time = if flips || moves {
        occasion.now
    } else {
        old.last_transition_time
    };
    let new = Condition {
        last_transition_time,
        ..new
    };
    if moves {
        list.remove(at);
        list.push(new);
    } else {
        list[at] = new;
    }
}

/// Stages and phases with their times (contract 2.9): begun once, ended once, and only success ends a stage.
fn history(list: &mut Vec<History>, decision: &Decision, now: Timestamp) {
    let (stage, ended) = match decision.state {
        State::Uninitialized | State::Contradictory => return,
        State::Idle
        | State::Aborting
        | State::AbortFailed
        | State::Finalizing
        | State::FinalizeFailed => {
            list.clear();
            return;
        }
        State::PrepInProgress | State::PrepFailed => (Stage::Prep, false),
        State::PrepCompleted => (Stage::Prep, true),
        State::UpgradeInProgress | State::UpgradeFailed => (Stage::Upgrade, false),
        State::UpgradeCompleted => (Stage::Upgrade, true),
        State::RollbackInProgress | State::RollbackFailed => (Stage::Rollback, false),
        State::RollbackCompleted => (Stage::Rollback, true),
    };
    let at = list
        .iter()
        .position(|entry| entry.stage == stage.as_str())
        .unwrap_or_else(|| {
            list.push(History {
                stage: stage.as_str().to_owned(),
                start_time: Some(now),
                ..History::default()
            });
            list.len() - 1
        });
    let entry = &mut list[at];
    if let Some(phase) = decision.said.phase.filter(|phase| phase.stage() == stage) {
        stop_phases(entry, Some(phase), now);
        if !entry
            .phases
            .iter()
            .any(|begun| begun.phase == phase.as_str())
        {
            entry.phases.push(PhaseHistory {
                phase: phase.as_str().to_owned(),
                start_time: Some(now),
                completion_time: None,
            });
        }
    }
    if ended {
        stop_phases(entry, None, now);
        entry.completion_time.get_or_insert(now);
    }
}

fn stop_phases(entry: &mut History, but: Option<Phase>, now: Timestamp) {
    for phase in entry
        .phases
        .iter_mut()
        .filter(|phase| but.is_none_or(|but| phase.phase != but.as_str()))
    {
        phase.completion_time.get_or_insert(now);
    }
}

/// The upgrade object as it is saved for the other side of a pivot: the phase before the pivot has ended.
pub fn end_pre_pivot(status: &mut ImageBasedUpgradeStatus, now: Timestamp) {
    for entry in status
        .history
        .iter_mut()
        .filter(|entry| entry.stage == Stage::Upgrade.as_str())
    {
        stop_phases(entry, None, now);
    }
}

/// The upgrade object as the origin keeps it for a return that nobody asked for (contract 5.1,
/// step 11).
pub fn mark_uncontrolled_return(
    status: &mut ImageBasedUpgradeStatus,
    generation: i64,
    now: Timestamp,
) {
    let occasion = Occasion { generation, now };
    *status = failed_upgrade(
        status,
        Side::Origin,
        message::UNCONTROLLED_ROLLBACK,
        occasion,
    );
}

/// A status whose upgrade has failed with this text.
pub fn failed_upgrade(
    previous: &ImageBasedUpgradeStatus,
    side: Side,
    text: &str,
    occasion: Occasion,
) -> ImageBasedUpgradeStatus {
    let decision = Decision::record(State::UpgradeFailed, side, text);
    project(previous, Stage::Upgrade, &decision, occasion)
}

/// The text that was written beforehand gives way to what is known now. One that says something else stays: whoever wrote it
/// knew more.
pub fn tell_failed_boot(status: &mut ImageBasedUpgradeStatus, failed: &FailedBoot) {
    if failure_text(status, Stage::Upgrade) != Some(message::UNCONTROLLED_ROLLBACK) {
        return;
    }
    let type_ = ConditionType::in_progress(Stage::Upgrade);
    let mut told = status.conditions.iter_mut();
    if let Some(told) = told.find(|found| found.kind() == Some(type_)) {
        told.message = failed.text();
    }
}

/// The text that the in-progress condition of the failed stage carries, if the stage has failed.
pub fn failure_text(status: &ImageBasedUpgradeStatus, stage: Stage) -> Option<&str> {
    let completed = find(&status.conditions, ConditionType::completed(stage))?;
    let progress = find(&status.conditions, ConditionType::in_progress(stage))?;
    (completed.status == ConditionStatus::False).then_some(progress.message.as_str())
}
