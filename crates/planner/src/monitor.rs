//! The init monitor: how long a target may take to complete, and what follows when it does not.
//!
//! Decides by boots and by time that was really spent running, never by the wall clock; what is not known counts against the
//! target. `docs/rollback.md` has the table.

use api::rollback_config::{DEFAULT_TIMEOUT, RollbackConfig};
use api::verdict::Judge;
use api::{Condition, message};

use crate::state::{State, parse};
use crate::verdict::VerdictFact;

/// Boots of the target within which it has to complete, those included that somebody asked for.
pub const BOOT_LIMIT: u32 = 5;

/// Seconds that whoever else decided has to carry the return out before the monitor does. An undisturbed one takes less than two
/// up to its call for the reboot, and up to 25 more for the evidence; systemd then up to 90 to stop this process like any other.
pub const GRACE: u64 = 60;

/// Seconds between two looks: what the monitor adds to how long a return or its own end takes.
const LOOK: u64 = 1;

/// The automatic rollback's configuration, as far as it can be known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConfigFact {
    /// It says this.
    Known(RollbackConfig),
    /// There is no such file.
    Missing,
    /// It cannot be read, or is no such document.
    Unreadable(String),
}

impl ConfigFact {
    /// Seconds until the deadline; `None` = the user wants no monitor. Everything that is not a clear wish means the default: a
    /// lost or damaged configuration must not take the net away.
    pub fn timeout(&self) -> Option<u64> {
        let usual = DEFAULT_TIMEOUT.unsigned_abs();
        match self {
            Self::Known(config) if !config.monitor_enabled => None,
            Self::Known(config) => match u64::try_from(config.monitor_timeout) {
                Ok(0) | Err(_) => Some(usual),
                Ok(seconds) => Some(seconds),
            },
            Self::Missing | Self::Unreadable(_) => Some(usual),
        }
    }

    /// Whether a failure of this component leads back; likewise.
    pub fn returns_for(&self, component: &str) -> bool {
        match self {
            Self::Known(config) => config.component_enabled(component),
            Self::Missing | Self::Unreadable(_) => true,
        }
    }
}

/// What the monitor looks at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MonitorFacts {
    /// Anything on this node says that an upgrade led here: a saved object, a handover's record, the configuration, a count.
    pub handed_over: bool,
    /// The configuration.
    pub config: ConfigFact,
    /// The verdict.
    pub verdict: VerdictFact,
    /// Whether the upgrade's status says that it has completed; `None` = nobody could tell. Asked only where the verdict cannot
    /// be read.
    pub status_completed: Option<bool>,
    /// Boots since the pivot, this one included.
    pub boots: u32,
    /// Seconds that these boots have lasted.
    pub spent: u64,
    /// Seconds since the monitor first saw somebody's verdict to go back, in this boot.
    pub seen_rollback: u64,
}

/// Why the monitor has nothing more to do, at this boot or any later one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disarmed {
    /// The upgrade has completed.
    Completed,
    /// No upgrade led here.
    NothingHandedOver,
}

/// What the monitor does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MonitorAct {
    /// Looks again after so many seconds.
    Wait(u64),
    /// Goes back, for this reason, which is the judge's.
    Return(Judge, String),
    /// Ends, for good.
    Disarm(Disarmed),
}

/// Decides. Total and pure.
pub fn watch_over(facts: &MonitorFacts) -> MonitorAct {
    if facts.verdict.is_completed() {
        return MonitorAct::Disarm(Disarmed::Completed);
    }
    if let VerdictFact::Decided(_) = facts.verdict
        && let Some((judge, reason)) = facts.verdict.rollback()
    {
        // Also where the user wants no monitor: a verdict has no deadline, and whoever made it may be gone.
        return if judge == Judge::InitMonitor || facts.seen_rollback >= GRACE {
            MonitorAct::Return(judge, reason)
        } else {
            MonitorAct::Wait(LOOK)
        };
    }
    let damaged = matches!(facts.verdict, VerdictFact::Unreadable(_));
    if damaged && facts.status_completed == Some(true) {
        return MonitorAct::Disarm(Disarmed::Completed);
    }
    if !facts.handed_over {
        return MonitorAct::Disarm(Disarmed::NothingHandedOver);
    }
    if damaged
        && facts.status_completed == Some(false)
        && let Some((_, reason)) = facts.verdict.rollback()
    {
        return MonitorAct::Return(Judge::InitMonitor, reason);
    }
    let Some(timeout) = facts.config.timeout() else {
        // Nothing is counted, but somebody may decide yet and be gone before the node is back.
        return MonitorAct::Wait(LOOK);
    };
    if facts.boots > BOOT_LIMIT {
        return MonitorAct::Return(Judge::InitMonitor, message::rollback_by_boots(BOOT_LIMIT));
    }
    match timeout.checked_sub(facts.spent) {
        None | Some(0) => {
            let text = message::ROLLBACK_BY_TIMEOUT_PREFIX;
            MonitorAct::Return(
                Judge::InitMonitor,
                format!("{text}{}", go_duration(timeout)),
            )
        }
        Some(left) => MonitorAct::Wait(left.min(LOOK)),
    }
}

/// Whether a status tells that the upgrade has completed: for [`MonitorFacts::status_completed`].
pub fn tells_completion(conditions: &[Condition]) -> bool {
    matches!(
        parse(conditions).state,
        State::UpgradeCompleted | State::Finalizing | State::FinalizeFailed
    )
}

/// Seconds as the Go original prints them: `45s`, `30m0s`, `1h0m0s`.
fn go_duration(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        let check = |seconds, text: &str| assert_eq!(go_duration(seconds), text);
        check(45, "45s");
        check(60, "1m0s");
        check(300, "5m0s");
        check(1800, "30m0s");
        check(3600, "1h0m0s");
        check(3725, "1h2m5s");
        check(90_000, "25h0m0s");
    }
}
