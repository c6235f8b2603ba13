//! The images port, through podman.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use node::ports::{Images, PullSecret};
use node::{ErrorKind, PortError, PortResult};
use serde::Deserialize;
use tempfile::NamedTempFile;

use crate::command::{Command, CommandError};
use crate::failure::Attempt;

/// The podman of the node.
const PODMAN: &str = "/usr/bin/podman";

/// Where credentials lie while podman reads them: memory, and only root may look.
const SECRETS: &str = "/run/lifecycle-agent/secrets";

/// How long a listing may take: podman waits for its storage's lock while something is pulled.
const LIST_DEADLINE: Duration = Duration::from_secs(120);

/// How long one image may take: a big layer over a thin line.
const PULL_DEADLINE: Duration = Duration::from_secs(3600);

/// The node's container storage.
#[derive(Clone, Debug)]
pub struct HostImages {
    podman: PathBuf,
    secrets: PathBuf,
}

impl HostImages {
    /// The storage that podman uses by default.
    pub fn new() -> Self {
        Self {
            podman: PODMAN.into(),
            secrets: SECRETS.into(),
        }
    }

    /// What has to be pulled to have these images elsewhere.
    ///
    /// # Errors
    /// As [`Images::present`].
    pub fn references(&self) -> PortResult<BTreeSet<String>> {
        self.list().map(pull_names)
    }

    fn list(&self) -> PortResult<Vec<Listed>> {
        let attempted = "listing the images in container storage";
        let command = self
            .podman(LIST_DEADLINE)
            .args(["images", "--format", "json"]);
        let json = command
            .run()
            .map_err(|error| PortError::new(kind(&error), attempted, error))?;
        parse_listing(&json).map_err(|error| PortError::new(ErrorKind::Permanent, attempted, error))
    }

    fn podman(&self, deadline: Duration) -> Command {
        // Errors only: its warnings would push the error out of the kept end of its output.
        Command::new(&self.podman, deadline).args(["--log-level", "error"])
    }
}

impl Default for HostImages {
    fn default() -> Self {
        Self::new()
    }
}

/// An image in the output of `podman images --format json`.
#[derive(Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[derive(Default)]
struct Listed {
    names: Option<Vec<String>>,
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
}

fn parse_listing(json: &[u8]) -> Result<Vec<Listed>, serde_json::Error> {
    // An empty storage is an empty list, or null in some versions.
    let images: Option<Vec<Listed>> = serde_json::from_slice(json)?;
    Ok(images.unwrap_or_default())
}

/// Every name of every image.
fn all_names(images: Vec<Listed>) -> BTreeSet<String> {
    let names = |image: Listed| [image.names, image.repo_tags, image.repo_digests];
    images
        .into_iter()
        .flat_map(names)
        .flatten()
        .flatten()
        .collect()
}

/// One reference by which each image can be pulled: its tags, or where it has none its digests (contract S 1.3.1).
fn pull_names(images: Vec<Listed>) -> BTreeSet<String> {
    let names = |image: Listed| {
        let tags = image.names.into_iter().chain(image.repo_tags).flatten();
        let tags: Vec<String> = tags.filter(|name| !name.contains('@')).collect();
        if tags.is_empty() {
            image.repo_digests.unwrap_or_default()
        } else {
            tags
        }
    };
    images.into_iter().flat_map(names).collect()
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

/// What podman prints when another try will not help: the registry does not have the image or refuses the credentials (OCI
/// distribution specification: the codes `MANIFEST_UNKNOWN`, `NAME_UNKNOWN`, `UNAUTHORIZED`, `DENIED`), or the disk is full.
fn says_final(stderr: &str) -> bool {
    let stderr = stderr.to_ascii_lowercase();
    [
        "manifest unknown",
        "name unknown",
        "unauthorized",
        "denied",
        "no space left",
    ]
    .iter()
    .any(|text| stderr.contains(text))
}

impl Images for HostImages {
    fn present(&self) -> PortResult<BTreeSet<String>> {
        self.list().map(all_names)
    }

    fn pull(&self, image: &str, secret: &PullSecret, stop: &dyn Fn() -> bool) -> PortResult<()> {
        let file = expose(secret, &self.secrets)
            .attempt(|| format!("writing credentials for pulling {image}"))?;
        let command = self
            .podman(PULL_DEADLINE)
            .args(["pull", "--quiet", "--authfile"])
            .arg(file.path())
            .args(["--", image]);
        command
            .run_until(stop)
            .map(drop)
            .map_err(|error| PortError::new(kind(&error), format!("pulling image {image}"), error))
    }
}

fn kind(error: &CommandError) -> ErrorKind {
    match error {
        CommandError::Stopped { .. } => ErrorKind::Interrupted,
        CommandError::Start { .. } | CommandError::Flood { .. } => ErrorKind::Permanent,
        CommandError::Failed { .. } if says_final(error.stderr()) => ErrorKind::Permanent,
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

    #[test]
    fn every_name_is_listed() {
        let check = |json: &str, names: &[&str]| {
            let found = all_names(parse_listing(json.as_bytes()).unwrap());
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), names);
        };
        check("[]", &[]);
        check("null", &[]);
        check(
            r#"[{"Id":"1","RepoTags":null,"RepoDigests":["r/a@sha256:1"],"Names":["r/a:1"]},
                {"Id":"2","Dangling":true},
                {"Id":"3","RepoTags":["r/b:2"],"RepoDigests":["r/b@sha256:2","r/b@sha256:3"]}]"#,
            &[
                "r/a:1",
                "r/a@sha256:1",
                "r/b:2",
                "r/b@sha256:2",
                "r/b@sha256:3",
            ],
        );
        assert!(parse_listing(b"{}").is_err());
    }

    /// A podman that does what the script says.
    fn images(dir: &Path, script: &str) -> HostImages {
        let podman = dir.join("podman");
        fs::write(&podman, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&podman, fs::Permissions::from_mode(0o755)).unwrap();
        HostImages {
            podman,
            secrets: dir.join("secrets"),
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
        check("sleep 1000", true, ErrorKind::Interrupted);
        let missing = HostImages {
            podman: "/no/podman".into(),
            ..HostImages::new()
        };
        assert_eq!(missing.present().unwrap_err().kind(), ErrorKind::Permanent);
    }
}
