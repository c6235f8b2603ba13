//! The target's first boot: this site's identity, from the document that the origin left.

use api::reconfiguration::SeedReconfiguration;
use engine::StepContext;
use planner::ErrorKind;

use super::stateroot::MARKS;
use crate::ports::{NodePath, Ports};
use crate::{PortError, PortResult};

/// Longest document that is read, bytes.
const LIMIT: u64 = 16 << 20;

/// The document that the origin exported; `None` when there is none.
pub fn document(ports: &Ports<'_>) -> PortResult<Option<SeedReconfiguration>> {
    let path = NodePath::booted(api::path::RECONFIGURATION);
    let Some(bytes) = ports.files.read(&path, LIMIT)? else {
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

pub(super) fn write_pull_secret(ports: &Ports<'_>) -> PortResult<()> {
    let document = required(ports)?;
    let path = NodePath::booted(api::path::PULL_SECRET);
    ports
        .files
        .replace(&path, document.pull_secret.expose().as_bytes(), 0o600)
}

/// Puts this site's connections beside what the seed has and lets NetworkManager read them.
pub(super) fn restore_connections(ports: &Ports<'_>) -> PortResult<()> {
    let from = NodePath::booted(api::path::NETWORK_CONNECTIONS);
    if ports
        .files
        .copy_tree(&from, &NodePath::booted(api::path::SYSTEM_CONNECTIONS))?
    {
        ports.units.restart("NetworkManager.service")?;
    }
    Ok(())
}

/// Enables a unit, then queues its start: a power cut in between leaves a node that boots completely.
pub(super) fn start_unit(ports: &Ports<'_>, unit: &str) -> PortResult<()> {
    ports.units.enable(unit)?;
    ports.units.start(unit)
}

pub(super) fn await_api(ports: &Ports<'_>, context: &StepContext<'_>) -> PortResult<()> {
    while !ports.cluster.ready() {
        if context.stopped() {
            return Err(PortError::stopped("waiting for the API server was stopped"));
        }
        ports.clock.pause(100);
    }
    Ok(())
}

/// Removes what the origin left for this boot. Interrupted, it is taken up from the document if that is still there, else from
/// the journal.
pub(super) fn remove_reconfiguration(ports: &Ports<'_>) -> PortResult<()> {
    for path in MARKS
        .into_iter()
        .chain([api::path::SEED_DATA, api::path::OPENSHIFT])
    {
        ports.files.remove(&NodePath::booted(path))?;
    }
    Ok(())
}
