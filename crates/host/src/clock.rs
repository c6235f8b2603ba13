//! The clock port.

use std::fs;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use node::ports::{BootId, Clock};
use rustix::time::{ClockId, clock_gettime};

use crate::boot;

/// Clock ticks per second in `/proc/<pid>/stat`: the kernel's `USER_HZ`, 100 on every architecture that OpenShift
/// runs on (proc(5)).
const TICKS_PER_SECOND: u64 = 100;

/// Clocks of the machine, or of the container that boots like one.
#[derive(Clone, Debug)]
pub struct HostClock {
    boot: BootId,
    started: u64,
}

impl HostClock {
    /// Reads once what does not change while this process lives. Never fails: a machine without a boot id (no
    /// `/proc`) has the empty one, and then no two boots of it look different.
    pub fn new() -> Self {
        let stat = fs::read_to_string("/proc/1/stat").unwrap_or_default();
        Self {
            boot: BootId(boot::id()),
            started: init_started(&stat),
        }
    }
}

impl Default for HostClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for HostClock {
    fn boot_id(&self) -> BootId {
        self.boot.clone()
    }

    fn uptime(&self) -> u64 {
        // Counted from the start of PID 1: on a machine that is the boot, in a container its own.
        let kernel = clock_gettime(ClockId::Boottime).tv_sec.cast_unsigned();
        kernel.saturating_sub(self.started)
    }

    fn now(&self) -> i64 {
        let now = SystemTime::now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
        }
    }

    fn pause(&self, milliseconds: u64) {
        thread::sleep(Duration::from_millis(milliseconds));
    }
}

/// Seconds from the kernel's boot to the start of the process whose `/proc/<pid>/stat` this is; 0 when the text is
/// not of that form. Field 22 is the start; field 2, in parentheses, may contain anything (proc(5)).
fn init_started(stat: &str) -> u64 {
    const START_AFTER_NAME: usize = 22 - 3;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields
        .split_whitespace()
        .nth(START_AFTER_NAME)
        .and_then(|text| text.parse().ok());
    ticks.unwrap_or(0_u64) / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_of_init_is_the_22nd_field() {
        let check = |name: &str, expect| {
            let stat =
                format!("1 ({name}) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 9");
            assert_eq!(init_started(&stat), expect);
        };
        check("systemd", 123);
        check("a) S (b", 123);
        assert_eq!(init_started(""), 0);
        assert_eq!(init_started("1 (x) S"), 0);
    }

    #[test]
    fn uptime_is_below_the_kernels() {
        let clock = HostClock::new();
        let text = fs::read_to_string("/proc/uptime").unwrap();
        let kernel: f64 = text.split(' ').next().unwrap().parse().unwrap();
        assert!(clock.uptime() as f64 <= kernel + 1.0);
        assert!(clock.now() > 1_700_000_000);
        assert_eq!(clock.boot_id().0.len(), 36);
    }
}
