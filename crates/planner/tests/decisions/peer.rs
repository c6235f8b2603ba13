//! One owner of the node's deployments: this flow and the one that changes the node's addresses, both ways.

use api::ip_config::{IpConfig, IpConfigSpec, IpConfigStatus};
use api::{
    Condition, ConditionStatus, ConditionType, ImageBasedUpgradeStatus, Reason, Stage, message,
};
use planner::{
    Act, Decision, Overlay, Parsed, Peer, Side, State, Why, decide, owns, parse, peer_owns, project,
};

use crate::reachable::{blocked, plain};
use crate::sample::{facts, occasion, shown, spec, time};

/// The other flow's object: its stage, and `Type Status Reason` of each condition.
fn ip_config(stage: &str, conditions: &[&str]) -> IpConfig {
    let condition = |text: &&str| {
        let words: Vec<&str> = text.split(' ').collect();
        let status = match words[1] {
            "True" => ConditionStatus::True,
            _ => ConditionStatus::False,
        };
        Condition {
            type_: words[0].to_owned(),
            reason: words[2].to_owned(),
            ..Condition::new(ConditionType::Idle, status, Reason::Idle, "", 1, time(0))
        }
    };
    IpConfig {
        spec: IpConfigSpec {
            stage: stage.to_owned(),
        },
        status: IpConfigStatus {
            conditions: conditions.iter().map(condition).collect(),
        },
    }
}

/// Positions of the other flow, and whether it owns the deployments there.
fn positions() -> Vec<(&'static str, IpConfig, bool)> {
    let row = |name, stage, conditions: &[&str], owns| (name, ip_config(stage, conditions), owns);
    vec![
        row("fresh", "Idle", &[], false),
        row("fresh, asked at once", "Config", &[], false),
        row("idle", "Idle", &["Idle True Idle"], false),
        row("asked, not begun", "Config", &["Idle True Idle"], true),
        row(
            "in progress",
            "Config",
            &[
                "Idle False ConfigurationInProgress",
                "ConfigInProgress True InProgress",
            ],
            true,
        ),
        row(
            "completed, not finalized",
            "Config",
            &[
                "Idle False InProgress",
                "ConfigInProgress False Completed",
                "ConfigCompleted True Completed",
            ],
            true,
        ),
        row(
            "failed",
            "Config",
            &[
                "Idle False Failed",
                "ConfigInProgress False Failed",
                "ConfigCompleted False Failed",
            ],
            true,
        ),
        row(
            "waits for us",
            "Config",
            &["Idle True Idle", "ConfigInProgress False Blocked"],
            false,
        ),
        row(
            "waits for us, idle overwritten",
            "Idle",
            &["Idle False Blocked"],
            false,
        ),
        row(
            "blocked in the middle of its work",
            "Rollback",
            &[
                "Idle False InProgress",
                "ConfigCompleted True Completed",
                "RollbackInProgress False Blocked",
            ],
            true,
        ),
        row(
            "on the way to idle",
            "Idle",
            &["ConfigCompleted True Completed", "Idle False InProgress"],
            true,
        ),
        row(
            "of a stage that nobody knows",
            "Nap",
            &["Idle True Idle"],
            true,
        ),
    ]
}

fn decided(
    stage: Stage,
    status: &ImageBasedUpgradeStatus,
    side: Side,
    peer: Peer,
) -> (Decision, ImageBasedUpgradeStatus) {
    let facts = planner::Facts {
        peer,
        ..facts(side)
    };
    let conditions = &status.conditions;
    let spec = spec(Some(stage.as_str()));
    let decision = decide(&spec, conditions, parse(conditions), &facts);
    let next = project(status, stage, &decision, occasion(3, 3));
    (decision, next)
}

fn known(peer: &IpConfig) -> Peer {
    Peer::Known(Some(Box::new(peer.clone())))
}

/// What the other flow's gate makes of our object (contract 2.7): whether it goes on.
fn goes_on(status: &ImageBasedUpgradeStatus, stage: Stage) -> bool {
    let find = |type_: ConditionType| {
        status
            .conditions
            .iter()
            .find(move |c| c.kind() == Some(type_))
    };
    let idle = find(ConditionType::Idle).is_some_and(|idle| idle.status == ConditionStatus::True);
    let waits = find(ConditionType::in_progress(stage))
        .is_some_and(|found| found.known_reason() == Some(Reason::Blocked));
    status.conditions.is_empty() || stage == Stage::Idle && idle || waits
}

