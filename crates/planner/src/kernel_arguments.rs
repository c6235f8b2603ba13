//! Kernel arguments that an upgrade adds to those of the seed.

/// Seconds after which a panic reboots. The kernel's default is to stand still for good, where no boot loader can count an
/// attempt; long enough for a serial console to bring the last lines out.
const PANIC: u32 = 10;

/// Seconds for which systemd may fail to feed the hardware watchdog. The default is to have none, so that a hang waits for a
/// person. Longer than anything that holds process 1 of a healthy node up (it feeds every half of this), and within what
/// the usual watchdogs can count (iTCO_wdt, version 2: 613 s). Without such hardware it does nothing.
const WATCHDOG: u32 = 180;

/// A seed's arguments, and what makes a release that does not come up reboot: else its attempts could not be counted. What
/// the seed says of these itself stands.
pub fn rebooting(seed: &[String]) -> Vec<String> {
    let mut arguments = seed.to_vec();
    for (key, seconds) in [("panic", PANIC), ("systemd.watchdog_sec", WATCHDOG)] {
        let says = |argument: &String| argument.split('=').next() == Some(key);
        if !seed.iter().any(says) {
            arguments.push(format!("{key}={seconds}"));
        }
    }
    arguments
}
