//! What a pass knows of the evidence.

use api::{DeploymentId, HandoverStamp};
use planner::{EvidenceFact, Side, State, TargetRecord};

use super::find;
use crate::PortResult;
use crate::observe::{failed_boot, was_booted};
use crate::ports::Ports;

/// What is kept of the boots of the release that the node returned from. Nothing waits for it, so that nobody knows counts as
/// nothing.
pub(crate) fn fact(
    ports: &Ports<'_>,
    state: State,
    side: Side,
    booted: Option<&DeploymentId>,
    handover: Option<&HandoverStamp>,
    target: Option<&TargetRecord>,
) -> EvidenceFact {
    let ended = matches!(
        state,
        State::UpgradeFailed | State::Aborting | State::AbortFailed
    );
    if side != Side::Origin || !ended {
        return EvidenceFact::None;
    }
    let look = || -> PortResult<EvidenceFact> {
        // Restored from what was saved for a return; or the node's own traces of one.
        let stamp = handover.filter(|stamp| booted == Some(&stamp.origin));
        let tried = match (stamp, target.and_then(|target| target.deployment.clone())) {
            (Some(stamp), _) => Some(stamp.target.clone()),
            (None, Some(made)) => (was_booted(ports, &made.stateroot)?
                || failed_boot(ports, target)?.is_some())
            .then_some(made),
            (None, None) => None,
        };
        let Some(tried) = tried else {
            return Ok(EvidenceFact::None);
        };
        let upgrade = stamp.map(|stamp| stamp.run_id.as_str());
        if let Some(kept) = find(ports.files, &tried, upgrade)? {
            return Ok(EvidenceFact::Sealed(kept.place.to_string()));
        }
        let there = ports.ostree.stateroots()?.contains(&tried.stateroot);
        Ok(if there {
            EvidenceFact::Due(tried)
        } else {
            EvidenceFact::None
        })
    };
    look().unwrap_or_else(|error| {
        tracing::debug!(
            error = engine::error_chain(&error),
            "whether there is evidence is not known"
        );
        EvidenceFact::None
    })
}
