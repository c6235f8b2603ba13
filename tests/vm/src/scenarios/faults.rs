//! What goes wrong in the new release and leads back to the old one, without anybody's help.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use boxed::Release;
use boxed::site::{conditions, message};
use serde_json::json;

use crate::fault::{self, BEGUN, deadline};
use crate::ground::Moment;
use crate::machine::INITRAMFS;
use crate::scenario::{Outcome, Scenario};
use crate::serial::Mark;
use crate::site::Site;

const BY_LOADER: &str = "Uncontrolled rollback: ";
const BY_MONITOR: &str = "Rollback due to LCA Init Monitor timeout, after 1m30s";
const BY_FIRST_BOOT: &str = "Rollback due to postpivot failure: ";
const BY_CONTROLLER: &str = "Rollback due to upgrade failure: the saved ImageBasedUpgrade";
/// Seconds that a new release has where only the deadline ends its trouble.
const DEADLINE: u32 = 90;

pub(super) const SCENARIOS: [Scenario; 16] = [
    fault("kernel panic in the new release", |site| {
        site.add_kernel_argument(fault::TARGET, "rd.testfail=panic")?;
        returns(site, BY_LOADER)
    }),
    fault("hang in its initramfs", |site| {
        site.add_kernel_argument(fault::TARGET, "rd.testfail=hang rd.watchdog=30")?;
        returns(site, BY_LOADER)
    }),
    fault("systemd unable to start", |site| {
        let broken = "rm $new/usr/lib/systemd/systemd
                      echo no program >$new/usr/lib/systemd/systemd
                      chmod 0755 $new/usr/lib/systemd/systemd";
        fault::in_target(site, broken)?;
        returns(site, BY_LOADER)
    }),
    Scenario {
        name: "emergency mode, for want of a mount",
        from: Moment::Idle,
        play: emergency,
    },
    fault("a unit that hangs early in the boot", |site| {
        let unit = "unit=$new/etc/systemd/system/mini-sno-hang.service
                    printf '[Unit]\\nDefaultDependencies=no\\nAfter=mini-sno-fault.service\\nBefore=sysinit.target\\n' >$unit
                    printf '[Service]\\nType=oneshot\\nExecStart=/bin/sleep infinity\\n' >>$unit
                    mkdir -p $new/etc/systemd/system/sysinit.target.wants
                    ln -s ../mini-sno-hang.service $new/etc/systemd/system/sysinit.target.wants/";
        fault::in_target(site, unit)?;
        fault::on_boot(site, &deadline(DEADLINE))?;
        returns(site, BY_MONITOR)
    }),
    fault("post-pivot failing for good", |site| {
        let document = "/var/opt/openshift/cluster-configuration/manifest.json";
        let change = r#"jq '.machine_networks = ["2001:db8::/64"]'"#;
        fault::on_boot(
            site,
            &format!("{change} {document} >/run/changed && cat /run/changed >{document}"),
        )?;
        returns(site, BY_FIRST_BOOT)
    }),
    fault("API never up", |site| {
        let broken = "rm -rf /var/lib/etcd/member; echo no database >/var/lib/etcd/member";
        fault::on_boot(site, &format!("{}\n{broken}", deadline(DEADLINE)))?;
        returns(site, BY_MONITOR)
    }),
    fault("agent crash-looping", |site| {
        let drop_in = "dir=$new/etc/systemd/system/lifecycle-agent.service.d; mkdir -p $dir
                       printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\nRestart=always\\n' >$dir/fault.conf";
        fault::in_target(site, drop_in)?;
        fault::on_boot(site, &deadline(DEADLINE))?;
        returns(site, BY_MONITOR)
    }),
    fault("agent killed for good", |site| {
        fault::mask(site, "lifecycle-agent.service")?;
        fault::on_boot(site, &deadline(DEADLINE))?;
        returns(site, BY_MONITOR)
    }),
    fault("deadline passed", |site| {
        fault::on_boot(site, &deadline(20))?;
        returns(site, "Rollback due to LCA Init Monitor timeout, after 20s")
    }),
    fault("disk filled after the pivot", |site| {
        let fill = "cat /dev/zero >/var/fill 2>/dev/null; sync";
        fault::on_boot(site, &format!("{}\n{fill}", deadline(DEADLINE)))?;
        returns(site, "Rollback due to ")
    }),
    fault("saved CR empty", |site| saved(site, ": >$saved")),
    fault("saved CR truncated", |site| {
        saved(
            site,
            "truncate --size=$(( $(stat -c %s $saved) / 2 )) $saved",
        )
    }),
    fault("saved CR bit-flipped", |site| {
        // The opening brace: another bit of it may be one that nobody reads.
        saved(site, "printf z | dd of=$saved conv=notrunc status=none")
    }),
    fault("saved CR from a newer version", |site| {
        saved(
            site,
            r#"sed -i 's,"lca.openshift.io/v1","lca.openshift.io/v9",' $saved"#,
        )
    }),
    fault("rollback configuration torn, agent gone", |site| {
        fault::mask(site, "lifecycle-agent.service")?;
        // A torn one means the usual half an hour; the count of boots is what ends it here.
        fault::on_boot(site, "echo { >/var/lib/lca/autorollback_config.json")?;
        fault::reboots(site, 9, "systemctl reboot --force")?;
        returns(
            site,
            "Rollback due to LCA Init Monitor: not completed within 5 boots",
        )
    }),
];

