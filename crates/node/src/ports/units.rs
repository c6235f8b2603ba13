//! systemd.

use std::convert::Infallible;

use crate::PortResult;

/// What systemd says of a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnitState {
    /// There is no such unit.
    Absent,
    /// Not running, and its last run (if any) ended well.
    Inactive,
    /// Starting: not ready yet, or waiting to be restarted.
    Starting,
    /// Running, or ended and staying active.
    Active,
    /// Stopping.
    Stopping,
    /// Its last run failed and nothing restarts it.
    Failed,
}

/// Units, the hostname and the way to reboot.
pub trait Units: Send + Sync {
    /// State of a unit.
    fn state(&self, unit: &str) -> PortResult<UnitState>;

    /// Whether the unit is enabled.
    fn enabled(&self, unit: &str) -> PortResult<bool>;

    /// Enables a unit.
    fn enable(&self, unit: &str) -> PortResult<()>;

    /// Disables a unit.
    fn disable(&self, unit: &str) -> PortResult<()>;

    /// Queues the start of a unit and does not wait for it: a unit that is itself starting may start others this way.
    fn start(&self, unit: &str) -> PortResult<()>;

    /// Restarts a unit and waits until the job is done.
    fn restart(&self, unit: &str) -> PortResult<()>;

    /// Lets the service manager read all units' files again: what was removed is not known any more.
    fn reread(&self) -> PortResult<()>;

    /// Asks a running unit to read its configuration again and waits until it has been told. `Permanent` where the unit
    /// does not run or knows no such request.
    fn reload(&self, unit: &str) -> PortResult<()>;

    /// Stops a unit and waits until it is down.
    fn stop(&self, unit: &str) -> PortResult<()>;

    /// Tells the service manager that this process's unit is ready, with a status text.
    fn notify_ready(&self, status: &str) -> PortResult<()>;

    /// The static hostname.
    fn hostname(&self) -> PortResult<String>;

    /// Sets the static hostname, durably.
    fn set_hostname(&self, hostname: &str) -> PortResult<()>;

    /// Whether the machine is on its way down already.
    fn going_down(&self) -> PortResult<bool>;

    /// Reboots the machine in an orderly way. `reason` shows in the journal. There is no success to return: the call
    /// blocks until the process is killed, or fails when the machine is still up after ten minutes (`Transient`).
    fn reboot(&self, reason: &str) -> PortResult<Infallible>;
}
