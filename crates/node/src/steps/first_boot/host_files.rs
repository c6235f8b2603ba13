//! What the node itself has of a site: who may log in, what is trusted, the time, its disks.

use api::reconfiguration::ServerSshKey;
use planner::ErrorKind;
use serde_json::json;

use super::{required, restart};
use crate::ports::{Attributes, NodePath, Ports, UnitState};
use crate::{PortError, PortResult};

/// Longest file that is read, bytes.
const LIMIT: u64 = 1 << 20;
/// The SELinux context of the SSH server's keys (S 3.3, step 13).
const SERVER_KEY_LABEL: &str = "system_u:object_r:sshd_key_t:s0";
/// The roles that have a MachineConfig with the keys that may log in.
const ROLES: [&str; 2] = ["master", "worker"];

/// Lets this site's keys in at once, and has the MachineConfigs that keep them applied with the other manifests.
pub(in crate::steps) fn authorize_ssh_keys(ports: &Ports<'_>) -> PortResult<()> {
    let key = required(ports)?.ssh_key;
    if key.is_empty() {
        return Ok(());
    }
    let home = NodePath::booted(api::path::CORE_HOME);
    let attributes = Attributes {
        mode: 0o600,
        owned_like: Some(&home),
        label: None,
    };
    let path = NodePath::booted(api::path::EARLY_SSH_KEYS);
    ports
        .files
        .replace_with(&path, key.as_bytes(), &attributes)?;
    let manifests = NodePath::booted(api::path::CLUSTER_MANIFESTS);
    for role in ROLES {
        let name = format!("99-{role}-ssh");
        let config = json!({
            "apiVersion": "machineconfiguration.openshift.io/v1",
            "kind": "MachineConfig",
            "metadata": {"name": name, "labels": {api::label::MACHINE_CONFIG_ROLE: role}},
            "spec": {"config": {
                "ignition": {"version": "3.2.0"},
                "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": [key]}]},
            }},
        });
        let file = manifests.join(&format!("{name}.json"));
        ports
            .files
            .replace(&file, config.to_string().as_bytes(), 0o600)?;
    }
    Ok(())
}

pub(in crate::steps) fn write_pull_secret(ports: &Ports<'_>) -> PortResult<()> {
    let document = required(ports)?;
    let path = NodePath::booted(api::path::PULL_SECRET);
    ports
        .files
        .replace(&path, document.pull_secret.expose().as_bytes(), 0o600)
}

/// Readable for all, as the machine-config operator writes it: the Go original leaves it to root alone.
pub(in crate::steps) fn trust_authorities(ports: &Ports<'_>) -> PortResult<()> {
    let bundle = required(ports)?.additional_trust_bundle.user_ca_bundle;
    if !bundle.is_empty() {
        let path = NodePath::booted(api::path::CA_ANCHOR);
        ports.files.replace(&path, bundle.as_bytes(), 0o644)?;
    }
    ports.machine.trust_authorities()
}

pub(in crate::steps) fn write_chrony_config(ports: &Ports<'_>) -> PortResult<()> {
    let config = required(ports)?.chrony_config;
    if config.is_empty() {
        return Ok(());
    }
    let path = NodePath::booted(api::path::CHRONY_CONFIG);
    ports.files.replace(&path, config.as_bytes(), 0o644)?;
    restart(ports, api::names::TIME_UNIT)
}

/// Writes this site's keys, then removes those that it does not have: at no time is the server without one. Without keys in the
/// document the seed's stay, as does all else that is to be regenerated.
pub(in crate::steps) fn write_server_keys(ports: &Ports<'_>) -> PortResult<()> {
    let keys = required(ports)?.server_ssh_keys;
    if keys.is_empty() {
        return Ok(());
    }
    if let Some(odd) = keys.iter().find(|key| !is_server_key(&key.file_name)) {
        let text = format!(
            "server_ssh_keys has {:?}, which cannot be the name of a key in {}",
            odd.file_name.chars().take(80).collect::<String>(),
            api::path::SSH
        );
        return Err(PortError::plain(ErrorKind::Permanent, text));
    }
    let directory = NodePath::booted(api::path::SSH);
    for ServerSshKey {
        file_name,
        file_content,
    } in &keys
    {
        let public = file_name.ends_with(".pub");
        let attributes = Attributes {
            mode: if public { 0o644 } else { 0o600 },
            owned_like: None,
            label: Some(SERVER_KEY_LABEL),
        };
        let content = file_content.expose().as_bytes();
        let path = directory.join(file_name);
        ports.files.replace_with(&path, content, &attributes)?;
    }
    for name in ports.files.list(&directory)? {
        let ours = keys.iter().any(|key| key.file_name == name);
        if is_server_key(&name) && !ours {
            ports.files.remove(&directory.join(&name))?;
        }
    }
    // One that runs shows the keys that it began with; sessions outlive it.
    match ports.units.state(api::names::SSH_UNIT)? {
        UnitState::Absent | UnitState::Inactive => Ok(()),
        _ => restart(ports, api::names::SSH_UNIT),
    }
}

/// Whether a file of this name holds a key of the SSH server.
pub(in crate::steps) fn is_server_key(name: &str) -> bool {
    let rest = name.strip_prefix("ssh_host_");
    rest.is_some_and(|rest| rest.contains("_key")) && !name.contains('/')
}

pub(in crate::steps) fn restore_lvm_devices(ports: &Ports<'_>) -> PortResult<()> {
    let from = NodePath::booted(api::path::LVM_DEVICES);
    if let Some(devices) = ports.files.read(&from, LIMIT)? {
        let to = NodePath::booted(api::path::SYSTEM_DEVICES);
        ports.files.replace(&to, &devices, 0o600)?;
    }
    ports.machine.activate_volumes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_server_keys() {
        let check = |name: &str, expect: bool| assert_eq!(is_server_key(name), expect, "{name:?}");
        check("ssh_host_rsa_key", true);
        check("ssh_host_ed25519_key.pub", true);
        check("ssh_host_ed25519_key-cert.pub", true);
        check("ssh_host_", false);
        check("sshd_config", false);
        check("ssh_host_/../../shadow_key", false);
        check("../ssh_host_rsa_key", false);
    }
}
