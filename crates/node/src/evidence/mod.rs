//! Evidence of failed boots: what there is to know of them, sealed as directories in the partition that all releases share.
//!
//! A bundle is a directory whose [`MANIFEST`] is written last: without one it is what an interrupted sealing left. Its parts are
//! text without secrets, each cut to a share of its own. One upgrade has one bundle, whichever of its boots is sealed first; the
//! latest three stay, whatever becomes of the upgrades.

mod fact;
mod redact;
mod seal;

use std::panic::{AssertUnwindSafe, catch_unwind};

use api::{DeploymentId, Timestamp, handover::HandoverStamp};
use planner::ErrorKind;
use serde::{Deserialize, Serialize};

pub(crate) use fact::fact;
pub use redact::redact;

use crate::ports::{Files, NodePath, Ports};
use crate::record::{self, Record};
use crate::{PortError, PortResult, saved};

/// What says that a bundle is whole, and what it is of.
pub const MANIFEST: &str = "bundle.json";
/// Version of the manifest.
const FORMAT: u32 = 1;
/// Bundles that are kept.
pub const KEPT: usize = 3;
/// Longest bundle, in bytes, its manifest not counted.
pub const LIMIT: u64 = 8 << 20;
/// Longest manifest that is read, in bytes.
const MANIFEST_LIMIT: u64 = 256 << 10;

/// What a bundle is of. The field names are those of its manifest and of `lifecycle-agent status -o json`, and stay.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// Version of this document.
    pub format: u32,
    /// The release whose boot failed.
    pub target: DeploymentId,
    /// Id of the pivot that led to it, where anybody knows.
    pub upgrade: Option<String>,
    /// The boot of it that sealed; `None` = its predecessor did.
    pub boot_id: Option<String>,
    /// Why the node went back.
    pub reason: String,
    /// When it was sealed, by the clock of who did.
    pub sealed_at: Timestamp,
    /// Bytes of all parts.
    pub bytes: u64,
    /// Names of the parts.
    pub parts: Vec<String>,
    /// What could not be had, and why.
    pub missing: Vec<String>,
}

/// A bundle and its directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// The directory.
    pub place: NodePath,
    /// What it is of.
    pub bundle: Bundle,
}

fn directory() -> NodePath {
    NodePath::shared("evidence")
}

/// Who seals or tidies holds this, of all processes of a boot: what one is making the other would take for an interrupted rest. It
/// is gone with the boot, and not on the disk that evidence lies on, which may hang.
fn lock() -> NodePath {
    NodePath::booted("/run/lifecycle-agent-evidence.lock")
}

/// The number that a bundle's name begins with: bundles are told apart by it and not by clocks, which a failed release may have
/// set anywhere.
fn number(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}

/// Directories of bundles, whole or not, the oldest first; what else lies there is nobody's business.
fn names(files: &dyn Files) -> PortResult<Vec<String>> {
    let mut names = files.list(&directory())?;
    names.retain(|name| number(name).is_some());
    names.sort_by_key(|name| number(name));
    Ok(names)
}

/// What a directory is a bundle of; `None` = it is not whole.
fn read(files: &dyn Files, place: &NodePath) -> PortResult<Option<Bundle>> {
    let bytes = files.read(&place.join(MANIFEST), MANIFEST_LIMIT)?;
    let bundle = bytes.and_then(|bytes| serde_json::from_slice::<Bundle>(&bytes).ok());
    Ok(bundle.filter(|bundle| bundle.format == FORMAT))
}

/// The bundles that are kept, the oldest first.
///
/// # Errors
/// The shared partition cannot be read.
pub fn list(files: &dyn Files) -> PortResult<Vec<Kept>> {
    let mut kept = Vec::new();
    for name in names(files)? {
        let place = directory().join(&name);
        if let Some(bundle) = read(files, &place)? {
            kept.push(Kept { place, bundle });
        }
    }
    Ok(kept)
}

/// The latest bundle of a release and, as far as both are known, of the upgrade to it.
pub(crate) fn find(
    files: &dyn Files,
    target: &DeploymentId,
    upgrade: Option<&str>,
) -> PortResult<Option<Kept>> {
    let is_of = |kept: &Kept| {
        let named = kept.bundle.upgrade.as_deref();
        kept.bundle.target == *target && (named.is_none() || upgrade.is_none() || named == upgrade)
    };
    Ok(list(files)?.into_iter().rev().find(is_of))
}

