//! Power cuts at any moment of an upgrade and of a rollback, on a node with a real boot loader.
//!
//! Drawn are first the start (an upgrade, its first boot, a rollback) that was hit least, then of its phases the one that was hit
//! least, then an instant in that: so none stays unhit, however short it is or however many phases another has.
#![expect(clippy::print_stdout, reason = "each cut is shown as it ends")]

mod phases;
mod results;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boxed::site::conditions;

use crate::fault::TARGET;
use crate::frozen::Frozen;
use crate::ground::{Ground, Moment};
use crate::lanes;
use crate::machine::{BOOT_LIMIT, INITRAMFS};
use crate::serial::Mark;
use crate::site::Site;
use phases::Phase;
use results::{End, Results};

/// How long a node may take after a cut: the boots of the new release that are wasted, and one whole upgrade.
const END_LIMIT: Duration = Duration::from_secs(900);
/// The files of the site that no upgrade may touch, below `/var` of the old release.
const SITE: &str = "var/lib/of-the-site";

/// Where cuts begin.
#[derive(Debug)]
struct Start {
    name: &'static str,
    frozen: Frozen,
    /// What is asked for there.
    request: Option<&'static str>,
    /// The condition that says how it ended.
    ends: &'static str,
    phases: Vec<Phase>,
}

/// Cuts the power `cuts` times, in `lanes` machines at once, adds each result to the file `results`, and returns the table
/// of all that are in it.
///
/// # Errors
/// When a node did not come to a good end, after all cuts; when the undisturbed way fails.
pub fn power(ground: &Ground, cuts: usize, lanes: usize, results: &Path) -> Result<String> {
    let starts = prepare(ground)?;
    let all = Mutex::new(Results::open(results)?);
    let numbers: Vec<usize> = (1..=cuts).collect();
    let lost = lanes::work(ground, lanes, &numbers, |ground, number| {
        let (start, phase, name) = draw(&starts, &mut locked(&all));
        let after = phase.lasts.mul_f64(fastrand::f64());
        let begun = Instant::now();
        let cut = cut(ground, start, phase, after);
        let seconds = begun.elapsed().as_secs_f64();
        let end = *cut.as_ref().unwrap_or(&End::Lost);
        println!(
            "cut {number} of {cuts}: {name} after {:.2} s: {} in {seconds:.0} s",
            after.as_secs_f64(),
            end.name()
        );
        let kept = locked(&all).add(&name, after.as_secs_f64(), seconds, end);
        cut.and(kept).err().map(|error| {
            println!("{name}: {error:#}");
            name
        })
    })?;
    let table = locked(&all).table();
    let lost: Vec<String> = lost.into_iter().flatten().collect();
    ensure!(lost.is_empty(), "{table}\nlost in: {}", lost.join(", "));
    Ok(table)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of the start with the fewest hits the phase with the fewest, those that are under way included; among equals, one by chance.
/// With its full name.
fn draw<'s>(starts: &'s [Start], results: &mut Results) -> (&'s Start, &'s Phase, String) {
    let full = |start: &Start, phase: &Phase| format!("{}: {}", start.name, phase.name);
    let mut every: Vec<(&Start, &Phase, String)> = starts
        .iter()
        .flat_map(|start| {
            let phases = start.phases.iter();
            phases.map(move |phase| (start, phase, full(start, phase)))
        })
        .collect();
    fastrand::shuffle(&mut every);
    let of_start = |start: &Start| -> usize {
        let phases = start.phases.iter();
        phases.map(|phase| results.hits(&full(start, phase))).sum()
    };
    every.sort_by_key(|(start, _, name)| (of_start(start), results.hits(name)));
    let drawn = every.swap_remove(0);
    results.draw(&drawn.2);
    drawn
}

