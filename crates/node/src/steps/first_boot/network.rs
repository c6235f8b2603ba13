//! The node's network: connections, address, names.

use engine::StepContext;
use planner::ErrorKind;

use super::{required, restart};
use crate::ports::{NodePath, Ports};
use crate::{PortError, PortResult};

/// Longest file that is read, bytes.
const LIMIT: u64 = 1 << 20;
/// How often the node's address is looked for, milliseconds.
pub(in crate::steps) const ADDRESS_AGAIN: u64 = 1000;

/// Puts this site's connections beside what the seed has and lets NetworkManager read them.
pub(in crate::steps) fn restore_connections(ports: &Ports<'_>) -> PortResult<()> {
    let from = NodePath::booted(api::path::NETWORK_CONNECTIONS);
    ports
        .files
        .copy_tree(&from, &NodePath::booted(api::path::SYSTEM_CONNECTIONS))?;
    restart(ports, api::names::NETWORK_UNIT)
}

/// Lets nmstate configure the network. What it is told does not change, so once more does no harm.
pub(in crate::steps) fn apply_state(ports: &Ports<'_>) -> PortResult<()> {
    let state = required(ports)?.raw_nm_state_config;
    let path = NodePath::booted(api::path::NETWORK_STATE);
    ports
        .files
        .replace(&path, state.expose().as_bytes(), 0o600)?;
    ports.machine.apply_network_state(&path)
}

/// Writes the hint. Where a unit goes by it, that one is run again: it may have begun with the seed's.
pub(in crate::steps) fn write_node_ip_hint(
    ports: &Ports<'_>,
    addresses: &[String],
) -> PortResult<()> {
    let hint = format!("KUBELET_NODEIP_HINT={}", addresses.join(" "));
    let path = NodePath::booted(api::path::NODE_IP_HINT);
    ports.files.replace(&path, hint.as_bytes(), 0o600)?;
    if ports.units.enabled(api::names::NODE_IP_UNIT)? {
        restart(ports, api::names::NODE_IP_UNIT)?;
    }
    Ok(())
}

/// Waits until the node knows its address: by a unit that asks the network, and so as long as that takes.
pub(in crate::steps) fn await_address(
    ports: &Ports<'_>,
    context: &StepContext<'_>,
) -> PortResult<()> {
    let found = NodePath::booted(api::path::PRIMARY_IP);
    if ports.files.kind(&found)?.is_none() {
        ports.units.start(api::names::NODE_IP_UNIT)?;
    }
    while ports.files.kind(&found)?.is_none() {
        if context.stopped() {
            return Err(PortError::stopped(
                "waiting for the node's address was stopped",
            ));
        }
        ports.clock.pause(ADDRESS_AGAIN);
    }
    first_address(ports).map(drop)
}

/// The node's first address, as kubelet is told it.
fn first_address(ports: &Ports<'_>) -> PortResult<String> {
    let path = NodePath::booted(api::path::NODE_IP_DROP_IN);
    let bytes = ports.files.read(&path, LIMIT)?.unwrap_or_default();
    addresses(&String::from_utf8_lossy(&bytes))
        .into_iter()
        .next()
        .ok_or_else(|| {
            let text = format!(
                "{path} names no address: see the journal of {}",
                api::names::NODE_IP_UNIT
            );
            PortError::plain(ErrorKind::Transient, text)
        })
}

/// Addresses in kubelet's drop-in: of the last line that has some, the list if it has one.
fn addresses(text: &str) -> Vec<String> {
    let quoted = |line: &str, variable: &str| {
        let start = format!("\"{variable}=");
        let (_, rest) = line.split_once(&start)?;
        let (value, _) = rest.split_once('"')?;
        (!value.is_empty()).then(|| value.to_owned())
    };
    let lines = text.lines().filter(|line| line.contains("Environment="));
    let mut found = lines.filter_map(|line| {
        quoted(line, "KUBELET_NODE_IPS").or_else(|| quoted(line, "KUBELET_NODE_IP"))
    });
    let last = found.next_back().unwrap_or_default();
    let all = last.split(',').map(str::trim);
    all.filter(|address| !address.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Tells the node's own resolver whose names it answers for.
pub(in crate::steps) fn write_dns_overrides(
    ports: &Ports<'_>,
    cluster_name: &str,
    base_domain: &str,
    address: Option<&str>,
) -> PortResult<()> {
    let address = match address {
        Some(address) => address.to_owned(),
        None => first_address(ports)?,
    };
    let text = format!(
        "SNO_CLUSTER_NAME_OVERRIDE={cluster_name}\nSNO_BASE_DOMAIN_OVERRIDE={base_domain}\nSNO_DNSMASQ_IP_OVERRIDE={address}"
    );
    let path = NodePath::booted(api::path::DNSMASQ_OVERRIDES);
    ports.files.replace(&path, text.as_bytes(), 0o600)?;
    restart(ports, api::names::DNS_UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_where_kubelet_finds_them() {
        let check = |text: &str, expect: &[&str]| assert_eq!(addresses(text), expect, "{text:?}");
        check("", &[]);
        check(
            "[Service]\nEnvironment=\"KUBELET_NODE_IP=192.0.2.10\" \"KUBELET_NODE_IPS=192.0.2.10,2001:db8::10\"\n",
            &["192.0.2.10", "2001:db8::10"],
        );
        check(
            "Environment=\"KUBELET_NODE_IP=192.0.2.10\"",
            &["192.0.2.10"],
        );
        // The last line counts; one without addresses is none.
        check(
            "Environment=\"KUBELET_NODE_IPS=192.0.2.1\"\nEnvironment=\"KUBELET_NODE_IP=192.0.2.2\"\nEnvironment=\"X=1\"\n",
            &["192.0.2.2"],
        );
        check("#\"KUBELET_NODE_IP=192.0.2.10\"\n", &[]);
        check("Environment=\"KUBELET_NODE_IP=\"", &[]);
    }
}
