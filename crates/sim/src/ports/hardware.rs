//! The hardware: a machine that every seed fits to, and space that is kept.

use api::DeploymentId;
use api::seed_node::Cpu;
use node::PortResult;
use node::ports::{
    Filesystem, Machine as Hardware, NodeFacts, NodePath, Reserved, SeedPin, Space, Told,
};

use crate::machine::Machine;
use crate::node::Node;

/// Size of every filesystem, and what is free on it.
const SPACE: u64 = 1 << 40;

/// When the certificates of every release expire, in seconds since 1970: years behind the beginning.
const CERTIFICATES_UNTIL: i64 = 1_900_000_000;

/// A file of a length that is not written out: its content is the number of bytes.
fn kept(machine: &Machine, path: &str) -> Option<u64> {
    let text = machine.cache.text(path)?;
    Some(text.parse().unwrap_or_default())
}

impl Hardware for Node {
    fn facts(&self, _pin: Option<&SeedPin>) -> PortResult<NodeFacts> {
        self.operation("machine facts", &"")?;
        let space = |filesystem| Space {
            filesystem,
            device: filesystem as u64,
            total: SPACE,
            available: SPACE,
        };
        Ok(NodeFacts {
            architecture: "amd64".to_owned(),
            cpu: Cpu {
                model: "simulated".to_owned(),
                sockets: 1,
                cores: 4,
                threads: 8,
            },
            cpu_numbers: 8,
            reserved_cpus: Told::Known("0-1".to_owned()),
            spaces: Filesystem::ALL.map(space).to_vec(),
            containers_mounted: true,
            storage_target: Told::Known("/dev/disk/by-partlabel/containers".to_owned()),
            boot_files: 100 << 20,
            spooled: 0,
            default_switch: Told::Known(true),
            boot_fallback: Ok(()),
            certificates_until: Told::Known(CERTIFICATES_UNTIL),
        })
    }

    fn certificates_until(&self, _deployment: &DeploymentId) -> PortResult<Told<i64>> {
        self.operation("certificates", &"")?;
        Ok(Told::Known(CERTIFICATES_UNTIL))
    }

    fn reserved(&self) -> PortResult<Reserved> {
        self.operation("reserved", &"")?;
        Ok(self.see(|machine| Reserved {
            sysroot: kept(machine, api::path::SYSROOT_RESERVE),
            boot: kept(machine, api::path::BOOT_RESERVE),
        }))
    }

    fn reserve(&self, sysroot: u64, boot: u64) -> PortResult<()> {
        self.operation("reserve", &"")?;
        for (path, bytes) in [
            (api::path::SYSROOT_RESERVE, sysroot),
            (api::path::BOOT_RESERVE, boot),
        ] {
            for size in [0, bytes] {
                let content = size.to_string().into_bytes();
                self.effect(|machine| machine.write_durably(path, 0o600, content))?;
                self.operation("reserve: a file", &path)?;
            }
        }
        Ok(())
    }

    fn release(&self) -> PortResult<()> {
        self.operation("release", &"")?;
        for path in [api::path::SYSROOT_RESERVE, api::path::BOOT_RESERVE] {
            self.effect(|machine| {
                machine.cache.remove(path);
                machine.disk.remove(path);
            })?;
            self.operation("release: a file", &path)?;
        }
        Ok(())
    }

    fn release_part(&self) -> PortResult<bool> {
        self.operation("release_part", &"")?;
        let path = api::path::SYSROOT_RESERVE;
        // Sizes are not simulated: all of it is the part.
        let kept = self.see(|machine| machine.cache.get(path).is_some());
        self.effect(|machine| {
            machine.cache.remove(path);
            machine.disk.remove(path);
        })?;
        Ok(kept)
    }

    fn trust_authorities(&self) -> PortResult<()> {
        self.operation("trust_authorities", &"")?;
        self.effect(|machine| {
            let anchor = machine.resolve(&NodePath::booted(api::path::CA_ANCHOR));
            let anchor = machine.cache.text(&anchor).unwrap_or_default().to_owned();
            let bundle = machine.etc("pki/ca-trust/extracted/bundle");
            machine.cache.write(&bundle, 0o444, anchor.into_bytes());
        })?;
        self.operation("trusted_authorities", &"")
    }

    fn apply_network_state(&self, state: &NodePath) -> PortResult<()> {
        self.operation("apply_network_state", &state)?;
        self.effect(|machine| {
            let described = machine.resolve(state);
            let described = machine
                .cache
                .text(&described)
                .unwrap_or_default()
                .to_owned();
            let profile = machine.etc("NetworkManager/system-connections/by-nmstate.nmconnection");
            machine.write_durably(&profile, 0o600, described.into_bytes());
        })?;
        self.operation("applied_network_state", &state)
    }

    fn take_configuration(&self) -> PortResult<bool> {
        self.operation("take_configuration", &"")?;
        let parts = self.see(|machine| machine.configuration_volume.clone());
        if parts.is_empty() {
            return Ok(false);
        }
        self.effect(|machine| {
            for (path, content) in &parts {
                let path = machine.path(&format!("{}/{path}", api::path::OPENSHIFT));
                machine.write_durably(&path, 0o600, content.clone());
            }
        })?;
        self.operation("took_configuration", &"")?;
        Ok(true)
    }

    fn activate_volumes(&self) -> PortResult<()> {
        // Volumes are not simulated.
        self.operation("activate_volumes", &"")
    }
}
