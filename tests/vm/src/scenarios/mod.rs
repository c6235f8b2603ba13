//! All scenarios, in the order in which the suite plays them.

mod walk;

use crate::scenario::Scenario;

pub use walk::smoke;

/// Every scenario.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [walk::SCENARIOS.as_slice()].concat()
}
