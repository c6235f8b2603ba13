//! Choosing what to start, and starting it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::audit;
use crate::child::OwnedChild;
use crate::control_plane::{ADMIN, Account, ControlPlane, Endpoint, KUBECONFIG, write_kubeconfig};
use crate::pki::Pki;
use crate::port::Port;
use crate::program::{Program, Version};

/// Ready takes 2.5 s on two idle cores; this only bounds a start that hangs.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How often a starting server is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(100);

/// What a control plane is to be like. [`ControlPlane::builder`] makes one with the defaults.
#[derive(Clone, Debug)]
pub struct Builder {
    apiserver: Version,
    audit_log: bool,
    durable: bool,
    accounts: Vec<Account>,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder {
            apiserver: Version::Pinned,
            audit_log: false,
            durable: false,
            accounts: vec![],
        }
    }

    /// Runs this kube-apiserver; [`Version::Pinned`] unless called.
    #[must_use]
    pub fn apiserver(mut self, version: Version) -> Builder {
        self.apiserver = version;
        self
    }

    /// Records every request, for [`ControlPlane::audit_events`]; off unless called.
    #[must_use]
    pub fn audit_log(mut self, on: bool) -> Builder {
        self.audit_log = on;
        self
    }

    /// Lets etcd wait for the disk as a real one does; it does not unless called.
    #[must_use]
    pub fn durable(mut self, on: bool) -> Builder {
        self.durable = on;
        self
    }

    /// Adds a user who authenticates by the token that [`ControlPlane::token`] returns and who may
    /// do what RBAC grants to the name and the groups, which is nothing until rules are applied.
    #[must_use]
    pub fn user(mut self, name: &str, groups: &[&str]) -> Builder {
        self.accounts.push(Account::new(name, groups));
        self
    }

    /// Starts etcd and kube-apiserver and waits until `/readyz` says yes.
    ///
    /// # Errors
    /// When a program cannot be had, ends early, or is not ready within a minute; the error holds
    /// the end of its log.
    pub fn start(mut self) -> Result<ControlPlane> {
        let etcd_program = Program::Etcd.path()?;
        let apiserver_program = Program::KubeApiserver(self.apiserver).path()?;
        let kubectl = Program::Kubectl.path()?;

        let dir = tempfile::Builder::new()
            .prefix("control-plane-")
            .tempdir()
            .context("creating a temporary directory")?;
        let [client_port, peer_port, port] = Port::reserve()?;
        let pki = Pki::create(dir.path()).context("creating certificates")?;
        let endpoint = Endpoint {
            url: format!("https://127.0.0.1:{}", port.number),
            ca: pki.ca_pem,
        };

        self.accounts.push(Account::new(ADMIN, &["system:masters"]));
        let etcd = OwnedChild::spawn(
            &etcd_program,
            &self.etcd_args(dir.path(), &client_port, &peer_port),
            &dir.path().join("etcd.log"),
        )?;
        let apiserver = OwnedChild::spawn(
            &apiserver_program,
            &self.apiserver_args(dir.path(), &client_port, &port)?,
            &dir.path().join("kube-apiserver.log"),
        )?;
        write_kubeconfig(&dir, KUBECONFIG, &endpoint, &pki.admin.as_user(dir.path())?)?;
        let mut plane = ControlPlane {
            apiserver,
            etcd,
            endpoint,
            etcd_url: format!("http://127.0.0.1:{}", client_port.number),
            kubectl,
            accounts: self.accounts,
            audit: self.audit_log.then(|| audit_log(dir.path())),
            _ports: [client_port, peer_port, port],
            dir,
        };
        plane.wait_ready()?;
        Ok(plane)
    }

    fn etcd_args(&self, dir: &Path, client: &Port, peer: &Port) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", client.number);
        let peer = format!("http://127.0.0.1:{}", peer.number);
        let mut args = vec![
            format!("--data-dir={}", dir.join("etcd").display()),
            "--name=default".to_owned(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--log-level=warn".to_owned(),
        ];
        if !self.durable {
            args.push("--unsafe-no-fsync".to_owned());
        }
        args
    }

    fn apiserver_args(&self, dir: &Path, etcd: &Port, port: &Port) -> Result<Vec<String>> {
        let file = |name: &str| dir.join(name).display().to_string();
        let tokens: String = self.accounts.iter().map(Account::token_file_line).collect();
        std::fs::write(dir.join("tokens.csv"), tokens).context("writing tokens.csv")?;
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", etcd.number),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", port.number),
            // Without a default route the server ends at start unless it is told an address; the
            // reconciler would then try to publish that one, and loopback is refused.
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--cert-dir={}", dir.display()),
            format!("--tls-cert-file={}", file("serving.crt")),
            format!("--tls-private-key-file={}", file("serving.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            // As OpenShift's; there, security context constraints say who may.
            "--allow-privileged=true".to_owned(),
            // Nothing makes the service account that the admission plugin would wait for.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("service-account.pub")),
            format!(
                "--service-account-signing-key-file={}",
                file("service-account.key")
            ),
        ];
        if self.audit_log {
            std::fs::write(dir.join("audit-policy.yaml"), audit::POLICY)
                .context("writing audit-policy.yaml")?;
            args.push(format!("--audit-policy-file={}", file("audit-policy.yaml")));
            args.push(format!("--audit-log-path={}", audit_log(dir).display()));
        }
        Ok(args)
    }
}

fn audit_log(dir: &Path) -> std::path::PathBuf {
    dir.join("audit.log")
}

impl ControlPlane {
    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            for (name, child) in [
                ("etcd", &mut self.etcd),
                ("kube-apiserver", &mut self.apiserver),
            ] {
                if let Some(status) = child.ended()? {
                    bail!(
                        "{name} ended at start with {status}; it wrote:\n{}",
                        child.log_tail()
                    );
                }
            }
            // Nothing announces readiness but the answer to this question.
            let Err(answer) = self.kubectl(&["get", "--raw", "/readyz"]) else {
                return Ok(());
            };
            ensure!(
                Instant::now() < deadline,
                "kube-apiserver not ready after {} s: {answer:#}; it wrote:\n{}",
                START_DEADLINE.as_secs(),
                self.apiserver.log_tail()
            );
            std::thread::sleep(READY_POLL);
        }
    }
}
