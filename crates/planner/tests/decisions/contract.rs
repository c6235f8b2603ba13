//! The contract's table of valid next stages (2.5), copied by hand, against the transition table.

use api::Stage::{self, Idle, Prep, Rollback, Upgrade};
use planner::Side::{Origin, Target};
use planner::{Side, State, explain_stages, valid_next};

/// The contract's 2.5 from top to bottom, a row for each position and side that its words cover.
const CONTRACT: &[(State, &[Side], &[Stage])] = &[
    (State::Aborting, &[Origin, Target], &[]),
    (State::AbortFailed, &[Origin, Target], &[]),
    (State::Finalizing, &[Origin, Target], &[]),
    (State::FinalizeFailed, &[Origin, Target], &[]),
    (State::RollbackInProgress, &[Origin, Target], &[]),
    (State::RollbackFailed, &[Origin, Target], &[]),
    (State::PrepInProgress, &[Origin, Target], &[Idle]),
    (State::PrepFailed, &[Origin, Target], &[Idle]),
    (State::UpgradeInProgress, &[Target], &[Rollback]),
    (State::UpgradeFailed, &[Target], &[Rollback]),
    (State::UpgradeInProgress, &[Origin], &[Idle]),
    (State::UpgradeFailed, &[Origin], &[Idle]),
    (State::RollbackCompleted, &[Origin, Target], &[Idle]),
    (
        State::UpgradeCompleted,
        &[Origin, Target],
        &[Idle, Rollback],
    ),
    (State::PrepCompleted, &[Origin, Target], &[Idle, Upgrade]),
    (State::Idle, &[Origin, Target], &[Prep]),
    (State::Uninitialized, &[Origin, Target], &[Idle]),
    (State::Contradictory, &[Origin, Target], &[]),
];

/// Where we differ on purpose; `ARCHITECTURE.md` argues each row.
const EXCEPTIONS: &[(State, Side, &[Stage])] = &[
    // The contract has no way out of a failed rollback but deleting the object.
    (State::RollbackFailed, Origin, &[Rollback]),
    (State::RollbackFailed, Target, &[Rollback]),
    // The contract's "otherwise": no way out either.
    (State::Contradictory, Origin, &[Idle]),
    (State::Contradictory, Target, &[Rollback]),
];

#[test]
fn valid_next_stages_equal_the_contract_but_for_the_argued_rows() {
    let mut seen = 0;
    for (state, sides, stages) in CONTRACT {
        for side in *sides {
            let exception = EXCEPTIONS
                .iter()
                .find(|(a, b, _)| (a, b) == (state, side))
                .map(|(.., stages)| *stages);
            assert_ne!(exception, Some(*stages), "{state} {side:?} is no exception");
            let expected = exception.unwrap_or(stages);
            assert_eq!(valid_next(*state, *side), expected, "{state} {side:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, State::ALL.len() * 2, "every position and side once");
}

#[test]
fn the_explanation_shows_every_row() {
    let text = explain_stages();
    let has = |words: &str| {
        let squeezed: Vec<&str> = words.split_whitespace().collect();
        let found = text
            .lines()
            .any(|line| line.split_whitespace().collect::<Vec<_>>() == squeezed);
        assert!(found, "{words}\n{text}");
    };
    has("state booted validNextStages requested stage and what follows");
    has("Idle either Prep Idle stays");
    has("PrepCompleted either Idle, Upgrade Idle -> Aborting");
    has(
        "UpgradeInProgress target Rollback Idle refused: Transition to Idle not allowed - Rollback first",
    );
    has("UpgradeInProgress origin Idle Idle -> Aborting");
    has("Rollback tries again");
    has("RollbackInProgress origin none Idle refused: Abort or finalize not allowed");
    for state in State::ALL {
        assert!(text.contains(&state.to_string()), "{state}");
    }
    assert!(
        text.lines()
            .all(|line| line.len() < 140 && line.trim_end() == line)
    );
    assert!(text.ends_with('\n'));
}
