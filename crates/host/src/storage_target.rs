//! What is mounted on the shared container storage.

use std::fs;
use std::path::Path;

use api::names::CONTAINERS_MOUNT_UNIT;
use node::PortResult;
use node::ports::{UnitState, Units};

use crate::failure::Attempt;
use crate::units::HostUnits;

/// Where systemd looks for unit files, the strongest first.
const UNIT_DIRECTORIES: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/lib/systemd/system",
];

/// `What=` of the mount unit of container storage as its file has it (contract 10.2), not what it resolved to: the text
/// has to be equal on seed and target. Empty when container storage is no mount of its own.
///
/// # Errors
/// When systemd does not answer or the unit's file cannot be read.
pub fn container_storage_target() -> PortResult<String> {
    if HostUnits.state(CONTAINERS_MOUNT_UNIT)? != UnitState::Active {
        return Ok(String::new());
    }
    for directory in UNIT_DIRECTORIES {
        let path = Path::new(directory).join(CONTAINERS_MOUNT_UNIT);
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(what(&text).unwrap_or_default().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).attempt(|| format!("reading {}", path.display())),
        }
    }
    Ok(String::new())
}

fn what(unit: &str) -> Option<&str> {
    unit.lines()
        .find_map(|line| line.trim().strip_prefix("What="))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mounted_device_is_read_from_the_unit() {
        let unit = "[Unit]\nDescription=x\n[Mount]\nWhat=/dev/disk/by-partlabel/var-lib-containers\nWhere=/y\n";
        assert_eq!(
            what(unit),
            Some("/dev/disk/by-partlabel/var-lib-containers")
        );
        assert_eq!(what("[Mount]\nWhere=/y\n"), None);
    }
}
