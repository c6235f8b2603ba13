//! Decisions: facts, spec and status go in; state, plan and conditions come out. No I/O, no clock, no randomness.

mod failure;

pub use failure::{Disposition, ErrorKind, LONGEST_BACKOFF, backoff, disposition};
