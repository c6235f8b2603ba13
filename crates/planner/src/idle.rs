//! Idle: abort what Prep made, or finalize by forgetting the release that is not booted. Only what this upgrade made
//! or recorded is removed, and nothing is without exactly one booted deployment known.

use api::{StaterootName, message};

use crate::check;
use crate::decide::{Act, Decision, Pending, Why, noted, pending};
use crate::evidence;
use crate::facts::{ClusterKnowledge, Facts, RunFact};
use crate::failure::{LONGEST_BACKOFF, due};
use crate::state::{Side, State};
use crate::step::{Plan, PlanName, Step};
use crate::upgrade::{HEALTH_AGAIN, UNKNOWN_AGAIN, leads_elsewhere};
use crate::verdict::disarm_monitor;

/// The two ways to Idle.
struct Way {
    running: State,
    failed: State,
    plan: PlanName,
    text: &'static str,
    /// What is told while the cluster is not healthy enough to begin; `None` = its health is not asked for.
    gate: Option<&'static str>,
}

const ABORT: Way = Way {
    running: State::Aborting,
    failed: State::AbortFailed,
    plan: PlanName::Abort,
    text: message::ABORTING,
    gate: None,
};
const FINALIZE: Way = Way {
    running: State::Finalizing,
    failed: State::FinalizeFailed,
    plan: PlanName::Finalize,
    text: message::FINALIZING,
    gate: Some(message::WAIT_BEFORE_FINALIZE_PREFIX),
};

/// How many failures in a row, a second to four apart, are no passing trouble any more.
const LASTING: u32 = 3;

pub(crate) fn abort(state: State, spoken: &str, facts: &Facts) -> Decision {
    decide(&ABORT, state, spoken, facts)
}

pub(crate) fn finalize(state: State, spoken: &str, facts: &Facts) -> Decision {
    decide(&FINALIZE, state, spoken, facts)
}

fn decide(way: &Way, state: State, spoken: &str, facts: &Facts) -> Decision {
    let text = if state == way.failed {
        spoken
    } else {
        way.text
    };
    // Tried again by itself, whatever kind of failure it was: the annotation only makes it sooner.
    let failed = |error: &str, again| {
        let text = message::cleanup_failed(error);
        let act = if state == way.failed {
            Act::Nothing
        } else {
            Act::Record
        };
        let decision = Decision {
            act,
            ..Decision::record(way.failed, facts.side, text)
        };
        decision.again(again)
    };
    match pending(&facts.run, &[way.plan]) {
        Pending::Failed(error) if !facts.cleanup_now && !due(&facts.run) => {
            return failed(&error, LONGEST_BACKOFF);
        }
        Pending::Failed(_) | Pending::Free => {}
        Pending::Wait {
            why: Why::Backoff, ..
        } if facts.cleanup_now => {}
        Pending::Wait {
            why: Why::Backoff,
            again,
            ..
        } if lasting(&facts.run).is_some() => {
            let error = lasting(&facts.run).unwrap_or_default();
            return failed(error, again.unwrap_or(LONGEST_BACKOFF));
        }
        Pending::Wait { why, note, again } => {
            let text = if state == way.failed {
                text.to_owned()
            } else {
                noted(text, &note)
            };
            let mut decision = Decision::stay(state, facts.side, text, Act::Wait(why));
            decision.look_again = again;
            return decision;
        }
    }
    if !facts.leftovers {
        return Decision::record(State::Idle, facts.side, message::IDLE);
    }
    // Before it begins only: what has removed something, or failed to, goes on whatever the cluster is like.
    let begun = state == way.failed
        || matches!(&facts.run, RunFact::Interrupted { plan } | RunFact::Failed { plan, .. } if *plan == way.plan);
    if let (Some(prefix), false) = (way.gate, begun)
        && let Some((why, again)) = unhealthy(facts)
    {
        let text = if why.is_empty() {
            text.to_owned()
        } else {
            format!("{prefix}{why}")
        };
        return Decision::stay(state, facts.side, text, Act::Wait(Why::Cluster)).again(again);
    }
    debug_assert_eq!(way.running == State::Aborting, way.plan == PlanName::Abort);
    Decision::stay(state, facts.side, text, Act::Run(removal(way.plan, facts)))
}

/// The error of a clean-up that has failed so often that it is worth a word, although it may still pass by itself.
fn lasting(run: &RunFact) -> Option<&str> {
    match run {
        RunFact::Failed { error, attempt, .. } if *attempt >= LASTING => Some(error),
        _ => None,
    }
}

/// What is not healthy, or why nobody knows (empty where nobody has asked yet); and how soon to look again.
fn unhealthy(facts: &Facts) -> Option<(String, u64)> {
    match &facts.cluster {
        ClusterKnowledge::Known(cluster) => {
            check::unhealthy(&cluster.health).map(|found| (found.text, HEALTH_AGAIN))
        }
        ClusterKnowledge::NotAsked => Some((String::new(), 1)),
        ClusterKnowledge::Unknown { error, .. } => Some((error.clone(), UNKNOWN_AGAIN)),
    }
}

fn removal(name: PlanName, facts: &Facts) -> Plan {
    let mut steps = Vec::new();
    if let Ok(booted) = &facts.booted
        && leads_elsewhere(facts, booted)
    {
        // An abort after the switch and before the reboot.
        steps.push(Step::SetDefault {
            deployment: booted.clone(),
        });
    }
    // Behind the switch back: until then it is the way back.
    steps.push(Step::DisarmFallback { may_fail: false });
    // Before what needs space itself.
    steps.push(Step::ReleaseSpace { may_fail: false });
    if facts.side == Side::Target {
        // Asked for before the completion had been followed up.
        steps.push(disarm_monitor());
    }
    // Before anything of what failed is removed.
    steps.extend(evidence::step(message::UNCONTROLLED_ROLLBACK, facts));
    // One stateroot that cannot be removed keeps nothing else.
    steps.extend([Step::DiscardSeed, Step::UnpinImages]);
    // What runs is never removed, whatever the records say.
    let runs = |stateroot: &StaterootName| {
        facts
            .booted
            .as_ref()
            .is_ok_and(|booted| booted.stateroot == *stateroot)
    };
    for stateroot in facts.removable.iter().filter(|stateroot| !runs(stateroot)) {
        steps.push(Step::UndeployStateroot {
            stateroot: stateroot.clone(),
        });
        steps.push(Step::RemoveStateroot {
            stateroot: stateroot.clone(),
        });
    }
    steps.extend([Step::PruneRepository, Step::RemoveRecords]);
    Plan { name, steps }
}
