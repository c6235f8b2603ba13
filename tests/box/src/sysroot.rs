//! A node's ostree sysroot as the harness sees it from outside.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// The directory that the node has as `/sysroot`.
#[derive(Clone, Debug)]
pub struct Sysroot {
    dir: PathBuf,
}

/// One boot entry and the deployment it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Name of the stateroot.
    pub stateroot: String,
    /// `<checksum>.<serial>`, the name of the deployment's directory.
    pub id: String,
    /// Title of the boot entry, for people.
    pub title: String,
    /// Kernel arguments without `ostree=`.
    pub kernel_arguments: Vec<String>,
    /// The deployment's directory on the host.
    pub dir: PathBuf,
}

impl Sysroot {
    pub(crate) fn new(dir: PathBuf) -> Sysroot {
        Sysroot { dir }
    }

    /// Where it lies on the host.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every boot entry, the default one first.
    ///
    /// # Errors
    /// When there are none, or one of them leads nowhere.
    pub fn deployments(&self) -> Result<Vec<Deployment>> {
        let entries = self.dir.join("boot/loader/entries");
        let mut found = Vec::new();
        for entry in
            fs::read_dir(&entries).with_context(|| format!("reading {}", entries.display()))?
        {
            let path = entry?.path();
            let text =
                fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            found.push(
                self.parse_entry(&text)
                    .with_context(|| format!("boot entry {}", path.display()))?,
            );
        }
        ensure!(!found.is_empty(), "no boot entry in {}", entries.display());
        // The highest `version` is the one a boot loader takes.
        found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        Ok(found
            .into_iter()
            .map(|(_, deployment)| deployment)
            .collect())
    }

    /// The deployment that the next boot takes.
    ///
    /// # Errors
    /// As [`Sysroot::deployments`].
    pub fn default_deployment(&self) -> Result<Deployment> {
        Ok(self.deployments()?.swap_remove(0))
    }

    /// `/var` of a stateroot, on the host.
    #[must_use]
    pub fn var(&self, stateroot: &str) -> PathBuf {
        self.dir.join("ostree/deploy").join(stateroot).join("var")
    }

    fn parse_entry(&self, text: &str) -> Result<(u64, Deployment)> {
        let field = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
                .with_context(|| format!("no line {key:?}"))
        };
        let version = field("version")?.trim().parse().context("its version")?;
        let (ours, kernel_arguments): (Vec<_>, Vec<_>) = field("options")?
            .split_whitespace()
            .partition(|argument| argument.starts_with("ostree="));
        let [link] = ours[..] else {
            bail!("{} ostree= arguments instead of one", ours.len());
        };
        let link = link.trim_start_matches("ostree=/");
        let dir =
            fs::canonicalize(self.dir.join(link)).with_context(|| format!("resolving {link}"))?;
        let name = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        // .../ostree/deploy/<stateroot>/deploy/<id>
        let (Some(id), Some(stateroot)) = (name(&dir), dir.ancestors().nth(2).and_then(name))
        else {
            bail!("{link} leads to {}, which is no deployment", dir.display());
        };
        Ok((
            version,
            Deployment {
                stateroot,
                id,
                title: field("title")?.to_owned(),
                kernel_arguments: kernel_arguments.into_iter().map(str::to_owned).collect(),
                dir,
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("boot/loader/entries")).unwrap();
        for (number, stateroot) in [(2, "rhcos"), (10, "rhcos_4.17.4")] {
            let deployment = format!("ostree/deploy/{stateroot}/deploy/abc.0");
            fs::create_dir_all(root.join(&deployment)).unwrap();
            let link = format!("ostree/boot.1/{stateroot}/def");
            fs::create_dir_all(root.join(&link)).unwrap();
            std::os::unix::fs::symlink(root.join(deployment), root.join(&link).join("0")).unwrap();
            let entry = format!(
                "title T{number}\nversion {number}\noptions rw ostree=/{link}/0 ibu=1\nlinux /x\n"
            );
            let path = root.join(format!("boot/loader/entries/ostree-{number}.conf"));
            fs::write(path, entry).unwrap();
        }
        let found = Sysroot::new(root.to_owned()).deployments().unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].stateroot, "rhcos_4.17.4");
        assert_eq!(found[0].title, "T10");
        assert_eq!(found[0].kernel_arguments, ["rw", "ibu=1"]);
        assert_eq!(found[1].id, "abc.0");
    }
}
