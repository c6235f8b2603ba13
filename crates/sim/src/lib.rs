//! A node that is only simulated: the ports on an in-memory machine with page cache and disk, a power switch, and faults
//! at any operation. The code that runs on it is the product's own.
//!
//! - [`Machine`]: what is on the disk, what is in memory, what power does to both;
//! - [`Node`]: the ports; every call is one or more counted operations, at each of which a [`Fault`] may strike;
//! - [`Site`]: a node with its user, and the processes that systemd keeps running there;
//! - [`Guard`]: what must hold between any two operations.
//!
//! Nothing takes time, and one seed of randomness or none: the same script gives the same history.

mod invariant;
mod machine;
mod monitor;
mod node;
mod ports;
mod same;
mod seed_image;
mod site;
pub mod sweep;
pub mod template;
mod tree;

pub use invariant::Guard;
pub use machine::{BROKEN, Loss, Machine};
pub use node::{Fault, Moment, Node};
pub use same::Essence;
pub use seed_image::{Commit, SeedImage};
pub use site::{PROGRAM, Request, Site, Stuck};
pub use tree::{Entry, Tree};
