//! A node of a lab.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::command::{output, succeed};
use crate::install::{Disk, NodeConfig};
use crate::lab::Ground;
use crate::nspawn::Ended;
use crate::running::Running;
use crate::supervisor::Supervisor;
use crate::sysroot::{Deployment, Sysroot};

/// How long a boot may take until systemd answers, and until its default target is reached.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// How long the API may take after that.
const API_LIMIT: Duration = Duration::from_secs(120);

/// An installed node. Dropping it kills the guest.
#[derive(Debug)]
pub struct Node {
    name: String,
    address: Ipv4Addr,
    disk: Disk,
    supervisor: Supervisor,
}

impl Node {
    pub(crate) fn new(ground: Arc<Ground>, config: &NodeConfig, disk: Disk) -> Node {
        Node {
            name: config.name.clone(),
            address: config.address,
            supervisor: Supervisor::new(&config.name, config.address, disk.clone(), ground),
            disk,
        }
    }

    /// Its name in the lab.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its ostree sysroot, seen from the host.
    #[must_use]
    pub fn sysroot(&self) -> &Sysroot {
        &self.disk.sysroot
    }

    /// Its container storage on the host, mounted at `/var/lib/containers`.
    #[must_use]
    pub fn containers(&self) -> &Path {
        &self.disk.containers
    }

