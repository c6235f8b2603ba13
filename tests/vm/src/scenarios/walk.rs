//! Upgrades that go well: there, back, there again, and finalized.

use std::time::Duration;

use anyhow::{Result, ensure};
use boxed::Release;

use crate::ground::{Ground, Moment};
use crate::machine::{BOOT_LOADER, INITRAMFS};
use crate::scenario::{Outcome, Scenario};
use crate::serial::Mark;
use crate::site::Site;

pub(super) const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "upgrade, rollback, upgrade again, finalize",
        from: Moment::Idle,
        play: there_and_back_and_there,
    },
    Scenario {
        name: "upgrade twice, the same OS commit, rollback",
        from: Moment::Idle,
        play: twice,
    },
    Scenario {
        name: "upgrade over two minor versions",
        from: Moment::Idle,
        play: over_two,
    },
];

const ORIGIN: &str = "rhcos";
const TARGET: &str = "rhcos_4.17.4";

/// A file in the shared partition that no release may touch.
const SHARED: &str = "/var/lib/containers/of-the-site";

fn there_and_back_and_there(site: &mut Site) -> Result<Outcome> {
    mark_shared(site)?;
    site.go("Prep")?;
    upgrade(site)?;
    let back = roll_back(site)?;
    finalize(site, ORIGIN)?;
    site.go("Prep")?;
    upgrade(site)?;
    finalize(site, TARGET)?;
    Ok(Outcome {
        back: Some(back),
        evidence: None,
    })
}

fn twice(site: &mut Site) -> Result<Outcome> {
    mark_shared(site)?;
    site.go("Prep")?;
    upgrade(site)?;
    finalize(site, TARGET)?;
    let next = Release::V4_17_5;
    site.request_prep(next)?;
    site.object(|object| object.wait_stage("Prep"))?;
    let before = site.vm.serial().mark();
    site.go("Upgrade")?;
    // Of the operating system that ran before: what is installed is the cluster's release.
    runs(site, next, "rhcos_4.17.5", before)?;
    let before = site.vm.serial().mark();
    site.request("Rollback")?;
    let back = site.wait_back(before, Release::V4_17_4.version())?;
    site.object(|object| object.wait_stage("Rollback"))?;
    runs(site, Release::V4_17_4, TARGET, before)?;
    finalize(site, TARGET)?;
    Ok(Outcome {
        back: Some(back),
        evidence: None,
    })
}

fn over_two(site: &mut Site) -> Result<Outcome> {
    mark_shared(site)?;
    site.request_prep(Release::V4_18_1)?;
    site.object(|object| object.wait_stage("Prep"))?;
    let before = site.vm.serial().mark();
    site.go("Upgrade")?;
    runs(site, Release::V4_18_1, "rhcos_4.18.1", before)?;
    finalize(site, "rhcos_4.18.1")?;
    Ok(Outcome::default())
}

/// The shortest way on which everything happens once: one upgrade whose end is kept, then finalized on one machine and
/// rolled back on another.
///
/// # Errors
/// When anything of it goes wrong.
pub fn smoke(ground: &Ground) -> Result<()> {
    let site = ground.at(Moment::Idle)?;
    let upgraded = (|| {
        mark_shared(&site)?;
        site.go("Prep")?;
        let deployments = site.vm.script("ostree admin status")?;
        ensure!(
            deployments.starts_with("* rhcos "),
            "Prep changed what boots: {deployments}"
        );
        upgrade(&site)
    })();
    upgraded.map_err(|error| site.with_evidence(error))?;
    let kept = site.vm.freeze(&ground.lab().dir().join("smoke"))?;
    let site = ground.start(&kept)?;
    finalize(&site, TARGET).map_err(|error| site.with_evidence(error))?;
    drop(site);
    let site = ground.start(&kept)?;
    let rolled_back = || {
        roll_back(&site)?;
        finalize(&site, ORIGIN)
    };
    rolled_back().map_err(|error| site.with_evidence(error))
}

fn mark_shared(site: &Site) -> Result<()> {
    site.vm
        .script(&format!("echo kept >{SHARED}; sync"))
        .map(drop)
}

/// From Prep to the new release, with exactly one boot, through the boot loader and the new release's own initramfs.
fn upgrade(site: &Site) -> Result<()> {
    let before = site.vm.serial().mark();
    site.go("Upgrade")?;
    runs(site, Release::V4_17_4, TARGET, before)
}

/// Back to the old release; how long it took from the request until its API served.
fn roll_back(site: &Site) -> Result<Duration> {
    let before = site.vm.serial().mark();
    site.request("Rollback")?;
    let back = site.wait_back(before, Release::V4_16_9.version())?;
    site.object(|object| object.wait_stage("Rollback"))?;
    runs(site, Release::V4_16_9, ORIGIN, before)?;
    Ok(back)
}

/// Holds the node and what its console said since `before` to what must run now.
fn runs(site: &Site, release: Release, stateroot: &str, before: Mark) -> Result<()> {
    let version = release.version();
    let lines = site.vm.serial().lines(before);
    let said = |start: &str| -> Vec<&str> {
        let lines = lines.iter().map(|line| line.text.as_str());
        lines.filter(|line| line.contains(start)).collect()
    };
    ensure!(
        said(BOOT_LOADER).len() == 1,
        "boots: {:?}",
        said(BOOT_LOADER)
    );
    let initramfs = said(INITRAMFS);
    let system = release.system().version();
    ensure!(
        initramfs.len() == 1 && initramfs[0].contains(system),
        "the initramfs said {initramfs:?}"
    );
    let booted = site.booted()?;
    ensure!(booted == stateroot, "{booted} runs instead of {stateroot}");
    let says = site.release()?;
    ensure!(
        says == version,
        "the cluster says {says} instead of {version}"
    );
    let shared = site.vm.run_in_guest(&["cat", SHARED])?;
    ensure!(shared == "kept\n", "the shared partition has {shared:?}");
    let failed = site
        .vm
        .run_in_guest(&["systemctl", "--failed", "--no-legend", "--plain"])?;
    ensure!(failed.is_empty(), "failed units: {failed}");
    Ok(())
}

fn finalize(site: &Site, stays: &str) -> Result<()> {
    site.go("Idle")?;
    let left = site.stateroots()?;
    ensure!(left == [stays], "{left:?} are left instead of {stays}");
    Ok(())
}
