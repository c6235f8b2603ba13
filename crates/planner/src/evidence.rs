//! Evidence of failed boots: whether the old release still has to seal some, and what it says of it.

use api::message;

use crate::decide::{Act, Decision, Pending, pending};
use crate::facts::{EvidenceFact, Facts, RunFact};
use crate::failure::{LONGEST_BACKOFF, due};
use crate::state::{Side, State};
use crate::step::{Plan, PlanName, Step};

/// What a failed upgrade says in the release that the node returned to: the text, and where the evidence lies.
pub(crate) fn told(state: State, spoken: &str, facts: &Facts) -> String {
    match &facts.evidence {
        EvidenceFact::Sealed(place)
            if (state, facts.side) == (State::UpgradeFailed, Side::Origin) =>
        {
            message::with_evidence(spoken, place)
        }
        _ => spoken.to_owned(),
    }
}

/// The step that is due, if one is: the release that failed ran none of our code, or could not seal by itself.
pub(crate) fn step(reason: &str, facts: &Facts) -> Option<Step> {
    match &facts.evidence {
        EvidenceFact::Due(target) if facts.side == Side::Origin => Some(Step::SealEvidence {
            target: target.clone(),
            boot_id: None,
            reason: api::verdict::bounded(reason),
        }),
        _ => None,
    }
}

/// What a resting position does about it: one attempt in each life of the process, more only where that did not come to its end.
pub(crate) fn sealing(rest: Decision, facts: &Facts) -> Decision {
    if rest.state != State::UpgradeFailed {
        return rest;
    }
    let Some(step) = step(&rest.said.message, facts) else {
        return rest;
    };
    let plan = Plan {
        name: PlanName::SealEvidence,
        steps: vec![step],
    };
    let tried = matches!(
        facts.run,
        RunFact::Completed {
            plan: PlanName::SealEvidence
        }
    );
    let act = match pending(&facts.run, &[PlanName::SealEvidence]) {
        Pending::Free if tried => Act::Nothing,
        Pending::Free => Act::Run(plan),
        Pending::Wait { why, again, .. } => {
            return Decision {
                act: Act::Wait(why),
                look_again: again,
                ..rest
            };
        }
        Pending::Failed(_) if due(&facts.run) => Act::Run(plan),
        Pending::Failed(_) => return rest.again(LONGEST_BACKOFF),
    };
    Decision { act, ..rest }
}
