//! The images port, through podman.

mod layers;
mod listing;
mod refusal;
mod runtime;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use node::ports::{HeldImages, Images, Layer, PullSecret, StoredImage};
use node::{ErrorKind, PortError, PortResult};
use tempfile::{NamedTempFile, TempDir};

use self::layers::LayerStore;
use self::listing::Listed;
use self::runtime::Runtime;
use crate::command::{Command, CommandError};
use crate::failure::Attempt;

/// The podman of the node.
const PODMAN: &str = "/usr/bin/podman";

/// Where podman keeps images by default (containers-storage.conf(5)).
const STORAGE: &str = "/var/lib/containers/storage";

/// Where credentials lie while podman reads them: memory, and only root may look.
const SECRETS: &str = "/run/lifecycle-agent/secrets";

/// Where pulls put what they fetch until it is in the storage: a directory for each, which a process that was killed does
/// not take away itself. Podman's own choice, `/var/tmp`, is on the root filesystem, which has no room for it.
const PULLS: &str = "/var/lib/containers/lca/pulls";

/// How long a listing may take: podman waits for its storage's lock while something is pulled.
const LIST_DEADLINE: Duration = Duration::from_secs(120);

/// How long one image may take: a big layer over a thin line.
const PULL_DEADLINE: Duration = Duration::from_secs(3600);

/// How long removing a few images may take: millions of files.
const REMOVE_DEADLINE: Duration = Duration::from_secs(600);

/// The node's container storage.
#[derive(Clone, Debug)]
pub struct HostImages {
    podman: PathBuf,
    /// Options that lead podman to another storage than its own.
    elsewhere: Vec<String>,
    secrets: PathBuf,
    /// Where pulls put what they fetch ([`PULLS`]).
    pulls: PathBuf,
    layers: LayerStore,
    runtime: Runtime,
}

impl HostImages {
    /// The storage that podman uses by default.
    pub fn new() -> Self {
        Self {
            podman: PODMAN.into(),
            elsewhere: Vec::new(),
            secrets: SECRETS.into(),
            pulls: PULLS.into(),
            layers: LayerStore::new(Path::new(STORAGE)),
            runtime: Runtime::of_node(),
        }
    }

    /// A storage of its own below `directory`, which no container runtime shares: for measuring.
    pub fn below(directory: &Path) -> Self {
        let root = directory.join("root");
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        Self {
            elsewhere: vec![
                option("root", &root),
                option("runroot", &directory.join("run")),
            ],
            secrets: directory.join("secrets"),
            pulls: directory.join("pulls"),
            layers: LayerStore::new(&root),
            runtime: Runtime::none(),
            ..Self::new()
        }
    }

    /// What has to be pulled to have these images elsewhere.
    ///
    /// # Errors
    /// As [`Images::present`].
    pub fn references(&self) -> PortResult<BTreeSet<String>> {
        self.list(&|| false).map(listing::pull_names)
    }

    fn list(&self, stop: &dyn Fn() -> bool) -> PortResult<Vec<Listed>> {
        let attempted = "listing the images in container storage";
        let command = self
            .podman(LIST_DEADLINE)
            .args(["images", "--format", "json"]);
        let json = command
            .run_until(stop)
            .map_err(|error| PortError::new(kind(&error), attempted, error))?;
        listing::parse(&json)
            .map_err(|error| PortError::new(ErrorKind::Permanent, attempted, error))
    }

    fn podman(&self, deadline: Duration) -> Command {
        // Errors only: its warnings would push the error out of the kept end of its output.
        Command::new(&self.podman, deadline)
            .args(["--log-level", "error"])
            .args(&self.elsewhere)
    }
}

impl Default for HostImages {
    fn default() -> Self {
        Self::new()
    }
}

/// A directory of its own below `parent`, gone when the result is dropped.
fn private(parent: &Path) -> std::io::Result<TempDir> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)?;
    tempfile::tempdir_in(parent)
}

/// Puts credentials where podman can read them; they are gone when the result is dropped.
fn expose(secret: &PullSecret, dir: &Path) -> std::io::Result<NamedTempFile> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut file = tempfile::Builder::new()
        .prefix("auth-")
        .suffix(".json")
        .tempfile_in(dir)?;
    file.write_all(&secret.0)?;
    Ok(file)
}