const fn fault(name: &'static str, play: fn(&mut Site) -> Result<Outcome>) -> Scenario {
    Scenario {
        name,
        from: Moment::Prepared,
        play,
    }
}

/// Nothing that a boot usually starts runs there, the scripts of the other faults neither: the deadline is the user's own.
fn emergency(site: &mut Site) -> Result<Outcome> {
    let spec = json!({"autoRollbackOnFailure": {"initMonitorTimeoutSeconds": DEADLINE}});
    site.object(|object| object.patch(&json!({"spec": spec})))?;
    site.go("Prep")?;
    let mount = "/dev/disk/by-label/nowhere /mnt ext4 x-systemd.device-timeout=5s 0 0";
    fault::in_target(site, &format!("echo '{mount}' >>$new/etc/fstab"))?;
    returns(site, BY_MONITOR)
}

/// The upgrade object that waits in the new release is damaged before anybody has read it there.
fn saved(site: &mut Site, damage: &str) -> Result<Outcome> {
    fault::on_boot(site, &format!("saved=/var/lib/lca/ibu.json\n{damage}"))?;
    returns(site, BY_CONTROLLER)
}

/// Upgrades into the fault, and holds what comes of it to what must: the old release runs, serves, says why, and can be
/// cleaned up.
fn returns(site: &Site, reason: &str) -> Result<Outcome> {
    let before = site.vm.serial().mark();
    site.request("Upgrade")?;
    let old = Release::V4_16_9.version();
    site.wait_back(before, old)?;
    let served = Instant::now();
    let fault = began(site, before).context("the new release was never tried")?;
    let booted = site.booted()?;
    ensure!(booted == "rhcos", "{booted} runs");
    ensure!(
        site.release()? == old,
        "the cluster says {}",
        site.release()?
    );
    let ibu = site.object(|object| {
        object.wait(crate::API_LIMIT, |ibu| {
            conditions(ibu).contains(&("UpgradeCompleted", "False"))
                && message(ibu, "UpgradeInProgress").contains("; evidence: ")
        })
    })?;
    let said = message(&ibu, "UpgradeInProgress");
    ensure!(said.starts_with(reason), "{said:?} instead of {reason:?}");
    ensure!(
        ibu["status"]["validNextStages"] == json!(["Idle"]),
        "{}",
        ibu["status"]["validNextStages"]
    );
    let evidence = site.evidence(&said)?;
    site.go("Idle")?;
    ensure!(site.stateroots()? == ["rhcos"], "{:?}", site.stateroots()?);
    Ok(Outcome {
        back: Some(served.saturating_duration_since(fault)),
        evidence: Some(evidence),
    })
}

/// When the fault began: with its own line, else with the new release's first boot.
fn began(site: &Site, since: Mark) -> Option<Instant> {
    let lines = site.vm.serial().lines(since);
    let boot = format!("{INITRAMFS} {}", Release::V4_17_4.version());
    [BEGUN, &boot].iter().find_map(|text| {
        let line = lines.iter().find(|line| line.text.contains(*text))?;
        Some(line.at)
    })
}
