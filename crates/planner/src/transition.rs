//! The transition table: which stages may be asked for where, and where asking leads.

use api::{Stage, message};
use serde::Serialize;

use crate::state::{Side, State};

/// Why a requested stage is not permitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize)]
pub enum Refusal {
    /// Prep or Upgrade asked for out of order.
    PreviousStageNotSucceeded,
    /// Rollback asked for where there is nothing to return from.
    NothingToRollBack,
    /// Idle asked for after a rollback that failed.
    RollbackFailed,
    /// Idle asked for in the middle of a rollback.
    RollbackInProgress,
    /// Idle asked for behind the pivot of an upgrade that has not completed.
    RollbackFirst,
    /// Idle asked for where neither abort nor finalize applies.
    NotAllowed,
}

impl Refusal {
    /// The contract's text (2.4).
    pub fn message(self) -> &'static str {
        match self {
            Refusal::PreviousStageNotSucceeded => message::PREVIOUS_STAGE_NOT_SUCCEEDED,
            Refusal::NothingToRollBack => message::UPGRADE_NOT_STARTED,
            Refusal::RollbackFailed => message::IDLE_REFUSED_ROLLBACK_FAILED,
            Refusal::RollbackInProgress => message::IDLE_REFUSED_ROLLBACK_IN_PROGRESS,
            Refusal::RollbackFirst => message::IDLE_REFUSED_ROLLBACK_FIRST,
            Refusal::NotAllowed => message::IDLE_REFUSED,
        }
    }
}

/// What a requested stage means in a position.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize)]
pub enum Transition {
    /// Nothing new is asked for.
    Stay,
    /// Go there.
    Move(#[serde(skip)] State),
    /// Not from here.
    Refuse(Refusal),
}

/// `status.validNextStages` of a position. Equals the contract's 2.5 but for the rows that `ARCHITECTURE.md` argues:
/// a failed rollback may be asked for again, and a contradictory list has a way out.
pub fn valid_next(state: State, side: Side) -> &'static [Stage] {
    match (state, side) {
        (State::Uninitialized, _) => &[Stage::Idle],
        (State::Idle, _) => &[Stage::Prep],
        (State::PrepInProgress | State::PrepFailed, _) => &[Stage::Idle],
        (State::PrepCompleted, _) => &[Stage::Idle, Stage::Upgrade],
        (State::UpgradeInProgress | State::UpgradeFailed, Side::Origin) => &[Stage::Idle],
        (State::UpgradeInProgress | State::UpgradeFailed, Side::Target) => &[Stage::Rollback],
        (State::UpgradeCompleted, _) => &[Stage::Idle, Stage::Rollback],
        (State::RollbackInProgress, _) => &[],
        (State::RollbackFailed, _) => &[Stage::Rollback],
        (State::RollbackCompleted, _) => &[Stage::Idle],
        (State::Aborting | State::AbortFailed | State::Finalizing | State::FinalizeFailed, _) => {
            &[]
        }
        (State::Contradictory, Side::Origin) => &[Stage::Idle],
        (State::Contradictory, Side::Target) => &[Stage::Rollback],
    }
}

/// Where asking for a stage leads. Agrees with [`valid_next`]: a stage that is listed there is never refused, and a
/// move always leads along a listed stage.
pub fn transition(state: State, side: Side, requested: Stage) -> Transition {
    use Transition::{Move, Refuse, Stay};
    match (requested, state) {
        (Stage::Idle, State::Uninitialized) => Move(State::Idle),
        // An object may be created with any stage; it starts from Idle, and the stage is looked at again from there.
        (_, State::Uninitialized) => Move(State::Idle),

        (Stage::Idle, State::Idle) => Stay,
        (
            Stage::Idle,
            State::Aborting | State::AbortFailed | State::Finalizing | State::FinalizeFailed,
        ) => Stay,
        (Stage::Idle, State::PrepInProgress | State::PrepFailed | State::PrepCompleted) => {
            Move(State::Aborting)
        }
        (Stage::Idle, State::UpgradeCompleted | State::RollbackCompleted) => {
            Move(State::Finalizing)
        }
        (Stage::Idle, State::UpgradeInProgress | State::UpgradeFailed | State::Contradictory) => {
            match side {
                Side::Origin => Move(State::Aborting),
                Side::Target => Refuse(Refusal::RollbackFirst),
            }
        }
        (Stage::Idle, State::RollbackInProgress) => match side {
            Side::Origin => Refuse(Refusal::NotAllowed),
            Side::Target => Refuse(Refusal::RollbackInProgress),
        },
        (Stage::Idle, State::RollbackFailed) => Refuse(Refusal::RollbackFailed),

        (Stage::Prep, State::Idle) => Move(State::PrepInProgress),
        (Stage::Prep, state) if passed(Stage::Prep, state) => Stay,
        (Stage::Prep, _) => Refuse(Refusal::PreviousStageNotSucceeded),

        (Stage::Upgrade, State::PrepCompleted) => Move(State::UpgradeInProgress),
        (Stage::Upgrade, state) if passed(Stage::Upgrade, state) => Stay,
        (Stage::Upgrade, _) => Refuse(Refusal::PreviousStageNotSucceeded),

        (Stage::Rollback, State::UpgradeCompleted) => Move(State::RollbackInProgress),
        (
            Stage::Rollback,
            State::UpgradeInProgress | State::UpgradeFailed | State::Contradictory,
        ) => match side {
            Side::Origin => Refuse(Refusal::NothingToRollBack),
            Side::Target => Move(State::RollbackInProgress),
        },
        (Stage::Rollback, state) if passed(Stage::Rollback, state) => Stay,
        (Stage::Rollback, _) => Refuse(Refusal::NothingToRollBack),
    }
}

/// Whether a position lies in a stage or behind it, so that asking for the stage asks for nothing new (contract 2.5:
/// its completed condition is present or its in-progress condition is true).
fn passed(stage: Stage, state: State) -> bool {
    let rank = match state {
        State::PrepInProgress | State::PrepFailed | State::PrepCompleted => 1,
        State::UpgradeInProgress | State::UpgradeFailed | State::UpgradeCompleted => 2,
        State::RollbackInProgress | State::RollbackFailed | State::RollbackCompleted => 3,
        _ => 0,
    };
    match stage {
        Stage::Idle => false,
        Stage::Prep => rank >= 1,
        Stage::Upgrade => rank >= 2,
        Stage::Rollback => rank >= 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_next_stages_and_transitions_agree() {
        let mut seen = 0;
        for state in State::ALL {
            for side in [Side::Origin, Side::Target] {
                for stage in Stage::ALL {
                    let listed = valid_next(state, side).contains(&stage);
                    match transition(state, side, stage) {
                        Transition::Move(to) => {
                            let initial = state == State::Uninitialized && to == State::Idle;
                            assert!(
                                listed || initial,
                                "{state} {side:?} {stage:?} moves unlisted"
                            );
                        }
                        Transition::Refuse(_) => {
                            assert!(!listed, "{state} {side:?} {stage:?} listed and refused")
                        }
                        // A listed stage that changes nothing is a retry: only a failed rollback has one.
                        Transition::Stay => {
                            assert!(
                                !listed || state == State::RollbackFailed,
                                "{state} {side:?} {stage:?}"
                            );
                        }
                    }
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 16 * 2 * 4);
    }
}
