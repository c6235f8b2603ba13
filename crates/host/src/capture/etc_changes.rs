//! How `/etc` differs from what the release ships, as `ostree admin config-diff` sees it.

use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use node::PortResult;

use crate::failure::Attempt;

/// The differences, as paths below `/etc`.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Added or changed, directories by themselves only where they are new: then all of them is.
    pub(super) changed: Vec<Vec<u8>>,
    /// Shipped and gone.
    pub(super) deleted: Vec<Vec<u8>>,
    shipped: PathBuf,
}

impl Changes {
    /// Whether the release ships this path.
    pub(super) fn release_has(&self, rel: &str) -> bool {
        self.shipped.join(rel).symlink_metadata().is_ok()
    }
}

/// Compares `etc` with `shipped`, by kind, content, owner and mode.
pub(super) fn observe(shipped: &Path, etc: &Path) -> PortResult<Changes> {
    let mut changes = Changes {
        shipped: shipped.to_owned(),
        ..Changes::default()
    };
    compare(shipped, etc, Path::new(""), &mut changes)?;
    changes.changed.sort();
    changes.deleted.sort();
    Ok(changes)
}

fn compare(shipped: &Path, etc: &Path, rel: &Path, changes: &mut Changes) -> PortResult<()> {
    let (old, new) = (names(&shipped.join(rel))?, names(&etc.join(rel))?);
    for name in old.iter().filter(|name| !new.contains(name)) {
        changes
            .deleted
            .push(rel.join(name).as_os_str().as_bytes().to_vec());
    }
    for name in new {
        let below = rel.join(&name);
        let (was, is) = (shipped.join(&below), etc.join(&below));
        let new = metadata(&is)?;
        let Ok(old) = was.symlink_metadata() else {
            changes.changed.push(below.as_os_str().as_bytes().to_vec());
            continue;
        };
        if old.is_dir() && new.is_dir() {
            compare(shipped, etc, &below, changes)?;
        } else if differs(&was, &old, &is, &new)? {
            changes.changed.push(below.as_os_str().as_bytes().to_vec());
        }
    }
    Ok(())
}

fn differs(was: &Path, old: &Metadata, is: &Path, new: &Metadata) -> PortResult<bool> {
    let outside = |metadata: &Metadata| (metadata.mode(), metadata.uid(), metadata.gid());
    if outside(old) != outside(new) || old.file_type() != new.file_type() {
        return Ok(true);
    }
    if new.is_symlink() {
        let target =
            |path: &Path| fs::read_link(path).attempt(|| format!("reading {}", path.display()));
        return Ok(target(was)? != target(is)?);
    }
    if !new.is_file() {
        return Ok(false);
    }
    let content = |path: &Path| fs::read(path).attempt(|| format!("reading {}", path.display()));
    Ok(old.len() != new.len() || content(was)? != content(is)?)
}

fn names(dir: &Path) -> PortResult<Vec<std::ffi::OsString>> {
    let attempt = || format!("listing {}", dir.display());
    fs::read_dir(dir)
        .attempt(attempt)?
        .map(|entry| Ok(entry.attempt(attempt)?.file_name()))
        .collect()
}

fn metadata(path: &Path) -> PortResult<Metadata> {
    path.symlink_metadata()
        .attempt(|| format!("examining {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_was_added_changed_and_deleted_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (shipped, etc) = (dir.path().join("usr-etc"), dir.path().join("etc"));
        for root in [&shipped, &etc] {
            fs::create_dir_all(root.join("d/same")).unwrap();
            for name in ["same", "content", "mode", "d/deep", "kind", "d/same/x"] {
                fs::write(root.join(name), name).unwrap();
            }
            symlink("a", root.join("link")).unwrap();
        }
        fs::write(shipped.join("gone"), "").unwrap();
        fs::create_dir(shipped.join("gone dir")).unwrap();
        fs::write(etc.join("content"), "CONTENT").unwrap();
        fs::set_permissions(etc.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(etc.join("d/deep"), "deeper").unwrap();
        fs::remove_file(etc.join("kind")).unwrap();
        symlink("x", etc.join("kind")).unwrap();
        fs::remove_file(etc.join("link")).unwrap();
        symlink("b", etc.join("link")).unwrap();
        fs::create_dir(etc.join("new dir")).unwrap();
        fs::write(etc.join("new dir/inside"), "").unwrap();

        let changes = observe(&shipped, &etc).unwrap();
        let text = |paths: &[Vec<u8>]| -> Vec<String> {
            paths
                .iter()
                .map(|path| String::from_utf8(path.clone()).unwrap())
                .collect()
        };
        assert_eq!(
            text(&changes.changed),
            ["content", "d/deep", "kind", "link", "mode", "new dir"]
        );
        assert_eq!(text(&changes.deleted), ["gone", "gone dir"]);
        assert!(changes.release_has("d/deep") && !changes.release_has("new dir"));
    }
}
