//! A control group for each guest.

use std::fs;
use std::path::{Path, PathBuf};

use crate::network::owner_is_gone;

/// A control group of the unified hierarchy, which whoever is put into it makes. Removed when dropped; nothing may run in it
/// any more.
#[derive(Debug)]
pub(crate) struct ControlGroup {
    dir: PathBuf,
}

impl ControlGroup {
    /// The group called `name`; `None` where the hierarchy is not mounted.
    pub(crate) fn named(name: &str) -> Option<ControlGroup> {
        let dir = hierarchy()?.join(name);
        Some(ControlGroup { dir })
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

/// Removes the groups called `lca-<pid>-...` whose process is gone without having done so.
pub(crate) fn sweep() {
    let groups = hierarchy().and_then(|dir| fs::read_dir(dir).ok());
    for group in groups.into_iter().flatten().flatten() {
        if owner_is_gone(&group.file_name().to_string_lossy()) {
            remove(&group.path());
        }
    }
}

/// Where the unified hierarchy is mounted, alone or beside the legacy ones.
fn hierarchy() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    mounts.find_map(|mut fields| {
        let place = fields.nth(1)?;
        (fields.next() == Some("cgroup2")).then(|| place.into())
    })
}

/// The files of a group go with its directory; a group that is used stays, and the next lab tries again.
fn remove(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}
