//! The simulated node: a machine behind the ports, with every operation counted and a power switch.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use api::Stage;
use node::ports::{Announcement, NodePath, Ports};
use node::{ErrorKind, MonitorMemory, PortError, PortResult};
use planner::PlanName;

use crate::invariant::Guard;
use crate::machine::Machine;
use crate::ports::change;

/// The call that writes a status.
pub(crate) const PUBLISH: &str = "publish";

/// What happens at an operation. Operations are counted from 0 when a fault is set; every effect of a port lies between
/// two of them, and calls with several effects have one between any two.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The process ends there.
    Kill(u64),
    /// The power goes there.
    Cut(u64),
    /// The call fails there: before, in the middle of, or after its effect.
    Error(u64, ErrorKind),
    /// Each call fails whose name and object contain this, and goes on failing, as on a disk that has died.
    Broken(&'static str),
    /// Calls of this name fail, so many times in a row.
    Refuse {
        /// Name of the operation.
        call: &'static str,
        /// How many are left.
        left: u32,
        /// With which kind of error.
        kind: ErrorKind,
    },
    /// A status write finds that somebody else wrote first.
    Conflict(u64),
    /// The user asks for stage Idle there. Inside a run the controller notices it before that call goes on.
    Stop(u64),
    /// The init monitor's deadline has passed there, and it acts before that call goes on.
    Deadline(u64),
}

/// Longer than any deadline, milliseconds.
const DEADLINE: u64 = 2 * 3600 * 1000;

/// The worker's end of a meeting: it tells that it is there, and waits to be sent on.
pub(crate) struct Meeting {
    pub there: Sender<Told>,
    pub go_on: Receiver<()>,
}

/// What the controller hears from its worker.
pub(crate) enum Told {
    /// The operation has come at which the user asks for something else.
    Asked,
    /// The run is over.
    Over,
}

