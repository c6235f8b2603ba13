//! What happens once at start: a saved upgrade object is found, judged, and restored or put aside.

use api::{
    HandoverStamp, ImageBasedUpgrade, ImageBasedUpgradeStatus, OcpVersion, SeedImageRef, Stage,
    StaterootName, Timestamp,
};
use planner::{ErrorKind, FailedBoot, Occasion, Side, TargetRecord, Verdict};

use crate::journal_files::is_full;
use crate::observe::{only_booted, was_booted};
use crate::ports::{NodePath, Ports};
use crate::record::{self, Record};
use crate::saved::{self, Saved};
use crate::{PortResult, steps};

/// Where a saved object goes that does not count.
const QUARANTINE: &str = "/var/lib/lca/ibu.json.quarantined";

/// What was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Restored {
    /// Nothing was saved: the live object stands, made where it was missing.
    Nothing,
    /// The live object equals the saved one now.
    Restored,
    /// The saved object speaks of a return that has not happened; the live one stands.
    Ignored,
    /// The saved object was put aside; why, and where to look.
    Quarantined(String),
}

/// Makes the live object what it must be after a start. Can be repeated at any point; the API server must answer.
pub fn restore_saved(ports: &Ports<'_>) -> PortResult<Restored> {
    let path = NodePath::booted(api::path::SAVED_IBU);
    let Some(Saved { bytes, object }) = saved::read(ports, &path)? else {
        ports.cluster.ensure_upgrade()?;
        return Ok(Restored::Nothing);
    };
    let (mut ibu, stamp) = match object {
        Ok(stamped) => stamped,
        Err(why) => return quarantine(ports, &bytes, &why),
    };
    let deployments = ports.ostree.deployments()?;
    let booted = only_booted(&deployments)?;
    let target = target_of(&ibu);
    let stateroots = ports.ostree.stateroots()?;
    let failed = failed_boot(ports, stamp.as_ref())?;
    let tried = match stamp.as_ref().map(|stamp| &stamp.target) {
        Some(target) if target.stateroot != booted.stateroot => {
            let first = deployments.first();
            first.is_some_and(|first| first.id.stateroot == target.stateroot)
                || failed.is_some()
                || was_booted(ports, &target.stateroot)?
        }
        _ => false,
    };
    let verdict = planner::restore(&planner::Saved {
        stamp: stamp.as_ref(),
        target: target.as_ref(),
        says_more: saved::says_more(&ibu),
        booted: &booted,
        boot_id: &ports.clock.boot_id().0,
        stateroots: &stateroots,
        tried,
    });
    match verdict {
        Verdict::Ignore => {
            ports.cluster.ensure_upgrade()?;
            Ok(Restored::Ignored)
        }
        Verdict::Quarantine(reason) => quarantine(ports, &bytes, &reason),
        Verdict::Restore => {
            if let Some(stamp) = &stamp {
                let write = || record::write(ports.files, Record::Handover, stamp);
                match write() {
                    // A release that was returned from has filled the disk; in the target the space is kept for the way back.
                    Err(error) if is_full(&error) && stamp.target.stateroot != booted.stateroot => {
                        steps::release_or_go_on(ports.machine)?;
                        write()?;
                    }
                    written => written?,
                }
            }
            if let (Some(failed), Some(status)) = (&failed, ibu.status.as_mut()) {
                planner::tell_failed_boot(status, failed);
            }
            match ports.cluster.restore_upgrade(&ibu) {
                // The server will refuse it tomorrow as well.
                Err(error) if error.kind() == ErrorKind::Permanent => {
                    return quarantine(ports, &bytes, &engine::error_chain(&error));
                }
                restored => restored?,
            }
            match ports.files.remove(&path) {
                // Nothing has been decided from the restored object yet: restoring it once more is harmless now, and would
                // not be at a later start.
                Err(error) if error.kind() != ErrorKind::Permanent => return Err(error),
                Err(error) => tracing::warn!(
                    error = engine::error_chain(&error),
                    "the saved ImageBasedUpgrade was restored and cannot be removed"
                ),
                Ok(()) => {}
            }
            Ok(Restored::Restored)
        }
    }
}

