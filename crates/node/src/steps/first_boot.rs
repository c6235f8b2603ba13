//! The target's first boot: this site's identity, from the document that the origin left.

pub(super) mod cluster;
pub(super) mod host_files;
pub(super) mod network;

use api::reconfiguration::SeedReconfiguration;
use api::seed_info::SeedClusterInfo;
use engine::StepContext;
use planner::ErrorKind;
use serde::de::DeserializeOwned;

use super::stateroot::MARKS;
use crate::ports::{NodePath, Ports, UnitState};
use crate::{PortError, PortResult};

/// Longest document that is read, bytes.
const LIMIT: u64 = 16 << 20;

/// There once kubelet was enabled and its start asked for: everything before it is done for good. Beside the document, so that it
/// goes with it.
const STARTED: &str = "/var/opt/openshift/started.done";

/// The document that the origin exported; `None` when there is none.
pub fn document(ports: &Ports<'_>) -> PortResult<Option<SeedReconfiguration>> {
    read(ports, &NodePath::booted(api::path::RECONFIGURATION))
}

/// What the seed at `path` says of itself; `None` where it does not.
pub fn seed_info(ports: &Ports<'_>, path: &NodePath) -> PortResult<Option<SeedClusterInfo>> {
    read(ports, path)
}

fn read<T: DeserializeOwned>(ports: &Ports<'_>, path: &NodePath) -> PortResult<Option<T>> {
    let Some(bytes) = ports.files.read(path, LIMIT)? else {
        return Ok(None);
    };
    // The library's text may quote values, and these are secrets: only where and how stays.
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = format!(
            "{:?} error in line {line}, column {column}",
            error.classify()
        );
        PortError::new(ErrorKind::Permanent, format!("reading {path}"), what)
    })
}

fn required(ports: &Ports<'_>) -> PortResult<SeedReconfiguration> {
    document(ports)?.ok_or_else(|| {
        let text = format!("{} is not there", api::path::RECONFIGURATION);
        PortError::plain(ErrorKind::Permanent, text)
    })
}

/// Restarts a unit. One that does not come up may come up later: how long that may take is for the init monitor to say.
fn restart(ports: &Ports<'_>, unit: &str) -> PortResult<()> {
    ports.units.restart(unit).map_err(|error| {
        let text = format!("restarting {unit} for this site's settings");
        PortError::new(ErrorKind::Transient, text, error)
    })
}

/// Stops a unit, unless its start was already due.
pub(super) fn hold(ports: &Ports<'_>, unit: &str) -> PortResult<()> {
    match ports.units.state(unit)? {
        UnitState::Absent | UnitState::Inactive => Ok(()),
        _ => ports.units.stop(unit),
    }
}

/// Enables a unit, then queues its start: a power cut in between leaves a node that boots completely.
pub(super) fn start_unit(ports: &Ports<'_>, unit: &str) -> PortResult<()> {
    ports.units.enable(unit)?;
    ports.units.start(unit)
}

pub(super) fn has_started(ports: &Ports<'_>) -> PortResult<bool> {
    is_marked(ports, STARTED)
}

pub(super) fn mark_started(ports: &Ports<'_>) -> PortResult<()> {
    mark(ports, STARTED)
}

fn is_marked(ports: &Ports<'_>, mark: &str) -> PortResult<bool> {
    Ok(ports.files.kind(&NodePath::booted(mark))?.is_some())
}

fn mark(ports: &Ports<'_>, mark: &str) -> PortResult<()> {
    ports.files.replace(&NodePath::booted(mark), b"", 0o600)
}

/// How often the API server is looked for, milliseconds.
pub(super) const API_AGAIN: u64 = 100;

pub(super) fn await_api(ports: &Ports<'_>, context: &StepContext<'_>) -> PortResult<()> {
    while !ports.cluster.ready() {
        if context.stopped() {
            return Err(PortError::stopped("waiting for the API server was stopped"));
        }
        ports.clock.pause(API_AGAIN);
    }
    Ok(())
}

/// Removes what the origin left for this boot. The document goes first: what is left then is known without it, from the journal.
pub(super) fn remove_reconfiguration(ports: &Ports<'_>) -> PortResult<()> {
    for path in [api::path::RECONFIGURATION]
        .into_iter()
        .chain(MARKS)
        .chain([api::path::SEED_DATA, api::path::OPENSHIFT])
    {
        ports.files.remove(&NodePath::booted(path))?;
    }
    Ok(())
}