/// The moments to start from, each with the phases that an undisturbed run from there has.
fn prepare(ground: &Ground) -> Result<Vec<Start>> {
    let dir = |name: &str| ground.lab().dir().join(format!("soak-{name}"));
    let site = ground.at(Moment::Prepared)?;
    let told = phases::tell(&site).and_then(|()| {
        site.vm.script(&format!(
            "mkdir -p /{SITE}; for n in 1 2 3 4 5 6 7 8; do head -c 100000 /dev/urandom >/{SITE}/$n; done
             (cd /{SITE}; sha256sum [1-8] >sums); sync"
        ))
    });
    told.map_err(|error| site.with_evidence(error))?;
    let prepared = site.vm.freeze(&dir("prepared"))?;

    let site = ground.start(&prepared)?;
    let mark = site.vm.serial().mark();
    site.request("Upgrade")?;
    let new = format!("{INITRAMFS} {}", boxed::Release::V4_17_4.version());
    site.vm.serial().wait(mark, &new, BOOT_LIMIT)?;
    let over = Instant::now();
    let before_boot = phases::of(&site.vm.serial().lines(mark), over)?;
    let first_boot = site.vm.freeze(&dir("first-boot"))?;

    let site = ground.start(&first_boot)?;
    let ended = site.object(|object| object.wait_stage("Upgrade"));
    ended.map_err(|error| site.with_evidence(error))?;
    let boot = phases::of(&site.vm.serial().lines(Mark::default()), Instant::now())?;
    let upgraded = site.vm.freeze(&dir("upgraded"))?;

    let site = ground.start(&upgraded)?;
    let mark = site.vm.serial().mark();
    site.request("Rollback")?;
    let ended = site.object(|object| object.wait_stage("Rollback"));
    ended.map_err(|error| site.with_evidence(error))?;
    let rollback = phases::of(&site.vm.serial().lines(mark), Instant::now())?;
    drop(site);

    let starts = vec![
        Start {
            name: "upgrade",
            frozen: prepared,
            request: Some("Upgrade"),
            ends: "UpgradeCompleted",
            phases: before_boot,
        },
        Start {
            name: "first boot",
            frozen: first_boot,
            request: None,
            ends: "UpgradeCompleted",
            phases: boot,
        },
        Start {
            name: "rollback",
            frozen: upgraded,
            request: Some("Rollback"),
            ends: "RollbackCompleted",
            phases: rollback,
        },
    ];
    for start in &starts {
        println!("{}: {} phases", start.name, start.phases.len());
    }
    Ok(starts)
}

/// One cut, and what came of it. Where it is no good end, an error with the place where console and journal are kept.
fn cut(ground: &Ground, start: &Start, phase: &Phase, after: Duration) -> Result<End> {
    let mut site = ground.start(&start.frozen)?;
    let result = (|| {
        if let Some(stage) = start.request {
            site.request(stage)?;
        }
        wait_phase(&site, phase)?;
        std::thread::sleep(after);
        site.vm.cut_power();
        site.vm.power_on()?;
        ends(&site, start.ends)
    })();
    result.map_err(|error| site.with_evidence(error))
}

fn wait_phase(site: &Site, phase: &Phase) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < BOOT_LIMIT {
        let lines = site.vm.serial().lines(Mark::default());
        let seen = lines
            .iter()
            .filter(|line| phases::begun_by(&line.text).as_deref() == Some(&phase.name))
            .count();
        if seen > phase.before {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("{} did not begin", phase.name)
}

/// Waits until the node has come to its end, and holds it to what no cut may change.
fn ends(site: &Site, condition: &str) -> Result<End> {
    site.vm.wait_guest()?;
    let ibu = site.object(|object| {
        object.wait(END_LIMIT, |ibu| {
            let conditions = conditions(ibu);
            conditions.contains(&(condition, "True"))
                || conditions.contains(&(condition, "False"))
                    && !conditions.contains(&("UpgradeInProgress", "True"))
                    && !conditions.contains(&("RollbackInProgress", "True"))
        })
    })?;
    let booted = site.booted()?;
    let completed = conditions(&ibu).contains(&(condition, "True"));
    let end = match (condition, booted.as_str(), completed) {
        ("UpgradeCompleted", TARGET, true) | ("RollbackCompleted", "rhcos", true) => End::Completed,
        ("UpgradeCompleted", "rhcos", false) => End::Returned,
        _ => bail!("{booted} runs and {condition} is {completed}"),
    };
    site.vm
        .script(&format!(
            "ostree fsck --quiet >/dev/null
             cd /sysroot/ostree/deploy/rhcos/{SITE} && sha256sum --check --quiet sums"
        ))
        .context("what a power cut may not touch")?;
    Ok(end)
}

/// Where results are kept unless the user says otherwise.
///
/// # Errors
/// When the directory cannot be made.
pub fn usual_results() -> Result<std::path::PathBuf> {
    let dir = boxed::cache::cache_dir();
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir.join("soak-power.jsonl"))
}
