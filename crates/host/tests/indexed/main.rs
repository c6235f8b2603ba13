//! Seeds with an index: installed by parts like by the whole, whatever goes wrong.
//!
//! The registries are here; each installation runs in a process of its own, which trusts them and may be killed.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its figures"
)]

#[path = "../../../seed/tests/faulty/mod.rs"]
#[allow(dead_code, reason = "shared with tests that need more")]
mod faulty;
mod image;
#[path = "../real/support.rs"]
#[allow(dead_code, reason = "shared with tests that need more")]
mod support;
#[path = "../../../seed/tests/tree/mod.rs"]
#[allow(dead_code, reason = "shared with tests that need more")]
mod tree;

mod faults;
mod kills;
mod lies;
mod parts;
mod run;
