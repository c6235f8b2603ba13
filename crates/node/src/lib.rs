//! What a node can do, as small traits ([`ports`]), and what the agent does with it: the steps, and observing facts.
//! Nothing here touches a real host; `host` and `cluster` do, and `sim` pretends to.

mod error;
mod journal_files;
pub mod record;
pub mod steps;
pub use steps::document as reconfiguration_document;
pub mod ports;

pub use error::{PortError, PortResult};
pub use planner::ErrorKind;
