//! Reading a position: every written list reads back, everything else is a contradiction, nothing panics.

use api::{Condition, ConditionStatus, ConditionType, ImageBasedUpgradeStatus, Reason, Stage};
use planner::{Overlay, Parsed, Side, State, parse, project};
use proptest::prelude::*;

use crate::reachable::{EDGES, blocked, contradictions, refusals, statuses};
use crate::sample::{decided, facts, occasion, say, shown, spec, time};

#[test]
fn every_position_reads_back_from_every_list_that_leads_to_it() {
    let mut lists = 0;
    for (state, status) in statuses() {
        let (state, status) = (*state, status.clone());
        let Parsed { state: read, .. } = parse(&status.conditions);
        assert_eq!(read, state, "{:#?}", shown(&status.conditions));
        for (_, to, stage) in EDGES.iter().filter(|(from, ..)| *from == state) {
            let next = project(
                &status,
                *stage,
                &say(*to, Side::Origin, "m"),
                occasion(3, 3),
            );
            let expected = Parsed {
                state: *to,
                overlay: Overlay::None,
            };
            assert_eq!(parse(&next.conditions), expected, "{state} -> {to}");
            lists += 1;
        }
        for (decision, stage) in refusals(state) {
            let next = project(&status, stage, &decision, occasion(3, 3));
            let read = parse(&next.conditions);
            assert_eq!(read.state, state, "{:#?}", shown(&next.conditions));
            if state != State::Contradictory {
                assert_eq!(read.overlay, Overlay::Refused(stage));
            }
            // Told once: the same refusal again changes nothing, not even a time.
            assert_eq!(project(&next, stage, &decision, occasion(3, 9)), next);
            // Not made again: it is gone.
            let cleared = project(&next, stage, &say(state, Side::Origin, "m"), occasion(3, 9));
            if state != State::Contradictory {
                assert_eq!(parse(&cleared.conditions).overlay, Overlay::None);
            }
            lists += 1;
        }
    }
    #[expect(
        clippy::disallowed_macros,
        clippy::print_stdout,
        reason = "the count is part of what the test shows"
    )]
    {
        println!("lists written and read back: {lists}");
    }
    assert!(lists > 3_000, "{lists}");
}

#[test]
fn other_lists_are_contradictions_and_have_a_way_out() {
    for (what, conditions) in contradictions() {
        assert_eq!(parse(&conditions).state, State::Contradictory, "{what}");
        for (side, stage, to) in [
            (Side::Origin, "Idle", State::Aborting),
            (Side::Target, "Rollback", State::RollbackInProgress),
        ] {
            let decision = decided(&spec(Some(stage)), &conditions, &facts(side));
            let status = ImageBasedUpgradeStatus {
                conditions: conditions.clone(),
                ..ImageBasedUpgradeStatus::default()
            };
            let next = project(&status, stage.parse().unwrap(), &decision, occasion(2, 2));
            assert_eq!(parse(&next.conditions).state, to, "{what}");
        }
    }
}

#[test]
fn an_idle_that_was_refused_stands_first_again() {
    let status = crate::reachable::plain(State::UpgradeFailed);
    let mut refused = say(State::UpgradeFailed, Side::Target, "m");
    refused.said.refused = Some((Stage::Idle, planner::Refusal::RollbackFirst));
    let told = project(&status, Stage::Idle, &refused, occasion(3, 3));
    assert_eq!(told.conditions.last().unwrap().type_, "Idle");
    let plain = say(State::UpgradeFailed, Side::Target, "m");
    let again = project(&told, Stage::Upgrade, &plain, occasion(4, 4));
    let types = |status: &ImageBasedUpgradeStatus| -> Vec<String> {
        let types = status.conditions.iter().map(|c| c.type_.clone());
        types.collect()
    };
    assert_eq!(types(&again), types(&status));
}

