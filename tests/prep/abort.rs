//! Aborts at random moments of Prep: fetching and writing end within seconds, every filesystem is as it was before, and Prep
//! can begin again at once.
//!
//! `LCA_ABORTS` (default 3) is how often; the moments are spread over the whole of Prep. `LCA_RANDOM` repeats the moments of an
//! earlier run; it is printed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boxed::moment::{Random, count};
use boxed::site::conditions;
use boxed::{Site, used};
use serde_json::Value;

use super::ORIGIN;

/// What the registry gives: with it the seed takes longer to arrive than to be unpacked, and the images behind it, which are
/// small, take some seconds too.
const SEED_BYTES_PER_SECOND: u64 = 32 << 20;
const IMAGE_BYTES_PER_SECOND: u64 = 2 << 20;

/// Limits of the brief (issue 4, item 8 and "Must show").
const STOP_LIMIT: Duration = Duration::from_secs(5);
const LEFT_LIMIT: i64 = 4 << 20;

/// Growth between two looks that is work and not a line in a journal.
const WRITTEN: u64 = 256 << 10;

/// What a node uses, by filesystem: as a real one would have them.
#[derive(Clone, Copy)]
struct Usage {
    sysroot: u64,
    boot: u64,
    /// What is ours in `/var/lib/containers`.
    shared: u64,
    /// Container storage, where what was precached may stay.
    storage: u64,
    /// The filesystems in memory.
    memory: u64,
}

impl Usage {
    fn of(site: &Site) -> Result<Usage> {
        let sysroot = site.node.sysroot();
        let var = sysroot.var(ORIGIN);
        // Other programs write there, all the time.
        let others = ["lib/etcd", "log", "lib/systemd", "cache"].map(|path| var.join(path));
        let boot = sysroot.dir().join("boot");
        let except: Vec<PathBuf> = others.into_iter().chain([boot.clone()]).collect();
        let containers = site.node.containers();
        let memory = "du --summarize --block-size=1 --exclude=log /run /tmp | awk '{sum += $1} END {print sum}'";
        let memory = site.node.run(&["sh", "-c", memory])?;
        Ok(Usage {
            sysroot: used(sysroot.dir(), &except)?,
            boot: used(&boot, &[])?,
            shared: used(&containers.join("lca"), &[])?,
            storage: used(&containers.join("storage"), &[])?,
            memory: memory.trim().parse().context("bytes of /run and /tmp")?,
        })
    }

    fn disk(&self) -> u64 {
        self.sysroot + self.boot + self.shared + self.storage
    }

    /// What is more than `before`, by filesystem; container storage is free.
    fn left(&self, before: &Usage) -> [(&'static str, i64); 4] {
        [
            ("/sysroot", self.sysroot, before.sysroot),
            ("/boot", self.boot, before.boot),
            ("/var/lib/containers/lca", self.shared, before.shared),
            ("/run, /tmp", self.memory, before.memory),
        ]
        .map(|(name, now, before)| (name, now.cast_signed() - before.cast_signed()))
    }
}

fn message(ibu: &Value, type_: &str) -> String {
    let list = ibu["status"]["conditions"].as_array();
    let found = list.and_then(|list| list.iter().find(|found| found["type"] == type_));
    found
        .map_or("", |found| found["message"].as_str().unwrap_or_default())
        .to_owned()
}

/// What Prep was at, in one word.
fn at(ibu: &Value) -> String {
    let told = message(ibu, "PrepInProgress");
    let mut words = told.split_whitespace().skip_while(|word| *word != "step");
    let step = words
        .nth(1)
        .unwrap_or(match told.starts_with("Prep completed") {
            true => "completed",
            false => "between steps",
        });
    step.trim_end_matches(':').to_owned()
}

/// Looks at the node's disk until `done`; gives when it last had become fuller.
fn watch_writes(site: &Site, begun: Instant, done: &AtomicBool) -> Result<Duration> {
    let mut before = Usage::of(site)?.disk();
    let mut last = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let now = Usage::of(site)?.disk();
        if now > before + WRITTEN {
            last = begun.elapsed();
        }
        before = now;
    }
    Ok(last)
}

