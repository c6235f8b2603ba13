//! How long a registry is waited for.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Longest wait that a registry may ask for with Retry-After and is granted in place; one that asks
/// for more is asked again by whoever called.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(60);

/// How long a registry is waited for, and how often it is asked again before its failure is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection to come up.
    pub connect: Duration,
    /// For an open transfer that stays silent.
    pub read: Duration,
    /// Before the second try; doubled for each further one, and varied by half.
    pub pause: Duration,
    /// Tries without a single new byte before the failure is told.
    pub tries: u32,
}

impl Default for Patience {
    /// Ten seconds to connect, thirty of silence, four tries within about four seconds: callers try
    /// again too, and tell people about it.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(30),
            pause: Duration::from_millis(500),
            tries: 4,
        }
    }
}

impl Patience {
    /// The wait before try number `tries` + 1, at least what the registry asked for. Varied, so that
    /// many nodes that lost the same registry do not come back in step.
    pub(super) fn wait(&self, tries: u32, asked: Option<Duration>) -> Duration {
        let doubled = self
            .pause
            .saturating_mul(1 << tries.saturating_sub(1).min(6));
        let random = RandomState::new().hash_one(tries) % 1000;
        let varied = doubled.mul_f64(0.5 + random as f64 / 1000.0);
        varied.max(asked.unwrap_or_default().min(RETRY_AFTER_LIMIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_vary_and_heed_the_registry() {
        let patience = Patience::default();
        let check = |tries, asked: Option<u64>, least: u64, most: u64| {
            for _ in 0..20 {
                let wait = patience
                    .wait(tries, asked.map(Duration::from_secs))
                    .as_millis();
                assert!(
                    (u128::from(least)..=u128::from(most)).contains(&wait),
                    "{wait}"
                );
            }
        };
        check(1, None, 250, 750);
        check(3, None, 1000, 3000);
        check(1, Some(5), 5000, 5000);
        check(1, Some(3600), 60_000, 60_000);
        assert_ne!(patience.wait(7, None), patience.wait(7, None));
    }
}
