//! Upgrade: on the origin up to the reboot, on the target from its first boot on.

use api::verdict::Judge;
use api::{DeploymentId, Phase, message};

use crate::boot::{FALLBACK_ATTEMPTS, FallbackState};
use crate::check;
use crate::decide::{Act, Decision, Pending, Why, noted, pending, resting as at_rest};
use crate::evidence;
use crate::facts::{ClusterKnowledge, Facts, PostPivot, TargetRecord};
use crate::failure::{LONGEST_BACKOFF, due};
use crate::state::{Side, State};
use crate::step::{Plan, PlanName, Step};
use crate::verdict::{self, Return, VerdictFact, automatic_return};

/// Seconds until an unhealthy cluster is looked at again (contract 3.1, 5.1 and 6.2).
pub(crate) const HEALTH_AGAIN: u64 = 20;

/// Seconds until a cluster that did not answer is asked again.
pub(crate) const UNKNOWN_AGAIN: u64 = 2;

pub(crate) fn decide(facts: &Facts) -> Decision {
    match facts.side {
        Side::Origin => before_pivot(facts),
        Side::Target => after_pivot(facts),
    }
}

fn before_pivot(facts: &Facts) -> Decision {
    let state = State::UpgradeInProgress;
    let fail = |message: &str| Decision::record(State::UpgradeFailed, facts.side, message);
    let wait = |why, note: &str| {
        Decision::stay(
            state,
            facts.side,
            noted(message::IN_PROGRESS, note),
            Act::Wait(why),
        )
        .within(Phase::PrePivot)
    };
    if let Some(failed) = &facts.failed_boot {
        return fail(&failed.text());
    }
    if facts.returned {
        // The target's verdict says why, even where its message to this side was lost.
        let known = facts.verdict.rollback();
        return match (&facts.verdict, known) {
            (VerdictFact::Decided(_), Some((_, reason))) => fail(&reason),
            _ => fail(message::UNCONTROLLED_ROLLBACK),
        };
    }
    match pending(&facts.run, &[PlanName::Pivot]) {
        Pending::Failed(error) => {
            return fail(&format!("failed to run pre pivots without errors: {error}"));
        }
        Pending::Wait { why, note, again } => {
            let mut decision = wait(why, &note);
            decision.look_again = again;
            return decision;
        }
        Pending::Free => {}
    }
    let Ok(booted) = &facts.booted else {
        return wait(Why::Booted, "").again(5);
    };
    let Some((target, deployment)) = facts
        .target
        .as_ref()
        .and_then(|target| Some((target, target.deployment.clone()?)))
    else {
        return fail(
            "the prepared target is not recorded on this node: request stage Idle and then Prep again",
        );
    };
    if leads_elsewhere(facts, booted) {
        // Cut off between the switch and the reboot. Whoever reboots while the cluster is waited for is to come back here; what
        // the boot loader was armed with would lead to the target now.
        let plan = Plan {
            name: PlanName::Pivot,
            steps: vec![
                Step::SetDefault {
                    deployment: booted.clone(),
                },
                Step::DisarmFallback { may_fail: false },
            ],
        };
        return Decision::stay(state, facts.side, message::IN_PROGRESS, Act::Run(plan))
            .within(Phase::PrePivot);
    }
    let health = match &facts.cluster {
        ClusterKnowledge::Known(cluster) => &cluster.health,
        ClusterKnowledge::NotAsked => return wait(Why::Cluster, "").again(1),
        ClusterKnowledge::Unknown { error, .. } => {
            let text = format!("{}{error}", message::WAIT_BEFORE_UPGRADE_PREFIX);
            return Decision::stay(state, facts.side, text, Act::Wait(Why::Cluster))
                .within(Phase::PrePivot)
                .again(UNKNOWN_AGAIN);
        }
    };
    if let Some(unhealthy) = check::unhealthy(health) {
        let text = format!("{}{}", message::WAIT_BEFORE_UPGRADE_PREFIX, unhealthy.text);
        return Decision::stay(state, facts.side, text, Act::Wait(Why::Cluster))
            .within(Phase::PrePivot)
            .again(HEALTH_AGAIN);
    }
    let plan = pivot(facts, booted, target, deployment);
    Decision::stay(state, facts.side, message::IN_PROGRESS, Act::Run(plan)).within(Phase::PrePivot)
}

/// Whether what boots by default is of another stateroot. Of the same one it may be a deployment that somebody has staged, which
/// is not ours to discard.
pub(crate) fn leads_elsewhere(facts: &Facts, booted: &DeploymentId) -> bool {
    let default = facts.default.as_ref();
    default.is_some_and(|first| first.stateroot != booted.stateroot)
}

/// Whether this upgrade's target is what boots by default, on the origin, although it has not completed: its switch took effect
/// and was not taken back. One that has completed stays the default; somebody looks at the old release. Of a foreign one nobody
/// knows: its program writes no verdict.
fn leads_to_failed(facts: &Facts) -> bool {
    let (Some(target), Some(default)) = (&facts.target, &facts.default) else {
        return false;
    };
    default.stateroot == target.stateroot && !facts.verdict.is_completed() && !facts.foreign_target
}

