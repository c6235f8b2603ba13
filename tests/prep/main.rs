//! Prep on a node in the box, with figures: what it fetches is what was announced, and it ends when it is told to.

#![expect(clippy::print_stdout, reason = "figures are part of the result")]

mod abort;
mod fetched;

/// The stateroot of the running release.
const ORIGIN: &str = "rhcos";
