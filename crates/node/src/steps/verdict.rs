//! Deciding whether the target stays, and what follows.

use api::verdict::{Judge, Outcome, Verdict};
use api::{DeploymentId, StaterootName, Timestamp, handover, saved_cr};
use planner::{ErrorKind, Occasion, Side};

use crate::ports::{NodePath, Ports, Root, UnitState};
use crate::{PortError, PortResult, saved, verdict};

pub(super) fn record(
    ports: &Ports<'_>,
    outcome: Outcome,
    judge: Judge,
    reason: &str,
) -> PortResult<()> {
    let now = Timestamp::from_unix(ports.clock.now());
    let boot = ports.clock.boot_id().0;
    let decided = Verdict::new(outcome, judge, reason, now, &boot);
    verdict::decide(ports, &decided)?;
    let (outcome, judge) = (outcome.as_str(), judge.as_str());
    tracing::info!(outcome, judge, reason, "the verdict on this upgrade");
    Ok(())
}

/// Whether nothing is left to tell: the copy says more than was written beforehand, or is none that may be written to.
pub(super) fn told(
    ports: &Ports<'_>,
    origin: &StaterootName,
    target: &DeploymentId,
) -> PortResult<bool> {
    let Some((ibu, stamp)) = saved::in_stateroot(ports, origin)? else {
        tracing::warn!(%origin, "the origin has no upgrade object of its own that can be read: it is returned to all the same");
        return Ok(true);
    };
    Ok(!saved::names_target(&ibu, stamp.as_ref(), target) || saved::says_more(&ibu))
}

pub(super) fn tell_origin(
    ports: &Ports<'_>,
    origin: &StaterootName,
    target: &DeploymentId,
    reason: &str,
) -> PortResult<()> {
    if told(ports, origin, target)? {
        return Ok(());
    }
    let Some((mut ibu, stamp)) = saved::in_stateroot(ports, origin)? else {
        return Ok(());
    };
    let path = NodePath::in_stateroot(origin, api::path::SAVED_IBU);
    let unwritable = |error: serde_json::Error| {
        PortError::new(ErrorKind::Permanent, format!("writing {path}"), error)
    };
    let occasion = Occasion {
        generation: ibu.metadata.generation.unwrap_or_default(),
        now: Timestamp::from_unix(ports.clock.now()),
    };
    let status = ibu.status.get_or_insert_default();
    *status = planner::failed_upgrade(status, Side::Origin, reason, occasion);
    if let Some(stamp) = &stamp {
        handover::stamp(&mut ibu, stamp).map_err(unwritable)?;
    }
    let bytes = saved_cr::print(&ibu).map_err(unwritable)?;
    match ports.files.replace(&path, &bytes, 0o600) {
        // The origin can read the verdict as well.
        Err(error) if error.kind() == ErrorKind::Permanent => {
            let error = engine::error_chain(&error);
            tracing::warn!(error, "the origin was not told why it is returned to");
            Ok(())
        }
        written => written,
    }
}

/// Where a unit of the running system lies that an upgrade brought.
fn unit_file(unit: &str) -> NodePath {
    NodePath::booted(api::path::UNITS).join(unit)
}

/// Whether the init monitor may still run; who cannot tell says yes.
pub(crate) fn monitor_armed(ports: &Ports<'_>) -> bool {
    !disarmed(ports, api::names::INIT_MONITOR_UNIT).unwrap_or(false)
}

pub(super) fn disarmed(ports: &Ports<'_>, unit: &str) -> PortResult<bool> {
    let runs = matches!(
        ports.units.state(unit)?,
        UnitState::Starting | UnitState::Active | UnitState::Stopping
    );
    Ok(!runs && !ports.units.enabled(unit)? && ports.files.kind(&unit_file(unit))?.is_none())
}

/// In the order of the contract (9.4). The file goes too: a node that is an origin next time must not hand its unit on.
pub(super) fn disarm(ports: &Ports<'_>, unit: &str) -> PortResult<()> {
    ports.units.stop(unit)?;
    if ports.units.enabled(unit)? {
        ports.units.disable(unit)?;
        // Before its file goes: a link that leads nowhere could not be told from none.
        ports.files.sync(&Root::Booted)?;
    }
    ports.files.remove(&unit_file(unit))?;
    ports.units.reread()
}
