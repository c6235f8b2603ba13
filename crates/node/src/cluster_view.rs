//! The cluster as it last answered. It is asked away from the passes: an API server that takes its time must not keep a
//! pass from seeing that the user asks for something else.

use std::sync::{Mutex, MutexGuard, PoisonError};

use planner::{ClusterKnowledge, Health};

use crate::ports::Ports;

/// Seconds that an answer is believed. Long enough for the pass that follows it; a plan is never made from what was true a
/// while ago.
const FRESH: u64 = 10;

/// Seconds between a failed question and the next.
const PAUSE: u64 = 2;

/// What is known of the cluster.
#[derive(Debug, Default)]
pub(crate) struct ClusterView(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    asking: bool,
    /// The answer, and the uptime when it came, in seconds.
    answer: Option<(ClusterKnowledge, u64)>,
}

impl ClusterView {
    /// What is known at uptime `now`.
    pub(crate) fn knowledge(&self, now: u64) -> ClusterKnowledge {
        match &self.seen().answer {
            // An old answer is none; an old failure is still why nothing is known, and old troubles are why nothing begins.
            Some((ClusterKnowledge::Known(facts), at))
                if now.saturating_sub(*at) > FRESH && facts.health == Health::default() =>
            {
                ClusterKnowledge::NotAsked
            }
            Some((answer, _)) => answer.clone(),
            None => ClusterKnowledge::NotAsked,
        }
    }

    /// Whether it has to be asked now. Once `true`, not again before [`ClusterView::ask`] has been called.
    pub(crate) fn begin(&self, now: u64) -> bool {
        let mut seen = self.seen();
        let waits = seen.answer.as_ref().is_some_and(|(answer, at)| {
            let pause = match answer {
                ClusterKnowledge::Known(_) => FRESH,
                _ => PAUSE,
            };
            now.saturating_sub(*at) < pause
        });
        let begins = !seen.asking && !waits;
        seen.asking |= begins;
        begins
    }

    /// Asks, and keeps the answer.
    pub(crate) fn ask(&self, ports: &Ports<'_>) {
        let asking = Asking(self);
        let answer = match ports.cluster.facts() {
            Ok(facts) => ClusterKnowledge::Known(Box::new(facts)),
            Err(error) => ClusterKnowledge::Unknown {
                kind: error.kind(),
                error: engine::error_chain(&error),
            },
        };
        self.seen().answer = Some((answer, ports.clock.uptime()));
        drop(asking);
    }

    pub(crate) fn is_asking(&self) -> bool {
        self.seen().asking
    }

    /// What was known has served: the next plan is made from a new answer.
    pub(crate) fn forget(&self) {
        self.seen().answer = None;
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question under way; over even if the port panics.
struct Asking<'v>(&'v ClusterView);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.seen().asking = false;
    }
}