#[test]
fn who_is_in_progress_keeps_the_node_and_the_other_waits() {
    for (name, peer, peers) in positions() {
        assert_eq!(peer_owns(&peer), peers, "{name}");
        for state in State::ALL {
            let status = plain(state);
            for (stage, side) in Stage::ALL
                .into_iter()
                .flat_map(|stage| [(stage, Side::Origin), (stage, Side::Target)])
            {
                let named = format!("{name}, {state}, {stage:?}, {side:?}");
                let (decision, next) = decided(stage, &status, side, known(&peer));
                let (alone, _) = decided(stage, &status, side, Peer::Known(None));
                let leaves = !owns(state) && owns(alone.state);
                let gives_way = peers && decision.state == State::Idle && owns(alone.state);
                if leaves && peers {
                    assert_eq!(decision.act, Act::Wait(Why::Peer), "{named}");
                    assert_eq!(decision.look_again, Some(30), "{named}");
                    assert_eq!(decision.valid_next, [Stage::Idle, Stage::Prep], "{named}");
                    let overlay = Overlay::Blocked(stage);
                    assert_eq!(
                        parse(&next.conditions),
                        Parsed { state, overlay },
                        "{named}"
                    );
                    // Who waits is in nobody's way.
                    assert!(goes_on(&next, stage), "{named}");
                    // And it is written once.
                    let (_, later) = decided(stage, &next, side, known(&peer));
                    assert_eq!(later, next, "{named}");
                } else if gives_way {
                    assert_eq!(state, State::PrepInProgress, "{named}");
                } else {
                    assert_eq!(decision, alone, "{named}");
                }
                if owns(decision.state) && decision.state != State::Contradictory {
                    assert!(!goes_on(&next, stage), "{named}: both would own");
                }
            }
        }
    }
}

#[test]
fn the_wait_is_told_in_the_contracts_words_and_ends_by_itself() {
    let busy = ip_config(
        "Config",
        &["ConfigInProgress True InProgress", "Idle False InProgress"],
    );
    let (_, waits) = decided(Stage::Prep, &plain(State::Idle), Side::Origin, known(&busy));
    assert_eq!(
        shown(&waits.conditions),
        [
            "Idle True Idle \"Idle\"",
            "PrepInProgress False Blocked \"IPC is not idle\"",
        ]
    );
    // Its end.
    for peer in [
        Peer::Known(None),
        known(&ip_config("Idle", &["Idle True Idle"])),
    ] {
        let (decision, next) = decided(Stage::Prep, &waits, Side::Origin, peer);
        assert_eq!(decision.state, State::PrepInProgress);
        assert_eq!(decision.act, Act::Record);
        assert_eq!(parse(&next.conditions).overlay, Overlay::None);
    }
    // The request is taken back.
    let (decision, next) = decided(Stage::Idle, &waits, Side::Origin, Peer::NotLooked);
    assert_eq!(decision.act, Act::Nothing);
    assert_eq!(shown(&next.conditions), ["Idle True Idle \"Idle\""]);
    // Nobody knows: as long as that is so, nothing begins.
    let unknown = Peer::Unknown("connection refused".to_owned());
    let (decision, next) = decided(Stage::Prep, &waits, Side::Origin, unknown);
    assert_eq!(decision.act, Act::Wait(Why::Peer));
    assert_eq!(decision.look_again, Some(2));
    let told =
        "PrepInProgress False Blocked \"failed to get IPConfig for gating: connection refused\"";
    assert_eq!(shown(&next.conditions)[1], told);
    assert!(told.contains(message::IP_CONFIG_UNKNOWN_PREFIX));
}

/// What the Go original may have written over a position of ours: the work goes on, whatever the other flow does.
#[test]
fn nobody_is_blocked_in_the_middle_of_work() {
    let busy = ip_config(
        "Config",
        &["ConfigInProgress True InProgress", "Idle False InProgress"],
    );
    for (state, stage) in [
        (State::PrepCompleted, Stage::Upgrade),
        (State::UpgradeCompleted, Stage::Rollback),
    ] {
        let status = blocked(plain(state), stage);
        let (decision, next) = decided(stage, &status, Side::Target, known(&busy));
        assert_eq!(decision.act, Act::Record, "{state}");
        assert_eq!(parse(&next.conditions).overlay, Overlay::None, "{state}");
    }
}

#[test]
fn who_began_at_the_same_time_gives_way_before_its_first_run() {
    let status = plain(State::PrepInProgress);
    for (name, peer, peers) in positions() {
        let (decision, next) = decided(Stage::Prep, &status, Side::Origin, known(&peer));
        let parsed = parse(&next.conditions);
        if peers {
            assert_eq!(decision.act, Act::Record, "{name}");
            let (state, overlay) = (State::Idle, Overlay::Blocked(Stage::Prep));
            assert_eq!(parsed, Parsed { state, overlay }, "{name}");
            assert!(goes_on(&next, Stage::Prep), "{name}");
            // And is at rest there.
            let (_, later) = decided(Stage::Prep, &next, Side::Origin, known(&peer));
            assert_eq!(later, next, "{name}");
        } else {
            assert!(matches!(decision.act, Act::Run(_)), "{name}: {decision:?}");
        }
    }
    // Nobody knows: no run begins, and the stage is not given up.
    let unknown = Peer::Unknown("no answer".to_owned());
    let (decision, _) = decided(Stage::Prep, &status, Side::Origin, unknown);
    assert_eq!(decision.act, Act::Wait(Why::Peer));
    assert_eq!(decision.state, State::PrepInProgress);
}
