//! The container registry of a lab: Debian's docker-registry with TLS and a password.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use testenv::OwnedChild;

use crate::cache;
use crate::command::{output, succeed};
use crate::meter::Meter;
use crate::network::{LAB_ADDRESS, Namespace};
use crate::pki;

/// Host and port by which every node of a lab reaches its registry.
pub const REGISTRY_ADDRESS: &str = "registry.lab:5000";
/// Who may push and pull.
pub const REGISTRY_USER: &str = "lab";
/// [`REGISTRY_USER`]'s password.
pub const REGISTRY_PASSWORD: &str = "lab-password";

/// The port of [`REGISTRY_ADDRESS`].
const PORT: u16 = 5000;

/// How long the registry may take to answer.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running registry, ended when dropped.
#[derive(Debug)]
pub struct Registry {
    _process: OwnedChild,
    meter: Option<Meter>,
    storage: PathBuf,
    log: PathBuf,
}

impl Registry {
    /// Starts a registry in `namespace` that keeps its blobs in `storage`, configuration and log in
    /// `work`.
    pub(crate) fn start(namespace: &Namespace, work: &Path, storage: &Path) -> Result<Registry> {
        Registry::listen(namespace, work, storage, (LAB_ADDRESS, PORT).into())
    }

    /// As [`Registry::start`], behind a [`Meter`].
    pub(crate) fn start_metered(
        namespace: &Namespace,
        work: &Path,
        storage: &Path,
    ) -> Result<Registry> {
        let own = (Ipv4Addr::LOCALHOST, PORT).into();
        let mut registry = Registry::listen(namespace, work, storage, own)?;
        registry.meter = Some(Meter::start(namespace, (LAB_ADDRESS, PORT).into(), own)?);
        Ok(registry)
    }

    fn listen(
        namespace: &Namespace,
        work: &Path,
        storage: &Path,
        address: SocketAddr,
    ) -> Result<Registry> {
        let pki = pki_dir()?;
        for dir in [work, storage] {
            fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        }
        let passwords = work.join("htpasswd");
        let line = succeed(Command::new("htpasswd").args([
            "-nbBC",
            "4",
            REGISTRY_USER,
            REGISTRY_PASSWORD,
        ]))?;
        pki::write(&passwords, 0o600, line.trim_end())?;
        let config = work.join("config.yml");
        pki::write(
            &config,
            0o600,
            &format!(
                "version: 0.1\nlog:\n  level: warn\n  accesslog: {{disabled: false}}\nstorage:\n  \
                 filesystem: {{rootdirectory: {storage:?}}}\n  delete: {{enabled: true}}\n  \
                 maintenance: {{uploadpurging: {{enabled: false}}}}\nhttp:\n  addr: {address}\n  \
                 tls:\n    certificate: {cert:?}\n    key: {key:?}\nauth:\n  htpasswd:\n    \
                 realm: lab\n    path: {passwords:?}\n",
                cert = pki.join("tls.crt"),
                key = pki.join("tls.key"),
            ),
        )?;
        let mut args = namespace.enter(Path::new("docker-registry")).to_vec();
        args.extend(["serve".to_owned(), config.display().to_string()]);
        let mut process =
            OwnedChild::spawn(Path::new("nsenter"), &args, &work.join("registry.log"))?;
        let started = Instant::now();
        // Without credentials the answer is 401, which tells enough.
        let url = format!("https://{address}/v2/");
        while !output(namespace.command(Path::new("curl")).args([
            "-sk",
            "--max-time",
            "2",
            "-o",
            "/dev/null",
            &url,
        ]))?
        .status
        .success()
        {
            ensure!(
                started.elapsed() < START_LIMIT && process.ended()?.is_none(),
                "docker-registry does not answer: {}",
                process.log_tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Registry {
            _process: process,
            meter: None,
            storage: storage.to_owned(),
            log: work.join("registry.log"),
        })
    }

    /// The directory with the blobs, `docker/registry/v2/...`.
    #[must_use]
    pub fn storage(&self) -> &Path {
        &self.storage
    }

    /// What it was asked and answered: a line for each request, as web servers write them.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What stands before it, where it was started with one.
    ///
    /// # Errors
    /// When there is none.
    pub fn meter(&self) -> Result<&Meter> {
        self.meter.as_ref().context("the registry has no meter")
    }

    /// Its address in the lab's network, for those who have no name service there.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{LAB_ADDRESS}:{PORT}")
    }

