//! The ports, acting on the machine.

mod cluster;
mod fallback;
mod files;
mod hardware;
mod images;
mod ostree;
mod seeds;
mod traces;
mod units;

pub(crate) use cluster::{change, live};
pub(crate) use images::stored;
