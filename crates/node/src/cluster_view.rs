//! The cluster as it last answered. It is asked away from the passes: an API server that takes its time must not keep a
//! pass from seeing that the user asks for something else.

use std::sync::{Mutex, MutexGuard, PoisonError};

use planner::{ClusterFacts, ClusterKnowledge, Health};

use crate::PortResult;

/// Seconds that an answer is believed. Long enough for the pass that follows it; a plan is never made from what was true a
/// while ago.
const FRESH: u64 = 10;

/// Seconds between a failed question and the next.
const PAUSE: u64 = 2;

/// Seconds between two questions for health that is waited for: of what nobody says that it has changed, and where it has or
/// nothing is known.
const HEALTH_PAUSE: u64 = 3;
const CHANGED_PAUSE: u64 = 1;

/// What the cluster is asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Question {
    /// Everything that the checks need.
    #[default]
    Facts,
    /// What is not healthy, alone.
    Health,
}

/// What is known of the cluster.
#[derive(Debug, Default)]
pub(crate) struct ClusterView(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    asking: bool,
    question: Question,
    /// Somebody waits for the answer.
    wanted: bool,
    /// Something that it is made of has changed since it was asked for.
    changed: bool,
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
    pub(crate) fn begin(&self, question: Question, now: u64) -> bool {
        let mut seen = self.seen();
        let waits = seen.answer.as_ref().is_some_and(|(answer, at)| {
            let pause = match (question, answer) {
                (Question::Health, ClusterKnowledge::Known(_)) if !seen.changed => HEALTH_PAUSE,
                (Question::Health, _) => CHANGED_PAUSE,
                (Question::Facts, ClusterKnowledge::Known(_)) if seen.changed => HEALTH_PAUSE,
                (Question::Facts, ClusterKnowledge::Known(_)) => FRESH,
                (Question::Facts, _) => PAUSE,
            };
            now.saturating_sub(*at) < pause
        });
        let begins = !seen.asking && !waits;
        seen.asking |= begins;
        seen.wanted |= begins;
        if begins {
            seen.question = question;
            seen.changed = false;
        }
        begins
    }

    /// Asks what is to be asked by `ask`, and keeps the answer, which comes at `uptime`; unless nobody has a use for it any more.
    pub(crate) fn ask(
        &self,
        ask: impl FnOnce(Question) -> PortResult<ClusterFacts>,
        uptime: impl FnOnce() -> u64,
    ) {
        let asking = Asking(self);
        let (wanted, question) = {
            let seen = self.seen();
            (seen.wanted, seen.question)
        };
        if !wanted {
            return;
        }
        let answer = match ask(question) {
            Ok(facts) => ClusterKnowledge::Known(Box::new(facts)),
            Err(error) => ClusterKnowledge::Unknown {
                kind: error.kind(),
                error: engine::error_chain(&error),
            },
        };
        self.seen().answer = Some((answer, uptime()));
        drop(asking);
    }

    /// Something that an answer is made of has changed.
    pub(crate) fn change(&self) {
        self.seen().changed = true;
    }

    /// Seconds until it can be asked again for what has changed, if anything has and nobody asks already.
    pub(crate) fn changed_again(&self) -> Option<u64> {
        let seen = self.seen();
        (seen.changed && !seen.asking).then_some(HEALTH_PAUSE)
    }

    pub(crate) fn is_asking(&self) -> bool {
        self.seen().asking
    }

    /// What was known has served: the next plan is made from a new answer.
    pub(crate) fn forget(&self) {
        let mut seen = self.seen();
        seen.answer = None;
        seen.wanted = false;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_somebody_waits_for_is_asked() {
        let view = ClusterView::default();
        let answered = |expect: bool| {
            let mut asked = false;
            let ask = |_| {
                asked = true;
                Ok(ClusterFacts::default())
            };
            view.ask(ask, || 100);
            assert_eq!(asked, expect);
            let known = matches!(view.knowledge(100), ClusterKnowledge::Known(_));
            assert_eq!(known, expect);
            assert!(!view.is_asking());
        };
        answered(false);
        assert!(view.begin(Question::Facts, 100));
        assert!(!view.begin(Question::Facts, 100), "one question at a time");
        answered(true);
        // What is waited for is asked for again soon where it has changed, and else later.
        assert!(!view.begin(Question::Health, 102));
        view.change();
        assert!(!view.begin(Question::Health, 100));
        assert!(view.begin(Question::Health, 101));
        answered(true);
        assert!(!view.begin(Question::Health, 102));
        assert!(view.begin(Question::Health, 103));
        answered(true);
        // The stage is taken back while the question is on its way.
        view.forget();
        assert!(view.begin(Question::Facts, 100));
        view.forget();
        answered(false);
        assert!(view.begin(Question::Facts, 100));
        answered(true);
    }
}
