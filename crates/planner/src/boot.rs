//! Boot fallback: what a boot says of the boot loader's way back, which was armed before the pivot.

use api::DeploymentId;
use serde::{Deserialize, Serialize};

/// Boots that a new release gets until one of them comes far enough to be declared good.
pub const FALLBACK_ATTEMPTS: u32 = 3;

/// Boots of the target that are declared good. Behind them the attempts run out: a release that comes up and goes down again
/// and again has used as many as the init monitor allows.
const GOOD_BOOTS: u32 = 5;

/// What the boot loader would do by itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FallbackState {
    /// This node's boot loader cannot be made to return by itself, or nobody looked; why.
    None(String),
    /// It boots what is the default, however often that fails.
    Disarmed,
    /// It boots the default so many times more, and from then on the entry.
    Armed {
        /// Its id of the entry.
        entry: String,
        /// Attempts that are left. 0 = the latest boot was the entry's, and every other is until somebody disarms it.
        left: u32,
    },
}

/// What it was armed for: written into both stateroots before it is armed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FallbackNote {
    /// Where it leads.
    pub origin: DeploymentId,
    /// What it watches over.
    pub target: DeploymentId,
    /// Attempts that the target gets.
    pub attempts: u32,
    /// The boot that it was armed in last.
    pub boot_id: String,
    /// Boots of the target that were declared good.
    pub good_boots: u32,
}

/// A release was the default and its predecessor was started.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedBoot {
    /// The release that did not come up.
    pub target: DeploymentId,
    /// How many attempts it had; `None` where not all of them were used, so that somebody chose in the boot loader's menu or
    /// its kernel could not be loaded.
    pub attempts: Option<u32>,
    /// The boot that found it.
    pub boot_id: String,
}

impl FailedBoot {
    /// What the condition of the failed upgrade says.
    pub fn text(&self) -> String {
        let told = api::message::UNCONTROLLED_ROLLBACK;
        let target = &self.target;
        match self.attempts {
            Some(attempts) => format!(
                "{told}: {target} did not come up in {attempts} attempts and the boot loader started this release again"
            ),
            None => format!("{told}: the boot loader started this release instead of {target}"),
        }
    }
}

/// What the record of the arming says.
#[derive(Clone, Copy, Debug)]
pub enum Noted<'a> {
    /// There is none: it was never armed, or is being taken back.
    Nothing,
    /// There is one that nobody can read.
    Damaged,
    /// This.
    Note(&'a FallbackNote),
}

/// What is known early in a boot: no API server, no network.
#[derive(Clone, Copy, Debug)]
pub struct BootFacts<'a> {
    /// The booted deployment.
    pub booted: &'a DeploymentId,
    /// What boots by default.
    pub default: &'a DeploymentId,
    /// Id of this boot.
    pub boot_id: &'a str,
    /// The boot loader.
    pub state: &'a FallbackState,
    /// The record.
    pub noted: Noted<'a>,
    /// The upgrade that it was armed for has completed: its verdict says so.
    pub completed: bool,
    /// Boots are counted by the init monitor too, which goes back after five. Where it is switched off good boots stay good.
    pub counted: bool,
}

/// What is to be done about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BootAct {
    /// Nothing.
    Nothing,
    /// This boot of the target is good: it has all its attempts again, and the record is to say this.
    Declare(FallbackNote),
    /// Whose boot it is nobody knows: nothing changes but that all attempts are there again.
    Refill,
    /// There is nothing to return from any more.
    Disarm,
    /// The origin runs although the target is the default: it is made the default again.
    Return(FailedBoot),
}

