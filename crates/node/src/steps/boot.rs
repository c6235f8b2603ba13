//! Switching the default deployment and rebooting.

use api::{DeploymentId, StaterootName};
use planner::ErrorKind;

use crate::ports::{Machine, Ports, Root};
use crate::{PortError, PortResult, boot_good};

pub(super) fn is_default(ports: &Ports<'_>, deployment: &DeploymentId) -> PortResult<bool> {
    let deployments = ports.ostree.deployments()?;
    Ok(deployments
        .first()
        .is_some_and(|first| first.id == *deployment))
}

pub(super) fn sync(
    ports: &Ports<'_>,
    stateroots: &[StaterootName],
    shared: bool,
) -> PortResult<()> {
    let stateroots = stateroots.iter().cloned().map(Root::Stateroot);
    let shared = shared.then_some(Root::Shared);
    stateroots
        .chain(shared)
        .try_for_each(|root| ports.files.sync(&root))
}

/// Never returns success: the process ends with the machine. When the machine stays up, `otherwise` is what boots by default
/// again: whoever reboots it later is to come back to what runs now.
pub(super) fn reboot(
    ports: &Ports<'_>,
    reason: &str,
    otherwise: Option<&DeploymentId>,
) -> PortResult<()> {
    let Err(error) = ports.units.reboot(reason);
    if let Some(deployment) = otherwise {
        ports.ostree.set_default(deployment).map_err(|cause| {
            let text = format!("{}; putting the default back", engine::error_chain(&error));
            PortError::new(cause.kind(), text, cause)
        })?;
        // What it names is the origin's entry behind the target's; now it would be the target's.
        boot_good::take_back(&ports.into()).map_err(|cause| {
            let text = format!("{}; disarming the boot loader", engine::error_chain(&error));
            PortError::new(cause.kind(), text, cause)
        })?;
    }
    Err(error)
}

/// Gives back the space that is kept for the switch to a release that is returned to. Tried twice: what fails then stays kept,
/// until Idle at the latest.
pub(crate) fn release_or_go_on(machine: &dyn Machine) -> PortResult<()> {
    let again = |error: PortError| match error.kind() {
        ErrorKind::Interrupted => Err(error),
        _ => machine.release(),
    };
    match machine.release().or_else(again) {
        Err(error) if error.kind() != ErrorKind::Interrupted => {
            let error = engine::error_chain(&error);
            tracing::warn!(error, "the space that is kept cannot be given back");
            Ok(())
        }
        released => released,
    }
}
