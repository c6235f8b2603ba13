//! What is done early in each boot, and at every start of the agent, about the boot loader's way back: the target declares
//! the boot good, the origin takes back what leads nowhere any more, or takes over again.

use api::DeploymentId;
use planner::{
    BootAct, BootFacts, ConfigFact, ErrorKind, FALLBACK_ATTEMPTS, FailedBoot, FallbackNote,
    FallbackState, Noted, judge_boot,
};

use crate::init_monitor;
use crate::observe::only_booted;
use crate::ports::{BootFallback, Clock, Files, Machine, Ostree, Ports};
use crate::record::{self, Record};
use crate::{PortResult, steps, verdict};

/// The ports that are there early in a boot: no API server, no D-Bus, no network.
#[derive(Clone, Copy)]
pub struct EarlyPorts<'a> {
    /// libostree.
    pub ostree: &'a dyn Ostree,
    /// The boot loader's way back.
    pub fallback: &'a dyn BootFallback,
    /// Files outside ostree's own.
    pub files: &'a dyn Files,
    /// Time and boots.
    pub clock: &'a dyn Clock,
    /// The space that is kept.
    pub machine: &'a dyn Machine,
}

impl<'a> From<&Ports<'a>> for EarlyPorts<'a> {
    fn from(ports: &Ports<'a>) -> Self {
        Self {
            ostree: ports.ostree,
            fallback: ports.fallback,
            files: ports.files,
            clock: ports.clock,
            machine: ports.machine,
        }
    }
}

/// Judges this boot, acts, and says what was done. Can be repeated at any point, any number of times.
///
/// # Errors
/// The boot loader or the node's files cannot be read or written; try again.
pub fn boot_good(ports: &EarlyPorts<'_>) -> PortResult<BootAct> {
    let read = record::read::<FallbackNote>(ports.files, Record::Fallback);
    let note = match read {
        Err(error) if error.kind() == ErrorKind::Contradiction => {
            tracing::warn!(error = engine::error_chain(&error), "a damaged record");
            Err(())
        }
        other => Ok(other?),
    };
    let noted = match &note {
        Ok(Some(note)) => Noted::Note(note),
        Ok(None) => Noted::Nothing,
        Err(()) => Noted::Damaged,
    };
    let state = ports.fallback.state()?;
    if let (Noted::Nothing, FallbackState::None(_) | FallbackState::Disarmed) = (noted, &state) {
        // As in every boot without an upgrade: libostree is not even asked.
        return Ok(BootAct::Nothing);
    }
    let deployments = ports.ostree.deployments()?;
    let booted = only_booted(&deployments)?;
    // The first of the list, which has at least that one.
    let default = deployments
        .first()
        .map_or_else(|| booted.clone(), |first| first.id.clone());
    let boot_id = ports.clock.boot_id().0;
    let act = judge_boot(&BootFacts {
        booted: &booted,
        default: &default,
        boot_id: &boot_id,
        state: &state,
        noted,
        completed: completed(ports, noted),
        counted: !matches!(init_monitor::config(ports.files), ConfigFact::Known(config) if !config.monitor_enabled),
    });
    match &act {
        BootAct::Nothing => {}
        BootAct::Declare(note) => declare(ports, &state, &default, note)?,
        BootAct::Refill => {
            if let FallbackState::Armed { entry, .. } = &state {
                ports.fallback.arm(entry, FALLBACK_ATTEMPTS)?;
            }
        }
        BootAct::Disarm => take_back(ports)?,
        BootAct::Return(failed) => {
            take_over(ports, &state, &booted, failed)?;
        }
    }
    Ok(act)
}

/// Whether the upgrade that it was armed for has completed, as its target's own verdict says.
fn completed(ports: &EarlyPorts<'_>, noted: Noted<'_>) -> bool {
    let path = match noted {
        Noted::Note(note) => Record::Verdict.path_in(&note.target.stateroot),
        Noted::Nothing | Noted::Damaged => Record::Verdict.path(),
    };
    matches!(verdict::read(ports.files, &path), Ok(found) if found.is_completed())
}

/// All attempts are there again, for the origin's entry as it is named now: the list may have been written anew since.
fn declare(
    ports: &EarlyPorts<'_>,
    state: &FallbackState,
    default: &DeploymentId,
    note: &FallbackNote,
) -> PortResult<()> {
    if let FallbackState::None(why) = state {
        tracing::warn!(why, "the boot loader does not count any more");
        return Ok(());
    }
    let deployments = ports.ostree.deployments()?;
    if !deployments.iter().any(|found| found.id == note.origin) {
        return take_back(ports);
    }
    let entry = match (ports.ostree.entry_after(default, &note.origin), state) {
        (Err(error), FallbackState::Armed { entry, .. })
            if error.kind() == ErrorKind::Permanent =>
        {
            // Another libostree than the one that it was armed with.
            tracing::warn!(
                error = engine::error_chain(&error),
                "the entry stays as it was armed"
            );
            entry.clone()
        }
        (entry, _) => entry?,
    };
    ports.fallback.arm(&entry, note.attempts)?;
    // Behind it: cut off in between, the boot is declared good once more.
    record::write(ports.files, Record::Fallback, note)
}

/// Nothing is returned from any more. The record goes first: what is armed without one is taken back by the next boot.
pub(crate) fn take_back(ports: &EarlyPorts<'_>) -> PortResult<()> {
    ports.files.remove(&Record::Fallback.path())?;
    ports.fallback.disarm()
}

/// The way back that needs nothing but the boot loader: it starts the origin next, which makes itself the default. Only while what
/// runs is the default; else the entry is another one's. `false` = it has no such way.
pub(crate) fn give_up(ports: &EarlyPorts<'_>) -> PortResult<bool> {
    let FallbackState::Armed { entry, .. } = ports.fallback.state()? else {
        return Ok(false);
    };
    let deployments = ports.ostree.deployments()?;
    let booted = only_booted(&deployments)?;
    match deployments.first() {
        Some(first) if first.id.stateroot == booted.stateroot => {
            ports.fallback.arm(&entry, 0).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// The order matters: at any moment the boot loader must lead here, or to a target that has attempts and then here. With no
/// attempts left and the list written anew, the armed entry would be the target's.
fn take_over(
    ports: &EarlyPorts<'_>,
    state: &FallbackState,
    booted: &DeploymentId,
    failed: &FailedBoot,
) -> PortResult<()> {
    // What the failed release has filled is written to now, first of all the record.
    steps::release_or_go_on(ports.machine)?;
    let known = record::read::<FailedBoot>(ports.files, Record::FailedBoot);
    // Found in this boot already, with all attempts used then.
    let told = matches!(&known, Ok(Some(known)) if known.boot_id == failed.boot_id);
    if !told {
        record::write(ports.files, Record::FailedBoot, failed)?;
    }
    if let FallbackState::Armed { entry, .. } = state {
        ports.fallback.arm(entry, FALLBACK_ATTEMPTS)?;
    }
    ports.ostree.set_default(booted)?;
    take_back(ports)
}
