//! The target's first boot, from the service that systemd starts until this site's identity is in place.

use engine::{EventSink, Outcome, RunEnd, StopToken};
use planner::{Disposition, ErrorKind, Plan, backoff, disposition};

use crate::agent::Agent;
use crate::init_monitor::handed_over;
use crate::observe;
use crate::ports::{NodePath, Ports};
use crate::steps;
use crate::{PortError, PortResult};

/// How a first boot ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FirstBoot {
    /// There is nothing to do: it was done before.
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
        let plan = match due(ports)? {
            Due::Plan(plan) => plan,
            Due::Nothing if attempt == 0 => return Ok(FirstBoot::NothingToDo),
            Due::Nothing => return Ok(FirstBoot::Done),
            Due::Configuration => {
                await_configuration(ports, stop);
                continue;
            }
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

/// What a first boot finds to do.
enum Due {
    /// All that the document asks for, or, where its removal was cut short behind it, the rest of that.
    Plan(Plan),
    /// Nobody has left anything: a node that is being installed, whose configuration comes on a volume.
    Configuration,
    /// It was done.
    Nothing,
}

/// Whether an upgrade has left anything to do.
pub(crate) fn is_due(ports: &Ports<'_>) -> PortResult<bool> {
    due(ports).map(|due| matches!(due, Due::Plan(_)))
}

fn due(ports: &Ports<'_>) -> PortResult<Due> {
    if let Some(document) = steps::document(ports)? {
        let seed = steps::seed_info(ports, &NodePath::booted(api::path::SEED_INFO))?;
        let plan = planner::reconfigure(&document, seed.as_ref()).map_err(|error| {
            let text = "planning the reconfiguration of this node";
            PortError::new(ErrorKind::Permanent, text, error)
        })?;
        return Ok(Due::Plan(plan));
    }
    match observe::latest_journal(ports)? {
        Some(run) if run.end == Some(RunEnd::Completed) => Ok(Due::Nothing),
        Some(_) => Ok(Due::Plan(planner::finish_reconfiguration())),
        // It would go on as the seed's own node.
        None if handed_over(ports) => Err(PortError::plain(
            ErrorKind::Permanent,
            format!(
                "an upgrade led here, and {} is not there: this node cannot be told who it is",
                api::path::RECONFIGURATION
            ),
        )),
        None => Ok(Due::Configuration),
    }
}

/// How often the volume with a configuration is looked for, milliseconds (S 3.3, step 1).
const VOLUME_AGAIN: u64 = 1000;

/// Waits for the volume, for as long as that takes: there is nothing that an installation could go back to.
fn await_configuration(ports: &Ports<'_>, stop: &StopToken) {
    tracing::info!("waiting for a volume with this node's configuration");
    let mut attempt = 0;
    while !stop.is_stopped() {
        match ports.machine.take_configuration() {
            Ok(true) => return,
            Ok(false) => ports.clock.pause(VOLUME_AGAIN),
            Err(error) => {
                attempt += 1;
                let error = engine::error_chain(&error);
                tracing::warn!(error, attempt, "no configuration yet");
                ports.clock.pause(backoff(attempt) * 1000);
            }
        }
    }
}

fn pause(agent: &Agent<'_>, next: Disposition) {
    if let Disposition::Retry { after } = next {
        agent.ports().clock.pause(after * 1000);
    }
}
