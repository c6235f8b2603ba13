//! How fast a step gets on, and how long it will take.

/// The time over which the rate is averaged, in seconds: long enough that a pause between two
/// objects does not make it jump, short enough that it follows a link that becomes slow.
const WINDOW: u64 = 10;

/// Nothing is said before the step was looked at for this long, in seconds.
const KNOWN_AFTER: u64 = 3;

/// A longer remaining time is no forecast but a division by nearly nothing, in seconds.
const LONGEST: u64 = 100 * 3600;

/// The rate of one step's progress: an exponentially weighted mean over about ten seconds.
///
/// Fed with what was done at which second of a clock that does not go back; there is no timer. What
/// happens within one second counts as one observation. Progress that goes back (a step that reads
/// something again) begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// Second of the first observation and of the last one that counted, and what was done then.
    seen: Option<Seen>,
    /// Thousandths of a unit per second.
    rate: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    since: u64,
    at: u64,
    done: u64,
}

impl Pace {
    /// Takes note that `done` units were done at second `at`.
    pub fn observe(&mut self, done: u64, at: u64) {
        let seen = match self.seen {
            Some(seen) if done >= seen.done && at >= seen.at => seen,
            _ => {
                *self = Self {
                    seen: Some(Seen {
                        since: at,
                        at,
                        done,
                    }),
                    rate: 0,
                };
                return;
            }
        };
        let passed = at - seen.at;
        if passed == 0 {
            return;
        }
        let units = u128::from(done - seen.done) * 1000;
        // The first observation is all that is known; later ones weigh by the time they cover.
        let weight = if seen.at == seen.since { 0 } else { WINDOW };
        let sum = u128::from(self.rate) * u128::from(weight) + units;
        let mean = sum / (u128::from(weight) + u128::from(passed));
        self.rate = u64::try_from(mean).unwrap_or(u64::MAX);
        self.seen = Some(Seen { at, done, ..seen });
    }

    /// Thousandths of a unit per second; `None` until it is known.
    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        let seen = self.seen?;
        (seen.at - seen.since >= KNOWN_AFTER).then_some(self.rate)
    }

    /// Seconds until `total` units are done, rounded up; `None` while that cannot be said.
    #[must_use]
    pub fn left(&self, total: Option<u64>) -> Option<u64> {
        let rate = self.rate().filter(|rate| *rate > 0)?;
        let rest = total?.checked_sub(self.seen?.done)?;
        let seconds = (u128::from(rest) * 1000).div_ceil(u128::from(rate));
        u64::try_from(seconds)
            .ok()
            .filter(|seconds| *seconds <= LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(second, done)` pairs, then rate in thousandths and seconds left of `total`.
    fn check(seen: &[(u64, u64)], total: Option<u64>, rate: Option<u64>, left: Option<u64>) {
        let mut pace = Pace::default();
        for (at, done) in seen {
            pace.observe(*done, *at);
        }
        assert_eq!((pace.rate(), pace.left(total)), (rate, left), "{seen:?}");
    }

    #[test]
    fn a_rate_is_said_once_it_is_known_and_a_forecast_once_it_makes_sense() {
        check(&[], Some(9), None, None);
        check(&[(5, 100)], Some(900), None, None);
        // Too early; any number of observations within one second are one.
        check(
            &[(5, 0), (5, 70), (6, 100), (7, 200)],
            Some(900),
            None,
            None,
        );
        check(
            &[(5, 0), (6, 100), (7, 200), (8, 300)],
            Some(900),
            Some(100_000),
            Some(6),
        );
        // The rest is rounded up, and what is done takes no time.
        check(&[(0, 0), (10, 100)], Some(101), Some(10_000), Some(1));
        check(&[(0, 0), (10, 100)], Some(100), Some(10_000), Some(0));
        // No total, or one that was passed: a rate alone.
        check(&[(0, 0), (10, 100)], None, Some(10_000), None);
        check(&[(0, 0), (10, 100)], Some(99), Some(10_000), None);
        // Less than one a second is a rate too.
        check(&[(0, 0), (20, 3)], Some(6), Some(150), Some(20));
        // Nothing moves: the mean sinks, and there is no forecast without a rate.
        check(
            &[(0, 0), (10, 100), (20, 100)],
            Some(200),
            Some(5_000),
            Some(20),
        );
        check(&[(0, 5), (10, 5)], Some(9), Some(0), None);
        check(&[(0, 0), (400_000, 1)], Some(2), Some(0), None);
        check(&[(0, 0), (1000, 1)], Some(10_000), Some(1), None);
        // Going back, in work or in time, begins anew.
        check(&[(0, 0), (10, 100), (11, 50)], Some(200), None, None);
        check(
            &[(0, 0), (10, 100), (11, 50), (21, 150)],
            Some(200),
            Some(10_000),
            Some(5),
        );
        check(&[(9, 0), (19, 100), (3, 110)], Some(200), None, None);
        // Huge figures neither overflow nor divide by zero.
        check(
            &[(0, 0), (4, u64::MAX)],
            Some(u64::MAX),
            Some(u64::MAX),
            Some(0),
        );
        check(&[(0, 0), (u64::MAX, u64::MAX)], None, Some(1000), None);
        check(&[(0, 0), (4, 4)], Some(u64::MAX), Some(1000), None);
    }

    #[test]
    fn the_mean_follows_a_change_within_about_its_window() {
        let mut pace = Pace::default();
        let mut done = 0;
        for at in 0..=30 {
            pace.observe(done, at);
            done += 100;
        }
        assert_eq!(pace.rate(), Some(100_000));
        for at in 31..=41 {
            pace.observe(done, at);
            done += 10;
        }
        let rate = pace.rate().unwrap();
        assert!((30_000..55_000).contains(&rate), "{rate}");
    }
}
