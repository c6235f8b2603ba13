//! A running control plane and what tests ask of it.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::audit;
use crate::builder::Builder;
use crate::child::OwnedChild;
use crate::pki::Pair;
use crate::port::Port;

/// User of the administrator's token.
pub(crate) const ADMIN: &str = "admin";

/// File name of the administrator's kubeconfig.
pub(crate) const KUBECONFIG: &str = "kubeconfig";

/// etcd and kube-apiserver, killed and their data removed when this value is dropped; the kernel
/// kills them when our process ends in any other way.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped in this order: the client of etcd first, the directory and the ports last.
    pub(crate) apiserver: OwnedChild,
    pub(crate) etcd: OwnedChild,
    pub(crate) endpoint: Endpoint,
    pub(crate) etcd_url: String,
    pub(crate) kubectl: PathBuf,
    pub(crate) accounts: Vec<Account>,
    pub(crate) audit: Option<PathBuf>,
    pub(crate) dir: TempDir,
    pub(crate) _ports: [Port; 3],
}

/// Where the API server is and how to recognize it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    /// PEM.
    pub(crate) ca: String,
}

/// A user with a token.
#[derive(Clone)]
pub(crate) struct Account {
    name: String,
    groups: Vec<String>,
    token: String,
}

impl Account {
    pub(crate) fn new(name: &str, groups: &[&str]) -> Account {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        // Valid only on a loopback server that lives as long as a test, so it may be guessable.
        Account {
            name: name.to_owned(),
            groups,
            token: format!("token-of-{name}"),
        }
    }

    /// The user's line in the file of `--token-auth-file`.
    pub(crate) fn token_file_line(&self) -> String {
        format!(
            "{},{},{},\"{}\"\n",
            self.token,
            self.name,
            self.name,
            self.groups.join(",")
        )
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({} of {:?})", self.name, self.groups)
    }
}

impl ControlPlane {
    /// Starts one with the pinned kube-apiserver and returns it ready. See [`Builder::start`].
    ///
    /// # Errors
    /// See [`Builder::start`].
    pub fn start() -> Result<ControlPlane> {
        ControlPlane::builder().start()
    }

    /// Starts one that is not like the default.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Base address of the API server, `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.endpoint.url
    }

    /// Certificate, PEM, of the authority that signed the API server's.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.endpoint.ca
    }

    /// Address of etcd for clients, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn etcd_url(&self) -> &str {
        &self.etcd_url
    }

    /// Kubeconfig of a member of `system:masters`. It refers to files beside it, so it is good only
    /// where it is.
    #[must_use]
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.dir.path().join(KUBECONFIG)
    }

    /// Kubeconfig that authenticates by `token`. Every call writes another file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig_with_token(&self, token: &str) -> Result<PathBuf> {
        let file = tempfile::Builder::new()
            .prefix("kubeconfig-")
            .tempfile_in(self.dir.path())
            .and_then(|file| file.into_temp_path().keep().map_err(Into::into))
            .context("creating a kubeconfig")?;
        let name = file
            .file_name()
            .context("kubeconfig has no name")?
            .to_string_lossy();
        write_kubeconfig(&self.dir, &name, &self.endpoint, &json!({ "token": token }))
    }

    /// Token of the user `name`: `admin`, a member of `system:masters`, or one that
    /// [`Builder::user`] added.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn token(&self, name: &str) -> Result<&str> {
        let account = self.accounts.iter().find(|account| account.name == name);
        Ok(&account
            .with_context(|| format!("the control plane has no user {name}"))?
            .token)
    }

    /// A token of the service account `name`, which must exist, good for an hour.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let token = self.kubectl(&["create", "token", name, "--namespace", namespace])?;
        Ok(token.trim_end().to_owned())
    }

    /// What `kubectl args...` prints, as the administrator.
    ///
    /// # Errors
    /// When it fails; the error holds what it wrote on stderr.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with_input(args, "")
    }

    /// What `kubectl args...` prints when it reads `input`, as the administrator.
    ///
    /// # Errors
    /// When it fails; the error holds what it wrote on stderr.
    pub fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new(&self.kubectl)
            .args(args)
            .env("KUBECONFIG", self.kubeconfig_path())
            // Its discovery cache is by server address, and ports are used again.
            .env("HOME", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", self.kubectl.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A kubectl that refuses its arguments does not read; its exit status tells.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().context("waiting for kubectl")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "kubectl {} ended with {}: {}",
                args.join(" "),
                output.status,
                said.trim_end()
            );
        }
        String::from_utf8(output.stdout).context("output of kubectl")
    }

    /// Applies the documents of `yaml` as `kubectl apply -f` does, which takes a text that begins
    /// with a brace for strict JSON.
    ///
    /// # Errors
    /// When the API server refuses one; the ones before it are applied.
    pub fn apply_yaml(&self, yaml: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "-f", "-"], yaml)
    }

    /// Every answered request so far, as `audit.k8s.io/v1` events without bodies: `verb`,
    /// `user.username`, `objectRef`, `responseStatus.code` and so on. The administrator's own
    /// requests, such as those of [`ControlPlane::kubectl`], are among them.
    ///
    /// # Errors
    /// When it was not started with [`Builder::audit_log`].
    pub fn audit_events(&self) -> Result<Vec<Value>> {
        let log = self
            .audit
            .as_deref()
            .context("the control plane keeps no audit log")?;
        audit::read(log)
    }

    /// Process ids of etcd and kube-apiserver.
    #[must_use]
    pub fn pids(&self) -> [u32; 2] {
        [self.etcd.id(), self.apiserver.id()]
    }
}

impl Pair {
    /// Writes both files into `dir` and returns the kubeconfig's user that refers to them.
    pub(crate) fn as_user(&self, dir: &Path) -> Result<Value> {
        for (name, content) in [("admin.crt", &self.certificate), ("admin.key", &self.key)] {
            let path = dir.join(name);
            std::fs::write(&path, content)
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(json!({
            "client-certificate": dir.join("admin.crt"),
            "client-key": dir.join("admin.key"),
        }))
    }
}

/// Writes the kubeconfig `name` into `dir`, as JSON, which is YAML.
pub(crate) fn write_kubeconfig(
    dir: &TempDir,
    name: &str,
    endpoint: &Endpoint,
    user: &Value,
) -> Result<PathBuf> {
    let path = dir.path().join(name);
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "test", "cluster": {
            "server": endpoint.url,
            "certificate-authority": dir.path().join("ca.crt"),
        }}],
        "users": [{ "name": "user", "user": user }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "user" } }],
        "current-context": "test",
    });
    std::fs::write(&path, format!("{document:#}"))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
