//! `lifecycle-agent`: one binary, several entry points (see `cli`).

mod announcing;
mod background;
mod boot_good;
mod certificates;
mod cli;
mod controller;
mod deletion;
mod endpoints;
mod gate;
mod health;
mod init_monitor;
mod metrics;
mod node_ports;
mod plan;
mod post_pivot;
mod seed_create;
mod status;
mod telling;
mod timeline;
mod unasked;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
