//! Time and boots.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kernel's random id of one boot (`/proc/sys/kernel/random/boot_id`). In a container that shares the host's
/// kernel it does not change with the container's boots, so implementations use the id that systemd gives
/// the machine's boot where both differ.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub String);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Clocks of a node.
pub trait Clock: Send + Sync {
    /// Which boot this is.
    fn boot_id(&self) -> BootId;

    /// Seconds since this boot, counting suspends; never goes back.
    fn uptime(&self) -> u64;

    /// Wall clock, seconds since 1970. May jump in either direction; good for display only.
    fn now(&self) -> i64;

    /// Lets time pass, for the rare thing that cannot be waited for in any other way.
    fn pause(&self, milliseconds: u64);
}
