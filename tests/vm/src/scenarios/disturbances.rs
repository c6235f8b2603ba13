//! What the new release has to live with: the upgrade completes all the same.

use anyhow::{Result, ensure};
use boxed::Release;

use crate::fault;
use crate::ground::Moment;
use crate::scenario::{Outcome, Scenario};
use crate::site::Site;

pub(super) const SCENARIOS: [Scenario; 5] = [
    disturbance("clock one year ahead", |site| {
        fault::on_boot(site, "date --set '+1 year'")?;
        completes(site)
    }),
    disturbance("clock one year back", |site| {
        fault::on_boot(site, "date --set '-1 year'")?;
        completes(site)
    }),
    disturbance("two clean reboots by somebody else", |site| {
        fault::on_boot(site, "true")?;
        fault::reboots(site, 2, "systemctl reboot")?;
        completes(site)
    }),
    disturbance("healthy boots outlive the initramfs' watchdog", |site| {
        site.add_kernel_argument(fault::TARGET, "rd.watchdog=45")?;
        let outcome = completes(site)?;
        // Longer than the timer that the initramfs had set.
        site.vm.script("sleep 60")?;
        ensure!(site.vm.boots() == 1, "{} boots", site.vm.boots());
        Ok(outcome)
    }),
    disturbance("API down for 10 minutes", |site| {
        let late = "mkdir -p /run/systemd/system/kubelet.service.d
                    printf '[Service]\\nExecStartPre=/bin/sleep 600\\nTimeoutStartSec=infinity\\n' \\
                        >/run/systemd/system/kubelet.service.d/late.conf";
        fault::on_boot(site, late)?;
        completes(site)
    }),
];

const fn disturbance(name: &'static str, play: fn(&mut Site) -> Result<Outcome>) -> Scenario {
    Scenario {
        name,
        from: Moment::Prepared,
        play,
    }
}

/// Waits for the monitor's end: it is disarmed behind the status.
const MONITOR_GONE: &str = "for _ in {1..60}; do systemctl is-active -q lca-init-monitor.service || exit 0; sleep 1; done; exit 1";

/// Upgrades, and sees that the new release has completed and stays.
fn completes(site: &Site) -> Result<Outcome> {
    site.request("Upgrade")?;
    let limit = std::time::Duration::from_secs(1500);
    site.object(|object| object.wait_ended("Upgrade", limit))?;
    let booted = site.booted()?;
    ensure!(booted == fault::TARGET, "{booted} runs");
    let says = site.release()?;
    ensure!(
        says == Release::V4_17_4.version(),
        "the cluster says {says}"
    );
    let monitor = site.vm.exec(&["bash", "-c", MONITOR_GONE])?;
    ensure!(
        monitor.status == Some(0),
        "the init monitor still runs a minute behind the completion"
    );
    Ok(Outcome::default())
}