    /// The requests that it has answered, oldest first; one that is cut off counts when it is.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn served(&self) -> Result<Vec<Served>> {
        let log = fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        let log = String::from_utf8_lossy(&log);
        Ok(log.lines().filter_map(Served::parse).collect())
    }

    /// The certificate of the authority that signed its own.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn authority(&self) -> Result<PathBuf> {
        Ok(pki_dir()?.join("ca.crt"))
    }
}

/// A request that a registry has answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Served {
    /// Such as `GET`.
    pub method: String,
    /// The path and the query.
    pub path: String,
    /// The answer's status.
    pub status: u16,
    /// Bytes of the answer's body that were handed to the connection.
    pub bytes: u64,
}

impl Served {
    /// Reads a line of the combined log format: `host - user [time] "GET /path HTTP/1.1" status bytes ...`.
    fn parse(line: &str) -> Option<Served> {
        let (_, rest) = line.split_once("] \"")?;
        let (request, rest) = rest.split_once("\" ")?;
        let mut request = request.split(' ');
        let mut rest = rest.split(' ');
        Some(Served {
            method: request.next()?.to_owned(),
            path: request.next()?.to_owned(),
            status: rest.next()?.parse().ok()?,
            bytes: rest.next()?.parse().ok()?,
        })
    }
}

/// The pull secret that lets a node use the registry.
pub(crate) fn pull_secret() -> String {
    let auth = base64::engine::general_purpose::STANDARD
        .encode(format!("{REGISTRY_USER}:{REGISTRY_PASSWORD}"));
    serde_json::json!({"auths": {REGISTRY_ADDRESS: {"auth": auth}}}).to_string()
}

/// Certificate of the authority that signed the registry's; the same for all labs, so that a
/// stateroot installed in one trusts the registry of another.
pub(crate) fn authority_pem() -> Result<String> {
    let path = pki_dir()?.join("ca.crt");
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

fn pki_dir() -> Result<PathBuf> {
    cache::entry("registry-pki-1", |dir| {
        let authority = pki::authority("lab registry authority")?;
        pki::write(&dir.join("ca.crt"), 0o644, &authority.pem())?;
        let host = REGISTRY_ADDRESS.split(':').next().unwrap_or_default();
        pki::write_serving(&authority, &[host, &LAB_ADDRESS.to_string()], dir)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_and_other_lines_not() {
        let check = |line: &str, expect: Option<(&str, &str, u16, u64)>| {
            let expect = expect.map(|(method, path, status, bytes)| Served {
                method: method.to_owned(),
                path: path.to_owned(),
                status,
                bytes,
            });
            assert_eq!(Served::parse(line), expect, "{line}");
        };
        check(
            "127.0.0.1 - lab [21/Nov/2026:22:00:00 +0000] \"GET /v2/seed/blobs/sha256:00 HTTP/1.1\" 206 1234 \"\" \"x/1 (y)\"",
            Some(("GET", "/v2/seed/blobs/sha256:00", 206, 1234)),
        );
        check(
            "127.0.0.1 - - [21/Nov/2026:22:00:00 +0000] \"GET /v2/ HTTP/2.0\" 401 87",
            Some(("GET", "/v2/", 401, 87)),
        );
        check("time=\"2026\" level=warning msg=\"x\"", None);
        check("", None);
    }
}