    /// The file on the host that collects the console of every boot.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.disk.dir.join("console")
    }

    /// Switches the node on and returns when its process 1 runs. From then on it boots again by
    /// itself, into ostree's default, whenever it asks for a reboot.
    ///
    /// # Errors
    /// When nothing boots.
    pub fn boot(&self) -> Result<()> {
        self.supervisor.start();
        self.supervisor.wait("process 1", BOOT_LIMIT, |state| {
            state.machine.as_ref()?.leader.map(|_| ())
        })
    }

    /// Waits until the running boot reached its default target.
    ///
    /// # Errors
    /// When it does not within a minute.
    pub fn wait_ready(&self) -> Result<()> {
        self.supervisor.wait("default target", BOOT_LIMIT, |state| {
            state.machine.as_ref()?.ready.then_some(())
        })
    }

    /// Waits until boot number `boot`, counted from 1, has a process 1, for at most `limit`.
    ///
    /// # Errors
    /// When it has none in time, or the node powers off.
    pub fn wait_boot(&self, boot: u32, limit: Duration) -> Result<()> {
        let ended = self
            .supervisor
            .wait(&format!("boot {boot}"), limit, |state| {
                let machine = state.machine.as_ref();
                if state.boots >= boot && machine.is_some_and(|machine| machine.leader.is_some()) {
                    return Some(None);
                }
                state.ended.map(Some)
            })?;
        ensure!(
            ended.is_none(),
            "node {}: {ended:?} before boot {boot}",
            self.name
        );
        Ok(())
    }

    /// Waits until the API server is ready and shows a ready Node.
    ///
    /// # Errors
    /// When it does not within two minutes.
    pub fn wait_api(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let path = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
            let error = match self.kubectl(&["get", "nodes", "--request-timeout=2s", "-o", path]) {
                Ok(text) if text == "True" => return Ok(()),
                Ok(text) => anyhow::anyhow!("Ready of its Nodes is {text:?}"),
                Err(error) => error,
            };
            ensure!(
                started.elapsed() < API_LIMIT,
                "node {}: no API within {} s: {error:#}",
                self.name,
                API_LIMIT.as_secs()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a program inside, as root and with cluster administrator's `KUBECONFIG`, whatever its
    /// exit status.
    ///
    /// # Errors
    /// When the node is off or the program cannot be started.
    pub fn exec(&self, args: &[&str]) -> Result<Output> {
        output(&mut self.command(args)?)
    }

    /// Runs a program inside and returns what it printed.
    ///
    /// # Errors
    /// As [`Node::exec`], and when it does not exit with 0.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        succeed(&mut self.command(args)?).with_context(|| format!("on node {}", self.name))
    }

    /// The command of the host that runs `args` inside, for callers with wishes for its input and
    /// output.
    ///
    /// # Errors
    /// When the node is off.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        Ok(self.running()?.command(args))
    }

    /// Runs kubectl on the host against this node, as the administrator whom the booted stateroot's
    /// kubeconfig names.
    ///
    /// # Errors
    /// When the node is off, or kubectl does not exit with 0.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        succeed(&mut self.kubectl_command(args)?)
    }

    /// The command of [`Node::kubectl`].
    ///
    /// # Errors
    /// When the node is off, or kubectl cannot be built.
    pub fn kubectl_command(&self, args: &[&str]) -> Result<Command> {
        let mut command = self.running()?.kubectl_command(&[])?;
        command
            .arg(format!(
                "--cache-dir={}",
                self.disk.dir.join("kubectl").display()
            ))
            .args(args);
        Ok(command)
    }

    /// A kubeconfig for programs in the lab's network: that of the booted stateroot, with the node's
    /// address in place of the cluster's name, which nobody outside resolves.
    ///
    /// # Errors
    /// When the node is off or its kubeconfig cannot be read or written.
    pub fn kubeconfig(&self) -> Result<std::path::PathBuf> {
        let path = self.disk.dir.join("kubeconfig");
        self.running()?.write_kubeconfig(&path)?;
        Ok(path)
    }

    fn running(&self) -> Result<Running> {
        self.supervisor
            .look(|state| {
                let machine = state.machine.as_ref()?;
                Some(Running {
                    leader: machine.leader?,
                    deployment: machine.deployment.dir.clone(),
                    address: self.address,
                    keeper: std::process::id().cast_signed(),
                })
            })
            .with_context(|| format!("node {} is off", self.name))
    }

    /// Kills the guest in an instant, as a power failure would, and returns when all of it is gone.
    /// (What its processes had written stays: the page cache is the host's.)
    pub fn power_off_hard(&self) {
        self.supervisor.kill();
    }

    /// From now on a guest that asks for a reboot stays off until [`Node::boot`], or (`false`) boots
    /// again by itself.
    pub fn hold_at_reboot(&self, hold: bool) {
        self.supervisor.hold(hold);
    }

    /// Asks the guest to power off and waits until it did.
    ///
    /// # Errors
    /// When it is off already, or does not power off within a minute.
    pub fn power_off(&self) -> Result<()> {
        self.run(&["systemctl", "poweroff"])?;
        self.wait_off().map(|_| ())
    }

    /// Waits until the node is off for good, and says how that came.
    ///
    /// # Errors
    /// When it still runs after a minute.
    pub fn wait_off(&self) -> Result<Ended> {
        self.supervisor
            .wait("power-off", BOOT_LIMIT, |state| state.ended)
    }

    /// The deployment that runs now, if any does.
    #[must_use]
    pub fn booted(&self) -> Option<Deployment> {
        self.supervisor
            .look(|state| Some(state.machine.as_ref()?.deployment.clone()))
    }

    /// Every deployment, the one that the next boot takes first.
    ///
    /// # Errors
    /// When the boot entries cannot be read.
    pub fn deployments(&self) -> Result<Vec<Deployment>> {
        self.disk.sysroot.deployments()
    }

    /// How often the node was booted since it was installed.
    #[must_use]
    pub fn boots(&self) -> u32 {
        self.supervisor.look(|state| state.boots)
    }

    /// The guest's process 1 on the host, if it runs.
    #[must_use]
    pub fn leader(&self) -> Option<i32> {
        self.supervisor.look(|state| state.machine.as_ref()?.leader)
    }

    /// Where the absolute `path` of `stateroot` lies on the host: `/var` is the stateroot's, anything
    /// else that of its first deployment.
    ///
    /// # Errors
    /// When the stateroot has no deployment.
    pub fn path_in_stateroot(&self, stateroot: &str, path: &str) -> Result<PathBuf> {
        let path = Path::new(path);
        if let Ok(rest) = path.strip_prefix("/var") {
            return Ok(self.disk.sysroot.var(stateroot).join(rest));
        }
        let deployment = self
            .deployments()?
            .into_iter()
            .find(|deployment| deployment.stateroot == stateroot)
            .with_context(|| format!("stateroot {stateroot} has no deployment"))?;
        Ok(deployment.dir.join(path.strip_prefix("/").unwrap_or(path)))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.supervisor.kill();
    }
}
