//! The upgrade object that a stateroot keeps while its API server is not there.

use api::{
    DeploymentId, HandoverStamp, ImageBasedUpgrade, OcpVersion, Stage, StaterootName, handover,
    saved_cr,
};
use planner::ErrorKind;

use crate::PortResult;
use crate::ports::{NodePath, Ports};

/// Longest saved object that is read, bytes. An object in etcd is at most 1.5 MiB.
const LIMIT: u64 = 8 << 20;

/// What lies where an object is kept.
#[derive(Debug)]
pub(crate) struct Saved {
    /// What could be read of it.
    pub(crate) bytes: Vec<u8>,
    /// The object and the stamp that it had (the Go original writes none), or why it is none.
    pub(crate) object: Result<Stamped, String>,
}

/// An object and what this agent wrote on it when it handed it over.
pub(crate) type Stamped = (ImageBasedUpgrade, Option<HandoverStamp>);

/// Reads what lies at `path`, if anything does. Fails where another attempt may do better.
pub(crate) fn read(ports: &Ports<'_>, path: &NodePath) -> PortResult<Option<Saved>> {
    let bytes = match ports.files.read(path, LIMIT) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::Permanent => {
            return Ok(Some(Saved {
                bytes: Vec::new(),
                object: Err(engine::error_chain(&error)),
            }));
        }
        Err(error) => return Err(error),
    };
    let parsed = saved_cr::parse(&bytes).map_err(|error| engine::error_chain(&error));
    let object = parsed.and_then(|mut ibu| match handover::take_stamp(&mut ibu) {
        Ok(stamp) => {
            let stamp = stamp.filter(|stamp| is_of(stamp, &ibu));
            Ok((ibu, stamp))
        }
        Err(error) => Err(engine::error_chain(&error)),
    });
    Ok(Some(Saved { bytes, object }))
}

/// Whether a stamp is of the upgrade that the object asks for. The Go original takes stamps into the cluster, and hands them on
/// with its own later upgrades.
fn is_of(stamp: &HandoverStamp, ibu: &ImageBasedUpgrade) -> bool {
    ibu.spec
        .seed_version()
        .parse::<OcpVersion>()
        .is_ok_and(|version| StaterootName::for_version(&version) == stamp.target.stateroot)
}

/// The object that a stateroot keeps, with the stamp that it has; `None` where there is none that can be read.
pub(crate) fn in_stateroot(
    ports: &Ports<'_>,
    stateroot: &StaterootName,
) -> PortResult<Option<Stamped>> {
    readable(
        ports,
        &NodePath::in_stateroot(stateroot, api::path::SAVED_IBU),
    )
}

/// The same at any path.
pub(crate) fn readable(ports: &Ports<'_>, path: &NodePath) -> PortResult<Option<Stamped>> {
    Ok(read(ports, path)?.and_then(|saved| saved.object.ok()))
}

/// Whether a saved object was saved for an upgrade to this target; without a stamp, as the Go original writes it, its spec's
/// version says so.
pub(crate) fn names_target(
    ibu: &ImageBasedUpgrade,
    stamp: Option<&HandoverStamp>,
    target: &DeploymentId,
) -> bool {
    match stamp {
        Some(stamp) => stamp.target.stateroot == target.stateroot,
        None => {
            let version = ibu.spec.seed_version().parse::<OcpVersion>().ok();
            version.map(|version| StaterootName::for_version(&version))
                == Some(target.stateroot.clone())
        }
    }
}

/// A rollback was asked for, or the upgrade has failed with a text other than the one that is written beforehand.
pub(crate) fn says_more(ibu: &ImageBasedUpgrade) -> bool {
    let failure = ibu
        .status
        .as_ref()
        .and_then(|status| planner::failure_text(status, Stage::Upgrade));
    ibu.spec.stage() == Ok(Some(Stage::Rollback))
        || failure.is_some_and(|text| text != api::message::UNCONTROLLED_ROLLBACK)
}
