//! Installing the target's stateroot.

use api::{DeploymentId, Digest, StaterootName};
use planner::{ErrorKind, SeedPin, TargetRecord};

use crate::ports::{DeploymentSpec, NodePath, Ports, Root};
use crate::record::{self, Record};
use crate::{PortError, PortResult};

/// Which seed a stateroot was made for: the seed's digest. Written before anything else, so that a half-made stateroot
/// is known to be ours.
pub(crate) const CLAIM: &str = "/var/lib/lca/stateroot-claim";
/// Names of stateroots that this upgrade makes or clears away, noted before the first file of one is touched: its claim lies
/// in it and may be the last thing that is written, or the first that is removed.
const NOTED: &str = "/var/lib/lca/workspace/stateroots";
/// `/var` is complete and durable: the seed's digest.
pub const VAR_UNPACKED: &str = "/var/lib/lca/var-unpacked";
/// `/etc` is complete and durable: the seed's digest and the deployment.
pub(super) const ETC_UNPACKED: &str = "/var/lib/lca/etc-unpacked";

/// All marks that Prep leaves in the target's `/var`.
pub(super) const MARKS: [&str; 3] = [CLAIM, VAR_UNPACKED, ETC_UNPACKED];

const MARK_LIMIT: u64 = 1024;

/// The seed that a stateroot was claimed for. Something at the claim's place that is none of ours claims nothing.
fn claim(ports: &Ports<'_>, stateroot: &StaterootName) -> PortResult<Option<String>> {
    match mark(ports, CLAIM, stateroot) {
        Err(error) if error.kind() == ErrorKind::Permanent => Ok(None),
        other => other,
    }
}

/// Notes that this stateroot, or what is left of it, is ours.
pub(super) fn note(ports: &Ports<'_>, stateroot: &StaterootName) -> PortResult<()> {
    let path = NodePath::booted(NOTED).join(stateroot.as_str());
    ports.files.replace(&path, b"", 0o600)
}

/// Whether this agent made the stateroot, wholly or in part.
pub(crate) fn is_ours(ports: &Ports<'_>, stateroot: &StaterootName) -> PortResult<bool> {
    let noted = NodePath::booted(NOTED).join(stateroot.as_str());
    Ok(ports.files.kind(&noted)?.is_some() || claim(ports, stateroot)?.is_some())
}

fn mark(ports: &Ports<'_>, mark: &str, stateroot: &StaterootName) -> PortResult<Option<String>> {
    let path = NodePath::in_stateroot(stateroot, mark);
    let content = ports.files.read(&path, MARK_LIMIT)?;
    Ok(content.map(|content| String::from_utf8_lossy(&content).trim_end().to_owned()))
}

/// Whether nothing stands in the way: no such stateroot, or one that was made for this seed.
pub(super) fn clear(
    ports: &Ports<'_>,
    stateroot: &StaterootName,
    seed: &Digest,
) -> PortResult<bool> {
    if !ports.ostree.stateroots()?.contains(stateroot) {
        return Ok(true);
    }
    Ok(claim(ports, stateroot)?.as_deref() == Some(seed.as_str()))
}

pub(super) fn claimed(
    ports: &Ports<'_>,
    stateroot: &StaterootName,
    seed: &Digest,
) -> PortResult<bool> {
    Ok(ports.ostree.stateroots()?.contains(stateroot)
        && claim(ports, stateroot)?.as_deref() == Some(seed.as_str()))
}

pub(super) fn ensure(
    ports: &Ports<'_>,
    stateroot: &StaterootName,
    seed: &Digest,
) -> PortResult<()> {
    note(ports, stateroot)?;
    ports.ostree.ensure_stateroot(stateroot)?;
    let path = NodePath::in_stateroot(stateroot, CLAIM);
    ports.files.replace(&path, seed.as_str().as_bytes(), 0o600)
}

pub(super) fn deployed(
    ports: &Ports<'_>,
    stateroot: &StaterootName,
    commit: &str,
    kernel_arguments: &[String],
) -> PortResult<bool> {
    let deployments = ports.ostree.deployments()?;
    Ok(deployments.iter().any(|deployment| {
        deployment.id.stateroot == *stateroot
            && deployment.id.checksum == commit
            && kernel_arguments
                .iter()
                .all(|wanted| deployment.kernel_arguments.contains(wanted))
    }))
}

pub(super) fn deploy(
    ports: &Ports<'_>,
    stateroot: &StaterootName,
    commit: &str,
    kernel_arguments: &[String],
    origin: &str,
) -> PortResult<()> {
    // One deployment a stateroot: what an earlier attempt left must not be taken for this one's.
    super::removal::undeploy(ports, stateroot)?;
    let spec = DeploymentSpec {
        stateroot: stateroot.clone(),
        commit: commit.to_owned(),
        kernel_arguments: kernel_arguments.to_vec(),
        origin: origin.to_owned(),
    };
    ports.ostree.deploy(&spec).map(drop)
}

/// The one deployment of a stateroot.
pub(super) fn deployment(ports: &Ports<'_>, stateroot: &StaterootName) -> PortResult<DeploymentId> {
    let deployments = ports.ostree.deployments()?;
    let mut ours = deployments
        .into_iter()
        .filter(|found| found.id.stateroot == *stateroot);
    match (ours.next(), ours.next()) {
        (Some(only), None) => Ok(only.id),
        (None, _) => Err(contradiction(format!(
            "stateroot {stateroot} has no deployment"
        ))),
        (Some(_), Some(_)) => Err(contradiction(format!(
            "stateroot {stateroot} has more than one deployment"
        ))),
    }
}

fn contradiction(text: String) -> PortError {
    PortError::plain(ErrorKind::Contradiction, text)
}

/// What the mark says when the unpacking it speaks of is complete.
fn expected(
    ports: &Ports<'_>,
    mark: &str,
    pin: &SeedPin,
    stateroot: &StaterootName,
) -> PortResult<String> {
    match mark {
        ETC_UNPACKED => Ok(format!(
            "{} {}",
            pin.digest.as_str(),
            deployment(ports, stateroot)?
        )),
        _ => Ok(pin.digest.as_str().to_owned()),
    }
}

pub(super) fn unpacked(
    ports: &Ports<'_>,
    which: &str,
    pin: &SeedPin,
    stateroot: &StaterootName,
) -> PortResult<bool> {
    let expected = expected(ports, which, pin, stateroot)?;
    Ok(mark(ports, which, stateroot)? == Some(expected))
}

/// Syncs, then marks: the mark is never there without what it speaks of.
pub(super) fn mark_unpacked(
    ports: &Ports<'_>,
    which: &str,
    pin: &SeedPin,
    stateroot: &StaterootName,
) -> PortResult<()> {
    ports.files.sync(&Root::Stateroot(stateroot.clone()))?;
    let expected = expected(ports, which, pin, stateroot)?;
    let path = NodePath::in_stateroot(stateroot, which);
    ports.files.replace(&path, expected.as_bytes(), 0o600)
}

pub(super) fn record(ports: &Ports<'_>, record: &TargetRecord) -> PortResult<()> {
    let deployment = deployment(ports, &record.stateroot)?;
    let record = TargetRecord {
        deployment: Some(deployment),
        ..record.clone()
    };
    record::write(ports.files, Record::Target, &record)
}
