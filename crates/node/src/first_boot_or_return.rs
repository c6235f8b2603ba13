//! What follows when the target's first boot fails for good: the node goes back at once.

use api::message;
use api::rollback_config::COMPONENT_POST_PIVOT;
use api::verdict::Judge;
use engine::{EventSink, StopToken};
use planner::{Disposition, ErrorKind, GRACE, PlanName, VerdictFact, backoff, disposition};

use crate::agent::Agent;
use crate::first_boot::{FirstBoot, first_boot, is_due};
use crate::{PortError, PortResult, init_monitor, verdict, way_back};

/// The first boot. What fails for good leads back to the origin, unless the user has switched that off; so does a verdict that
/// stands already, whoever made it. Going back is tried again until it leads to the reboot.
///
/// # Errors
/// A permanent failure that does not lead back, with its chain.
pub fn first_boot_or_return(
    agent: &Agent<'_>,
    stop: &StopToken,
    events: &mut dyn EventSink,
) -> PortResult<FirstBoot> {
    if let Some(ended) = as_decided(agent, stop, events)? {
        return Ok(ended);
    }
    let mut attempt = 0;
    let error = loop {
        attempt += 1;
        match first_boot(agent, stop, events) {
            Ok(ended) => return Ok(ended),
            Err(error) => match disposition(error.kind(), attempt) {
                Disposition::Fail => break error,
                Disposition::Resume => {}
                // Not even a plan could be made, in passing.
                Disposition::Retry { after } => agent.ports().clock.pause(after * 1000),
            },
        }
    };
    failed(agent, error, stop, events)
}

/// The same where a first boot cannot even begin, for good: its API server has no way that could be used. Asks none, so the ports
/// may be some without one. Where there is nothing to do, nothing has failed.
///
/// # Errors
/// As [`first_boot_or_return`]; `error` itself where that does not lead back.
pub fn return_from_first_boot(
    agent: &Agent<'_>,
    error: PortError,
    stop: &StopToken,
    events: &mut dyn EventSink,
) -> PortResult<FirstBoot> {
    if let Some(ended) = as_decided(agent, stop, events)? {
        return Ok(ended);
    }
    if matches!(is_due(agent.ports()), Ok(false)) {
        return Ok(FirstBoot::NothingToDo);
    }
    failed(agent, error, stop, events)
}

/// A verdict that stands already is carried out.
fn as_decided(
    agent: &Agent<'_>,
    stop: &StopToken,
    events: &mut dyn EventSink,
) -> PortResult<Option<FirstBoot>> {
    let ports = agent.ports();
    let verdict = verdict::read_own(ports)?;
    if let VerdictFact::Decided(_) = verdict
        && let Some((judge, reason)) = verdict.rollback()
    {
        if judge != Judge::PostPivot {
            // Whoever decided is at it; the init monitor waits as long.
            ports.clock.pause(GRACE * 1000);
        }
        return back(agent, judge, &reason, stop, events).map(Some);
    }
    Ok(None)
}

fn failed(
    agent: &Agent<'_>,
    error: PortError,
    stop: &StopToken,
    events: &mut dyn EventSink,
) -> PortResult<FirstBoot> {
    let ports = agent.ports();
    // A node that is being installed has nothing to go back to.
    if !init_monitor::handed_over(ports)
        || !init_monitor::config(ports.files).returns_for(COMPONENT_POST_PIVOT)
    {
        return Err(error);
    }
    let text = message::ROLLBACK_BY_POST_PIVOT_PREFIX;
    let reason = format!("{text}{}", engine::error_chain(&error));
    back(agent, Judge::PostPivot, &reason, stop, events)
}

/// For a unit that failed: goes back if failures of its component are watched, tried again until it leads to the reboot. Without a
/// handover there is nothing to go back from.
///
/// # Errors
/// As [`first_boot_or_return`].
pub fn return_for_unit(
    agent: &Agent<'_>,
    component: &str,
    events: &mut dyn EventSink,
) -> PortResult<()> {
    let ports = agent.ports();
    if !init_monitor::handed_over(ports)
        || !init_monitor::config(ports.files).returns_for(component)
    {
        return Ok(());
    }
    let reason = format!("{}{component}", message::ROLLBACK_BY_UNIT_PREFIX);
    back(agent, Judge::PostPivot, &reason, &StopToken::new(), events).map(drop)
}

fn back(
    agent: &Agent<'_>,
    judge: Judge,
    reason: &str,
    stop: &StopToken,
    events: &mut dyn EventSink,
) -> PortResult<FirstBoot> {
    let mut attempt = 0;
    while !stop.is_stopped() {
        match way_back::go_back(agent, PlanName::PostPivotReturn, judge, reason, events) {
            Ok(()) => {}
            // Another verdict stands.
            Err(error)
                if error.kind() == ErrorKind::Contradiction
                    && verdict::read_own(agent.ports())?.is_completed() =>
            {
                return Err(error);
            }
            Err(error) => {
                let error = engine::error_chain(&error);
                tracing::warn!(error, "going back failed, trying again");
            }
        }
        attempt += 1;
        agent.ports().clock.pause(backoff(attempt) * 1000);
    }
    Ok(FirstBoot::Stopped)
}
