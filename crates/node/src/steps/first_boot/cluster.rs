//! What the API server is told on a first boot.

use engine::{Progress, StepContext, Unit};
use planner::ErrorKind;

use super::{is_marked, mark, required};
use crate::ports::{NodePath, Ports};
use crate::{PortError, PortResult};

/// Longest manifest that is read, bytes: etcd takes less.
const LIMIT: u64 = 16 << 20;

/// There once the seed's mirror sets and catalogs are removed: what is there later is this site's.
const MIRRORS_REMOVED: &str = "/var/opt/openshift/mirrors-removed.done";

pub(in crate::steps) fn configure(ports: &Ports<'_>) -> PortResult<()> {
    ports.cluster.configure(&required(ports)?)
}

pub(in crate::steps) fn remove_mirrors(ports: &Ports<'_>) -> PortResult<()> {
    ports.cluster.remove_mirrors(&manifests(ports)?)
}

pub(in crate::steps) fn has_removed_mirrors(ports: &Ports<'_>) -> PortResult<bool> {
    is_marked(ports, MIRRORS_REMOVED)
}

pub(in crate::steps) fn mark_removed_mirrors(ports: &Ports<'_>) -> PortResult<()> {
    mark(ports, MIRRORS_REMOVED)
}

pub(in crate::steps) fn apply_manifests(
    ports: &Ports<'_>,
    context: &StepContext<'_>,
) -> PortResult<()> {
    let manifests = manifests(ports)?;
    let total = Some(manifests.len() as u64);
    for (done, (name, content)) in (0..).zip(&manifests) {
        let object = name.clone();
        context.progress(Progress {
            done,
            total,
            unit: Unit::Items,
            object,
        });
        if context.stopped() {
            return Err(PortError::stopped("applying manifests was stopped"));
        }
        ports.cluster.apply(name, content)?;
    }
    Ok(())
}

/// The manifests that were left for this boot, in the order of their names, those of an installation last. The first directory is
/// there, even if it is empty.
fn manifests(ports: &Ports<'_>) -> PortResult<Vec<(String, Vec<u8>)>> {
    let own = NodePath::booted(api::path::CLUSTER_MANIFESTS);
    if ports.files.kind(&own)?.is_none() {
        let text = format!("the exported configuration has no {own}");
        return Err(PortError::plain(ErrorKind::Permanent, text));
    }
    let mut manifests = Vec::new();
    for directory in [own, NodePath::booted(api::path::INSTALL_MANIFESTS)] {
        for name in ports.files.list(&directory)? {
            if let Some(content) = ports.files.read(&directory.join(&name), LIMIT)? {
                manifests.push((name, content));
            }
        }
    }
    Ok(manifests)
}