/// What one abort came to.
struct Round {
    at: String,
    fetched: Duration,
    wrote: Duration,
    idle: Duration,
}

fn abort(site: &Site, moment: Duration) -> Result<Round> {
    let begun = Instant::now();
    site.request_prep()?;
    thread::sleep(moment.saturating_sub(begun.elapsed()));
    let at = at(&site.upgrade()?);
    let asked = Instant::now();
    site.request("Idle")?;
    let done = AtomicBool::new(false);
    let (wrote, idle) = thread::scope(|scope| {
        let writes = scope.spawn(|| watch_writes(site, asked, &done));
        let idle = site.wait_stage("Idle").map(|_| asked.elapsed());
        done.store(true, Ordering::Relaxed);
        let wrote = writes.join();
        let wrote = wrote.map_err(|_| anyhow::anyhow!("the watch of the disk has panicked"));
        (wrote, idle)
    });
    let last = site
        .registry
        .meter()?
        .last()
        .context("nothing was fetched")?;
    Ok(Round {
        at,
        fetched: last.saturating_duration_since(asked),
        wrote: wrote??,
        idle: idle?,
    })
}

#[test]
fn an_abort_stops_at_once_and_leaves_nothing() -> Result<()> {
    let site = Site::boot("aborts")?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let pacing = scope.spawn(|| pace(&site, &done));
        let told = rounds(&site);
        done.store(true, Ordering::Relaxed);
        let paced = pacing.join();
        let paced = paced.map_err(|_| anyhow::anyhow!("the pacing has panicked"))?;
        told.and(paced)
    })
}

/// Makes the registry slower for images than it is for the seed.
fn pace(site: &Site, done: &AtomicBool) -> Result<()> {
    let meter = site.registry.meter()?;
    let mut limit = None;
    while !done.load(Ordering::Relaxed) {
        let wanted = Some(match site.last_run(ORIGIN)?.contains("precache-images") {
            true => IMAGE_BYTES_PER_SECOND,
            false => SEED_BYTES_PER_SECOND,
        });
        if wanted != limit {
            meter.limit(wanted);
            limit = wanted;
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn rounds(site: &Site) -> Result<()> {
    let mut random = Random::from_environment();
    // Images that were precached are precached again.
    let again = || site.node.run(&["podman", "rmi", "--all", "--force"]);
    again()?;
    let before = Usage::of(site)?;
    let begun = Instant::now();
    site.go("Prep")?;
    let prep = begun.elapsed();
    site.go("Idle")?;
    println!("Prep takes {:.1} s", prep.as_secs_f32());

    let number = count("LCA_ABORTS", 3);
    println!(
        "{:>5} {:>6} {:16} {:>12} {:>12} {:>7}  left in KiB: /sysroot, /boot, /var/lib/containers/lca, /run and /tmp",
        "round", "at s", "step", "last fetch s", "last write s", "Idle s"
    );
    for round in 0..number {
        again()?;
        // One in each of as many equal parts of Prep: random, and all of it.
        let share = (round as f64 + random.share()) / number as f64;
        let moment = prep.mul_f64(share);
        let told = abort(site, moment)?;
        let ibu = site.upgrade()?;
        ensure!(conditions(&ibu) == [("Idle", "True")], "{}", ibu["status"]);
        ensure!(site.node.deployments()?.len() == 1);
        let left = Usage::of(site)?.left(&before);
        println!(
            "{:5} {:6.2} {:16} {:12.2} {:12.2} {:7.2}  {}",
            round + 1,
            moment.as_secs_f32(),
            told.at,
            told.fetched.as_secs_f32(),
            told.wrote.as_secs_f32(),
            told.idle.as_secs_f32(),
            left.map(|(_, bytes)| (bytes >> 10).to_string()).join(", ")
        );
        ensure!(told.fetched <= STOP_LIMIT && told.wrote <= STOP_LIMIT);
        for (name, bytes) in left {
            ensure!(bytes <= LEFT_LIMIT, "{bytes} bytes are left in {name}");
        }
    }
    Ok(())
}
