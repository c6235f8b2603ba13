//! The decisions, checked through the crate's public face: tables from the contract, every combination of facts, and the golden
//! list of outcomes in `tests/contract/decisions.txt`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as expected"
)]

mod checks;
mod classes;
mod conditions;
mod contract;
mod enumeration;
mod first_boot;
mod golden;
mod health;
mod history;
mod limits;
mod monitor;
mod parsing;
mod peer;
mod plans;
mod reachable;
mod restoration;
mod sample;
mod seeds;
mod verdicts;
