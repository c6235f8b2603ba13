//! Network namespaces: one for a lab, with a bridge, and one for each of its nodes.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{command, succeed};
use crate::running::process_runs;

/// The network of every lab; labs do not see each other, so all can use the same.
pub const MACHINE_NETWORK: &str = "192.168.127.0/24";
/// The lab's own address: the registry, and the nodes' way out, which leads nowhere.
pub const LAB_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 127, 1);
/// A node's interface.
pub(crate) const INTERFACE: &str = "enp1s0";
/// The lab's bridge.
const BRIDGE: &str = "lab0";
/// Where `ip netns` keeps its names.
const NAMED: &str = "/run/netns";

/// A named network namespace, deleted when dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace, with loopback up.
    pub(crate) fn create(name: &str) -> Result<Namespace> {
        succeed(&mut command("ip", ["netns", "add", name]))?;
        let namespace = Namespace {
            name: name.to_owned(),
        };
        succeed(&mut command("ip", ["-n", name, "link", "set", "lo", "up"]))?;
        Ok(namespace)
    }

    /// Makes the namespace of a lab, with its bridge.
    pub(crate) fn create_lab(name: &str) -> Result<Namespace> {
        let namespace = Namespace::create(name)?;
        let address = format!("{LAB_ADDRESS}/24");
        for args in [
            [
                "link",
                "add",
                BRIDGE,
                "type",
                "bridge",
                "forward_delay",
                "0",
            ]
            .as_slice(),
            &["address", "add", &address, "dev", BRIDGE],
            &["link", "set", BRIDGE, "up"],
        ] {
            succeed(command("ip", ["-n", name]).args(args))?;
        }
        Ok(namespace)
    }

    /// Makes the namespace of a node, its interface wired to the bridge of `lab`, without address:
    /// the node's NetworkManager gives it one. `number` names the other end and the MAC address.
    pub(crate) fn create_node(name: &str, lab: &Namespace, number: u8) -> Result<Namespace> {
        let namespace = Namespace::create(name)?;
        let port = format!("node{number}");
        // The kernel takes its time to end the wire of a namespace that is gone, and then there is
        // nothing to delete.
        let _ = succeed(&mut command(
            "ip",
            ["-n", &lab.name, "link", "delete", &port],
        ));
        let mac = format!("52:54:00:00:7f:{number:02x}");
        succeed(&mut command(
            "ip",
            [
                "-n", name, "link", "add", INTERFACE, "address", &mac, "type", "veth", "peer",
                "name", &port, "netns", &lab.name,
            ],
        ))?;
        succeed(&mut command(
            "ip",
            [
                "-n", &lab.name, "link", "set", &port, "master", BRIDGE, "up",
            ],
        ))?;
        Ok(namespace)
    }

    /// Gives the bridge of a lab one more address. Who goes there comes from the lab's own: a virtual machine that has the same
    /// address inside drops what seems to come from itself.
    pub(crate) fn add_address(&self, address: Ipv4Addr) -> Result<()> {
        let name = self.name.as_str();
        let with_prefix = format!("{address}/32");
        let add = ["-n", name, "address", "add", &with_prefix, "dev", BRIDGE];
        succeed(&mut command("ip", add))?;
        let (address, from) = (address.to_string(), LAB_ADDRESS.to_string());
        let route = [
            "-n", name, "route", "replace", "local", &address, "dev", BRIDGE,
        ];
        let source = [
            "table", "local", "proto", "kernel", "scope", "host", "src", &from,
        ];
        succeed(command("ip", route).args(source)).map(drop)
    }

    /// The file that stands for the namespace.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new(NAMED).join(&self.name)
    }

    /// The arguments of `nsenter` that run `program` in here.
    pub(crate) fn enter(&self, program: &Path) -> [String; 3] {
        [
            format!("--net={}", self.path().display()),
            "--".to_owned(),
            program.display().to_string(),
        ]
    }

    /// A command that runs `program` in here.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.enter(program));
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The kernel keeps the namespace while a process is in it; only the name has to go here.
        if let Err(error) = succeed(&mut command("ip", ["netns", "delete", &self.name])) {
            eprintln!("boxed: {error:#}");
        }
    }
}

/// Deletes the namespaces called `lca-<pid>-...` whose process is gone without having cleaned up.
pub(crate) fn sweep() -> Result<()> {
    let Ok(names) = std::fs::read_dir(NAMED) else {
        return Ok(());
    };
    for entry in names {
        let entry = entry.with_context(|| format!("reading {NAMED}"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner_is_gone(&name) {
            drop(Namespace { name });
        }
    }
    Ok(())
}

/// Whether `lca-<pid>-...` was made by a process that no longer runs.
pub(crate) fn owner_is_gone(name: &str) -> bool {
    name.strip_prefix("lca-")
        .and_then(|rest| rest.split('-').next())
        .and_then(|pid| pid.parse().ok())
        .is_some_and(|pid| !process_runs(pid))
}