fn pivot(
    facts: &Facts,
    booted: &DeploymentId,
    target: &TargetRecord,
    deployment: DeploymentId,
) -> Plan {
    let stamp = facts.stamp(booted, &deployment);
    let stateroot = target.stateroot.clone();
    let (unit, armed) = fallback(facts, booted, &deployment);
    // A run taken up behind its switch would otherwise write into what boots next: cut off there, the node would come up
    // without its identity.
    let steps = [
        Step::SetDefault {
            deployment: booted.clone(),
        },
        Step::CheckTarget {
            target: deployment.clone(),
            monitored: facts.rollback_config.monitor_enabled,
        },
        Step::ExportConfiguration {
            stateroot: stateroot.clone(),
        },
        Step::WriteRollbackConfig {
            stateroot: stateroot.clone(),
            config: facts.rollback_config.clone(),
        },
        Step::SaveOriginCopy {
            stamp: stamp.clone(),
        },
        Step::SaveHandover {
            stateroot: stateroot.clone(),
            stamp,
        },
    ];
    let ending = [
        Step::SetDefault { deployment },
        Step::Reboot {
            reason: "upgrade".to_owned(),
            boot_id: facts.boot_id.clone(),
            otherwise: Some(booted.clone()),
        },
    ];
    let sync = Step::SyncStateroots {
        stateroots: vec![booted.stateroot.clone(), stateroot],
        shared: true,
    };
    let given_back = facts
        .foreign_target
        .then_some([Step::DiscardSeed, Step::ReleaseSpace { may_fail: true }]);
    let given_back = given_back.into_iter().flatten();
    let steps = steps
        .into_iter()
        .chain(unit)
        .chain(given_back)
        .chain([sync]);
    Plan {
        name: PlanName::Pivot,
        steps: steps.chain(armed).chain(ending).collect(),
    }
}

/// The boot fallback, where the node has one: what declares boots of the target good, and the arming. That comes right before
/// the switch: what it names is the origin's entry as the switch will leave it.
fn fallback(
    facts: &Facts,
    origin: &DeploymentId,
    target: &DeploymentId,
) -> (Option<Step>, Option<Step>) {
    if let FallbackState::None(_) = facts.fallback {
        return (None, None);
    }
    let unit = Step::EnsureBootUnit {
        target: target.clone(),
    };
    let armed = Step::ArmFallback {
        origin: origin.clone(),
        target: target.clone(),
        attempts: FALLBACK_ATTEMPTS,
        boot_id: facts.boot_id.clone(),
    };
    (Some(unit), Some(armed))
}

/// A position at rest on either side of the pivot, where nothing is to be returned from. What the boot loader and the init
/// monitor would still do is taken back; on the origin the switch first, which may be what failed. Then evidence that is due.
pub(crate) fn resting(state: State, spoken: &str, facts: &Facts) -> Decision {
    let spoken = evidence::told(state, spoken, facts);
    let rest = |act| Decision::stay(state, facts.side, spoken.as_str(), act);
    let Ok(booted) = &facts.booted else {
        return rest(Act::Nothing);
    };
    let armed = matches!(facts.fallback, FallbackState::Armed { .. });
    let (first, monitor) = match (state, facts.side) {
        (State::UpgradeCompleted, Side::Target) => (None, facts.monitor_armed),
        (State::UpgradeFailed, Side::Origin) if armed || leads_to_failed(facts) => {
            let deployment = booted.clone();
            (Some(Step::SetDefault { deployment }), false)
        }
        (State::UpgradeFailed, Side::Origin) => (None, false),
        _ => return rest(Act::Nothing),
    };
    if !armed && !monitor && first.is_none() {
        return evidence::sealing(rest(Act::Nothing), facts);
    }
    let loader = armed.then_some(Step::DisarmFallback { may_fail: false });
    // It finds the verdict by itself too, and then does nothing.
    let monitor = monitor.then(verdict::disarm_monitor);
    let plan = Plan {
        name: PlanName::Disarm,
        steps: first.into_iter().chain(loader).chain(monitor).collect(),
    };
    match pending(&facts.run, &[PlanName::Disarm]) {
        Pending::Free => rest(Act::Run(plan)),
        Pending::Wait { why, again, .. } => Decision {
            look_again: again,
            ..rest(Act::Wait(why))
        },
        Pending::Failed(_) if due(&facts.run) => rest(Act::Run(plan)),
        Pending::Failed(_) => rest(Act::Nothing).again(LONGEST_BACKOFF),
    }
}

/// Seconds between two questions for what is not healthy yet; the API server answers them from its memory.
pub(crate) const ASK_AGAIN: u64 = 1;

