//! Rollback: back to exactly the origin that was recorded at the pivot.

use api::verdict::{Judge, Outcome};
use api::{DeploymentId, message};

use crate::decide::{Act, Decision, Pending, noted, pending};
use crate::facts::{Facts, RunFact};
use crate::failure::{LONGEST_BACKOFF, due};
use crate::state::{Side, State};
use crate::step::{Plan, PlanName, Step};
use crate::verdict::VerdictFact;

pub(crate) fn decide(state: State, spoken: &str, facts: &Facts) -> Decision {
    if facts.side == Side::Origin {
        return Decision::record(
            State::RollbackCompleted,
            facts.side,
            message::ROLLBACK_COMPLETED,
        );
    }
    let text = match state {
        State::RollbackFailed => spoken.to_owned(),
        _ => noted(usual(facts), &warning(facts)),
    };
    let text = text.as_str();
    // A failed rollback is tried again by itself: there is nothing else that a node behind its pivot could do.
    let failed = |error: String| {
        let act = if state == State::RollbackFailed {
            Act::Nothing
        } else {
            Act::Record
        };
        Decision {
            act,
            ..Decision::record(State::RollbackFailed, facts.side, error)
        }
        .again(LONGEST_BACKOFF)
    };
    match pending(&facts.run, &[PlanName::Return]) {
        // A permanent failure is tried again too, at the longest interval.
        Pending::Failed(error) if !due(&facts.run) => return failed(error),
        Pending::Failed(_) | Pending::Free => {}
        Pending::Wait { why, note, again } => {
            let mut decision =
                Decision::stay(state, facts.side, noted(text, &note), Act::Wait(why));
            decision.look_again = again;
            if state == State::RollbackFailed {
                decision.said.message = text.to_owned();
            }
            return decision;
        }
    }
    let Ok(booted) = &facts.booted else {
        return failed("the booted deployment is not known".to_owned());
    };
    let Some(origin) = facts
        .origin
        .clone()
        .filter(|origin| origin.stateroot != booted.stateroot)
    else {
        return failed("no deployment to return to is recorded or found on this node".to_owned());
    };
    let act = Act::Run(back(facts, booted, origin));
    let mut decision = Decision::stay(state, facts.side, text, act);
    decision.said.warning = Some(warning(facts)).filter(|warning| !warning.is_empty());
    decision
}

/// What is told besides notes: the contract's second text is shown from when the node is being changed until the reboot.
fn usual(facts: &Facts) -> &'static str {
    match &facts.run {
        RunFact::Running {
            plan: PlanName::Return,
            ..
        } => message::COMPLETING_ROLLBACK,
        _ => message::INITIATING_ROLLBACK,
    }
}

/// The certificates of the origin have expired, as far as anybody knows: it may come back without being healthy at once.
fn warning(facts: &Facts) -> String {
    match (&facts.origin, facts.rollback_until) {
        (Some(origin), Some(until)) if facts.now >= until => {
            message::origin_expired(&origin.stateroot, until)
        }
        _ => String::new(),
    }
}

fn back(facts: &Facts, booted: &DeploymentId, origin: DeploymentId) -> Plan {
    let stamp = facts.stamp(&origin, booted);
    // A completed upgrade is rolled back only here, where the user asks for it; before that this is a verdict like others.
    let verdict = (facts.verdict == VerdictFact::None).then(|| Step::RecordVerdict {
        outcome: Outcome::Rollback,
        judge: Judge::User,
        reason: message::ROLLBACK_REQUESTED.to_owned(),
    });
    let steps = verdict.into_iter().chain([
        Step::SaveHandover {
            stateroot: origin.stateroot.clone(),
            stamp,
        },
        Step::SyncStateroots {
            stateroots: vec![booted.stateroot.clone(), origin.stateroot.clone()],
            shared: false,
        },
        // What is kept is kept for this: the switch writes to /boot.
        Step::ReleaseSpace { may_fail: true },
        // The switch makes it name the target: only with attempts left does the boot loader go by the default. Until then it
        // leads home.
        Step::RefillFallback,
        Step::SetDefault { deployment: origin },
        Step::DisarmFallback { may_fail: true },
        Step::Reboot {
            reason: "rollback".to_owned(),
            boot_id: facts.boot_id.clone(),
            // The way back stays open, whoever reboots.
            otherwise: None,
        },
    ]);
    Plan {
        name: PlanName::Return,
        steps: steps.collect(),
    }
}
