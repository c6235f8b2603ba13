//! What containers are made of and what is pinned, as the node's container runtime and podman say it.
//!
//! The runtime is asked by `crictl`, which every node with a runtime has and which speaks whatever version of CRI the
//! runtime does: a client of our own would be four crates (gRPC, HTTP/2, protocol buffers and generated code) for two
//! questions per upgrade.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use node::ports::HeldImages;
use node::{ErrorKind, PortError, PortResult};
use serde::Deserialize;

use crate::command::{Command, CommandError};

/// Where runtimes listen; the first one that answers is the node's.
const SOCKETS: [&str; 3] = [
    "/run/crio/crio.sock",
    "/var/run/crio/crio.sock",
    "/run/containerd/containerd.sock",
];

/// Where `crictl` may be; `/usr` cannot be written to, so administrators put theirs elsewhere.
const CRICTL: [&str; 2] = ["/usr/bin/crictl", "/usr/local/bin/crictl"];

/// How long an answer may take: a runtime that has just been started checks its storage first.
const DEADLINE: Duration = Duration::from_secs(120);

/// The node's container runtime.
#[derive(Clone, Debug)]
pub(super) struct Runtime {
    sockets: Vec<PathBuf>,
    crictl: Vec<PathBuf>,
}

/// `crictl ps -a -o json` (CRI v1, `ListContainersResponse`).
#[derive(Deserialize)]
struct Containers {
    #[serde(default)]
    containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Container {
    image: Option<ImageSpec>,
    image_ref: String,
    image_id: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ImageSpec {
    image: String,
    user_specified_image: String,
}

/// `crictl images -o json` (CRI v1, `ListImagesResponse`).
#[derive(Deserialize)]
struct ImageList {
    #[serde(default)]
    images: Option<Vec<Image>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    id: String,
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
    pinned: bool,
}

/// An entry of `podman ps -a --format json`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct PodmanContainer {
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
}

impl Runtime {
    /// The runtime that kubelet uses, if there is one.
    pub(super) fn of_node() -> Self {
        Self {
            sockets: SOCKETS.map(PathBuf::from).to_vec(),
            crictl: CRICTL.map(PathBuf::from).to_vec(),
        }
    }

    /// No runtime at all.
    pub(super) fn none() -> Self {
        Self {
            sockets: Vec::new(),
            crictl: Vec::new(),
        }
    }

    /// What the runtime says; nothing where none answers. `stop` ends the asking.
    pub(super) fn held(&self, stop: &dyn Fn() -> bool) -> PortResult<HeldImages> {
        let answers = |socket: &&PathBuf| UnixStream::connect(socket).is_ok();
        let Some(socket) = self.sockets.iter().find(answers) else {
            return Ok(HeldImages::default());
        };
        let containers = self.ask(socket, &["ps", "-a", "-o", "json"], parse_containers, stop)?;
        let pinned = self.ask(socket, &["images", "-o", "json"], parse_pinned, stop)?;
        let used = containers;
        Ok(HeldImages { used, pinned })
    }

