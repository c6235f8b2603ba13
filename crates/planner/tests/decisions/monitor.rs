//! The init monitor's decisions: every class of what it looks at, and the table that `docs/rollback.md` shows.

use api::rollback_config::RollbackConfig;
use api::verdict::{Judge, Outcome};
use planner::{
    BOOT_LIMIT, ConfigFact, Disarmed, GRACE, MonitorAct, MonitorFacts, VerdictFact, watch_over,
};

use crate::sample::verdict;

fn config(enabled: bool, timeout: i64) -> ConfigFact {
    ConfigFact::Known(RollbackConfig {
        monitor_enabled: enabled,
        monitor_timeout: timeout,
        ..RollbackConfig::default()
    })
}

/// A boot in which nothing has happened yet.
fn quiet() -> MonitorFacts {
    MonitorFacts {
        handed_over: true,
        config: config(true, 600),
        verdict: VerdictFact::None,
        status_completed: None,
        boots: 1,
        spent: 10,
        seen_rollback: 0,
    }
}

fn returns(act: &MonitorAct) -> bool {
    matches!(act, MonitorAct::Return(..))
}

#[test]
fn the_deadline_is_the_configurations_and_the_default_where_that_is_lost() {
    let check = |config: ConfigFact, deadline: u64, text: &str| {
        let at = |spent| {
            watch_over(&MonitorFacts {
                config: config.clone(),
                spent,
                ..quiet()
            })
        };
        assert_eq!(at(deadline - 1), MonitorAct::Wait(1));
        let reason = format!("Rollback due to LCA Init Monitor timeout, after {text}");
        let back = MonitorAct::Return(Judge::InitMonitor, reason);
        assert_eq!(at(deadline), back);
        assert_eq!(at(u64::MAX), back);
    };
    check(config(true, 600), 600, "10m0s");
    check(config(true, 1), 1, "1s");
    // Nonsense, lost, torn: never "no monitor".
    check(config(true, 0), 1800, "30m0s");
    check(config(true, -5), 1800, "30m0s");
    check(config(true, i64::MIN), 1800, "30m0s");
    check(ConfigFact::Missing, 1800, "30m0s");
    check(ConfigFact::Unreadable("torn".to_owned()), 1800, "30m0s");
}

#[test]
fn boots_are_counted_whatever_ended_them() {
    let at = |boots| watch_over(&MonitorFacts { boots, ..quiet() });
    assert_eq!(at(BOOT_LIMIT), MonitorAct::Wait(1));
    let reason = "Rollback due to LCA Init Monitor: not completed within 5 boots".to_owned();
    assert_eq!(
        at(BOOT_LIMIT + 1),
        MonitorAct::Return(Judge::InitMonitor, reason)
    );
}

#[test]
fn a_verdict_of_others_is_left_to_them_for_a_while() {
    let at = |judge, seen_rollback| {
        watch_over(&MonitorFacts {
            verdict: verdict(Outcome::Rollback, judge),
            seen_rollback,
            ..quiet()
        })
    };
    let back = |judge| MonitorAct::Return(judge, "REASON".to_owned());
    assert_eq!(at(Judge::InitMonitor, 0), back(Judge::InitMonitor));
    for judge in [Judge::Controller, Judge::PostPivot, Judge::User] {
        assert_eq!(at(judge, 0), MonitorAct::Wait(1));
        assert_eq!(at(judge, GRACE - 1), MonitorAct::Wait(1));
        assert_eq!(at(judge, GRACE), back(judge));
    }
}

/// Every combination of classes, and what must hold for each.
#[test]
fn every_combination_keeps_the_rules() {
    let verdicts = [
        VerdictFact::None,
        verdict(Outcome::Completed, Judge::Controller),
        verdict(Outcome::Rollback, Judge::InitMonitor),
        verdict(Outcome::Rollback, Judge::PostPivot),
        VerdictFact::Unreadable("torn".to_owned()),
    ];
    let configs = [
        config(true, 600),
        config(true, 0),
        config(false, 600),
        ConfigFact::Missing,
        ConfigFact::Unreadable("torn".to_owned()),
    ];
    let mut seen = 0;
    for verdict in &verdicts {
        for config in &configs {
            for handed_over in [true, false] {
                for status_completed in [None, Some(false), Some(true)] {
                    for boots in [1, BOOT_LIMIT, BOOT_LIMIT + 1, u32::MAX] {
                        for spent in [0, 599, 600, 1800, u64::MAX] {
                            for seen_rollback in [0, GRACE] {
                                let facts = MonitorFacts {
                                    handed_over,
                                    config: config.clone(),
                                    verdict: verdict.clone(),
                                    status_completed,
                                    boots,
                                    spent,
                                    seen_rollback,
                                };
                                rules(&facts);
                                seen += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(seen, 5 * 5 * 2 * 3 * 4 * 5 * 2);
}

fn rules(facts: &MonitorFacts) {
    let act = watch_over(facts);
    let completed = facts.verdict.is_completed();
    let unreadable = matches!(facts.verdict, VerdictFact::Unreadable(_));
    let unwanted = facts.config.timeout().is_none();
    // What has completed is never returned from, whatever else is lost.
    assert!(!(completed && returns(&act)), "{facts:?}");
    let known_completed = completed || unreadable && facts.status_completed == Some(true);
    assert_eq!(
        act == MonitorAct::Disarm(Disarmed::Completed),
        known_completed,
        "{facts:?}"
    );
    if known_completed {
        return;
    }
    // A verdict to go back is carried out in the end, also where the user wants no monitor.
    if matches!(facts.verdict, VerdictFact::Decided(_)) {
        assert!(facts.seen_rollback < GRACE || returns(&act), "{facts:?}");
        return;
    }
    match act {
        MonitorAct::Disarm(Disarmed::NothingHandedOver) => assert!(!facts.handed_over),
        MonitorAct::Disarm(Disarmed::Completed) => unreachable!(),
        MonitorAct::Wait(seconds) => {
            // Behind the deadline, or too many boots, nobody waits.
            assert!((1..=1).contains(&seconds), "{facts:?}");
            let in_time = Some(facts.spent) < facts.config.timeout();
            assert!(
                unwanted || facts.boots <= BOOT_LIMIT && in_time,
                "{facts:?}"
            );
        }
        MonitorAct::Return(judge, reason) => {
            assert_eq!(judge, Judge::InitMonitor);
            assert!(reason.starts_with("Rollback due to "), "{reason}");
        }
    }
}
