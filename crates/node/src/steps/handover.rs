//! What the origin hands over to the target, and either side to the other.

use api::reconfiguration::ServerSshKey;
use api::rollback_config::RollbackConfig;
use api::{
    DeploymentId, HandoverStamp, ImageBasedUpgrade, ImageBasedUpgradeStatus, Secret, Stage,
    StaterootName, Timestamp, handover, saved_cr,
};
use planner::{ErrorKind, State};
use serde::Serialize;

use super::first_boot::host_files::is_server_key;
use crate::ports::{FileKind, NodePath, Ports};
use crate::{PortError, PortResult};

/// Longest file of the site's configuration that is exported, bytes.
const LIMIT: u64 = 1 << 20;

/// What the units that a boot starts are linked in, below [`api::path::UNITS`].
const WANTED: &str = "multi-user.target.wants";

/// Everything that the first boot needs is in the target, and what goes back if it comes to nothing.
pub(super) fn check(ports: &Ports<'_>, target: &DeploymentId, monitored: bool) -> PortResult<()> {
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
    let monitor = monitored.then_some(api::names::INIT_MONITOR_UNIT);
    let units = [api::names::POST_PIVOT_UNIT].into_iter().chain(monitor);
    let units = units.flat_map(|unit| {
        let directory = api::path::UNITS;
        // Enabled: nobody is there to start it.
        [
            format!("{directory}/{unit}"),
            format!("{directory}/{WANTED}/{unit}"),
        ]
    });
    let needed = [
        NodePath::in_deployment(target, api::path::KUBECONFIG),
        NodePath::in_stateroot(&target.stateroot, api::path::LCA_CLI),
        NodePath::in_stateroot(&target.stateroot, api::path::SEED_INFO),
    ];
    let units = units.map(|path| NodePath::in_deployment(target, &path));
    for path in units.chain(needed) {
        match ports.files.kind(&path)? {
            None => {
                let text =
                    format!("{path} is missing in the prepared target (does its seed have it?)");
                return Err(lost(text));
            }
            Some(FileKind::File(0)) => {
                return Err(lost(format!("{path} is empty in the prepared target")));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Writes everything anew: what an earlier attempt exported and is not there any more must not be applied. What the first boot
/// could not work with is found here, where nothing has changed yet.
pub(super) fn export(ports: &Ports<'_>, stateroot: &StaterootName) -> PortResult<()> {
    let inside = |path: &str| NodePath::in_stateroot(stateroot, path);
    let mut document = ports.cluster.reconfiguration()?;
    document.ssh_key = text(ports, api::path::SSH_AUTHORIZED_KEYS)?.ok_or_else(|| {
        let text = format!(
            "{} is not there: nobody could log in on the target",
            api::path::SSH_AUTHORIZED_KEYS
        );
        PortError::plain(ErrorKind::Permanent, text)
    })?;
    document.chrony_config = text(ports, api::path::CHRONY_CONFIG)?.unwrap_or_default();
    document.server_ssh_keys = server_ssh_keys(ports)?;
    let seed = super::seed_info(ports, &inside(api::path::SEED_INFO))?;
    planner::reconfigure(&document, seed.as_ref()).map_err(|error| {
        let text = "planning the first boot of the target";
        PortError::new(ErrorKind::Permanent, text, error)
    })?;
    let exported = ports.cluster.exported()?;

    ports.files.remove(&inside(api::path::OPENSHIFT))?;
    write_all(
        ports,
        &inside(api::path::CLUSTER_MANIFESTS),
        &exported.manifests,
    )?;
    if !exported.keys.is_empty() {
        write_all(ports, &inside(api::path::CERT_MANAGER_KEYS), &exported.keys)?;
    }
    let crypto = document.kubeconfig_crypto_retention.files();
    write_all(ports, &inside(api::path::KUBECONFIG_CRYPTO), &crypto)?;
    let connections = NodePath::booted(api::path::SYSTEM_CONNECTIONS);
    ports
        .files
        .copy_tree(&connections, &inside(api::path::NETWORK_CONNECTIONS))?;
    let devices = NodePath::booted(api::path::SYSTEM_DEVICES);
    if let Some(content) = ports.files.read(&devices, LIMIT)? {
        let copy = inside(api::path::LVM_DEVICES);
        ports.files.replace(&copy, &content, 0o600)?;
    }
    write(ports, &inside(api::path::RECONFIGURATION), &document)
}

/// Writes files into a directory of their own.
fn write_all<N: AsRef<str>, C: AsRef<[u8]>>(
    ports: &Ports<'_>,
    directory: &NodePath,
    files: &[(N, C)],
) -> PortResult<()> {
    ports.files.ensure_directory(directory, 0o700)?;
    for (name, content) in files {
        let path = directory.join(name.as_ref());
        ports.files.replace(&path, content.as_ref(), 0o600)?;
    }
    Ok(())
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
    let names = ports.files.list(&NodePath::booted(api::path::SSH))?;
    let mut keys = Vec::new();
    for name in names.into_iter().filter(|name| is_server_key(name)) {
        if let Some(content) = text(ports, &format!("{}/{name}", api::path::SSH))? {
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
