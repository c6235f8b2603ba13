//! The boot loader's way back: armed before the switch, for a target whose own early unit declares its boots good.

use api::DeploymentId;
use planner::FallbackNote;

use crate::PortResult;
use crate::ports::{NodePath, Ports};
use crate::record::{self, Record};

/// The unit, as seeds of ours bring it.
const UNIT: &str = include_str!("../../../../systemd/lca-boot-good.service");

/// Its file, and what starts it in a seed of ours, below a deployment's root.
const FILE: &str = "etc/systemd/system/lca-boot-good.service";
const WANTED: &str = "etc/systemd/system/sysinit.target.wants/lca-boot-good.service";
/// What starts it where we add it: the same as the link, in a plain file.
const DROP_IN: &str = "etc/systemd/system/sysinit.target.d/10-lca-boot-good.conf";
const DROP_IN_TEXT: &str = "[Unit]\nWants=lca-boot-good.service\n";

/// Whether the target's early boot runs the unit.
pub(super) fn has_unit(ports: &Ports<'_>, target: &DeploymentId) -> PortResult<bool> {
    let there = |rel: &str| {
        let path = NodePath::in_deployment(target, rel);
        ports.files.kind(&path).map(|kind| kind.is_some())
    };
    Ok(there(FILE)? && (there(WANTED)? || there(DROP_IN)?))
}

/// Adds the unit to a seed that lacks it. One that it brings stays as it is.
pub(super) fn add_unit(ports: &Ports<'_>, target: &DeploymentId) -> PortResult<()> {
    let file = NodePath::in_deployment(target, FILE);
    if ports.files.kind(&file)?.is_none() {
        ports.files.replace(&file, UNIT.as_bytes(), 0o644)?;
    }
    let drop_in = NodePath::in_deployment(target, DROP_IN);
    let directory = DROP_IN.rsplit_once('/').map_or(DROP_IN, |(above, _)| above);
    let directory = NodePath::in_deployment(target, directory);
    ports.files.ensure_directory(&directory, 0o755)?;
    ports
        .files
        .replace(&drop_in, DROP_IN_TEXT.as_bytes(), 0o644)
}

/// Whether boots of this target could be declared good at all: by our program, which other seeds do not bring.
pub(crate) fn can_declare(ports: &Ports<'_>, target: &DeploymentId) -> PortResult<bool> {
    let program = NodePath::in_stateroot(&target.stateroot, api::path::PROGRAM);
    Ok(ports.files.kind(&program)?.is_some())
}

/// Both sides know what it is for before the boot loader does.
pub(super) fn arm(
    ports: &Ports<'_>,
    origin: &DeploymentId,
    target: &DeploymentId,
    attempts: u32,
    boot_id: &str,
) -> PortResult<()> {
    let note = FallbackNote {
        origin: origin.clone(),
        target: target.clone(),
        attempts,
        boot_id: boot_id.to_owned(),
        good_boots: 0,
    };
    record::write_in(ports.files, Record::Fallback, &target.stateroot, &note)?;
    record::write(ports.files, Record::Fallback, &note)?;
    let entry = ports.ostree.entry_after(target, origin)?;
    ports.fallback.arm(&entry, attempts)
}

/// The record first: what is armed without one is taken back by the next boot.
pub(super) fn disarm(ports: &Ports<'_>) -> PortResult<()> {
    ports.files.remove(&Record::Fallback.path())?;
    ports.fallback.disarm()
}
