//! `lifecycle-agent`: one binary, several entry points (see `cli`).

mod background;
mod cli;
mod controller;
mod deletion;
mod node_ports;
mod post_pivot;
mod seed_create;
mod status;
mod telling;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
