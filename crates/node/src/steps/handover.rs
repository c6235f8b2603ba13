//! What the origin hands over to the target, and either side to the other.

use api::reconfiguration::ServerSshKey;
use api::rollback_config::RollbackConfig;
use api::{
    DeploymentId, HandoverStamp, ImageBasedUpgrade, ImageBasedUpgradeStatus, Secret, Stage,
    StaterootName, Timestamp, handover, saved_cr,
};
use planner::{ErrorKind, State};
use serde::Serialize;

use crate::ports::{NodePath, Ports};
use crate::{PortError, PortResult};

/// Longest file of the site's configuration that is exported, bytes.
const LIMIT: u64 = 1 << 20;

/// Everything that the first boot needs is in the target.
pub(super) fn check(ports: &Ports<'_>, target: &DeploymentId) -> PortResult<()> {
    let lost = |what: String| {
        let text = format!("{what}: request stage Idle and then Prep again");
        PortError::plain(ErrorKind::Contradiction, text)
    };
    if !ports
        .ostree
        .deployments()?
        .iter()
        .any(|found| found.id == *target)
    {
        return Err(lost(format!("the prepared deployment {target} is gone")));
    }
    let unit = format!("{}/{}", api::path::UNITS, api::names::POST_PIVOT_UNIT);
    let needed = [
        NodePath::in_deployment(target, &unit),
        NodePath::in_stateroot(&target.stateroot, api::path::LCA_CLI),
        NodePath::in_stateroot(&target.stateroot, api::path::SEED_INFO),
    ];
    for path in needed {
        if ports.files.kind(&path)?.is_none() {
            return Err(lost(format!("{path} is missing in the prepared target")));
        }
    }
    Ok(())
}

/// Writes everything anew: what an earlier attempt exported and is not there any more must not be applied.
pub(super) fn export(ports: &Ports<'_>, stateroot: &StaterootName) -> PortResult<()> {
    let inside = |path: &str| NodePath::in_stateroot(stateroot, path);
    let mut document = ports.cluster.reconfiguration()?;
    document.ssh_key = text(ports, api::path::SSH_AUTHORIZED_KEYS)?.unwrap_or_default();
    document.chrony_config = text(ports, "/etc/chrony.conf")?.unwrap_or_default();
    document.server_ssh_keys = server_ssh_keys(ports)?;
    let manifests = ports.cluster.mirror_manifests()?;

    ports.files.remove(&inside(api::path::OPENSHIFT))?;
    ports
        .files
        .ensure_directory(&inside(api::path::CLUSTER_MANIFESTS), 0o700)?;
    for (name, content) in manifests {
        ports.files.replace(
            &inside(api::path::CLUSTER_MANIFESTS).join(&name),
            &content,
            0o600,
        )?;
    }
    let connections = NodePath::booted(api::path::SYSTEM_CONNECTIONS);
    ports
        .files
        .copy_tree(&connections, &inside(api::path::NETWORK_CONNECTIONS))?;
    write(ports, &inside(api::path::RECONFIGURATION), &document)
}

fn text(ports: &Ports<'_>, path: &str) -> PortResult<Option<String>> {
    let path = NodePath::booted(path);
    let Some(bytes) = ports.files.read(&path, LIMIT)? else {
        return Ok(None);
    };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let error = error.utf8_error();
        PortError::new(ErrorKind::Permanent, format!("reading {path}"), error)
    })
}

fn server_ssh_keys(ports: &Ports<'_>) -> PortResult<Vec<ServerSshKey>> {
    let names = ports.files.list(&NodePath::booted("/etc/ssh"))?;
    let mut keys = Vec::new();
    for name in names
        .into_iter()
        .filter(|name| name.starts_with("ssh_host_") && name.contains("_key"))
    {
        if let Some(content) = text(ports, &format!("/etc/ssh/{name}"))? {
            keys.push(ServerSshKey {
                file_name: name,
                file_content: Secret::new(content),
            });
        }
    }
    Ok(keys)
}

