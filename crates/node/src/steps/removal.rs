//! Removing what an upgrade made.

use api::StaterootName;
use planner::ErrorKind;

use crate::ports::{NodePath, Ports, Watch};
use crate::record::Record;
use crate::{PortError, PortResult};

pub(super) fn undeployed(ports: &Ports<'_>, stateroot: &StaterootName) -> PortResult<bool> {
    Ok(!ports
        .ostree
        .deployments()?
        .iter()
        .any(|found| found.id.stateroot == *stateroot))
}

pub(super) fn undeploy(ports: &Ports<'_>, stateroot: &StaterootName) -> PortResult<()> {
    let deployments = ports.ostree.deployments()?;
    let booted = deployments.iter().filter(|found| found.booted).count();
    if booted != 1 {
        return Err(PortError::plain(
            ErrorKind::Contradiction,
            format!("{booted} deployments are booted: nothing is removed until it is exactly one"),
        ));
    }
    let ours = deployments
        .iter()
        .filter(|found| found.id.stateroot == *stateroot);
    for deployment in ours {
        if deployment.booted {
            return Err(PortError::plain(
                ErrorKind::Contradiction,
                format!(
                    "deployment {} of stateroot {stateroot} is booted",
                    deployment.id
                ),
            ));
        }
        ports.ostree.undeploy(&deployment.id)?;
    }
    Ok(())
}

pub(super) fn removed(ports: &Ports<'_>, stateroot: &StaterootName) -> PortResult<bool> {
    Ok(!ports.ostree.stateroots()?.contains(stateroot))
}

/// Makes room for a stateroot: what another seed of ours left under its name goes, and an empty one that was cut short
/// before it could be claimed. Anything else is somebody else's.
pub(super) fn clear(
    ports: &Ports<'_>,
    stateroot: &StaterootName,
    watch: &dyn Watch,
) -> PortResult<()> {
    if !super::stateroot::is_ours(ports, stateroot)? {
        let var = NodePath::in_stateroot(stateroot, "/var");
        if !undeployed(ports, stateroot)? || !ports.files.list(&var)?.is_empty() {
            let text = format!(
                "stateroot {stateroot} is there already and was not made by this agent: remove it by hand, \
                 then request stage Idle and Prep again"
            );
            return Err(PortError::plain(ErrorKind::Contradiction, text));
        }
    }
    super::stateroot::note(ports, stateroot)?;
    undeploy(ports, stateroot)?;
    ports.ostree.remove_stateroot(stateroot, watch)
}

/// Removes the records of the ended upgrade. The journals stay: they are few and small, and tell what happened.
pub(super) fn remove_records(ports: &Ports<'_>) -> PortResult<()> {
    for path in [
        api::path::SAVED_IBU,
        api::path::ROLLBACK_CONFIG,
        api::path::INIT_MONITOR,
        api::path::WORKSPACE,
    ] {
        ports.files.remove(&NodePath::booted(path))?;
    }
    for record in [Record::Handover, Record::Fallback, Record::FailedBoot] {
        ports.files.remove(&record.path())?;
    }
    Ok(())
}
