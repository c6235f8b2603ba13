//! What a node can do, as small traits ([`ports`]), and what the agent does with it: the steps, observing facts, one
//! pass over the upgrade object, one run of a plan.
//! Nothing here touches a real host; `host` and `cluster` do, and `sim` pretends to.

mod agent;
mod cluster_view;
#[cfg(feature = "contract")]
pub mod contract;
mod error;
mod first_boot;
mod journal_files;
mod latest;
mod observe;
pub mod ports;
pub mod record;
mod restart;
pub mod steps;

pub use agent::{Agent, Pass};
pub use engine::error_chain;
pub use error::{PortError, PortResult};
pub use first_boot::{FirstBoot, first_boot};
pub use journal_files::{JournalFiles, RUNS};
pub use latest::{Amount, LatestRun, Place, describe};
pub use observe::observe;
pub use planner::ErrorKind;
pub use restart::{Restored, restore_saved};
