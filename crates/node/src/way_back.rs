//! The way back to the origin: which deployment that is, and carrying it out without being asked to.

use api::verdict::Judge;
use api::{DeploymentId, HandoverStamp, StaterootName};
use engine::{EventSink, Outcome, StopToken};
use planner::{ErrorKind, PlanName, Return, automatic_return};

use crate::agent::Agent;
use crate::observe::only_booted;
use crate::ports::{Deployment, NodePath, Ports};
use crate::record::{self, Record};
use crate::{PortError, PortResult, saved};

/// The deployment to return to from the target that is booted: exactly the one that the pivot's stamp names, in the record that was
/// made of it or in the saved object that it came in. Without a stamp that can be read (torn, or the Go original's, which writes
/// none): the first one of the stateroot whose own saved object names this target, else of the only other stateroot there is, else
/// nobody knows. `handover` = the record's. The only other one is a `guess`: good enough to go back to, and not to remove.
pub(crate) fn origin(
    ports: &Ports<'_>,
    booted: &DeploymentId,
    handover: Option<&HandoverStamp>,
    deployments: &[Deployment],
    guess: bool,
) -> PortResult<Option<DeploymentId>> {
    let others: Vec<&DeploymentId> = deployments
        .iter()
        .map(|found| &found.id)
        .filter(|id| id.stateroot != booted.stateroot)
        .collect();
    let exactly = |stamp: &HandoverStamp| others.iter().find(|id| ***id == stamp.origin).copied();
    let first = |name: &StaterootName| others.iter().find(|id| id.stateroot == *name).copied();
    if let Some(stamp) = handover {
        return Ok(exactly(stamp).cloned());
    }
    let waiting = saved::readable(ports, &NodePath::booted(api::path::SAVED_IBU))?;
    if let Some((_, Some(stamp))) = waiting
        && stamp.target.stateroot == booted.stateroot
    {
        return Ok(exactly(&stamp).cloned());
    }
    let mut names: Vec<&StaterootName> = others.iter().map(|id| &id.stateroot).collect();
    names.sort_unstable();
    names.dedup();
    let mut named = Vec::new();
    for name in &names {
        if let Some((ibu, stamp)) = saved::in_stateroot(ports, name)?
            && saved::names_target(&ibu, stamp.as_ref(), booted)
        {
            let id = stamp.as_ref().map_or_else(|| first(name), exactly);
            named.extend(id);
        }
    }
    Ok(match (named.as_slice(), names.as_slice()) {
        ([one], _) => Some((*one).clone()),
        ([], [one]) if guess => first(one).cloned(),
        _ => None,
    })
}

/// One attempt to go back. It returns only when it has not led to the reboot.
///
/// # Errors
/// What is in the way; `Contradiction` where the upgrade has completed in the meantime. Whatever it is, it may be tried again.
pub(crate) fn go_back(
    agent: &Agent<'_>,
    plan: PlanName,
    judge: Judge,
    reason: &str,
    events: &mut dyn EventSink,
) -> PortResult<()> {
    let ports = agent.ports();
    let deployments = ports.ostree.deployments()?;
    let booted = only_booted(&deployments)?;
    let handover: Option<HandoverStamp> = match record::read(ports.files, Record::Handover) {
        // There are other ways to find the origin.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Contradiction | ErrorKind::Permanent
            ) =>
        {
            None
        }
        read => read?,
    };
    let Some(origin) = origin(ports, &booted, handover.as_ref(), &deployments, true)? else {
        return Err(PortError::plain(
            ErrorKind::Transient,
            format!(
                "no deployment to return to from {booted} is recorded or found on this node: make the right one the default \
                 and reboot"
            ),
        ));
    };
    let wanted = Return {
        plan,
        judge,
        reason: reason.to_owned(),
        booted,
        origin,
        boot_id: ports.clock.boot_id().0,
    };
    drop(agent.latest().begin(plan));
    match agent.carry_out(&automatic_return(wanted), &StopToken::new(), events) {
        Outcome::Completed => Ok(()),
        Outcome::Stopped { .. } => Err(PortError::stopped("going back was stopped")),
        Outcome::Failed { step, kind, error } => {
            Err(PortError::new(kind, format!("step {}", step.name), error))
        }
        Outcome::JournalFailed { error, .. } => {
            let text = "keeping the journal of the return";
            Err(PortError::new(ErrorKind::Transient, text, error))
        }
    }
}