/// What the boot loader did meanwhile, if it was to this pivot's target.
fn failed_boot(ports: &Ports<'_>, stamp: Option<&HandoverStamp>) -> PortResult<Option<FailedBoot>> {
    let failed: Option<FailedBoot> = match record::read(ports.files, Record::FailedBoot) {
        Err(error) if error.kind() == ErrorKind::Contradiction => None,
        other => other?,
    };
    let is_ours = |failed: &FailedBoot| {
        stamp.is_some_and(|stamp| stamp.target.stateroot == failed.target.stateroot)
    };
    Ok(failed.filter(is_ours))
}

fn target_of(ibu: &ImageBasedUpgrade) -> Option<StaterootName> {
    let version: OcpVersion = ibu.spec.seed_version().parse().ok()?;
    Some(StaterootName::for_version(&version))
}

/// Puts the saved object aside. Where an upgrade was under way, the live object is rebuilt as one that failed: it says
/// why and leaves exactly the safe way open.
fn quarantine(ports: &Ports<'_>, bytes: &[u8], reason: &str) -> PortResult<Restored> {
    let aside = NodePath::booted(QUARANTINE);
    ports.files.replace(&aside, bytes, 0o600)?;
    let why = format!(
        "the saved ImageBasedUpgrade in {} does not count: {reason}",
        api::path::SAVED_IBU
    );
    tracing::warn!(reason, kept = %aside, "put the saved ImageBasedUpgrade aside");
    ports.cluster.ensure_upgrade()?;
    if let Some(rebuilt) = rebuild(ports, &why)? {
        ports.cluster.restore_upgrade(&rebuilt)?;
    }
    ports
        .files
        .remove(&NodePath::booted(api::path::SAVED_IBU))?;
    Ok(Restored::Quarantined(why))
}

/// An object for the upgrade that this node is in the middle of, if its own records say that it is.
fn rebuild(ports: &Ports<'_>, why: &str) -> PortResult<Option<ImageBasedUpgrade>> {
    let live = ports
        .cluster
        .upgrade()?
        .unwrap_or_else(ImageBasedUpgrade::initial);
    let fresh = live
        .status
        .as_ref()
        .is_none_or(|status| status.conditions.len() < 2);
    let config = NodePath::booted(api::path::ROLLBACK_CONFIG);
    let behind_pivot = ports.files.kind(&config)?.is_some();
    let target: Option<TargetRecord> = record::read(ports.files, Record::Target).ok().flatten();
    let version = match (&target, behind_pivot) {
        _ if !fresh => return Ok(None),
        (Some(target), _) => target.version.clone(),
        (None, true) => version_of_booted(ports)?,
        (None, false) => return Ok(None),
    };
    let side = if target.is_some() {
        Side::Origin
    } else {
        Side::Target
    };
    let mut ibu = live;
    ibu.spec.stage = Some(Stage::Upgrade.as_str().to_owned());
    ibu.spec.seed_image_ref = Some(SeedImageRef {
        version,
        ..SeedImageRef::default()
    });
    let generation = ibu.metadata.generation.unwrap_or_default();
    let occasion = Occasion {
        generation,
        now: Timestamp::from_unix(ports.clock.now()),
    };
    ibu.status = Some(planner::failed_upgrade(
        &ImageBasedUpgradeStatus::default(),
        side,
        why,
        occasion,
    ));
    Ok(Some(ibu))
}

/// The release that the booted deployment was made for, from its kernel argument.
fn version_of_booted(ports: &Ports<'_>) -> PortResult<String> {
    let deployments = ports.ostree.deployments()?;
    let prefix = format!("{}=", api::names::IBU_KERNEL_ARGUMENT);
    let version = deployments
        .iter()
        .filter(|found| found.booted)
        .flat_map(|found| &found.kernel_arguments)
        .find_map(|argument| argument.strip_prefix(&prefix));
    Ok(version.unwrap_or_default().to_owned())
}