    fn ask(
        &self,
        socket: &Path,
        question: &[&str],
        parse: fn(&[u8]) -> Result<BTreeSet<String>, serde_json::Error>,
        stop: &dyn Fn() -> bool,
    ) -> PortResult<BTreeSet<String>> {
        let attempted = || {
            let question = question.first().unwrap_or(&"");
            format!(
                "asking the container runtime at {} by crictl {question}",
                socket.display()
            )
        };
        // Without one the error names where it should be.
        let crictl = self.crictl.iter().find(|path| path.exists());
        let crictl = crictl
            .or(self.crictl.first())
            .ok_or_else(|| PortError::plain(ErrorKind::Transient, attempted()))?;
        let endpoint = format!("unix://{}", socket.display());
        let command = Command::new(crictl, DEADLINE)
            .args([
                "--runtime-endpoint",
                &endpoint,
                "--image-endpoint",
                &endpoint,
            ])
            .args(["--timeout", "100s"])
            .args(question);
        let json = command
            .run_until(stop)
            .map_err(|error| PortError::new(unanswered(&error), attempted(), error))?;
        parse(&json).map_err(|error| PortError::new(ErrorKind::Transient, attempted(), error))
    }
}

/// What it means that a list cannot be had: that it is asked for again, but for a wish to stop.
pub(super) fn unanswered(error: &CommandError) -> ErrorKind {
    match error {
        CommandError::Stopped { .. } => ErrorKind::Interrupted,
        _ => ErrorKind::Transient,
    }
}

fn filled(names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

fn parse_containers(json: &[u8]) -> Result<BTreeSet<String>, serde_json::Error> {
    let list: Containers = serde_json::from_slice(json)?;
    let names = list.containers.into_iter().flatten().flat_map(|container| {
        let image = container.image.unwrap_or_default();
        [
            image.image,
            image.user_specified_image,
            container.image_ref,
            container.image_id,
        ]
    });
    Ok(filled(names))
}

fn parse_pinned(json: &[u8]) -> Result<BTreeSet<String>, serde_json::Error> {
    let list: ImageList = serde_json::from_slice(json)?;
    let pinned = list
        .images
        .into_iter()
        .flatten()
        .filter(|image| image.pinned);
    let names = pinned.flat_map(|image| {
        let names = [image.repo_tags, image.repo_digests].into_iter().flatten();
        names.flatten().chain([image.id])
    });
    Ok(filled(names))
}

/// What podman's containers are made of.
pub(super) fn parse_podman_containers(json: &[u8]) -> Result<BTreeSet<String>, serde_json::Error> {
    let containers: Option<Vec<PodmanContainer>> = serde_json::from_slice(json)?;
    let containers = containers.into_iter().flatten();
    Ok(filled(containers.flat_map(|container| {
        [container.image, container.image_id]
    })))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A runtime that listens if `answers`, and a `crictl` that does what the script says.
    fn runtime(dir: &Path, script: &str) -> Runtime {
        let crictl = dir.join("crictl");
        fs::write(&crictl, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&crictl, fs::Permissions::from_mode(0o755)).unwrap();
        Runtime {
            sockets: vec![dir.join("gone.sock"), dir.join("cri.sock")],
            crictl: vec![dir.join("no-crictl"), crictl],
        }
    }

    #[test]
    fn the_runtime_that_answers_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "echo \"$@\" >>{}
             case $7 in
             ps) echo '{{\"containers\":[
                {{\"id\":\"c\",\"image\":{{\"image\":\"1111\",\"annotations\":{{}}}},\"imageRef\":\"q/a@sha256:1\"}},
                {{\"id\":\"d\",\"image\":{{\"image\":\"q/b:1\",\"userSpecifiedImage\":\"q/b:1\"}},\"imageId\":\"2222\"}}]}}';;
             images) echo '{{\"images\":[{{\"id\":\"3333\",\"repoTags\":[\"q/p:1\"],\"repoDigests\":[],\"pinned\":true}},
                {{\"id\":\"4444\",\"repoTags\":null,\"pinned\":false}}]}}';;
             esac",
            dir.path().join("asked").display()
        );
        let runtime = runtime(dir.path(), &script);
        assert_eq!(runtime.held(&|| false).unwrap(), HeldImages::default());
        let socket = dir.path().join("cri.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            runtime.held(&|| false).unwrap(),
            HeldImages {
                used: set(&["1111", "2222", "q/a@sha256:1", "q/b:1"]),
                pinned: set(&["3333", "q/p:1"]),
            }
        );
        let endpoint = format!("unix://{}", socket.display());
        let options =
            format!("--runtime-endpoint {endpoint} --image-endpoint {endpoint} --timeout 100s");
        assert_eq!(
            fs::read_to_string(dir.path().join("asked")).unwrap(),
            format!("{options} ps -a -o json\n{options} images -o json\n")
        );
    }

    #[test]
    fn a_runtime_that_does_not_say_is_asked_again() {
        let check = |script: &str, stop: bool, kind| {
            let dir = tempfile::tempdir().unwrap();
            let runtime = runtime(dir.path(), script);
            let _listener = UnixListener::bind(dir.path().join("cri.sock")).unwrap();
            let error = runtime.held(&|| stop).unwrap_err();
            assert_eq!(error.kind(), kind, "{script}");
            assert!(error.to_string().ends_with(" by crictl ps"), "{error}");
        };
        check("exit 1", false, ErrorKind::Transient);
        check("echo no JSON", false, ErrorKind::Transient);
        check("echo '{\"containers\":7}'", false, ErrorKind::Transient);
        check("sleep 1000", true, ErrorKind::Interrupted);
    }

    #[test]
    fn podman_s_containers_are_read() {
        let check = |json: &str, expect: &[&str]| {
            let found = parse_podman_containers(json.as_bytes()).unwrap();
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expect);
        };
        check("null", &[]);
        check("[]", &[]);
        check(
            r#"[{"Image":"q/a:1","ImageID":"11","State":"exited"},{"Image":"","ImageID":"22"}]"#,
            &["11", "22", "q/a:1"],
        );
    }
}
