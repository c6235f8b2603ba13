//! `boot-good`: what lca-boot-good.service runs early in each boot.

use std::time::Duration;

use anyhow::Result;
use host::{HostClock, HostFallback, HostFiles, HostMachine, HostOstree, Layout};
use node::{EarlyPorts, ErrorKind};
use planner::BootAct;

/// How often it is tried while somebody holds the sysroot, and the pause between: the boot waits for it.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Needs no API server, no network and no D-Bus.
pub(crate) fn run() -> Result<()> {
    let layout = Layout::running();
    let ostree = HostOstree::new(layout.clone());
    let fallback = HostFallback::new(layout.clone());
    let files = HostFiles::new(layout.clone());
    let machine = HostMachine::new(layout);
    let clock = HostClock::new();
    let ports = EarlyPorts {
        ostree: &ostree,
        fallback: &fallback,
        files: &files,
        clock: &clock,
        machine: &machine,
    };
    let mut attempts = 1..ATTEMPTS;
    loop {
        match node::boot_good(&ports) {
            Err(error)
                if matches!(error.kind(), ErrorKind::Busy | ErrorKind::Transient)
                    && attempts.next().is_some() =>
            {
                tracing::warn!(error = engine::error_chain(&error), "trying again");
                std::thread::sleep(PAUSE);
            }
            judged => {
                tell(&judged?);
                return Ok(());
            }
        }
    }
}

/// Tells what was done, for the journal of this boot.
pub(crate) fn tell(act: &BootAct) {
    match act {
        BootAct::Nothing => tracing::debug!("no boot fallback is under way"),
        BootAct::Declare(note) => {
            let (target, boots) = (note.target.to_string(), note.good_boots);
            tracing::info!(target, boots, "this boot is good");
        }
        BootAct::Refill => {
            tracing::warn!("all attempts are there again: whose boot this is, no record says")
        }
        BootAct::Disarm => {
            tracing::info!("the boot fallback is disarmed: there is nothing to return from")
        }
        BootAct::Return(failed) => {
            let (target, attempts) = (failed.target.to_string(), failed.attempts);
            tracing::warn!(
                target,
                attempts,
                "the boot loader returned to this release, which is the default again"
            );
        }
    }
}
