//! All scenarios, in the order in which the suite plays them.

mod disturbances;
mod faults;
mod walk;

use crate::scenario::Scenario;

pub use walk::smoke;

/// Every scenario.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        walk::SCENARIOS.as_slice(),
        faults::SCENARIOS.as_slice(),
        disturbances::SCENARIOS.as_slice(),
    ]
    .concat()
}
