//! What follows from verdicts on both sides of the pivot: completion, and the ways back that nobody asked for.

use api::verdict::{Judge, Outcome};
use planner::{
    Act, ClusterKnowledge, Decision, Facts, Health, Plan, PlanName, PostPivot, Side, State, Step,
    VerdictFact,
};

use crate::reachable::plain;
use crate::sample::{ORIGIN, TARGET, decided, deployment, facts, spec, stateroot, target, time};

fn decide(state: State, facts: &Facts) -> Decision {
    let stage = match state {
        State::RollbackInProgress | State::RollbackFailed => "Rollback",
        _ => "Upgrade",
    };
    decided(&spec(Some(stage)), &plain(state).conditions, facts)
}

fn plan(decision: Decision) -> Plan {
    match decision.act {
        Act::Run(plan) => plan,
        other => panic!("{other:?}"),
    }
}

/// Behind a first boot that ended well.
fn behind() -> Facts {
    let mut facts = facts(Side::Target);
    facts.post_pivot = PostPivot::Finished;
    facts
}

fn with_health(change: impl FnOnce(&mut Health)) -> Facts {
    let mut facts = behind();
    if let ClusterKnowledge::Known(cluster) = &mut facts.cluster {
        change(&mut cluster.health);
    }
    facts
}

#[test]
fn completion_is_a_marker_then_a_status_then_the_end_of_the_monitor() {
    let mut facts = behind();
    let marker = plan(decide(State::UpgradeInProgress, &facts));
    assert_eq!(marker.name, PlanName::Complete);
    assert_eq!(
        marker.steps,
        [Step::RecordVerdict {
            outcome: Outcome::Completed,
            judge: Judge::Controller,
            reason: "Upgrade completed".to_owned(),
        }]
    );
    facts.verdict = crate::sample::verdict(Outcome::Completed, Judge::Controller);
    // Whatever became of the run, and of everything else meanwhile.
    facts.cluster = ClusterKnowledge::NotAsked;
    let status = decide(State::UpgradeInProgress, &facts);
    assert_eq!(status.state, State::UpgradeCompleted);
    facts.monitor_armed = true;
    let disarm = plan(decide(State::UpgradeCompleted, &facts));
    assert_eq!(disarm.name, PlanName::Disarm);
    facts.monitor_armed = false;
    assert_eq!(decide(State::UpgradeCompleted, &facts).act, Act::Nothing);
}

#[test]
fn the_expiration_is_told_as_soon_as_it_is_known() {
    let mut facts = with_health(|health| health.pools = vec!["master".to_owned()]);
    facts.rollback_until = Some(time(1000));
    let decision = decide(State::UpgradeInProgress, &facts);
    let status = planner::project(
        &plain(State::UpgradeInProgress),
        api::Stage::Upgrade,
        &decision,
        crate::sample::occasion(3, 3),
    );
    assert_eq!(status.rollback_availability_expiration, Some(time(1000)));
    // Who goes back does not show it, and warns where it is over.
    for (now, warned) in [(999, false), (1000, true)] {
        facts.now = time(now);
        let decision = decide(State::RollbackInProgress, &facts);
        let text = &decision.said.message;
        assert!(text.starts_with("Initiating rollback"), "{text}");
        assert_eq!(text.contains(&format!("Warning: {ORIGIN}")), warned);
        // Besides the condition, which the reboot soon takes away: as an Event.
        let event = decision.said.warning.clone().unwrap_or_default();
        assert_eq!(event.starts_with(&format!("Warning: {ORIGIN}")), warned);
        let status = planner::project(
            &status,
            api::Stage::Rollback,
            &decision,
            crate::sample::occasion(4, 4),
        );
        assert_eq!(status.rollback_availability_expiration, None);
    }
}

#[test]
fn an_automatic_return_says_why_and_then_goes_like_any_other() {
    let mut facts = behind();
    facts.verdict = crate::sample::verdict(Outcome::Rollback, Judge::Controller);
    let plan = plan(decide(State::UpgradeInProgress, &facts));
    assert_eq!(plan.name, PlanName::AutomaticReturn);
    assert_eq!(
        plan.steps,
        [
            Step::RecordVerdict {
                outcome: Outcome::Rollback,
                judge: Judge::Controller,
                reason: "REASON".to_owned(),
            },
            Step::TellOrigin {
                origin: stateroot(ORIGIN),
                target: deployment(TARGET),
                reason: "REASON".to_owned(),
            },
            Step::SealEvidence {
                target: deployment(TARGET),
                boot_id: Some("boot-1".to_owned()),
                reason: "REASON".to_owned(),
            },
            Step::SyncStateroots {
                stateroots: vec![stateroot(TARGET), stateroot(ORIGIN)],
                shared: false,
            },
            Step::ReleaseSpace { may_fail: true },
            Step::RefillFallback,
            Step::SetDefault {
                deployment: deployment(ORIGIN),
            },
            Step::DisarmFallback { may_fail: true },
            Step::Reboot {
                reason: "rollback".to_owned(),
                boot_id: "boot-1".to_owned(),
                otherwise: None,
            },
        ]
    );
}

#[test]
fn a_failed_upgrade_in_the_target_goes_back_unless_it_completed_or_the_user_objects() {
    let check = |change: fn(&mut Facts), expect: Option<&str>| {
        let mut facts = behind();
        change(&mut facts);
        let decision = decide(State::UpgradeFailed, &facts);
        assert_eq!(decision.state, State::UpgradeFailed);
        let reason = match decision.act {
            Act::Run(plan) => match plan.steps.into_iter().next() {
                Some(Step::RecordVerdict { reason, .. }) => Some(reason),
                other => panic!("{other:?}"),
            },
            Act::Nothing => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason.as_deref(), expect);
    };
    check(
        |_| {},
        Some("Rollback due to upgrade failure: text of UpgradeFailed"),
    );
    check(|facts| facts.returns = false, None);
    check(
        |facts| facts.verdict = crate::sample::verdict(Outcome::Completed, Judge::Controller),
        None,
    );
    check(
        |facts| {
            facts.verdict = VerdictFact::Unreadable("torn".to_owned());
            facts.returns = false;
        },
        Some("Rollback due to upgrade failure: the verdict on this upgrade cannot be read: torn"),
    );
}

/// The origin finds itself booted again and nobody told it why: the verdict in the target does.
#[test]
fn an_origin_without_a_message_reads_the_targets_verdict() {
    let check = |verdict: VerdictFact, text: &str| {
        let mut facts = facts(Side::Origin);
        facts.target = Some(target(true));
        (facts.returned, facts.verdict) = (true, verdict);
        let decision = decide(State::UpgradeInProgress, &facts);
        assert_eq!(decision.state, State::UpgradeFailed);
        assert_eq!(decision.said.message, text);
    };
    check(VerdictFact::None, "Uncontrolled rollback");
    check(
        VerdictFact::Unreadable("torn".to_owned()),
        "Uncontrolled rollback",
    );
    let back = crate::sample::verdict(Outcome::Rollback, Judge::InitMonitor);
    check(back, "REASON");
}
