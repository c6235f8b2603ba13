//! The port and the watch against a real API server.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

mod access_review;
mod facts;
mod first_boot;
mod health;
mod peer;
mod plane;
mod publish;
mod restoration;
mod watch;
