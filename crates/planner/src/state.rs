//! Positions of the stage machine, read from conditions once and written to conditions once.

use std::fmt;

use api::{Condition, ConditionStatus, ConditionType, Reason, Stage};

/// Which side of the pivot is booted. Comes from the booted deployment, never from status.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The release that the upgrade started from.
    Origin,
    /// The release that the upgrade leads to.
    Target,
}

/// A position, named after what a user sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, PartialOrd, Ord)]
pub enum State {
    /// There are no conditions yet.
    Uninitialized,
    /// Nothing is going on; the only condition is `Idle`.
    Idle,
    /// The seed is being installed and images precached.
    PrepInProgress,
    /// Prep ended badly; what it left is removed by going back to Idle.
    PrepFailed,
    /// The target is installed.
    PrepCompleted,
    /// On the way to the pivot, or behind it.
    UpgradeInProgress,
    /// The upgrade ended badly.
    UpgradeFailed,
    /// The target runs and is healthy.
    UpgradeCompleted,
    /// On the way back to the origin.
    RollbackInProgress,
    /// The way back met an error that retrying did not cure.
    RollbackFailed,
    /// The origin runs again.
    RollbackCompleted,
    /// What Prep or an upgrade before its pivot made is being removed.
    Aborting,
    /// Removing met an error; it is tried again.
    AbortFailed,
    /// What the ended upgrade left behind is being removed.
    Finalizing,
    /// Removing met an error; it is tried again.
    FinalizeFailed,
    /// A condition list that no position produces. It is shown as it is and nothing is guessed.
    Contradictory,
}

impl State {
    /// All positions.
    pub const ALL: [State; 16] = [
        State::Uninitialized,
        State::Idle,
        State::PrepInProgress,
        State::PrepFailed,
        State::PrepCompleted,
        State::UpgradeInProgress,
        State::UpgradeFailed,
        State::UpgradeCompleted,
        State::RollbackInProgress,
        State::RollbackFailed,
        State::RollbackCompleted,
        State::Aborting,
        State::AbortFailed,
        State::Finalizing,
        State::FinalizeFailed,
        State::Contradictory,
    ];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What lies over a position without changing it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Overlay {
    /// Nothing.
    None,
    /// The other flow owns the node; this stage waits.
    Blocked(Stage),
    /// This stage was asked for and is not permitted here.
    Refused(Stage),
}

/// A condition list, understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Parsed {
    /// The position.
    pub state: State,
    /// What lies over it.
    pub overlay: Overlay,
}

/// Reads a position from conditions. Total: a list that [`crate::project`] never writes is
/// [`State::Contradictory`].
pub fn parse(conditions: &[Condition]) -> Parsed {
    Parsed {
        state: parse_state(conditions),
        overlay: parse_overlay(conditions),
    }
}

fn parse_overlay(conditions: &[Condition]) -> Overlay {
    let marked = |reason: Reason| {
        Stage::ALL.into_iter().find(|stage| {
            find(conditions, ConditionType::in_progress(*stage)).is_some_and(|found| {
                found.known_reason() == Some(reason) && found.status == ConditionStatus::False
            })
        })
    };
    match (marked(Reason::Blocked), marked(Reason::InvalidTransition)) {
        (Some(stage), _) => Overlay::Blocked(stage),
        (None, Some(stage)) => Overlay::Refused(stage),
        (None, None) => Overlay::None,
    }
}

fn parse_state(conditions: &[Condition]) -> State {
    use ConditionStatus::{False, True};
    use ConditionType as Type;

    if has_duplicates_or_strangers(conditions) {
        return State::Contradictory;
    }
    let at = |type_: Type| {
        find(conditions, type_)
            .filter(|found| {
                !matches!(
                    found.known_reason(),
                    Some(Reason::InvalidTransition | Reason::Blocked)
                )
            })
            .map(|found| found.status)
    };
    let idle = find(conditions, Type::Idle);
    match idle.map(|idle| (idle.status, idle.known_reason())) {
        None if conditions.is_empty() => return State::Uninitialized,
        None => return State::Contradictory,
        Some((True, _)) => {
            let alone = Stage::ALL.into_iter().all(|stage| {
                stage == Stage::Idle
                    || at(ConditionType::in_progress(stage)).is_none()
                        && at(ConditionType::completed(stage)).is_none()
            });
            return if alone {
                State::Idle
            } else {
                State::Contradictory
            };
        }
        Some((_, Some(Reason::Aborting))) => return State::Aborting,
        Some((_, Some(Reason::AbortFailed))) => return State::AbortFailed,
        Some((_, Some(Reason::Finalizing))) => return State::Finalizing,
        Some((_, Some(Reason::FinalizeFailed))) => return State::FinalizeFailed,
        Some(_) => {}
    }
    // Latest stage first: an earlier stage's conditions stay in the list.
    let stages = [
        (
            Type::RollbackCompleted,
            Type::RollbackInProgress,
            STATES_OF_ROLLBACK,
        ),
        (
            Type::UpgradeCompleted,
            Type::UpgradeInProgress,
            STATES_OF_UPGRADE,
        ),
        (Type::PrepCompleted, Type::PrepInProgress, STATES_OF_PREP),
    ];
    for (completed, in_progress, [running, failed, done]) in stages {
        match (at(completed), at(in_progress)) {
            (Some(_), Some(True)) => return State::Contradictory,
            (Some(True), _) => return done,
            (None, Some(True)) => return running,
            (Some(False), _) => return failed,
            (Some(ConditionStatus::Unknown), _) | (None, Some(_)) => return State::Contradictory,
            (None, None) => {}
        }
    }
    // `Idle` is blocked or refused before any stage ever started.
    if matches!(
        idle.and_then(Condition::known_reason),
        Some(Reason::Blocked | Reason::InvalidTransition)
    ) {
        return State::Idle;
    }
    State::Contradictory
}

const STATES_OF_PREP: [State; 3] = [
    State::PrepInProgress,
    State::PrepFailed,
    State::PrepCompleted,
];
const STATES_OF_UPGRADE: [State; 3] = [
    State::UpgradeInProgress,
    State::UpgradeFailed,
    State::UpgradeCompleted,
];
const STATES_OF_ROLLBACK: [State; 3] = [
    State::RollbackInProgress,
    State::RollbackFailed,
    State::RollbackCompleted,
];

fn has_duplicates_or_strangers(conditions: &[Condition]) -> bool {
    conditions
        .iter()
        .enumerate()
        .any(|(at, condition)| match condition.kind() {
            None => true,
            Some(type_) => conditions[..at]
                .iter()
                .any(|earlier| earlier.kind() == Some(type_)),
        })
}

pub(crate) fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions
        .iter()
        .find(|condition| condition.kind() == Some(type_))
}
