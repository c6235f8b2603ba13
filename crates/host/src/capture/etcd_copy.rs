//! A copy of etcd's data without our own object: a target must not find the seed's upgrade in its cluster.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use node::{ErrorKind, PortError, PortResult};

use super::error::permanent;
use crate::command::{Command, Service};
use crate::directory::Anchor;
use crate::failure::Attempt;
use crate::tree;

/// The object in etcd, behind the prefix that the API server was started with: OpenShift's, and Kubernetes' default.
const KEYS: [&str; 2] = [
    "/kubernetes.io/lca.openshift.io/imagebasedupgrades/upgrade",
    "/registry/lca.openshift.io/imagebasedupgrades/upgrade",
];

/// How long etcd may take to serve the copy.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The static pod whose image has the etcd that wrote the data.
const ETCD_POD: &str = "/etc/kubernetes/manifests/etcd-pod.yaml";

/// Copies `data`, which nobody writes to, and deletes our object from the copy. Returns the copy's directory.
pub(super) fn without_our_object(data: &Path, copy: &Path) -> PortResult<PathBuf> {
    let attempt = || format!("copying {}", data.display());
    let place = |path: &Path| -> PortResult<crate::directory::Place> {
        let (parent, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name());
        let anchor = Anchor::open(parent).attempt(attempt)?;
        let name = name.unwrap_or_default().to_string_lossy();
        let place = anchor
            .map(|anchor| anchor.place(&name))
            .transpose()
            .attempt(attempt)?
            .flatten();
        place.ok_or_else(|| {
            PortError::plain(
                ErrorKind::Permanent,
                format!("{} does not exist", path.display()),
            )
        })
    };
    tree::copy(&place(data)?, &place(copy)?).attempt(attempt)?;
    let ports = [free_port()?, free_port()?];
    let mut etcd = start(copy, ports)?;
    let edited =
        await_etcd(ports[0]).and_then(|()| KEYS.iter().try_for_each(|key| delete(ports[0], key)));
    let ended = etcd
        .end(Duration::from_secs(20))
        .map_err(|error| permanent("ending etcd on the copy", error));
    edited.and(ended)?;
    Ok(copy.to_owned())
}

fn free_port() -> PortResult<u16> {
    let listener =
        TcpListener::bind(("127.0.0.1", 0)).attempt(|| "finding a free port".to_owned())?;
    Ok(listener
        .local_addr()
        .attempt(|| "finding a free port".to_owned())?
        .port())
}

/// Starts etcd on the copy: the node's own program where it has one, else the image of its static pod.
fn start(copy: &Path, [client, peer]: [u16; 2]) -> PortResult<Service> {
    let (client, peer) = (
        format!("http://127.0.0.1:{client}"),
        format!("http://127.0.0.1:{peer}"),
    );
    let mut command = match static_pod_image()? {
        None => Command::new("etcd", Duration::MAX),
        Some(image) => Command::new("podman", Duration::MAX)
            .args([
                "run",
                "--rm",
                "--network=host",
                "--privileged",
                "--entrypoint=etcd",
            ])
            .arg(format!("--volume={0}:{0}", copy.display()))
            .arg(image),
    };
    command = command
        .args(["--name=editor", "--log-level=error"])
        .arg(format!("--data-dir={}", copy.display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"));
    command
        .serve()
        .map_err(|error| permanent("starting etcd on the copy", error))
}

/// The image of the container `etcd` in the node's static pod; `None` where there is no such pod.
fn static_pod_image() -> PortResult<Option<String>> {
    let text = match fs::read_to_string(ETCD_POD) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).attempt(|| format!("reading {ETCD_POD}")),
    };
    // The file is JSON on OpenShift, which is YAML as well.
    let pod: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| permanent(format!("reading {ETCD_POD}"), error))?;
    let containers = pod
        .pointer("/spec/containers")
        .and_then(|list| list.as_array());
    let image = containers
        .into_iter()
        .flatten()
        .find(|container| container["name"] == "etcd")
        .and_then(|container| container["image"].as_str());
    image.map(|image| Some(image.to_owned())).ok_or_else(|| {
        PortError::plain(
            ErrorKind::Permanent,
            format!("{ETCD_POD} has no container etcd"),
        )
    })
}

fn await_etcd(port: u16) -> PortResult<()> {
    let started = Instant::now();
    loop {
        match request(port, "GET", "/health", "") {
            Ok(answer) if answer.contains("\"true\"") => return Ok(()),
            _ if started.elapsed() > START_LIMIT => {
                let text = format!(
                    "etcd did not serve the copy within {} s",
                    START_LIMIT.as_secs()
                );
                return Err(PortError::plain(ErrorKind::Permanent, text));
            }
            // etcd has no way to say that it is ready but to answer.
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn delete(port: u16, key: &str) -> PortResult<()> {
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    let body = serde_json::json!({ "key": key }).to_string();
    request(port, "POST", "/v3/kv/deleterange", &body)
        .map(drop)
        .attempt(|| "deleting the upgrade object from the copy of etcd".to_owned())
}

/// One request to etcd's JSON gateway on loopback: no redirects, no TLS, no credentials, a small answer. Not worth an HTTP
/// client in this crate.
fn request(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(REQUEST_LIMIT))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reader = BufReader::new(stream.take(1 << 20));
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let mut answer = String::new();
    reader.read_to_string(&mut answer)?;
    if status.split_whitespace().nth(1) == Some("200") {
        Ok(answer)
    } else {
        Err(std::io::Error::other(format!(
            "etcd answered {}",
            status.trim_end()
        )))
    }
}
