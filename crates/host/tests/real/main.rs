//! What the ports promise, tried on the real ones, with a node that lies in a plain directory.

#![expect(clippy::unwrap_used, reason = "a test")]

mod fallback;
mod files;
mod seeds;
mod support;
mod sysroot;
