//! One virtual machine.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use boxed::{Lab, succeed};
use serde_json::{Value, json};
use tempfile::TempDir;
use testenv::{OwnedChild, Program};

use crate::accelerator::Accelerator;
use crate::frozen::Frozen;
use crate::guest::{Finished, Guest};
use crate::hardware::{self, Parts, STORE_BYTES};
use crate::qmp;
use crate::serial::{Mark, Serial};

/// How long QEMU may take to open its sockets.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a command in the guest may take, unless its caller says otherwise.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// How long an emulated guest may take from power-on to its agent, on a machine that has other things to do.
pub const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// How long its API may take after that.
pub const API_LIMIT: Duration = Duration::from_secs(300);
/// What grub.cfg prints when it has chosen an entry, once for each boot.
pub const BOOT_LOADER: &str = "MINI-SNO grub:";
/// What the initramfs prints.
pub const INITRAMFS: &str = "MINI-SNO initramfs:";
/// What the running system prints.
pub const UP: &str = "MINI-SNO up:";

/// A virtual machine. Dropping it cuts its power.
#[derive(Debug)]
pub struct Vm {
    lab: Arc<Lab>,
    address: Ipv4Addr,
    /// Its files: `disk.qcow2`, `serial.log` and what else it needs.
    dir: PathBuf,
    supply: PathBuf,
    sockets: TempDir,
    serial: Serial,
    guest: Guest,
    qemu: Option<OwnedChild>,
    /// The kubeconfig that was read last, and how many systems were up by then.
    kubeconfig: Mutex<Option<(usize, PathBuf)>>,
}

