//! Names of runs, such that the order of names is the order of runs whatever the wall clock has been set to: which run is the
//! latest, and which journals are the oldest, is read off them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use engine::{JournalStore, RunId};

use crate::ports::{BootId, Clock};

/// Gives this process's runs their names: `<time>-<boot>-<uptime>-<number>`, where time is the wall clock's, in seconds, or later
/// where it has gone back behind an earlier run's.
#[derive(Debug, Default)]
pub(crate) struct RunNames {
    before: OnceLock<Before>,
    /// The latest time that a name was given.
    latest: AtomicU64,
    taken: AtomicU32,
}

/// Positions of a name's parts.
const TIME_AT: usize = 0;
const BOOT_AT: usize = 1;
const NUMBER_AT: usize = 3;

/// What this process's names have to be behind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Before {
    time: u64,
    /// An earlier process of this boot may have ended within this very second.
    number: u32,
}

impl Before {
    fn of(runs: &[RunId], boot: &str) -> Self {
        let mut before = Self::default();
        for run in runs {
            let parts: Vec<&str> = run.as_str().split('-').collect();
            let part = |at: usize| parts.get(at).copied().unwrap_or_default();
            // Foreign names have no time.
            let time: u64 = part(TIME_AT).parse().unwrap_or_default();
            if part(BOOT_AT) == boot {
                let number: u32 = part(NUMBER_AT).parse().unwrap_or_default();
                before.number = before.number.max(number.saturating_add(1));
                before.time = before.time.max(time);
            } else {
                // Nothing else in the name tells which of two boots was first.
                before.time = before.time.max(time.saturating_add(1));
            }
        }
        before
    }
}

impl RunNames {
    /// The next run's name: the same number until [`taken`](Self::taken). Without a list to look at, names that other processes
    /// have given are not known; one that is taken is refused when the journal is made, and another second gives another name.
    pub(crate) fn next(&self, store: &dyn JournalStore, clock: &dyn Clock) -> String {
        let boot = short(&clock.boot_id());
        let before = self
            .before
            .get_or_init(|| Before::of(&store.list().unwrap_or_default(), &boot));
        let now = u64::try_from(clock.now()).unwrap_or_default();
        let now = now.max(before.time);
        let time = now.max(self.latest.fetch_max(now, Ordering::Relaxed));
        let number = before
            .number
            .saturating_add(self.taken.load(Ordering::Relaxed));
        format!("{time:012}-{boot}-{:08}-{number:04}", clock.uptime())
    }

    /// A run has begun.
    pub(crate) fn taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }
}

/// What tells a boot from others in a name.
fn short(boot: &BootId) -> String {
    let digits = boot.0.chars().filter(char::is_ascii_hexdigit);
    digits.take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_behind_those_of_every_boot() {
        let rows = [
            (vec![], (0, 0)),
            (vec!["000000000100-aaaaaaaa-00000050-0003"], (100, 4)),
            // A boot whose clock was ahead.
            (
                vec![
                    "000000000100-aaaaaaaa-00000050-0003",
                    "000031557600-bbbbbbbb-00000009-0000",
                ],
                (31_557_601, 4),
            ),
            (
                vec!["handwritten", "1-2", "99999999999999999999-b-c-d"],
                (2, 0),
            ),
        ];
        for (runs, (time, number)) in rows {
            let runs: Vec<RunId> = runs.iter().map(|run| run.parse().unwrap()).collect();
            let before = Before::of(&runs, "aaaaaaaa");
            assert_eq!(before, Before { time, number }, "{runs:?}");
        }
    }
}
