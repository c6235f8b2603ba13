//! What a node can do, as small traits ([`ports`]), and what the agent does with it: the steps, observing facts, one
//! pass over the upgrade object, one run of a plan.
//! Nothing here touches a real host; `host` and `cluster` do, and `sim` pretends to.

mod agent;
mod boot_good;
mod cluster_view;
#[cfg(feature = "contract")]
pub mod contract;
mod error;
pub mod evidence;
mod first_boot;
mod first_boot_or_return;
mod init_monitor;
mod journal_files;
mod latest;
mod observe;
mod place;
pub mod ports;
mod progress_note;
pub mod record;
mod restart;
mod run_names;
mod saved;
pub mod steps;
pub mod timeline;
mod verdict;
mod way_back;

pub use agent::{Agent, Pass};
pub use boot_good::{EarlyPorts, boot_good};
pub use engine::error_chain;
pub use error::{PortError, PortResult};
pub use first_boot::{FirstBoot, first_boot};
pub use first_boot_or_return::{first_boot_or_return, return_for_unit, return_from_first_boot};
pub use init_monitor::{InitMonitor, MonitorMemory, Tick};
pub use journal_files::{JournalFiles, RUNS};
pub use latest::LatestRun;
pub use observe::observe;
pub use place::{Amount, Place, beginning, describe};
pub use planner::ErrorKind;
pub use progress_note::{FailureNote, ProgressNote};
pub use restart::{Restored, restore_saved};
pub use verdict::latest_verdict;
