//! The boot that is running, and what counts for as long as it does: files that are written and maybe not on the disk yet.

use std::fs;

/// The name of the boot that is running (`random(4)`); empty on a machine without `/proc`.
pub(crate) fn id() -> String {
    // systemd-nspawn mounts a file of its own over this one, with a new id for every boot of the container.
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The name of a file that is like the one of this name, and that no later boot reads.
pub(crate) fn recent(name: &str) -> String {
    format!("{name}.boot-{}", id())
}
