//! The target's first boot, from the service that systemd starts until this site's identity is in place.

use engine::{EventSink, Outcome, RunEnd, StopToken};
use planner::{Disposition, ErrorKind, Plan, disposition};

use crate::agent::Agent;
use crate::init_monitor::handed_over;
use crate::observe;
use crate::ports::{NodePath, Ports};
use crate::steps;
use crate::{PortError, PortResult};

/// How a first boot ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FirstBoot {
    /// There is nothing to do: no document was left, so this is no first boot.
    NothingToDo,
    /// The site's identity is in place.
    Done,
    /// It was asked to stop.
    Stopped,
}

/// Carries the reconfiguration out. What fails in passing is tried again, without end: how long that may take is for the
/// init monitor to say. What fails for good is returned.
///
/// # Errors
/// A permanent failure, with its chain.
pub fn first_boot(
    agent: &Agent<'_>,
    stop: &StopToken,
    events: &mut dyn EventSink,
) -> PortResult<FirstBoot> {
    let ports = agent.ports();
    let mut attempt = 0;
    while !stop.is_stopped() {
        // Made anew each time: what an attempt removed is not asked for again.
        let Some(plan) = plan(ports)? else {
            return Ok(if attempt == 0 {
                FirstBoot::NothingToDo
            } else {
                FirstBoot::Done
            });
        };
        agent.latest().begin(plan.name);
        match agent.carry_out(&plan, stop, events) {
            Outcome::Completed => return Ok(FirstBoot::Done),
            Outcome::Stopped { .. } => break,
            Outcome::JournalFailed { .. } => {
                attempt += 1;
                pause(agent, disposition(ErrorKind::Transient, attempt));
            }
            Outcome::Failed { step, kind, error } => {
                attempt += 1;
                let next = disposition(kind, attempt);
                if next == Disposition::Fail {
                    return Err(PortError::new(kind, format!("step {}", step.name), error));
                }
                pause(agent, next);
            }
        }
    }
    Ok(FirstBoot::Stopped)
}

/// Whether anything is left to do.
pub(crate) fn is_due(ports: &Ports<'_>) -> PortResult<bool> {
    plan(ports).map(|plan| plan.is_some())
}

/// What is left to do: all that the document asks for, or, where its removal was cut short behind it, the rest of that.
fn plan(ports: &Ports<'_>) -> PortResult<Option<Plan>> {
    if let Some(document) = steps::document(ports)? {
        let seed = steps::seed_info(ports, &NodePath::booted(api::path::SEED_INFO))?;
        let plan = planner::reconfigure(&document, seed.as_ref()).map_err(|error| {
            let text = "planning the reconfiguration of this node";
            PortError::new(ErrorKind::Permanent, text, error)
        })?;
        return Ok(Some(plan));
    }
    match observe::latest_journal(ports)? {
        Some(run) => {
            let unfinished = run.end != Some(RunEnd::Completed);
            Ok(unfinished.then(planner::finish_reconfiguration))
        }
        // It would go on as the seed's own node.
        None if handed_over(ports) => Err(PortError::plain(
            ErrorKind::Permanent,
            format!(
                "an upgrade led here, and {} is not there: this node cannot be told who it is",
                api::path::RECONFIGURATION
            ),
        )),
        None => Ok(None),
    }
}

fn pause(agent: &Agent<'_>, next: Disposition) {
    if let Disposition::Retry { after } = next {
        agent.ports().clock.pause(after * 1000);
    }
}
