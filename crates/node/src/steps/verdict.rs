//! Deciding whether the target stays, and what follows.

use api::verdict::{Judge, Outcome, Verdict};
use api::{
    DeploymentId, HandoverStamp, ImageBasedUpgrade, OcpVersion, Stage, StaterootName, Timestamp,
    handover, saved_cr,
};
use planner::{ErrorKind, Occasion, Side};

use crate::ports::{NodePath, Ports, Root, UnitState};
use crate::{PortError, PortResult, verdict};

/// Longest saved object that is read, bytes. An object in etcd is at most 1.5 MiB.
const LIMIT: u64 = 8 << 20;

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

/// The object that a stateroot keeps, with the stamp that it has; `None` where there is none that can be read.
pub(crate) fn saved_in(
    ports: &Ports<'_>,
    stateroot: &StaterootName,
) -> PortResult<Option<(ImageBasedUpgrade, Option<HandoverStamp>)>> {
    read_saved(
        ports,
        &NodePath::in_stateroot(stateroot, api::path::SAVED_IBU),
    )
}

/// The same at any path.
pub(crate) fn read_saved(
    ports: &Ports<'_>,
    path: &NodePath,
) -> PortResult<Option<(ImageBasedUpgrade, Option<HandoverStamp>)>> {
    let bytes = match ports.files.read(path, LIMIT) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(error) if error.kind() == ErrorKind::Permanent => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(mut ibu) = saved_cr::parse(&bytes) else {
        return Ok(None);
    };
    Ok(match handover::take_stamp(&mut ibu) {
        Ok(stamp) => Some((ibu, stamp)),
        Err(_) => None,
    })
}

/// Whether a saved object was saved for an upgrade to this target; without a stamp, as the Go original writes it, its spec's
/// version says so.
pub(crate) fn names_target(
    ibu: &ImageBasedUpgrade,
    stamp: Option<&HandoverStamp>,
    target: &DeploymentId,
) -> bool {
    match stamp {
        Some(stamp) => stamp.target.stateroot == target.stateroot,
        None => {
            let version = ibu.spec.seed_version().parse::<OcpVersion>().ok();
            version.map(|version| StaterootName::for_version(&version))
                == Some(target.stateroot.clone())
        }
    }
}

/// Whether nothing is left to tell: the copy says more than was written beforehand, or is none that may be written to.
pub(super) fn told(
    ports: &Ports<'_>,
    origin: &StaterootName,
    target: &DeploymentId,
) -> PortResult<bool> {
    let Some((ibu, stamp)) = saved_in(ports, origin)? else {
        tracing::warn!(%origin, "the origin has no upgrade object of its own that can be read: it is returned to all the same");
        return Ok(true);
    };
    Ok(!names_target(&ibu, stamp.as_ref(), target) || says_more(&ibu))
}

/// A rollback was asked for, or the upgrade has failed with a text other than the one that is written beforehand.
pub(crate) fn says_more(ibu: &ImageBasedUpgrade) -> bool {
    let failure = ibu
        .status
        .as_ref()
        .and_then(|status| planner::failure_text(status, Stage::Upgrade));
    ibu.spec.stage() == Ok(Some(Stage::Rollback))
        || failure.is_some_and(|text| text != api::message::UNCONTROLLED_ROLLBACK)
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
    let Some((mut ibu, stamp)) = saved_in(ports, origin)? else {
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
    ports.files.remove(&unit_file(unit))
}