fn after_pivot(facts: &Facts) -> Decision {
    let state = State::UpgradeInProgress;
    if facts.verdict.is_completed() {
        let text = message::UPGRADE_COMPLETED;
        // Also when it was over before anybody looked: the history tells it either way.
        let mut decision = expiring(
            facts,
            Decision::record(State::UpgradeCompleted, facts.side, text),
        );
        decision.said.work = Some(format!("{text}; {}", message::SEED_CRYPTO_KEPT));
        return decision;
    }
    if let Some((judge, reason)) = facts.verdict.rollback() {
        return returning(state, &reason, judge, reason.clone(), facts).within(Phase::PostPivot);
    }
    let wait = |why, text: &str| {
        let decision = Decision::stay(state, facts.side, text, Act::Wait(why));
        expiring(facts, decision.again(ASK_AGAIN))
    };
    let stabilizing = |text: &str| format!("{}{text}", message::WAIT_AFTER_PIVOT_PREFIX);
    match &facts.post_pivot {
        PostPivot::Running { progress: text } | PostPivot::Failing { error: text } => {
            return wait(Why::PostPivot, &stabilizing(text));
        }
        PostPivot::Finished => {}
    }
    match pending(&facts.run, &[PlanName::Complete]) {
        Pending::Failed(error) if !due(&facts.run) => {
            return wait(Why::Backoff, &stabilizing(&error));
        }
        Pending::Failed(_) | Pending::Free => {}
        Pending::Wait { why, note, again } => {
            let mut decision = wait(why, &noted(message::IN_PROGRESS, &note));
            decision.look_again = again;
            return decision;
        }
    }
    let health = match &facts.cluster {
        ClusterKnowledge::NotAsked => return wait(Why::Cluster, message::IN_PROGRESS),
        ClusterKnowledge::Unknown { error, .. } => {
            return wait(Why::Cluster, &stabilizing(error));
        }
        ClusterKnowledge::Known(cluster) => &cluster.health,
    };
    match check::unhealthy(health) {
        Some(found) => {
            // The contract's two gates (5.3, steps 2 and 7).
            let prefix = if found.deferred {
                message::WAIT_BEFORE_COMPLETION_PREFIX
            } else {
                message::WAIT_AFTER_PIVOT_PREFIX
            };
            wait(Why::Cluster, &format!("{prefix}{}", found.text))
        }
        None => {
            let act = Act::Run(verdict::complete(facts));
            expiring(
                facts,
                Decision::stay(state, facts.side, message::IN_PROGRESS, act),
            )
        }
    }
}

/// What a decision behind the pivot tells besides its text.
fn expiring(facts: &Facts, decision: Decision) -> Decision {
    let mut decision = decision.within(Phase::PostPivot);
    decision.said.rollback_until = facts.rollback_until;
    decision
}

/// A failed upgrade in the target: back, unless the user wants it left as it is or it has completed before.
pub(crate) fn failed(spoken: &str, facts: &Facts) -> Decision {
    let state = State::UpgradeFailed;
    if facts.verdict.is_completed() {
        return at_rest(state, spoken, facts);
    }
    match facts.verdict.rollback() {
        Some((judge, reason)) => returning(state, spoken, judge, reason, facts),
        None if facts.returns => {
            let reason = format!("{}{spoken}", message::ROLLBACK_BY_FAILURE_PREFIX);
            returning(state, spoken, Judge::Controller, reason, facts)
        }
        None => at_rest(state, spoken, facts),
    }
}

/// Behind a verdict to go back. Whoever made it carries it out, and the init monitor where that one is gone.
fn returning(state: State, text: &str, judge: Judge, reason: String, facts: &Facts) -> Decision {
    let stay = |act| Decision::stay(state, facts.side, text, act);
    if judge != Judge::Controller {
        return stay(Act::Wait(Why::Return)).again(ASK_AGAIN);
    }
    match pending(&facts.run, &[PlanName::AutomaticReturn]) {
        // Every error is tried again: behind a pivot there is nothing else that this node could do.
        Pending::Failed(_) if !due(&facts.run) => {
            return stay(Act::Wait(Why::Backoff)).again(ASK_AGAIN);
        }
        Pending::Failed(_) | Pending::Free => {}
        Pending::Wait { why, again, .. } => {
            let mut decision = stay(Act::Wait(why));
            decision.look_again = again;
            return decision;
        }
    }
    let booted = facts.booted.as_ref().ok();
    let origin = facts
        .origin
        .as_ref()
        .filter(|origin| booted.is_some_and(|booted| booted.stateroot != origin.stateroot));
    let (Some(booted), Some(origin)) = (booted, origin) else {
        return stay(Act::Wait(Why::Origin)).again(LONGEST_BACKOFF);
    };
    stay(Act::Run(automatic_return(Return {
        plan: PlanName::AutomaticReturn,
        judge,
        reason,
        booted: booted.clone(),
        origin: origin.clone(),
        boot_id: facts.boot_id.clone(),
    })))
}
