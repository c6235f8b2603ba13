//! systemd and the clocks.

use std::convert::Infallible;

use api::names;
use node::ports::{BootId, Clock, UnitState, Units};
use node::{ErrorKind, PortError, PortResult};

use crate::node::{Node, Off};

impl Units for Node {
    fn state(&self, unit: &str) -> PortResult<UnitState> {
        self.operation("unit state", &unit)?;
        Ok(self.see(|machine| {
            let path = machine.etc(&format!("systemd/system/{unit}"));
            if machine.boot.active.contains(unit) {
                UnitState::Active
            } else if machine.cache.get(&path).is_some() {
                UnitState::Inactive
            } else {
                UnitState::Absent
            }
        }))
    }

    fn enabled(&self, unit: &str) -> PortResult<bool> {
        self.operation("unit enabled", &unit)?;
        Ok(self.see(|machine| machine.cache.get(&machine.wants(unit)).is_some()))
    }

    fn enable(&self, unit: &str) -> PortResult<()> {
        self.operation("enable", &unit)?;
        self.effect(|machine| {
            let link = machine.wants(unit);
            machine.cache.write(&link, 0o777, *b"link");
        })?;
        self.operation("enabled", &unit)
    }

    fn disable(&self, unit: &str) -> PortResult<()> {
        self.operation("disable", &unit)?;
        self.effect(|machine| {
            let link = machine.wants(unit);
            machine.cache.remove(&link);
        })?;
        self.operation("disabled", &unit)
    }

    fn start(&self, unit: &str) -> PortResult<()> {
        self.operation("start", &unit)?;
        self.effect(|machine| machine.start(unit))?;
        self.operation("started", &unit)
    }

    fn restart(&self, unit: &str) -> PortResult<()> {
        self.start(unit)
    }

    fn reread(&self) -> PortResult<()> {
        // Files are all that it knows here.
        self.operation("reread", &"units")
    }

    fn reload(&self, unit: &str) -> PortResult<()> {
        // What a unit knows is not simulated.
        self.operation("reload", &unit)
    }

    fn stop(&self, unit: &str) -> PortResult<()> {
        self.operation("stop", &unit)?;
        self.effect(|machine| machine.boot.active.remove(unit))?;
        self.operation("stopped", &unit)
    }

    fn notify_ready(&self, status: &str) -> PortResult<()> {
        self.operation("notify_ready", &status)?;
        self.effect(|machine| machine.start(names::POST_PIVOT_UNIT))?;
        self.operation("notified_ready", &status)
    }

    fn hostname(&self) -> PortResult<String> {
        self.operation("hostname", &"")?;
        Ok(self.see(|machine| {
            let text = machine.cache.text(&machine.etc("hostname"));
            text.unwrap_or_default().trim_end().to_owned()
        }))
    }

    fn set_hostname(&self, hostname: &str) -> PortResult<()> {
        self.operation("set_hostname", &hostname)?;
        self.effect(|machine| {
            let path = machine.etc("hostname");
            machine.write_durably(&path, 0o644, format!("{hostname}\n").into_bytes());
        })?;
        self.operation("hostname_set", &hostname)
    }

    fn going_down(&self) -> PortResult<bool> {
        self.operation("going_down", &"")?;
        Ok(false)
    }

    fn reboot(&self, reason: &str) -> PortResult<Infallible> {
        self.operation("reboot", &reason)?;
        self.effect(|machine| machine.reboots += 1)?;
        self.switch_off(Off::Reboot);
        // Unwinds on the driver's thread; a reboot from any other one is not what the product does.
        self.operation("rebooting", &reason)?;
        Err(PortError::plain(
            ErrorKind::Contradiction,
            "a reboot was asked for on a thread of its own",
        ))
    }
}

impl Clock for Node {
    fn boot_id(&self) -> BootId {
        let number = self.see(|machine| machine.boot.number);
        BootId(format!("{number:08x}-0000-4000-8000-000000000000"))
    }

    fn uptime(&self) -> u64 {
        self.see(|machine| machine.boot.uptime / 1000)
    }

    fn now(&self) -> i64 {
        self.see(|machine| i64::try_from(machine.now / 1000).unwrap_or(i64::MAX))
    }

    fn pause(&self, milliseconds: u64) {
        self.alter(|machine| machine.pass_time(milliseconds));
        self.end_in_time();
        self.let_monitor_look();
    }
}
