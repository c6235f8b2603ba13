//! Reaching a guest by what the kernel says about it: for the harness, which started it, and for
//! other processes, which find it by its name.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use testenv::Program;

use crate::cluster::{BASE_DOMAIN, CLUSTER_NAME};

/// The kubeconfig of a cluster administrator, below a deployment's directory.
pub const KUBECONFIG: &str = "etc/kubernetes/static-pod-resources/kube-apiserver-certs/secrets/\
                          node-kubeconfigs/lb-ext.kubeconfig";

/// A guest that runs.
#[derive(Clone, Debug)]
pub struct Running {
    pub(crate) leader: i32,
    pub(crate) deployment: PathBuf,
    pub(crate) address: Ipv4Addr,
    /// The process that started it, when another one than this.
    pub(crate) keeper: i32,
}

impl Running {
    /// The guest of that name on this machine, whoever started it.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(name: &str) -> Result<Running> {
        let machine = format!("--machine={name}");
        for entry in fs::read_dir("/proc").context("reading /proc")? {
            let path = entry.context("reading /proc")?.path();
            // Processes come and go while we look.
            let Ok(line) = fs::read(path.join("cmdline")) else {
                continue;
            };
            let args: Vec<String> = line
                .split(|byte| *byte == 0)
                .map(|arg| String::from_utf8_lossy(arg).into_owned())
                .collect();
            if args[0] != "systemd-nspawn" || !args.contains(&machine) {
                continue;
            }
            if let Some(running) = Running::of_nspawn(&path, &args) {
                return Ok(running);
            }
        }
        anyhow::bail!("no running node {name}")
    }

    fn of_nspawn(proc_dir: &Path, args: &[String]) -> Option<Running> {
        let value = |option: &str| args.iter().find_map(|arg| arg.strip_prefix(option));
        let nspawn = proc_dir.file_name()?.to_str()?.parse().ok()?;
        // Above nspawn is the `unshare` that we started, above that the process that did.
        let keeper = parent_of(parent_of(nspawn)?)?;
        let leader = leader_of(nspawn)?;
        Some(Running {
            leader,
            deployment: value("--directory=")?.into(),
            address: value("--setenv=LCA_BOX_ADDRESS=")?.parse().ok()?,
            keeper,
        })
    }

    /// The process that keeps the guest and ends with it.
    #[must_use]
    pub fn keeper(&self) -> i32 {
        self.keeper
    }

    /// The command of the host that runs `args` inside, as root and with a cluster administrator's
    /// `KUBECONFIG`.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.leader))
            .args([
                "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wdns=/",
            ])
            .arg("--")
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            .env("OSTREE_SYSROOT_DEBUG", "mutable-deployments")
            .env("KUBECONFIG", Path::new("/").join(KUBECONFIG));
        command
    }

    /// The command of the host that runs kubectl in the guest's network, as the administrator whom
    /// the booted stateroot's kubeconfig names.
    ///
    /// # Errors
    /// When kubectl cannot be built.
    pub fn kubectl_command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.leader))
            .args(["--net", "--"])
            .arg(Program::Kubectl.path()?)
            .arg(format!(
                "--kubeconfig={}",
                self.deployment.join(KUBECONFIG).display()
            ))
            // The host's resolver does not know the cluster's names.
            .arg(format!("--server=https://{}:6443", self.address))
            .arg(format!(
                "--tls-server-name=api.{CLUSTER_NAME}.{BASE_DOMAIN}"
            ))
            .args(args);
        Ok(command)
    }

    /// Writes the booted stateroot's kubeconfig so that it works in the lab's network.
    pub(crate) fn write_kubeconfig(&self, path: &Path) -> Result<()> {
        let from = self.deployment.join(KUBECONFIG);
        let text = std::fs::read_to_string(&from)
            .with_context(|| format!("reading {}", from.display()))?;
        std::fs::write(path, reachable(&text, self.address))
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// A kubeconfig of a node so that it works in the lab's network, where nobody resolves the cluster's names.
#[must_use]
pub fn reachable(kubeconfig: &str, address: Ipv4Addr) -> String {
    let mut lines = String::new();
    for line in kubeconfig.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim_start().starts_with("server:") {
            lines.push_str(&format!(
                "{indent}server: https://{address}:6443\n{indent}tls-server-name: api.{CLUSTER_NAME}.{BASE_DOMAIN}\n",
            ));
        } else {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    lines
}

/// The guest's process 1 below the process that [`crate::nspawn::spawn`] started, once it exists.
pub(crate) fn leader_below(started: i32) -> Option<i32> {
    children_of(started).into_iter().find_map(leader_of)
}

/// The guest's process 1 below nspawn: the child that is number 1 in a namespace of its own.
fn leader_of(nspawn: i32) -> Option<i32> {
    let depth = namespaced_ids(nspawn)?.len();
    children_of(nspawn).into_iter().find(|child| {
        namespaced_ids(*child).is_some_and(|ids| ids.len() > depth && ids.last() == Some(&1))
    })
}

fn children_of(pid: i32) -> Vec<i32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    status_field(pid, "PPid:")?.parse().ok()
}

/// The process's number in every pid namespace that knows it, ours first.
fn namespaced_ids(pid: i32) -> Option<Vec<i32>> {
    status_field(pid, "NSpid:")?
        .split_whitespace()
        .map(|id| id.parse().ok())
        .collect()
}

fn status_field(pid: i32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(field.trim().to_owned())
}

/// Whether a process exists and has not ended; one that nobody has waited for yet has ended.
#[must_use]
pub fn process_runs(pid: i32) -> bool {
    // After the name in parentheses, which may hold anything, comes the state.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| {
        let state = text.rsplit(')').next().unwrap_or_default().trim_start();
        !state.starts_with(['Z', 'X'])
    })
}
