//! The target's first boot, from the service that systemd starts until this site's identity is in place.

use engine::{EventSink, Outcome, StopToken};
use planner::{Disposition, ErrorKind, disposition};

use crate::agent::Agent;
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
    let Some(document) = steps::document(ports)? else {
        return Ok(FirstBoot::NothingToDo);
    };
    let plan = planner::reconfigure(&document).map_err(|error| {
        PortError::new(
            ErrorKind::Permanent,
            "planning the reconfiguration of this node",
            error,
        )
    })?;
    let mut attempt = 0;
    while !stop.is_stopped() {
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

fn pause(agent: &Agent<'_>, next: Disposition) {
    if let Disposition::Retry { after } = next {
        agent.ports().clock.pause(after * 1000);
    }
}
