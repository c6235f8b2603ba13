//! Upgrade: on the origin up to the reboot, on the target from its first boot on.

use api::{DeploymentId, ImageBasedUpgradeSpec, Phase, message};

use crate::boot::{FALLBACK_ATTEMPTS, FallbackState};
use crate::check::{self, Subject};
use crate::decide::{Act, Decision, Pending, Why, noted, pending};
use crate::facts::{ClusterKnowledge, Facts, PostPivot, TargetRecord};
use crate::failure::{LONGEST_BACKOFF, due};
use crate::state::{Side, State};
use crate::step::{Plan, PlanName, Step};

/// Seconds until an unhealthy cluster is looked at again (contract 5.1).
const HEALTH_AGAIN: u64 = 20;

/// Seconds until a cluster that did not answer is asked again.
const UNKNOWN_AGAIN: u64 = 2;

pub(crate) fn decide(spec: &ImageBasedUpgradeSpec, facts: &Facts) -> Decision {
    match facts.side {
        Side::Origin => before_pivot(spec, facts),
        Side::Target => after_pivot(facts),
    }
}

fn before_pivot(spec: &ImageBasedUpgradeSpec, facts: &Facts) -> Decision {
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
        return fail(message::UNCONTROLLED_ROLLBACK);
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
    if facts.default.as_ref().is_some_and(|first| first != booted) {
        // Cut off between the switch and the reboot. Whoever reboots while the cluster is waited for is to come back here.
        let plan = Plan {
            name: PlanName::Pivot,
            steps: vec![Step::SetDefault {
                deployment: booted.clone(),
            }],
        };
        return Decision::stay(state, facts.side, message::IN_PROGRESS, Act::Run(plan))
            .within(Phase::PrePivot);
    }
    match &facts.cluster {
        ClusterKnowledge::Known(_) => {}
        ClusterKnowledge::NotAsked => return wait(Why::Cluster, "").again(1),
        ClusterKnowledge::Unknown { error, .. } => {
            return wait(
                Why::Cluster,
                &format!("Waiting for the API server: {error}"),
            )
            .again(UNKNOWN_AGAIN);
        }
    }
    let unhealthy = check::unhealthy(&Subject::of(spec, facts));
    if !unhealthy.is_empty() {
        let why = message::health_failed(&unhealthy);
        let text = format!("{}{why}", message::WAIT_BEFORE_UPGRADE_PREFIX);
        return Decision::stay(state, facts.side, text, Act::Wait(Why::Cluster))
            .within(Phase::PrePivot)
            .again(HEALTH_AGAIN);
    }
    let plan = pivot(facts, booted, target, deployment);
    Decision::stay(state, facts.side, message::IN_PROGRESS, Act::Run(plan)).within(Phase::PrePivot)
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
    };
    let steps = steps.into_iter().chain(unit).chain([sync]);
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

/// A position at rest on either side of the pivot, where nothing is to be returned from. What the boot loader would still do
/// is taken back; on the origin the switch first, which may be what failed.
pub(crate) fn resting(state: State, spoken: &str, facts: &Facts) -> Decision {
    let rest = |act| Decision::stay(state, facts.side, spoken, act);
    let Ok(booted) = &facts.booted else {
        return rest(Act::Nothing);
    };
    let steps = match (state, facts.side) {
        (State::UpgradeCompleted, Side::Target) => vec![],
        (State::UpgradeFailed, Side::Origin) => vec![Step::SetDefault {
            deployment: booted.clone(),
        }],
        _ => return rest(Act::Nothing),
    };
    if !matches!(facts.fallback, FallbackState::Armed { .. }) {
        return rest(Act::Nothing);
    }
    let plan = Plan {
        name: PlanName::Disarm,
        steps: steps.into_iter().chain([Step::DisarmFallback]).collect(),
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

fn after_pivot(facts: &Facts) -> Decision {
    let state = State::UpgradeInProgress;
    let wait = |note: &str| {
        Decision::stay(state, facts.side, note, Act::Wait(Why::PostPivot))
            .within(Phase::PostPivot)
            .again(1)
    };
    match &facts.post_pivot {
        PostPivot::Running { progress } => {
            wait(&format!("{}{progress}", message::WAIT_AFTER_PIVOT_PREFIX))
        }
        PostPivot::Failing { error } => {
            wait(&format!("{}{error}", message::WAIT_AFTER_PIVOT_PREFIX))
        }
        PostPivot::Finished => {
            let text = message::UPGRADE_COMPLETED;
            let mut decision = Decision::record(State::UpgradeCompleted, facts.side, text)
                // Also when it was over before anybody looked: the history tells it either way.
                .within(Phase::PostPivot);
            decision.said.work = Some(format!("{text}; {}", message::SEED_CRYPTO_KEPT));
            decision
        }
    }
}
