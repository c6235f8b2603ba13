//! Switching the default deployment and rebooting.

use api::{DeploymentId, StaterootName};

use crate::PortResult;
use crate::ports::{Ports, Root};

pub(super) fn is_default(ports: &Ports<'_>, deployment: &DeploymentId) -> PortResult<bool> {
    let deployments = ports.ostree.deployments()?;
    Ok(deployments
        .first()
        .is_some_and(|first| first.id == *deployment))
}

pub(super) fn sync(ports: &Ports<'_>, stateroots: &[StaterootName]) -> PortResult<()> {
    for stateroot in stateroots {
        ports.files.sync(&Root::Stateroot(stateroot.clone()))?;
    }
    ports.files.sync(&Root::Shared)
}

/// Never returns success: the process ends with the machine.
pub(super) fn reboot(ports: &Ports<'_>, reason: &str) -> PortResult<()> {
    match ports.units.reboot(reason)? {}
}
