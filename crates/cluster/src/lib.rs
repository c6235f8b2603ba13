//! Everything said to the API server: the watch on the one `ImageBasedUpgrade`, its status, its restoration after a
//! pivot, and what a target must know of this cluster. No decisions: what an answer means is the planner's business.
//!
//! Inside it is asynchronous; [`LiveCluster`] is the synchronous port for the worker thread.

mod access_review;
mod call;
mod changes;
mod cluster_version;
mod config_map;
mod connection;
mod container_images;
mod event;
mod exported;
mod facts;
mod failure;
mod health;
mod kind;
mod machine_config;
mod manifest;
mod mirror;
mod node_labels;
mod object;
mod peer;
mod permission;
mod pod_images;
mod port;
mod pull_secret;
mod reconfiguration;
mod release;
mod restoration;
mod seed_info;
mod settings;
mod upgrade;
mod watch;

pub use access_review::{Review, may_get};
pub use call::Verb;
pub use changes::{Awaited, watch_changes};
pub use connection::{Access, Connection};
pub use container_images::ContainerImages;
pub use permission::{CONTROLLER, NODE, Permission};
pub use port::LiveCluster;
pub use seed_info::SeedHost;
pub use watch::{Sighting, watch};
