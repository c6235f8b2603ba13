//! The container registry of a lab: Debian's docker-registry with TLS and a password.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use testenv::OwnedChild;

use crate::cache;
use crate::command::{output, succeed};
use crate::network::{LAB_ADDRESS, Namespace};
use crate::pki;

/// Host and port by which every node of a lab reaches its registry.
pub const REGISTRY_ADDRESS: &str = "registry.lab:5000";
/// Who may push and pull.
pub const REGISTRY_USER: &str = "lab";
/// [`REGISTRY_USER`]'s password.
pub const REGISTRY_PASSWORD: &str = "lab-password";

/// How long the registry may take to answer.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running registry, ended when dropped.
#[derive(Debug)]
pub struct Registry {
    _process: OwnedChild,
    storage: PathBuf,
    log: PathBuf,
}

impl Registry {
    /// Starts a registry in `namespace` that keeps its blobs in `storage`, configuration and log in
    /// `work`.
    pub(crate) fn start(namespace: &Namespace, work: &Path, storage: &Path) -> Result<Registry> {
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
                 maintenance: {{uploadpurging: {{enabled: false}}}}\nhttp:\n  addr: {REGISTRY_ADDRESS_IP}:5000\n  \
                 tls:\n    certificate: {cert:?}\n    key: {key:?}\nauth:\n  htpasswd:\n    \
                 realm: lab\n    path: {passwords:?}\n",
                REGISTRY_ADDRESS_IP = LAB_ADDRESS,
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
        let url = format!("https://{LAB_ADDRESS}:5000/v2/");
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

    /// Its address in the lab's network, for those who have no name service there.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{LAB_ADDRESS}:5000")
    }

    /// The certificate of the authority that signed its own.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn authority(&self) -> Result<PathBuf> {
        Ok(pki_dir()?.join("ca.crt"))
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
