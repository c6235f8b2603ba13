//! The boot loader's way back: armed before the switch, for a target whose own early unit declares its boots good.

use api::DeploymentId;
use planner::{ErrorKind, FALLBACK_ATTEMPTS, FallbackNote, FallbackState};

use crate::ports::{NodePath, Ports};
use crate::record::{self, Record};
use crate::{PortResult, boot_good};

/// A unit that the way back of the boot loader needs in the target, as seeds of ours bring it.
struct Unit {
    name: &'static str,
    text: &'static str,
    /// What starts it.
    targets: &'static [&'static str],
}

/// One declares boots good; the other sees to it that a boot which is not ends, where systemd stays up in emergency mode.
const UNITS: [Unit; 2] = [
    Unit {
        name: api::names::BOOT_GOOD_UNIT,
        text: include_str!("../../../../systemd/lca-boot-good.service"),
        targets: &["sysinit.target"],
    },
    Unit {
        name: api::names::EMERGENCY_RETURN_UNIT,
        text: include_str!("../../../../systemd/lca-emergency-return.service"),
        targets: &["emergency.target", "rescue.target"],
    },
];

impl Unit {
    /// Its file, below a deployment's root.
    fn file(&self) -> String {
        format!("{DIRECTORY}/{}", self.name)
    }

    /// What starts it in a seed of ours.
    fn wanted(&self, by: &str) -> String {
        format!("{DIRECTORY}/{by}.wants/{}", self.name)
    }

    /// What starts it where we add it: the same as the link, in a plain file.
    fn drop_in(&self, by: &str) -> String {
        let stem = self.name.trim_end_matches(".service");
        format!("{DIRECTORY}/{by}.d/10-{stem}.conf")
    }
}

/// Where units lie below a deployment's root.
const DIRECTORY: &str = "etc/systemd/system";

/// Whether the target runs the units.
pub(super) fn has_unit(ports: &Ports<'_>, target: &DeploymentId) -> PortResult<bool> {
    let there = |rel: &str| {
        let path = NodePath::in_deployment(target, rel);
        ports.files.kind(&path).map(|kind| kind.is_some())
    };
    for unit in &UNITS {
        if !there(&unit.file())? {
            return Ok(false);
        }
        for by in unit.targets {
            if !there(&unit.wanted(by))? && !there(&unit.drop_in(by))? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Adds the units to a seed that lacks them. One that it brings stays as it is.
pub(super) fn add_unit(ports: &Ports<'_>, target: &DeploymentId) -> PortResult<()> {
    for unit in &UNITS {
        let file = NodePath::in_deployment(target, &unit.file());
        if ports.files.kind(&file)?.is_none() {
            ports.files.replace(&file, unit.text.as_bytes(), 0o644)?;
        }
        for by in unit.targets {
            let directory = NodePath::in_deployment(target, &format!("{DIRECTORY}/{by}.d"));
            ports.files.ensure_directory(&directory, 0o755)?;
            let drop_in = NodePath::in_deployment(target, &unit.drop_in(by));
            let text = format!("[Unit]\nWants={}\n", unit.name);
            ports.files.replace(&drop_in, text.as_bytes(), 0o644)?;
        }
    }
    Ok(())
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

/// All attempts are there again; what is not armed stays so.
pub(super) fn refill(ports: &Ports<'_>) -> PortResult<()> {
    match ports.fallback.state()? {
        FallbackState::Armed { entry, .. } => ports.fallback.arm(&entry, FALLBACK_ATTEMPTS),
        FallbackState::None(_) | FallbackState::Disarmed => Ok(()),
    }
}

pub(super) fn disarm(ports: &Ports<'_>, may_fail: bool) -> PortResult<()> {
    match boot_good::take_back(&ports.into()) {
        Err(error) if may_fail && error.kind() != ErrorKind::Interrupted => {
            let error = engine::error_chain(&error);
            tracing::warn!(error, "the boot loader stays armed until the next boot");
            Ok(())
        }
        disarmed => disarmed,
    }
}
