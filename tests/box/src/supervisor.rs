//! The thread that boots a node, and boots it again when it asks for a reboot.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::control_group::ControlGroup;
use crate::install::Disk;
use crate::lab::Ground;
use crate::network::Namespace;
use crate::nspawn::{self, Ended};
use crate::running;
use crate::sysroot::Deployment;

/// What the harness knows about a node.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Boots since the node was installed.
    pub(crate) boots: u32,
    /// The boot that runs now.
    pub(crate) machine: Option<Machine>,
    /// How the last boot ended, once no other follows.
    pub(crate) ended: Option<Ended>,
    /// Why the node cannot go on.
    pub(crate) failure: Option<String>,
    /// Nobody wants another boot.
    stopping: bool,
    /// A guest that asks for a reboot stays off until it is started again.
    hold: bool,
    /// The supervising thread exists.
    running: bool,
}

/// One boot that runs.
#[derive(Debug)]
pub(crate) struct Machine {
    /// What we started, with nspawn below it.
    nspawn: Pid,
    /// The guest's process 1, as soon as it exists.
    pub(crate) leader: Option<i32>,
    /// The guest's default target is reached.
    pub(crate) ready: bool,
    pub(crate) deployment: Deployment,
}

/// Boots one node for as long as it wants.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    address: Ipv4Addr,
    disk: Disk,
    ground: Arc<Ground>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Supervisor {
    /// A supervisor of a node that is off.
    pub(crate) fn new(
        name: &str,
        address: Ipv4Addr,
        disk: Disk,
        ground: Arc<Ground>,
    ) -> Supervisor {
        Supervisor {
            shared: Arc::new(Shared {
                name: name.to_owned(),
                address,
                disk,
                ground,
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
            thread: Mutex::default(),
        }
    }

    /// Starts the node unless it runs.
    pub(crate) fn start(&self) {
        let mut thread = lock(&self.thread);
        {
            let mut state = lock(&self.shared.state);
            if state.running {
                return;
            }
            state.running = true;
            state.stopping = false;
            state.ended = None;
            state.failure = None;
        }
        if let Some(previous) = thread.take() {
            // It is over, or about to be: `running` was false.
            let _ = previous.join();
        }
        let shared = Arc::clone(&self.shared);
        *thread = Some(thread::spawn(move || shared.run()));
    }

    /// Kills the guest as a power failure would, and waits until nothing of it is left.
    pub(crate) fn kill(&self) {
        {
            let mut state = lock(&self.shared.state);
            state.stopping = true;
            if let Some(machine) = &state.machine {
                // It is our child and not reaped while `machine` is set.
                let _ = kill(machine.nspawn, Signal::SIGKILL);
            }
        }
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }

    /// Waits until `wanted` makes something of the state.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&State) -> Option<T>,
    ) -> Result<T> {
        let until = Instant::now() + limit;
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(found) = wanted(&state) {
                return Ok(found);
            }
            if let Some(failure) = &state.failure {
                bail!("node {} cannot boot: {failure}", self.shared.name);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "node {}: no {what} within {} s; {}",
                    self.shared.name,
                    limit.as_secs(),
                    self.console_tail()
                );
            }
            let (next, _) = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
        }
    }

    /// Keeps the node off when it asks for a reboot, or does not any more.
    pub(crate) fn hold(&self, hold: bool) {
        lock(&self.shared.state).hold = hold;
    }

    /// Looks at the state.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&lock(&self.shared.state))
    }

    fn console_tail(&self) -> String {
        let text = fs::read(self.shared.disk.dir.join("console")).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(1024)..];
        format!("its console ends with: {}", String::from_utf8_lossy(tail))
    }
}

impl State {
    fn goes_on(&self) -> bool {
        !self.stopping && !self.hold
    }
}

impl Shared {
    fn run(&self) {
        let failure = loop {
            match self.boot_once() {
                Ok(Ended::Rebooted) if lock(&self.state).goes_on() => {}
                Ok(ended) => {
                    lock(&self.state).ended = Some(ended);
                    break None;
                }
                Err(error) => break Some(format!("{error:#}")),
            }
        };
        let mut state = lock(&self.state);
        state.failure = failure;
        state.running = false;
        self.changed.notify_all();
    }

    /// Boots what is the default now, and returns when it is gone.
    fn boot_once(&self) -> Result<Ended> {
        let deployment = self.disk.sysroot.default_deployment()?;
        // A machine that starts has no addresses: a new namespace each time.
        let name = format!("{}-{}", self.ground.name, self.name);
        let network =
            Namespace::create_node(&name, &self.ground.namespace, self.address.octets()[3])?;
        let notify = Notify::bind(&name)?;
        let group = ControlGroup::named(&name);
        let mut child = nspawn::spawn(
            &self.name,
            &self.disk,
            &deployment,
            &network,
            &notify.path,
            self.address,
            group.as_ref().map(ControlGroup::dir),
        )?;
        let pid = i32::try_from(child.id()).context("pid of nspawn")?;
        {
            let mut state = lock(&self.state);
            state.boots += 1;
            state.machine = Some(Machine {
                nspawn: Pid::from_raw(pid),
                leader: None,
                ready: false,
                deployment,
            });
            if state.stopping {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            self.changed.notify_all();
        }
        thread::scope(|scope| -> Result<()> {
            scope.spawn(|| self.listen(&notify));
            let gone = waitid(
                Id::Pid(Pid::from_raw(pid)),
                WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT,
            );
            notify.end();
            gone.context("waiting for nspawn")?;
            Ok(())
        })?;
        let leader = {
            let mut state = lock(&self.state);
            let machine = state.machine.take();
            self.changed.notify_all();
            machine.and_then(|machine| machine.leader)
        };
        let status = child.wait().context("reaping nspawn")?;
        if let Some(leader) = leader {
            wait_gone(leader);
        }
        Ok(Ended::of(status))
    }

    /// Takes up what nspawn reports, until the end message.
    fn listen(&self, notify: &Notify) {
        let mut buffer = [0; 4096];
        while let Ok(length) = notify.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            if text == END {
                break;
            }
            let mut state = lock(&self.state);
            if let Some(machine) = &mut state.machine {
                for line in text.lines() {
                    // The number in the message is that of nspawn's own namespace.
                    if line.starts_with("X_NSPAWN_LEADER_PID=") {
                        machine.leader = running::leader_below(machine.nspawn.as_raw());
                    }
                    machine.ready |= line == "READY=1";
                }
            }
            self.changed.notify_all();
        }
    }
}

/// What the listener is sent when there is nothing more to come.
const END: &str = "X_BOXED_END=1";

/// The socket to which nspawn reports.
struct Notify {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Notify {
    fn bind(name: &str) -> Result<Notify> {
        let dir = Path::new("/run/boxed");
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let path = dir.join(name);
        let _ = fs::remove_file(&path);
        let socket =
            UnixDatagram::bind(&path).with_context(|| format!("binding {}", path.display()))?;
        Ok(Notify { socket, path })
    }

    fn end(&self) {
        if let Ok(sender) = UnixDatagram::unbound() {
            let _ = sender.send_to(END.as_bytes(), &self.path);
        }
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Waits until a guest's process 1 is gone or a zombie, which is when all of the guest is dead.
fn wait_gone(leader: i32) {
    while running::process_runs(leader) {
        thread::sleep(Duration::from_millis(2));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
