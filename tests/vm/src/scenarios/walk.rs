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

/// A file in the shared partition that no release may touch.
const SHARED: &str = "/var/lib/containers/of-the-site";

/// What can run on the node.
#[derive(Clone, Copy, Debug)]
struct Installed {
    release: Release,
    stateroot: &'static str,
}

const OLD: Installed = Installed {
    release: Release::V4_16_9,
    stateroot: "rhcos",
};
const NEW: Installed = Installed {
    release: Release::V4_17_4,
    stateroot: "rhcos_4.17.4",
};
/// Of the operating system of [`NEW`].
const PATCHED: Installed = Installed {
    release: Release::V4_17_5,
    stateroot: "rhcos_4.17.5",
};
const FARTHER: Installed = Installed {
    release: Release::V4_18_1,
    stateroot: "rhcos_4.18.1",
};

fn there_and_back_and_there(site: &mut Site) -> Result<Outcome> {
    mark_shared(site)?;
    prepare(site, NEW)?;
    pivot(site, "Upgrade", NEW)?;
    let back = pivot(site, "Rollback", OLD)?;
    finalize(site, OLD)?;
    prepare(site, NEW)?;
    pivot(site, "Upgrade", NEW)?;
    finalize(site, NEW)?;
    Ok(Outcome {
        back: Some(back),
        evidence: None,
    })
}

fn twice(site: &mut Site) -> Result<Outcome> {
    mark_shared(site)?;
    prepare(site, NEW)?;
    pivot(site, "Upgrade", NEW)?;
    finalize(site, NEW)?;
    prepare(site, PATCHED)?;
    pivot(site, "Upgrade", PATCHED)?;
    let back = pivot(site, "Rollback", NEW)?;
    finalize(site, NEW)?;
    Ok(Outcome {
        back: Some(back),
        evidence: None,
    })
}

fn over_two(site: &mut Site) -> Result<Outcome> {
    mark_shared(site)?;
    prepare(site, FARTHER)?;
    pivot(site, "Upgrade", FARTHER)?;
    finalize(site, FARTHER)?;
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
        prepare(&site, NEW)?;
        let deployments = site.vm.script("ostree admin status")?;
        ensure!(
            deployments.starts_with("* rhcos "),
            "Prep changed what boots: {deployments}"
        );
        pivot(&site, "Upgrade", NEW)
    })();
    upgraded.map_err(|error| site.with_evidence(error))?;
    let kept = site.vm.freeze(&ground.lab().dir().join("smoke"))?;
    let site = ground.start(&kept)?;
    finalize(&site, NEW).map_err(|error| site.with_evidence(error))?;
    drop(site);
    let site = ground.start(&kept)?;
    let rolled_back = || {
        pivot(&site, "Rollback", OLD)?;
        finalize(&site, OLD)
    };
    rolled_back().map_err(|error| site.with_evidence(error))
}

fn mark_shared(site: &Site) -> Result<()> {
    site.vm
        .script(&format!("echo kept >{SHARED}; sync"))
        .map(drop)
}

fn prepare(site: &Site, to: Installed) -> Result<()> {
    site.request_prep(to.release)?;
    site.object(|object| object.wait_stage("Prep")).map(drop)
}

/// A stage that brings one reboot, through the boot loader and the initramfs of what runs then; how long it took from the
/// request until the API served. The site must be the same one afterwards.
fn pivot(site: &Site, stage: &str, to: Installed) -> Result<Duration> {
    let identity = site.identity()?;
    let before = site.vm.serial().mark();
    site.request(stage)?;
    let took = site.wait_back(before, to.release.system().version())?;
    site.object(|object| object.wait_stage(stage))?;
    runs(site, to, before)?;
    let now = site.identity()?;
    ensure!(now == identity, "the site was {identity:?} and is {now:?}");
    Ok(took)
}

/// Holds the node and what its console said since `before` to what must run now.
fn runs(site: &Site, expected: Installed, before: Mark) -> Result<()> {
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
    let system = expected.release.system().version();
    ensure!(
        initramfs.len() == 1 && initramfs[0].contains(system),
        "the initramfs said {initramfs:?}"
    );
    let (booted, says) = (site.booted()?, site.release()?);
    ensure!(
        booted == expected.stateroot && says == expected.release.version(),
        "{booted} runs, the cluster says {says}: expected {expected:?}"
    );
    let shared = site.vm.run_in_guest(&["cat", SHARED])?;
    ensure!(shared == "kept\n", "the shared partition has {shared:?}");
    let failed = site
        .vm
        .run_in_guest(&["systemctl", "--failed", "--no-legend", "--plain"])?;
    ensure!(failed.is_empty(), "failed units: {failed}");
    Ok(())
}

fn finalize(site: &Site, stays: Installed) -> Result<()> {
    site.go("Idle")?;
    let left = site.stateroots()?;
    ensure!(
        left == [stays.stateroot],
        "{left:?} are left instead of {stays:?}"
    );
    Ok(())
}