/// The rule. Which deployment of a stateroot is booted does not count: the target's own machine configuration may have made
/// another one.
pub fn judge_boot(facts: &BootFacts<'_>) -> BootAct {
    let booted = &facts.booted.stateroot;
    let left = match facts.state {
        FallbackState::Armed { left, .. } => Some(*left),
        FallbackState::None(_) | FallbackState::Disarmed => None,
    };
    let failed = |target: &DeploymentId, attempts| {
        BootAct::Return(FailedBoot {
            target: target.clone(),
            attempts: Some(attempts).filter(|_| left == Some(0)),
            boot_id: facts.boot_id.to_owned(),
        })
    };
    match facts.noted {
        // Armed in this boot; or found good already.
        Noted::Note(note) if note.boot_id == facts.boot_id => BootAct::Nothing,
        Noted::Note(note) if *booted == note.target.stateroot && facts.completed => BootAct::Disarm,
        Noted::Note(note) if *booted == note.target.stateroot => {
            if facts.counted && note.good_boots >= GOOD_BOOTS {
                return BootAct::Nothing;
            }
            BootAct::Declare(FallbackNote {
                boot_id: facts.boot_id.to_owned(),
                good_boots: note.good_boots.saturating_add(1),
                ..note.clone()
            })
        }
        // Somebody looks at the old release. A boot loader that was still armed, and gave up, has found that the new one does not
        // come up any more.
        Noted::Note(_) if facts.completed && left != Some(0) => BootAct::Disarm,
        Noted::Note(note)
            if *booted == note.origin.stateroot
                && facts.default.stateroot == note.target.stateroot =>
        {
            failed(&note.target, note.attempts)
        }
        // The switch did not happen, or was taken back.
        Noted::Note(_) => BootAct::Disarm,
        Noted::Nothing | Noted::Damaged if left.is_none() => BootAct::Nothing,
        // A return behind its switch that was cut off while it took the arming back.
        Noted::Nothing if left != Some(0) => BootAct::Disarm,
        // Whoever armed it, it leads here.
        Noted::Nothing | Noted::Damaged if *booted != facts.default.stateroot => {
            failed(facts.default, FALLBACK_ATTEMPTS)
        }
        Noted::Damaged => BootAct::Refill,
        Noted::Nothing => BootAct::Disarm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> DeploymentId {
        format!("{name}-{}.0", "a".repeat(64)).parse().unwrap()
    }

    fn note(good_boots: u32, boot_id: &str) -> FallbackNote {
        FallbackNote {
            origin: id("a"),
            target: id("b"),
            attempts: 3,
            boot_id: boot_id.to_owned(),
            good_boots,
        }
    }

    fn judged(booted: &str, default: &str, left: Option<u32>, noted: Noted<'_>) -> BootAct {
        let entry = "ostree-1".to_owned();
        let state = left.map_or(FallbackState::Disarmed, |left| FallbackState::Armed {
            entry,
            left,
        });
        judge_boot(&BootFacts {
            booted: &id(booted),
            default: &id(default),
            boot_id: "now",
            state: &state,
            noted,
            completed: false,
            counted: true,
        })
    }

    fn returned(attempts: Option<u32>) -> BootAct {
        BootAct::Return(FailedBoot {
            target: id("b"),
            attempts,
            boot_id: "now".to_owned(),
        })
    }

    #[test]
    fn every_boot_of_the_target_is_good_until_there_were_too_many() {
        for left in [None, Some(0), Some(2)] {
            for good in 0..5 {
                let before = note(good, "before");
                let declared = judged("b", "b", left, Noted::Note(&before));
                assert_eq!(declared, BootAct::Declare(note(good + 1, "now")));
            }
            let often = note(5, "before");
            assert_eq!(
                judged("b", "b", left, Noted::Note(&often)),
                BootAct::Nothing
            );
            // Once a boot.
            let now = note(1, "now");
            assert_eq!(judged("b", "b", left, Noted::Note(&now)), BootAct::Nothing);
        }
    }

    #[test]
    fn what_has_completed_and_what_nobody_counts_is_not_returned_from() {
        let often = note(5, "before");
        let act = |completed, counted| {
            let entry = "ostree-1".to_owned();
            judge_boot(&BootFacts {
                booted: &id("b"),
                default: &id("b"),
                boot_id: "now",
                state: &FallbackState::Armed { entry, left: 1 },
                noted: Noted::Note(&often),
                completed,
                counted,
            })
        };
        assert_eq!(act(false, true), BootAct::Nothing);
        assert_eq!(act(true, true), BootAct::Disarm);
        assert_eq!(act(false, false), BootAct::Declare(note(6, "now")));
    }

    #[test]
    fn the_origin_returns_where_the_target_is_the_default_in_another_boot() {
        let before = note(0, "before");
        let check = |left, attempts| {
            let act = judged("a", "b", left, Noted::Note(&before));
            assert_eq!(act, returned(attempts), "{left:?}");
        };
        check(Some(0), Some(3));
        check(Some(1), None);
        check(None, None);
        // Between the switch and its reboot.
        let now = note(0, "now");
        assert_eq!(
            judged("a", "b", Some(3), Noted::Note(&now)),
            BootAct::Nothing
        );
    }

    #[test]
    fn a_look_at_the_origin_undoes_no_completed_upgrade() {
        let before = note(1, "before");
        let act = |left: Option<u32>| {
            let entry = "ostree-1".to_owned();
            let state = left.map_or(FallbackState::Disarmed, |left| FallbackState::Armed {
                entry,
                left,
            });
            judge_boot(&BootFacts {
                booted: &id("a"),
                default: &id("b"),
                boot_id: "now",
                state: &state,
                noted: Noted::Note(&before),
                completed: true,
                counted: true,
            })
        };
        assert_eq!(act(None), BootAct::Disarm);
        assert_eq!(act(Some(2)), BootAct::Disarm);
        assert_eq!(act(Some(0)), returned(Some(3)));
    }

    #[test]
    fn what_leads_nowhere_is_disarmed() {
        let before = note(0, "before");
        for left in [None, Some(0), Some(3)] {
            for (booted, default) in [("a", "a"), ("a", "c"), ("c", "b")] {
                let act = judged(booted, default, left, Noted::Note(&before));
                assert_eq!(act, BootAct::Disarm, "{booted} {default}");
            }
        }
        assert_eq!(judged("b", "b", Some(3), Noted::Nothing), BootAct::Disarm);
        assert_eq!(judged("b", "b", None, Noted::Nothing), BootAct::Nothing);
        assert_eq!(judged("b", "b", None, Noted::Damaged), BootAct::Nothing);
    }

    #[test]
    fn without_a_record_the_way_back_stays_open() {
        for noted in [Noted::Nothing, Noted::Damaged] {
            assert_eq!(judged("a", "b", Some(0), noted), returned(Some(3)));
        }
        assert_eq!(judged("b", "a", Some(3), Noted::Nothing), BootAct::Disarm);
        assert_eq!(judged("a", "b", Some(1), Noted::Damaged), returned(None));
        assert_eq!(judged("b", "b", Some(1), Noted::Damaged), BootAct::Refill);
        assert_eq!(judged("a", "a", Some(1), Noted::Damaged), BootAct::Refill);
    }
}
