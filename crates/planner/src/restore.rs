//! A saved upgrade object was found at start: does it count?

use api::{DeploymentId, HandoverStamp, StaterootName};

/// What is known of a saved object and of the node that found it.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved<'a> {
    /// Ids of the pivot that it was saved for; `None` as the Go original writes it.
    pub stamp: Option<&'a HandoverStamp>,
    /// The stateroot that its spec leads to; `None` when the spec names no version.
    pub target: Option<&'a StaterootName>,
    /// It asks for Rollback, or tells of a failure other than the one written beforehand.
    pub says_more: bool,
    /// The booted deployment.
    pub booted: &'a DeploymentId,
    /// Id of this boot.
    pub boot_id: &'a str,
    /// All stateroots on disk.
    pub stateroots: &'a [StaterootName],
    /// The target was really tried: it is what boots by default although the origin runs, or it has written logs.
    pub tried: bool,
}

/// What becomes of a saved object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is the truth: the live object is made equal to it.
    Restore,
    /// It was written for a return that has not happened; the live object stays and the run is resumed.
    Ignore,
    /// It belongs to something else: put aside, never restored, never fatal.
    Quarantine(String),
}

/// The rule (architecture 4.4; contract 12.1, rows 1, 7). Which deployment of a stateroot is booted does not count: its own machine
/// configuration may have made another one.
pub fn restore(saved: &Saved<'_>) -> Verdict {
    match saved.stamp {
        Some(stamp) if saved.booted.stateroot == stamp.target.stateroot => {
            if stamp.boot_id == saved.boot_id {
                Verdict::Quarantine(format!(
                    "it was saved in this boot ({}) of the deployment that it leads to",
                    stamp.boot_id
                ))
            } else {
                Verdict::Restore
            }
        }
        Some(stamp) if saved.booted.stateroot == stamp.origin.stateroot => {
            if stamp.boot_id != saved.boot_id && (saved.tried || saved.says_more) {
                Verdict::Restore
            } else {
                Verdict::Ignore
            }
        }
        Some(stamp) => Verdict::Quarantine(format!(
            "it was saved for {} or {}, and {} is booted",
            stamp.target, stamp.origin, saved.booted
        )),
        None => match saved.target {
            Some(target) if target == &saved.booted.stateroot => Verdict::Restore,
            // The origin's side of a Go original's pivot.
            Some(target) if saved.stateroots.contains(target) => Verdict::Restore,
            Some(target) => Verdict::Quarantine(format!(
                "it leads to stateroot {target}, which is not on this node, and has no stamp"
            )),
            None => Verdict::Quarantine("it names no seed version and has no stamp".to_owned()),
        },
    }
}