pub(super) fn rollback_config(
    ports: &Ports<'_>,
    stateroot: &StaterootName,
    config: &RollbackConfig,
) -> PortResult<()> {
    // What decided, or counted, in an upgrade before this one says nothing of it, nor does what a seed may bring.
    for path in [api::path::VERDICT, api::path::INIT_MONITOR] {
        ports
            .files
            .remove(&NodePath::in_stateroot(stateroot, path))?;
    }
    write(
        ports,
        &NodePath::in_stateroot(stateroot, api::path::ROLLBACK_CONFIG),
        config,
    )
}

fn write(ports: &Ports<'_>, path: &NodePath, content: &impl Serialize) -> PortResult<()> {
    let bytes = serde_json::to_vec(content)
        .map_err(|error| PortError::new(ErrorKind::Permanent, format!("writing {path}"), error))?;
    ports.files.replace(path, &bytes, 0o600)
}

/// The object as the origin finds it when the node comes back although nobody asked for it.
pub(super) fn save_origin_copy(ports: &Ports<'_>, stamp: &HandoverStamp) -> PortResult<()> {
    let mut ibu = live(ports)?;
    let (generation, now) = (ibu.metadata.generation.unwrap_or_default(), now(ports));
    planner::mark_uncontrolled_return(status(&mut ibu), generation, now);
    save_at(ports, &NodePath::booted(api::path::SAVED_IBU), ibu, stamp)
}

/// The object as the side that boots next goes on with it.
pub(super) fn save(
    ports: &Ports<'_>,
    stateroot: &StaterootName,
    stamp: &HandoverStamp,
) -> PortResult<()> {
    let mut ibu = live(ports)?;
    let now = now(ports);
    planner::end_pre_pivot(status(&mut ibu), now);
    save_at(
        ports,
        &NodePath::in_stateroot(stateroot, api::path::SAVED_IBU),
        ibu,
        stamp,
    )
}

/// The live object, if it still asks for what is being done. One that asks for something else, such as an abort that this
/// process has not seen yet, must not become what the other side goes on with.
fn live(ports: &Ports<'_>) -> PortResult<ImageBasedUpgrade> {
    let ibu = ports.cluster.upgrade()?.ok_or_else(|| {
        PortError::plain(
            ErrorKind::Transient,
            "the ImageBasedUpgrade upgrade is not there now",
        )
    })?;
    let conditions = ibu
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    let state = planner::parse(conditions.unwrap_or_default()).state;
    let agrees = match ibu.spec.stage() {
        Ok(Some(Stage::Upgrade)) => state == State::UpgradeInProgress,
        Ok(Some(Stage::Rollback)) => {
            matches!(state, State::RollbackInProgress | State::RollbackFailed)
        }
        _ => false,
    };
    if agrees {
        return Ok(ibu);
    }
    let stage = ibu.spec.stage.as_deref().unwrap_or_default();
    Err(PortError::stopped(format!(
        "the ImageBasedUpgrade asks for stage {stage:?} in state {state} now"
    )))
}

fn now(ports: &Ports<'_>) -> Timestamp {
    Timestamp::from_unix(ports.clock.now())
}

fn status(ibu: &mut ImageBasedUpgrade) -> &mut ImageBasedUpgradeStatus {
    ibu.status.get_or_insert_default()
}

fn save_at(
    ports: &Ports<'_>,
    path: &NodePath,
    mut ibu: ImageBasedUpgrade,
    stamp: &HandoverStamp,
) -> PortResult<()> {
    let unwritable = |error: serde_json::Error| {
        PortError::new(ErrorKind::Permanent, format!("writing {path}"), error)
    };
    handover::stamp(&mut ibu, stamp).map_err(unwritable)?;
    let bytes = saved_cr::print(&ibu).map_err(unwritable)?;
    ports.files.replace(path, &bytes, 0o600)
}