impl Images for HostImages {
    fn present(&self, stop: &dyn Fn() -> bool) -> PortResult<BTreeSet<String>> {
        self.list(stop).map(listing::all_names)
    }

    fn layers(
        &self,
        images: &[String],
        secret: &PullSecret,
        stop: &dyn Fn() -> bool,
    ) -> BTreeMap<String, Vec<Layer>> {
        layers::look_up(images, secret, stop)
    }

    fn present_layers(&self) -> BTreeSet<String> {
        self.layers.whole()
    }

    fn pull(&self, image: &str, secret: &PullSecret, stop: &dyn Fn() -> bool) -> PortResult<()> {
        let file = expose(secret, &self.secrets)
            .attempt(|| format!("writing credentials for pulling {image}"))?;
        let directory = private(&self.pulls)
            .attempt(|| format!("making a directory for what pulling {image} fetches"))?;
        let command = self
            .podman(PULL_DEADLINE)
            .env("TMPDIR", directory.path())
            .args(["pull", "--quiet", "--authfile"])
            .arg(file.path())
            .args(["--", image]);
        command
            .run_until(stop)
            .map(drop)
            .map_err(|error| PortError::new(kind(&error), format!("pulling image {image}"), error))
    }

    fn stored(&self, stop: &dyn Fn() -> bool) -> PortResult<Vec<StoredImage>> {
        self.list(stop).map(listing::stored)
    }

    fn held(&self, stop: &dyn Fn() -> bool) -> PortResult<HeldImages> {
        let attempted = "listing podman's containers";
        let command = self
            .podman(LIST_DEADLINE)
            .args(["ps", "-a", "--format", "json"]);
        let json = command
            .run_until(stop)
            .map_err(|error| PortError::new(runtime::unanswered(&error), attempted, error))?;
        let used = runtime::parse_podman_containers(&json)
            .map_err(|error| PortError::new(ErrorKind::Transient, attempted, error))?;
        let mut held = self.runtime.held(stop)?;
        held.used.extend(used);
        Ok(held)
    }

    fn usage(&self) -> PortResult<u8> {
        let path = api::path::CONTAINERS;
        let found = rustix::fs::statvfs(path)
            .attempt(|| format!("asking how full the filesystem of {path} is"))?;
        Ok(percent(found.f_blocks, found.f_bavail))
    }

    fn remove(&self, images: &[StoredImage], stop: &dyn Fn() -> bool) -> PortResult<()> {
        let names = images
            .iter()
            .flat_map(|image| image.names.iter().chain([&image.id]));
        let command = self.podman(REMOVE_DEADLINE).args(["rmi", "--"]).args(names);
        match command.run_until(stop) {
            Ok(_) => Ok(()),
            // The last name takes the image with it, so its id is not known any more; and what is in use by now stays.
            Err(error @ CommandError::Failed { .. }) => {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "not every name could be removed");
                Ok(())
            }
            Err(error) => {
                let attempted = "removing images from container storage";
                Err(PortError::new(
                    runtime::unanswered(&error),
                    attempted,
                    error,
                ))
            }
        }
    }
}

/// `(blocks - available) * 100 / blocks`, as the Go original counts it (contract 3.9).
fn percent(blocks: u64, available: u64) -> u8 {
    let used = u128::from(blocks.saturating_sub(available)) * 100;
    let percent = used.checked_div(u128::from(blocks)).unwrap_or_default();
    u8::try_from(percent).unwrap_or(u8::MAX)
}

