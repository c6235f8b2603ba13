//! What every implementation of the ports must do, as functions that the tests of each of them call: the same questions to
//! the simulated node and to a real one keep the simulated one from lying.
//!
//! A function panics where an answer is wrong, as a test does; none is meant for anything but tests.

mod boot_fallback;
mod files;
mod ostree;

pub use boot_fallback::boot_fallback;
pub use files::files;
pub use ostree::ostree;

use crate::{ErrorKind, PortResult};

/// The value of a call that has to succeed.
#[expect(clippy::panic, reason = "only tests call the contract")]
fn succeeds<T>(what: &str, result: PortResult<T>) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {}", engine::error_chain(&error)))
}

/// The call has to fail, and in this way.
fn fails<T>(what: &str, result: PortResult<T>, kind: ErrorKind) {
    let found = result.map(drop).map_err(|error| error.kind());
    assert_eq!(found, Err(kind), "{what}");
}