/// What the contract's Go original and the IP configuration flow write over a position.
#[test]
fn a_block_is_read_and_cleared() {
    for (state, stage) in [
        (State::Idle, Stage::Idle),
        (State::Idle, Stage::Prep),
        (State::PrepCompleted, Stage::Upgrade),
        (State::UpgradeCompleted, Stage::Rollback),
    ] {
        let status = blocked(crate::reachable::plain(state), stage);
        let overlay = Overlay::Blocked(stage);
        assert_eq!(parse(&status.conditions), Parsed { state, overlay });
        let cleared = project(
            &status,
            stage,
            &say(state, Side::Origin, "m"),
            occasion(2, 2),
        );
        let overlay = Overlay::None;
        assert_eq!(parse(&cleared.conditions), Parsed { state, overlay });
    }
}

/// The rule for contradictions, written once more and the other way round: what a list must be to be a position.
fn is_position(conditions: &[Condition]) -> bool {
    use ConditionStatus::{False, True};
    let overlaid = |c: &Condition| {
        matches!(
            c.known_reason(),
            Some(Reason::Blocked | Reason::InvalidTransition)
        )
    };
    let kinds: Vec<_> = conditions.iter().map(Condition::kind).collect();
    let distinct: std::collections::BTreeSet<_> = kinds.iter().flatten().collect();
    if distinct.len() != conditions.len() {
        return false;
    }
    let status = |type_: ConditionType| {
        let found = conditions.iter().find(|c| c.kind() == Some(type_));
        found.filter(|c| !overlaid(c)).map(|c| c.status)
    };
    let Some(idle) = conditions
        .iter()
        .find(|c| c.kind() == Some(ConditionType::Idle))
    else {
        return conditions.is_empty();
    };
    let ends: Vec<_> = [Stage::Rollback, Stage::Upgrade, Stage::Prep]
        .into_iter()
        .map(|stage| {
            let ended = status(ConditionType::completed(stage));
            (ended, status(ConditionType::in_progress(stage)))
        })
        .collect();
    let latest = ends.iter().find(|end| **end != (None, None));
    match (idle.status, idle.known_reason()) {
        (True, _) => latest.is_none(),
        (
            _,
            Some(
                Reason::Aborting
                | Reason::AbortFailed
                | Reason::Finalizing
                | Reason::FinalizeFailed,
            ),
        ) => true,
        _ => match latest {
            None => overlaid(idle),
            Some((None, Some(True))) => true,
            Some((Some(True | False), running)) => *running != Some(True),
            Some(_) => false,
        },
    }
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let types = proptest::sample::select(
        ConditionType::ALL
            .iter()
            .map(|t| t.as_str())
            .cycle()
            .take(ConditionType::ALL.len() * 4)
            .chain(["Ready", ""])
            .collect::<Vec<_>>(),
    );
    let reasons = proptest::sample::select(
        Reason::ALL
            .iter()
            .map(|r| r.as_str())
            .chain(["Whatever", ""])
            .collect::<Vec<_>>(),
    );
    let statuses = proptest::sample::select(vec![
        ConditionStatus::True,
        ConditionStatus::False,
        ConditionStatus::Unknown,
    ]);
    (types, statuses, reasons, "[ -~]{0,12}").prop_map(|(type_, status, reason, message)| {
        Condition {
            type_: type_.to_owned(),
            status,
            observed_generation: Some(1),
            last_transition_time: time(0),
            reason: reason.to_owned(),
            message,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_list_is_read_and_decided(
        conditions in proptest::collection::vec(any_condition(), 0..6),
        stage in proptest::sample::select(vec![None, Some("Idle"), Some("Prep"), Some("Upgrade"), Some("Rollback"), Some("Nap")]),
        side in proptest::sample::select(vec![Side::Origin, Side::Target]),
    ) {
        let parsed = parse(&conditions);
        prop_assert_eq!(parsed.state == State::Contradictory, !is_position(&conditions));
        let requested = stage.and_then(|s| s.parse().ok()).unwrap_or(Stage::Idle);
        let decision = decided(&spec(stage), &conditions, &facts(side));
        let status = ImageBasedUpgradeStatus { conditions, ..ImageBasedUpgradeStatus::default() };
        let next = project(&status, requested, &decision, occasion(2, 2));
        prop_assert_eq!(parse(&next.conditions).state, decision.state);
    }
}