impl Meeting {
    fn wait(self) {
        // Nobody waits on the other side when the process has ended.
        if self.there.send(Told::Asked).is_ok() {
            self.go_on.recv().ok();
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Off {
    Killed,
    PowerCut,
    Reboot,
    /// Nobody looks any longer.
    TimeOver,
}

/// A machine's state between two operations, and how many operations in a row left it so.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The number of the first such operation.
    pub first: u64,
    /// The last such operation.
    pub last: u64,
    /// What the last one was.
    pub operation: String,
    /// The machine.
    pub machine: Machine,
    /// What watches over the walk.
    pub guard: Guard,
}

pub(crate) struct Inner {
    pub machine: Machine,
    /// Raised with every effect.
    pub version: u64,
    pub count: u64,
    pub fault: Option<Fault>,
    /// How often a lasting fault has struck.
    pub struck: u64,
    /// Where the worker that meets a [`Fault::Stop`] waits for the controller.
    pub meeting: Option<Meeting>,
    pub off: Option<Off>,
    /// Lock files that somebody holds.
    pub(crate) held: BTreeSet<NodePath>,
    pub driver: Option<ThreadId>,
    pub moments: Option<Vec<Moment>>,
    recorded: Option<u64>,
    checked: Option<u64>,
    pub guard: Guard,
    pub plan: Option<PlanName>,
    pub violations: Vec<String>,
    pub last_operation: String,
    /// What the init monitor's process remembers.
    pub(crate) monitor: MonitorMemory,
    /// It looks at this moment.
    pub(crate) monitoring: bool,
    /// Uptime of its next look, seconds.
    pub(crate) next_look: u64,
    /// When the drive ends, in milliseconds of the machine's clock.
    pub(crate) until: u64,
    /// Numbers of the operations that were status writes.
    pub publishes: Vec<u64>,
    /// What was told as Kubernetes Events.
    pub(crate) announced: Vec<Announcement>,
}

/// A simulated node.
pub struct Node(Mutex<Inner>);

impl Node {
    /// A node with this machine, switched on or not.
    pub fn new(machine: Machine, guard: Guard) -> Self {
        Self(Mutex::new(Inner {
            machine,
            version: 0,
            count: 0,
            fault: None,
            struck: 0,
            meeting: None,
            off: None,
            held: BTreeSet::new(),
            driver: None,
            moments: None,
            recorded: None,
            checked: None,
            guard,
            plan: None,
            violations: Vec::new(),
            last_operation: String::new(),
            monitor: MonitorMemory::default(),
            monitoring: false,
            next_look: 0,
            until: u64::MAX,
            publishes: Vec::new(),
            announced: Vec::new(),
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ports of this node.
    pub fn ports(&self) -> Ports<'_> {
        Ports {
            ostree: self,
            images: self,
            seeds: self,
            machine: self,
            fallback: self,
            units: self,
            traces: self,
            files: self,
            clock: self,
            cluster: self,
        }
    }

    /// The machine as it is now.
    pub fn machine(&self) -> Machine {
        self.see(Machine::clone)
    }

    /// What an observer outside of the node sees: no operation.
    pub(crate) fn see<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.lock().machine)
    }

    /// Changes the machine from outside, by a user or by time: no operation.
    pub(crate) fn alter<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut inner = self.lock();
        inner.version += 1;
        change(&mut inner.machine)
    }

    /// An effect of a port. Always between two operations.
    pub(crate) fn effect<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> PortResult<T> {
        self.alive()?;
        Ok(self.alter(change))
    }

    /// Ends this thread's work when the process has ended: the driver's by unwinding, so that no code of the product
    /// runs on; a thread that the product started gets an error, and its effects are refused.
    fn alive(&self) -> PortResult<()> {
        let inner = self.lock();
        let Some(off) = inner.off else {
            return Ok(());
        };
        if inner.driver == Some(std::thread::current().id()) {
            drop(inner);
            resume_unwind(Box::new(off));
        }
        Err(PortError::plain(
            ErrorKind::Interrupted,
            "the process has ended",
        ))
    }

    /// One operation: the point where a fault may strike.
    pub(crate) fn operation(
        &self,
        call: &'static str,
        object: &dyn fmt::Display,
    ) -> PortResult<()> {
        self.alive()?;
        let mut inner = self.lock();
        let at = inner.count;
        inner.count += 1;
        if call == PUBLISH {
            inner.publishes.push(at);
        }
        if inner.moments.is_some() || inner.fault.is_some() {
            inner.last_operation = format!("{call} {object}");
        }
        inner.check();
        inner.record(at);
        let failed = |kind| Err(PortError::plain(kind, format!("injected: {call} {object}")));
        match inner.fault.clone() {
            Some(Fault::Kill(when)) if when == at => inner.off = Some(Off::Killed),
            Some(Fault::Cut(when)) if when == at => inner.off = Some(Off::PowerCut),
            Some(Fault::Error(when, kind)) if when == at => return failed(kind),
            Some(Fault::Broken(part)) if inner.last_operation.contains(part) => {
                inner.struck += 1;
                return failed(ErrorKind::Permanent);
            }
            Some(Fault::Refuse {
                call: refused,
                left,
                kind,
            }) if refused == call && left > 0 => {
                let left = left - 1;
                inner.fault = Some(Fault::Refuse { call, left, kind });
                return failed(kind);
            }
            Some(Fault::Stop(when)) if when == at => {
                inner.fault = None;
                inner.version += 1;
                change(&mut inner.machine, |ibu| {
                    ibu.spec.stage = Some(Stage::Idle.as_str().to_owned());
                });
                let meeting = inner.meeting.take();
                drop(inner);
                if let Some(meeting) = meeting {
                    meeting.wait();
                }
                return self.alive();
            }
            Some(Fault::Deadline(when)) if when == at => {
                inner.fault = None;
                inner.machine.pass_time(DEADLINE);
                inner.next_look = 0;
                drop(inner);
                self.let_monitor_look();
                return self.alive();
            }
            _ => return Ok(()),
        }
        drop(inner);
        self.alive()
    }

    /// Ends the drive when its time is over.
    pub(crate) fn end_in_time(&self) {
        let mut inner = self.lock();
        if inner.off.is_none() && inner.machine.now >= inner.until {
            inner.off = Some(Off::TimeOver);
        }
        drop(inner);
        // On a thread of the product's: it is refused what it does next.
        drop(self.alive());
    }

    /// Whether anybody looks at the states inside of an effect: nobody does in a run that is neither recorded nor armed.
    pub(crate) fn is_watched(&self) -> bool {
        let inner = self.lock();
        inner.moments.is_some() || inner.fault.is_some()
    }

    /// Whether a status write at this operation shall find a conflict.
    pub(crate) fn conflicts(&self) -> bool {
        let inner = self.lock();
        matches!(inner.fault, Some(Fault::Conflict(when)) if when + 1 == inner.count)
    }

    /// Ends the process in this way.
    pub(crate) fn switch_off(&self, off: Off) {
        self.lock().off = Some(off);
    }

    /// What has been found wrong so far, each with the operation before which it was seen.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// What was told as Kubernetes Events, in order.
    pub fn announced(&self) -> Vec<Announcement> {
        self.lock().announced.clone()
    }

    /// Which operations were status writes.
    pub(crate) fn publishes(&self) -> Vec<u64> {
        self.lock().publishes.clone()
    }

    /// How often [`Fault::Broken`] has struck.
    pub fn struck(&self) -> u64 {
        self.lock().struck
    }

    /// How many operations there were since the fault was set.
    pub fn operations(&self) -> u64 {
        self.lock().count
    }
}

impl Inner {
    /// Checks the invariants once per state.
    pub(crate) fn check(&mut self) {
        if self.checked == Some(self.version) {
            return;
        }
        self.checked = Some(self.version);
        let found = self.guard.check(&mut self.machine, self.plan);
        let at = format!("before operation {} ({})", self.count, self.last_operation);
        self.violations
            .extend(found.into_iter().map(|text| format!("{text}, {at}")));
    }

    fn record(&mut self, at: u64) {
        let Some(moments) = &mut self.moments else {
            return;
        };
        if self.recorded == Some(self.version)
            && let Some(moment) = moments.last_mut()
        {
            moment.last = at;
            return;
        }
        self.recorded = Some(self.version);
        moments.push(Moment {
            first: at,
            last: at,
            operation: self.last_operation.clone(),
            machine: self.machine.clone(),
            guard: self.guard.clone(),
        });
    }
}
