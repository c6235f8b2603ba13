//! How fast may be fetched, by everybody together.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much of an unused allowance is made up for: timers wake late, and without it every late wake would slow a fetch down
/// below what it may have.
const SLACK: Duration = Duration::from_millis(50);

/// One allowance of bytes per second, shared by all who fetch with it: connections, mirrors and registries together stay
/// below it. Nobody is refused anything; who has received bytes waits until they were due.
#[derive(Debug)]
pub struct Budget {
    rate: NonZeroU64,
    /// When everything that was received so far was due.
    due: Mutex<Option<Instant>>,
}

impl Budget {
    /// An allowance of so many bytes per second.
    #[must_use]
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self {
            rate: bytes_per_second,
            due: Mutex::new(None),
        }
    }

    /// Counts `bytes` that were received at `now`; gives how long their receiver has to wait before it reads on.
    #[must_use]
    pub fn spend(&self, bytes: usize, now: Instant) -> Duration {
        let cost = Duration::from_secs_f64(bytes as f64 / self.rate.get() as f64);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = now.checked_sub(SLACK).unwrap_or(now);
        // The first bytes have nothing to make up for.
        let from = due.map_or(now, |due| due.max(floor));
        let until = from.checked_add(cost).unwrap_or(from);
        *due = Some(until);
        until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds that each receiver waits, given when it received how many bytes, at 1,000 bytes per second.
    fn check(received: &[(u64, usize)], expect: &[u64]) {
        let budget = Budget::new(NonZeroU64::new(1000).unwrap());
        let begun = Instant::now();
        let waits: Vec<u64> = received
            .iter()
            .map(|(at, bytes)| {
                let wait = budget.spend(*bytes, begun + Duration::from_millis(*at));
                u64::try_from(wait.as_millis()).unwrap()
            })
            .collect();
        assert_eq!(waits, expect, "{received:?}");
    }

    #[test]
    fn receivers_wait_for_the_sum_of_what_all_of_them_received() {
        check(&[(0, 100)], &[100]);
        // Four connections at once: the last one waits for all.
        check(
            &[(0, 100), (0, 100), (0, 100), (0, 100)],
            &[100, 200, 300, 400],
        );
        // One after the other, each when it may.
        check(&[(0, 100), (100, 100), (200, 300)], &[100, 100, 300]);
        // Late by 20 ms: made up for. Late by a second: only 50 ms of it.
        check(&[(0, 100), (120, 100)], &[100, 80]);
        check(&[(0, 100), (1100, 100)], &[100, 50]);
        check(&[(0, 0), (0, 1)], &[0, 1]);
    }
}