/// Whether nothing is left to do here: this upgrade, or where nobody knows which that is this boot, has a bundle already, or
/// somebody else is making it. Who cannot tell says no.
pub(crate) fn is_sealed(ports: &Ports<'_>, target: &DeploymentId, boot_id: Option<&str>) -> bool {
    // First: a disk that hangs the other would hang us too.
    let other_seals = matches!(ports.files.hold(&lock()), Ok(None));
    other_seals || has_bundle(ports, target, boot_id)
}

fn has_bundle(ports: &Ports<'_>, target: &DeploymentId, boot_id: Option<&str>) -> bool {
    let look = || -> PortResult<bool> {
        let upgrade = upgrade_to(ports, target);
        Ok(list(ports.files)?.iter().any(|kept| {
            let bundle = &kept.bundle;
            bundle.target == *target
                && match (&upgrade, &bundle.upgrade) {
                    (Some(this), Some(that)) => this == that,
                    _ => bundle.boot_id.as_deref() == boot_id,
                }
        }))
    };
    look().unwrap_or(false)
}

/// Seals what there is to know of a release's boots, or tells why not: more depends on what comes behind it.
pub(crate) fn seal_or_tell(
    ports: &Ports<'_>,
    target: &DeploymentId,
    boot_id: Option<&str>,
    reason: &str,
) {
    let seal = || {
        let Some(_held) = ports.files.hold(&lock())? else {
            return Ok(None);
        };
        if has_bundle(ports, target, boot_id) {
            return Ok(None);
        }
        seal::seal(ports, target, boot_id, reason).map(Some)
    };
    // Text of others is taken apart in there: not even a panic bars the way.
    let sealed = catch_unwind(AssertUnwindSafe(seal)).unwrap_or_else(|_| {
        let text = "sealing evidence panicked";
        Err(PortError::plain(ErrorKind::Permanent, text))
    });
    match sealed {
        Ok(Some(place)) => tracing::info!(%place, %target, "sealed the evidence of a failed boot"),
        Ok(None) => tracing::info!(%target, "somebody else seals the evidence of this boot"),
        Err(error) => tracing::warn!(
            error = engine::error_chain(&error),
            %target,
            "the evidence of a failed boot is not sealed; the way back goes on"
        ),
    }
}

/// Removes what interrupted sealings left and what is older than the latest [`KEPT`], or tells why not.
pub(crate) fn tidy_or_tell(files: &dyn Files) {
    let tidied = files.hold(&lock()).and_then(|held| match held {
        Some(_held) => tidy(files),
        // Whoever seals tidies too.
        None => Ok(()),
    });
    if let Err(error) = tidied {
        let error = engine::error_chain(&error);
        tracing::warn!(error, "old evidence is not removed; the way back goes on");
    }
}

fn tidy(files: &dyn Files) -> PortResult<()> {
    let mut whole = Vec::new();
    for name in names(files)? {
        let place = directory().join(&name);
        if read(files, &place)?.is_some() {
            whole.push(place);
        } else {
            files.remove(&place)?;
        }
    }
    let surplus = whole.len().saturating_sub(KEPT);
    for place in whole.into_iter().take(surplus) {
        // First what makes it whole: the rest of a removal that is cut off is taken for what it is.
        files.remove(&place.join(MANIFEST))?;
        files.remove(&place)?;
    }
    Ok(())
}

/// Id of the pivot that led to a release: of the record in it or of the release that runs, or of an object that was saved in some
/// release and still waits.
fn upgrade_to(ports: &Ports<'_>, target: &DeploymentId) -> Option<String> {
    let record = |path: &NodePath| {
        let found = record::read_at::<HandoverStamp>(ports.files, path);
        found.ok().flatten()
    };
    let saved = |stateroot| saved::in_stateroot(ports, stateroot).ok()??.1;
    let own = Record::Handover.path_in(&target.stateroot);
    let stateroots = ports.ostree.stateroots().unwrap_or_default();
    let records = [own, Record::Handover.path()];
    let records = records.iter().filter_map(record);
    records
        .chain(stateroots.iter().filter_map(saved))
        .find(|stamp| stamp.target == *target)
        .map(|stamp| stamp.run_id)
}
