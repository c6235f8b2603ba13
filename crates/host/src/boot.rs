//! What counts for as long as the node runs: files that are written and maybe not on the disk yet.

use std::fs;

/// The name of the boot that is running (`random(4)`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The name of a file that is like the one of this name, and that no later boot reads.
pub(crate) fn recent(name: &str) -> String {
    let id = fs::read_to_string(BOOT_ID).unwrap_or_default();
    format!("{name}.boot-{}", id.trim())
}
