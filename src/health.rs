//! What the probes answer: whether passes are made, and whether the object was seen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A pass that takes longer than this does not come back: what it asks answers within seconds, or fails.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// What the pass loop tells and the probes read. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Since when a pass is being made.
    pass: Mutex<Option<Instant>>,
    seen: AtomicBool,
}

impl Health {
    /// Makes a pass that the probes know of.
    pub(crate) fn during<T>(&self, pass: impl FnOnce() -> T) -> T {
        self.set(Some(Instant::now()));
        let outcome = pass();
        self.set(None);
        outcome
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.pass.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// The watch has delivered the upgrade object.
    pub(crate) fn saw_object(&self) {
        self.0.seen.store(true, Ordering::Release);
    }

    /// Why the process had better be started again, if so.
    pub(crate) fn illness(&self) -> Option<String> {
        self.illness_at(Instant::now())
    }

    fn illness_at(&self, now: Instant) -> Option<String> {
        let since = *self.0.pass.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = now.saturating_duration_since(since?);
        (takes > STUCK_AFTER).then(|| format!("a pass has taken {} s so far", takes.as_secs()))
    }

    /// Why nothing can be expected of the process yet, if so.
    pub(crate) fn unreadiness(&self) -> Option<String> {
        let seen = self.0.seen.load(Ordering::Acquire);
        (!seen).then(|| "the ImageBasedUpgrade has not been seen yet".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pass_that_does_not_come_back_is_ill() {
        let health = Health::default();
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert_eq!(health.illness_at(later(900)), None, "resting is no illness");
        health.during(|| {
            assert_eq!(health.illness_at(later(119)), None);
            let told = health.illness_at(later(130)).unwrap();
            assert!(told.starts_with("a pass has taken 1"), "{told}");
        });
        assert_eq!(health.illness_at(later(900)), None);
    }

    #[test]
    fn readiness_comes_with_the_object() {
        let health = Health::default();
        assert!(health.clone().unreadiness().is_some());
        health.saw_object();
        assert_eq!(health.clone().unreadiness(), None);
    }
}