impl Vm {
    /// A machine with a disk of its own that has what `from` has, in the lab at `address`, which no other running machine
    /// has there. It goes on where `from` stopped, or boots if that was off. `supply` is the image of its second disk.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn start(
        lab: &Arc<Lab>,
        address: Ipv4Addr,
        from: &Frozen,
        supply: Option<&Path>,
    ) -> Result<Vm> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = lab.dir().join(format!("vm{number}"));
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let disk = dir.join("disk.qcow2");
        succeed(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", from.format(), "-b"])
                .arg(&from.disk)
                .arg(&disk),
        )?;
        let store = dir.join("store");
        match &from.store {
            Some(from) => fs::copy(from, &store).map(drop),
            None => File::create(&store).and_then(|file| file.set_len(STORE_BYTES)),
        }
        .with_context(|| format!("making {}", store.display()))?;
        let supply = match supply {
            Some(supply) => supply.to_owned(),
            None => crate::supply::empty(&dir)?,
        };
        // Paths of sockets may have a hundred bytes; those below the lab's directory can have more.
        let sockets = tempfile::Builder::new()
            .prefix("lca-vm-")
            .tempdir_in("/run")
            .context("a directory for sockets")?;
        let mut vm = Vm {
            lab: Arc::clone(lab),
            address,
            serial: Serial::new(&dir.join("serial.log")),
            guest: Guest::new(&sockets.path().join("agent")),
            dir,
            supply,
            sockets,
            qemu: None,
            kubeconfig: Mutex::default(),
        };
        vm.run(from.state.as_deref())?;
        if from.state.is_some() {
            vm.go_on()?;
        }
        Ok(vm)
    }

    /// Switches a machine on that is off.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn power_on(&mut self) -> Result<()> {
        ensure!(self.qemu.is_none(), "the VM runs");
        self.run(None)
    }

    fn run(&mut self, state: Option<&Path>) -> Result<()> {
        for name in ["serial", "agent", "qmp"] {
            let _ = fs::remove_file(self.sockets.path().join(name));
        }
        let arguments = hardware::arguments(
            &Parts {
                disk: &self.dir.join("disk.qcow2"),
                supply: &self.supply,
                store: &self.dir.join("store"),
                sockets: self.sockets.path(),
                address: self.address,
                state,
            },
            Accelerator::find()?,
        );
        let log = self.dir.join("qemu.log");
        let mut qemu = self.lab.spawn("qemu-system-x86_64", &arguments, &log)?;
        let stream = open(&self.sockets.path().join("serial"), &mut qemu)?;
        self.serial.read_from(stream)?;
        // QEMU makes it only when somebody reads the console.
        drop(open(&self.sockets.path().join("qmp"), &mut qemu)?);
        self.qemu = Some(qemu);
        Ok(())
    }

    /// Lets a guest go on that was stopped when it was frozen, and tells it what time it is by now.
    fn go_on(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.qmp("query-status", &Value::Null)?["status"] == "inmigrate" {
            ensure!(
                begun.elapsed() < START_LIMIT,
                "QEMU does not read the state"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        self.qmp("cont", &Value::Null)?;
        let now = SystemTime::UNIX_EPOCH.elapsed().context("the time")?;
        let time = format!("@{}.{:03}", now.as_secs(), now.subsec_millis());
        self.run_in_guest(&["date", "--set", &time]).map(drop)
    }

    /// Stops the guest in the middle of what it does and keeps it in `dir`, from which any number of machines can go on.
    ///
    /// # Errors
    /// When the machine is off, or QEMU cannot write its state.
    pub fn freeze(mut self, dir: &Path) -> Result<Frozen> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let state = dir.join("state");
        self.qmp("stop", &Value::Null)?;
        // The default is made for networks.
        let rate = json!({"max-bandwidth": 64_u64 << 30});
        self.qmp("migrate-set-parameters", &rate)?;
        let uri = format!("exec:cat >'{}'", state.display());
        self.qmp("migrate", &json!({"uri": uri}))?;
        let begun = Instant::now();
        loop {
            let asked = self.qmp("query-migrate", &Value::Null)?;
            match asked["status"].as_str() {
                Some("completed") => break,
                Some("failed" | "cancelled") => anyhow::bail!("the state was not written: {asked}"),
                _ => ensure!(begun.elapsed() < BOOT_LIMIT, "writing the state: {asked}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.qmp("quit", &Value::Null)?;
        self.wait_off(START_LIMIT)?;
        self.keep_disk(dir, Some(state))
    }

    /// Keeps the disk of a machine that is off in `dir`, from which any number of machines can boot.
    ///
    /// # Errors
    /// When the machine runs, or the disk cannot be moved.
    pub fn shelve(self, dir: &Path) -> Result<Frozen> {
        ensure!(self.qemu.is_none(), "the VM runs");
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        self.keep_disk(dir, None)
    }

    fn keep_disk(&self, dir: &Path, state: Option<PathBuf>) -> Result<Frozen> {
        let keep = |name: &str| {
            let to = dir.join(name);
            fs::rename(self.dir.join(name), &to)
                .with_context(|| format!("moving {name} to {}", dir.display()))?;
            Ok::<_, anyhow::Error>(to)
        };
        Ok(Frozen {
            disk: keep("disk.qcow2")?,
            state,
            store: Some(keep("store")?),
        })
    }

    /// Cuts the power: what the guest had not flushed to its disk is gone, what it had is there.
    pub fn cut_power(&mut self) {
        self.qemu = None;
    }

    /// Waits until the guest has powered off.
    ///
    /// # Errors
    /// When it has not within `limit`.
    pub fn wait_off(&mut self, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        if let Some(qemu) = &mut self.qemu {
            while qemu.ended()?.is_none() {
                ensure!(begun.elapsed() < limit, "the VM is still on");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.qemu = None;
        Ok(())
    }

    /// Resets it, as the button does.
    ///
    /// # Errors
    /// When it is off.
    pub fn reset(&self) -> Result<()> {
        self.qmp("system_reset", &Value::Null).map(drop)
    }

    /// Executes a command of the QEMU machine protocol.
    ///
    /// # Errors
    /// When the machine is off, or QEMU refuses.
    pub fn qmp(&self, command: &str, arguments: &Value) -> Result<Value> {
        ensure!(self.qemu.is_some(), "the VM is off");
        qmp::execute(&self.sockets.path().join("qmp"), command, arguments)
    }

    /// Its console.
    #[must_use]
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Its address in the lab.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The directory with its disk and logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How often the boot loader has chosen an entry since the machine was made.
    #[must_use]
    pub fn boots(&self) -> usize {
        self.count(BOOT_LOADER)
    }

    fn count(&self, text: &str) -> usize {
        let lines = self.serial.lines(Mark::default());
        lines.iter().filter(|line| line.text.contains(text)).count()
    }

    /// Waits until a system that printed its line behind `from` is up, and returns that line.
    ///
    /// # Errors
    /// When none comes up within [`BOOT_LIMIT`].
    pub fn wait_up(&self, from: Mark) -> Result<String> {
        let (line, _) = self.serial.wait(from, UP, BOOT_LIMIT)?;
        Ok(line.text)
    }

    /// Waits until the guest agent answers.
    ///
    /// # Errors
    /// When it does not within [`BOOT_LIMIT`].
    pub fn wait_guest(&self) -> Result<()> {
        let begun = Instant::now();
        while !self.guest.answers(Duration::from_secs(2)) {
            ensure!(
                begun.elapsed() < BOOT_LIMIT,
                "no guest agent within {} s; console: {}",
                BOOT_LIMIT.as_secs(),
                self.dir.join("serial.log").display()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Runs a program in the guest as root, whatever its exit status.
    ///
    /// # Errors
    /// When the guest agent does not answer.
    pub fn exec(&self, args: &[&str]) -> Result<Finished> {
        self.guest.exec(args, COMMAND_LIMIT)
    }

    /// Runs a program in the guest as root and returns what it printed.
    ///
    /// # Errors
    /// As [`Vm::exec`], and when it does not exit with 0.
    pub fn run_in_guest(&self, args: &[&str]) -> Result<String> {
        let done = self.exec(args)?;
        ensure!(
            done.status == Some(0),
            "{} in the guest ended with {:?}: {}{}",
            args.join(" "),
            done.status,
            done.stderr,
            if done.stderr.is_empty() {
                &done.stdout
            } else {
                ""
            }
        );
        Ok(done.stdout)
    }

    /// Runs a shell script in the guest; the first command that fails ends it.
    ///
    /// # Errors
    /// As [`Vm::run_in_guest`].
    pub fn script(&self, script: &str) -> Result<String> {
        self.run_in_guest(&["bash", "-euc", script])
    }

    /// Runs kubectl on the host against this machine, as the administrator whom the kubeconfig of the running system
    /// names.
    ///
    /// # Errors
    /// When the machine is off or kubectl fails.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let kubeconfig = self.kubeconfig()?;
        succeed(
            self.lab
                .command(&Program::Kubectl.path()?.display().to_string())
                .arg(format!("--kubeconfig={}", kubeconfig.display()))
                .arg(format!(
                    "--cache-dir={}",
                    self.dir.join("kubectl").display()
                ))
                .args(args)
                .stdin(Stdio::null()),
        )
    }

    /// The kubeconfig of the running system, made fit for the lab.
    ///
    /// # Errors
    /// When the guest agent does not answer.
    pub fn kubeconfig(&self) -> Result<PathBuf> {
        let up = self.count(UP);
        let mut kept = self
            .kubeconfig
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((count, path)) = &*kept
            && *count == up
        {
            return Ok(path.clone());
        }
        let path = self.dir.join("kubeconfig");
        let text = self.run_in_guest(&["cat", &format!("/{}", boxed::KUBECONFIG)])?;
        let text = boxed::reachable(&text, self.address);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        *kept = Some((up, path.clone()));
        Ok(path)
    }

    /// The SSH host key, the one of type ed25519, that whoever connects from the lab to the machine's address is shown.
    ///
    /// # Errors
    /// When no SSH server shows one within [`API_LIMIT`].
    pub fn host_key(&self) -> Result<String> {
        let begun = Instant::now();
        loop {
            let mut scan = self.lab.command("ssh-keyscan");
            let scan = scan.args(["-T", "20", "-t", "ed25519"]);
            // It says nothing, and succeeds, where the server takes its time.
            let key = succeed(scan.arg(self.address.to_string()))?;
            if !key.is_empty() {
                return Ok(key.trim_end().to_owned());
            }
            ensure!(
                begun.elapsed() < API_LIMIT,
                "no SSH server shows a key on {}",
                self.address
            );
            std::thread::sleep(Duration::from_secs(3));
        }
    }

    /// Waits until the API server is ready and shows a ready Node.
    ///
    /// # Errors
    /// When it does not within [`API_LIMIT`].
    pub fn wait_api(&self) -> Result<()> {
        let begun = Instant::now();
        let path = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
        loop {
            let error = match self.kubectl(&["get", "nodes", "--request-timeout=2s", "-o", path]) {
                Ok(text) if text == "True" => return Ok(()),
                Ok(text) => anyhow::anyhow!("Ready of its Nodes is {text:?}"),
                Err(error) => error,
            };
            ensure!(
                begun.elapsed() < API_LIMIT,
                "no API within {} s: {error:#}",
                API_LIMIT.as_secs()
            );
            // Each kubectl takes a third of a second of a processor from the guest.
            std::thread::sleep(Duration::from_secs(3));
        }
    }
}

/// Connects to a socket of a QEMU that is about to make it.
fn open(socket: &Path, qemu: &mut OwnedChild) -> Result<UnixStream> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) => ensure!(
                begun.elapsed() < START_LIMIT && qemu.ended()?.is_none(),
                "QEMU does not start: {error}: {}",
                qemu.log_tail()
            ),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