fn kind(error: &CommandError) -> ErrorKind {
    match error {
        CommandError::Stopped { .. } => ErrorKind::Interrupted,
        CommandError::Start { .. } | CommandError::Flood { .. } => ErrorKind::Permanent,
        CommandError::Failed { .. } if refusal::is_final(error.stderr()) => ErrorKind::Permanent,
        CommandError::Attend { .. } | CommandError::Failed { .. } | CommandError::Late { .. } => {
            ErrorKind::Transient
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    /// A podman that does what the script says.
    fn images(dir: &Path, script: &str) -> HostImages {
        let podman = dir.join("podman");
        fs::write(&podman, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&podman, fs::Permissions::from_mode(0o755)).unwrap();
        HostImages {
            podman,
            secrets: dir.join("secrets"),
            pulls: dir.join("pulls"),
            ..HostImages::new()
        }
    }

    #[test]
    fn credentials_are_readable_only_while_podman_runs() {
        let dir = tempfile::tempdir().unwrap();
        let seen = dir.path().join("seen");
        let script = format!(
            "echo \"$@\" >{0}; cat $6 >>{0}; stat -c %a $6 >>{0}",
            seen.display()
        );
        let images = images(dir.path(), &script);
        let secret = PullSecret(b"{\"auths\":{}}\n".to_vec());
        images.pull("r/a:1", &secret, &|| false).unwrap();
        let seen = fs::read_to_string(seen).unwrap();
        let lines: Vec<_> = seen.lines().collect();
        assert!(
            lines[0].starts_with("--log-level error pull --quiet --authfile "),
            "{seen}"
        );
        assert!(lines[0].ends_with(" -- r/a:1"), "{seen}");
        assert_eq!(lines[1..], ["{\"auths\":{}}", "600"]);
        assert_eq!(fs::metadata(&images.secrets).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&images.secrets).unwrap().count(), 0);
    }

    #[test]
    fn what_a_pull_fetches_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let seen = dir.path().join("seen");
        let script = format!(
            "echo $TMPDIR >{}; echo blob >$TMPDIR/blob; exit 1",
            seen.display()
        );
        let images = images(dir.path(), &script);
        images
            .pull("r/a:1", &PullSecret(vec![]), &|| false)
            .unwrap_err();
        let used = fs::read_to_string(seen).unwrap();
        assert!(Path::new(used.trim()).starts_with(&images.pulls), "{used}");
        assert_eq!(fs::read_dir(&images.pulls).unwrap().count(), 0);
    }

    #[test]
    fn failures_are_told_apart() {
        let check = |script: &str, stop: bool, kind| {
            let dir = tempfile::tempdir().unwrap();
            let images = images(dir.path(), script);
            let error = images
                .pull("r/a:1", &PullSecret(vec![]), &|| stop)
                .unwrap_err();
            assert_eq!(error.kind(), kind, "{script}");
            assert_eq!(error.to_string(), "pulling image r/a:1");
        };
        check(
            "echo Error: reading manifest: manifest unknown >&2; exit 125",
            false,
            ErrorKind::Permanent,
        );
        check(
            "echo Error: NAME UNKNOWN >&2; exit 125",
            false,
            ErrorKind::Permanent,
        );
        check(
            "echo Error: no space left on device >&2; exit 125",
            false,
            ErrorKind::Permanent,
        );
        check(
            "echo Error: connection refused >&2; exit 125",
            false,
            ErrorKind::Transient,
        );
        check(
            "echo Error: unauthorized >&2; exit 125",
            false,
            ErrorKind::Permanent,
        );
        check(
            "echo 'Error: (Mirrors also failed: [m/a: manifest unknown]): r/a: i/o timeout' >&2; exit 125",
            false,
            ErrorKind::Transient,
        );
        check("sleep 1000", true, ErrorKind::Interrupted);
        let missing = HostImages {
            podman: "/no/podman".into(),
            ..HostImages::new()
        };
        assert_eq!(
            missing.present(&|| false).unwrap_err().kind(),
            ErrorKind::Permanent
        );
    }

    #[test]
    fn everything_that_takes_long_can_be_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let images = images(dir.path(), "sleep 1000");
        let stop = || true;
        let check = |what: &str, error: PortError| {
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{what}");
        };
        check("present", images.present(&stop).unwrap_err());
        check("stored", images.stored(&stop).unwrap_err());
        check("held", images.held(&stop).unwrap_err());
        let image = StoredImage {
            id: "11".to_owned(),
            ..StoredImage::default()
        };
        check("remove", images.remove(&[image], &stop).unwrap_err());
    }

    #[test]
    fn usage_is_counted_as_the_contract_has_it() {
        let check = |blocks, available, expect| {
            assert_eq!(
                percent(blocks, available),
                expect,
                "{available} of {blocks}"
            );
        };
        check(100, 50, 50);
        check(1000, 495, 50);
        check(1000, 490, 51);
        check(1000, 0, 100);
        check(1000, 1000, 0);
        check(u64::MAX, 1, 99);
        // Nonsense harms nobody.
        check(0, 0, 0);
        check(10, 20, 0);
    }
}
