//! A site in a VM: the machine and its upgrade object.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boxed::{Release, UpgradeObject};
use serde_json::Value;

use crate::machine::{UP, Vm};
use crate::serial::Mark;

/// How long a stage may take, with the reboot that it brings: a minute or two are usual where everything is emulated.
const STAGE_LIMIT: Duration = Duration::from_secs(600);

/// How long a node may take to come back to the old release, with all the boots of the new one in between.
const RETURN_LIMIT: Duration = Duration::from_secs(900);

/// A node with the agent.
#[derive(Debug)]
pub struct Site {
    /// The machine.
    pub vm: Vm,
}

impl Site {
    pub(crate) fn new(vm: Vm) -> Site {
        Site { vm }
    }

    /// Uses the upgrade object.
    ///
    /// # Errors
    /// What `act` returns.
    pub fn object<T>(&self, act: impl FnOnce(&UpgradeObject<'_>) -> Result<T>) -> Result<T> {
        act(&UpgradeObject {
            kubectl: &|args| self.vm.kubectl(args),
            stage_limit: STAGE_LIMIT,
            // Each kubectl takes a third of a second of a processor from the guest.
            pause: Duration::from_secs(4),
        })
    }

    /// Asks for a stage, with 4.17.4 as the release to upgrade to where it is Prep, and waits until it has ended well.
    ///
    /// # Errors
    /// As [`Site::request`], and when it does not end well within ten minutes.
    pub fn go(&self, stage: &str) -> Result<Value> {
        self.request(stage)?;
        self.object(|object| object.wait_stage(stage))
    }

    /// Asks for a stage, with 4.17.4 as the release to upgrade to where it is Prep.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn request(&self, stage: &str) -> Result<()> {
        match stage {
            "Prep" => self.request_prep(Release::V4_17_4),
            _ => self.object(|object| object.request(stage)),
        }
    }

    /// Asks for Prep to a release whose seed the ground was prepared with.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn request_prep(&self, release: Release) -> Result<()> {
        self.object(|object| object.request_prep(release))
    }

    /// Adds a kernel argument to the boot entry of `stateroot`, where libostree finds it and keeps it when it writes the
    /// entries anew.
    ///
    /// # Errors
    /// When there is no such entry.
    pub fn add_kernel_argument(&self, stateroot: &str, argument: &str) -> Result<()> {
        // Synced with its directory, because GRUB replays no journal.
        self.change_sysroot(&format!(
            "entry=$(grep -l 'ostree=/ostree/boot[^ ]*/{stateroot}/' /boot/loader/entries/*.conf)
             sed -i 's|^options .*|& {argument}|' $entry
             sync
             fsfreeze --freeze /boot
             fsfreeze --unfreeze /boot"
        ))
    }

    /// Runs a shell script in the guest, in a mount namespace of its own where `/sysroot` and `/boot` can be written to.
    ///
    /// # Errors
    /// As [`Vm::script`].
    pub fn change_sysroot(&self, script: &str) -> Result<()> {
        let script = format!("mount -o remount,rw /sysroot\nmount -o remount,rw /boot\n{script}");
        let args = ["unshare", "--mount", "bash", "-euc", &script];
        self.vm.run_in_guest(&args).map(drop)
    }

    /// Waits until, behind `from` on the console, the release `version` is up and serves its API; how long that took since
    /// now.
    ///
    /// # Errors
    /// When it does not come up, however many others do, within [`RETURN_LIMIT`].
    pub fn wait_back(&self, from: Mark, version: &str) -> Result<Duration> {
        let begun = Instant::now();
        let up = format!("{UP} release={version} ");
        self.vm.serial().wait(from, &up, RETURN_LIMIT)?;
        self.vm.wait_guest()?;
        self.vm.wait_api()?;
        Ok(begun.elapsed())
    }

    /// The release that the cluster says it has.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn release(&self) -> Result<String> {
        let path = "jsonpath={.status.desired.version}";
        self.vm
            .kubectl(&["get", "clusterversion", "version", "-o", path])
    }

    /// Who the site is for whoever reaches it on its address: its SSH host key and its hostname.
    ///
    /// # Errors
    /// When no SSH server answers there, or the guest agent does not.
    pub fn identity(&self) -> Result<(String, String)> {
        let hostname = self.vm.run_in_guest(&["hostname"])?;
        Ok((self.vm.host_key()?, hostname.trim_end().to_owned()))
    }

    /// What is in the evidence that the text of a condition names: its larger parts with their KiB, or how many parts there are.
    ///
    /// # Errors
    /// When the text names none, or it is not whole.
    pub fn evidence(&self, said: &str) -> Result<String> {
        let named = said.split_once("; evidence: ");
        let (_, directory) = named.with_context(|| format!("no evidence in {said:?}"))?;
        let list = self
            .vm
            .script(&format!("cd {directory}; du -k --apparent-size -- *"))?;
        ensure!(
            list.contains("bundle.json"),
            "no bundle.json in {directory}: {list}"
        );
        let texts: Vec<String> = list
            .lines()
            .filter_map(|line| {
                let (size, name) = line.split_once('\t')?;
                Some(format!("{} {size}", name.strip_suffix(".txt")?))
            })
            .collect();
        Ok(if texts.is_empty() {
            format!("{} records", list.lines().count())
        } else {
            format!("{} KiB", texts.join(", "))
        })
    }

    /// The names of the stateroots.
    ///
    /// # Errors
    /// When the guest agent does not answer.
    pub fn stateroots(&self) -> Result<Vec<String>> {
        let list = self.vm.run_in_guest(&["ls", "/sysroot/ostree/deploy"])?;
        Ok(list.split_whitespace().map(ToOwned::to_owned).collect())
    }

    /// The stateroot that runs.
    ///
    /// # Errors
    /// When the guest agent does not answer.
    pub fn booted(&self) -> Result<String> {
        let script = "grep -o 'ostree=[^ ]*' /proc/cmdline | cut -d/ -f4";
        Ok(self.vm.script(script)?.trim_end().to_owned())
    }

    /// An error together with the place where console and journal are kept for whoever looks into it.
    #[must_use]
    pub fn with_evidence(&self, error: anyhow::Error) -> anyhow::Error {
        match self.keep_evidence() {
            Ok(dir) => error.context(format!("console and journal: {dir}")),
            Err(other) => error.context(format!("nothing of the VM could be kept: {other:#}")),
        }
    }

    fn keep_evidence(&self) -> Result<String> {
        let dir = tempfile::Builder::new()
            .prefix("lca-vm-failed-")
            .tempdir()
            .context("a directory for what the VM leaves")?
            .keep();
        for name in ["serial.log", "qemu.log"] {
            fs::copy(self.vm.dir().join(name), dir.join(name))
                .with_context(|| format!("keeping {name}"))?;
        }
        // The guest may be in no state to tell.
        if let Ok(done) = self.vm.exec(&[
            "journalctl",
            "--no-pager",
            "--lines=2000",
            "--output=short-precise",
        ]) {
            fs::write(dir.join("journal"), done.stdout).context("keeping the journal")?;
        }
        Ok(dir.display().to_string())
    }
}
