//! Kills and power failures at random moments: every run ends in the state of an undisturbed one.
//!
//! `LCA_KILLS` (default 1) is how often the agent is killed in the middle of Prep, `LCA_STOPS` (default 1) how often the node
//! is switched off in the middle of an upgrade, `LCA_SEED_STOPS` (default 1) how often a seed node is while it makes a seed.
//! `LCA_RANDOM` repeats the moments of an earlier run; it is printed.

#![expect(clippy::print_stdout, reason = "figures are part of the result")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boxed::moment::{Random, count};
use boxed::site::{agent_binary, conditions};
use boxed::snapshot::{Exclusions, Snapshot};
use boxed::{Lab, NodeConfig, Release, Site};
use serde_json::Value;

const EXCLUSIONS: &str = include_str!("contract/disturbed-exclusions.txt");
const ORIGIN: &str = "rhcos";
const TARGET: &str = "rhcos_4.17.4";

/// Where a run ended: both stateroots, the target's deployment and the upgrade object.
#[derive(Debug, PartialEq)]
struct End {
    files: Snapshot,
    upgrade: Value,
}

impl End {
    fn of(site: &Site) -> Result<End> {
        let exclusions = Exclusions::parse(EXCLUSIONS)?;
        let upgrade = comparable(site.upgrade()?);
        site.node.power_off()?;
        let mut files = Snapshot::default();
        let sysroot = site.node.sysroot();
        for (stateroot, label) in [(ORIGIN, "origin"), (TARGET, "target")] {
            files.add(
                &sysroot.var(stateroot),
                &format!("{label}/var"),
                &exclusions,
            )?;
        }
        let deployments = site.node.deployments()?;
        let target = deployments.iter().find(|found| found.stateroot == TARGET);
        let target = target.context("the target has no deployment")?;
        files.add(&target.dir, "deployment", &exclusions)?;
        Ok(End { files, upgrade })
    }

    fn check(&self, other: &End, what: &str) -> Result<()> {
        let differences = self.files.differences(&other.files);
        ensure!(
            differences.is_empty(),
            "{what}: the files differ:\n{}",
            differences.join("\n")
        );
        ensure!(
            self.upgrade == other.upgrade,
            "{what}:\n{}\nbecame\n{}",
            self.upgrade,
            other.upgrade
        );
        Ok(())
    }
}

/// The object without what the server gives and without times.
fn comparable(mut ibu: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for name in [
                    "uid",
                    "resourceVersion",
                    "generation",
                    "creationTimestamp",
                    "managedFields",
                    "lastTransitionTime",
                    "observedGeneration",
                    "startTime",
                    "completionTime",
                ] {
                    members.remove(name);
                }
                members.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut ibu);
    ibu
}

fn finish_upgrade(site: &Site) -> Result<()> {
    site.request("Upgrade")?;
    site.wait_stage("Upgrade").map(drop)
}

/// The undisturbed run: where it ends, and how long Prep and the upgrade take.
fn undisturbed() -> Result<(End, Duration, Duration)> {
    let site = Site::boot("calm")?;
    let begun = Instant::now();
    site.go("Prep")?;
    let prep = begun.elapsed();
    finish_upgrade(&site)?;
    let whole = begun.elapsed();
    Ok((End::of(&site)?, prep, whole))
}

#[test]
fn kills_and_power_failures_change_nothing() -> Result<()> {
    let mut random = Random::from_environment();
    let (calm, prep, whole) = undisturbed()?;
    println!(
        "undisturbed: Prep {:.1} s, upgrade {:.1} s, {} files",
        prep.as_secs_f32(),
        whole.as_secs_f32(),
        calm.files.len()
    );
    for number in 1..=count("LCA_KILLS", 1) {
        let site = Site::boot("kill")?;
        site.request_prep()?;
        let moment = random.moment(prep);
        std::thread::sleep(moment);
        site.node.run(&[
            "systemctl",
            "kill",
            "--signal=SIGKILL",
            "lifecycle-agent.service",
        ])?;
        site.wait_stage("Prep")?;
        finish_upgrade(&site)?;
        calm.check(
            &End::of(&site)?,
            &format!("kill {number} after {:.2} s", moment.as_secs_f32()),
        )?;
        println!(
            "kill {number} after {:.2} s of Prep: same end",
            moment.as_secs_f32()
        );
    }
    for number in 1..=count("LCA_STOPS", 1) {
        let site = Site::boot("stop")?;
        let moment = random.moment(whole);
        let begun = Instant::now();
        site.request_prep()?;
        let until_stop = || moment.saturating_sub(begun.elapsed());
        let mut asked = false;
        while !until_stop().is_zero() {
            if !asked && prepared(&site) {
                site.request("Upgrade")?;
                asked = true;
            }
            std::thread::sleep(until_stop().min(Duration::from_millis(50)));
        }
        site.node.power_off_hard();
        site.node.boot()?;
        if !asked {
            site.wait_stage("Prep")?;
            site.request("Upgrade")?;
        }
        site.wait_stage("Upgrade")?;
        calm.check(
            &End::of(&site)?,
            &format!("stop {number} after {:.2} s", moment.as_secs_f32()),
        )?;
        println!(
            "stop {number} after {:.2} s of {:.2} s: same end",
            moment.as_secs_f32(),
            whole.as_secs_f32()
        );
    }
    Ok(())
}

fn prepared(site: &Site) -> bool {
    site.upgrade()
        .is_ok_and(|ibu| conditions(&ibu).contains(&("PrepCompleted", "True")))
}

/// A seed node that loses power while it makes a seed serves as before.
#[test]
fn a_seed_node_survives_making_a_seed() -> Result<()> {
    let mut random = Random::from_environment();
    let agent = agent_binary()?;
    let lab = Lab::new("seed-stop")?;
    let _registry = lab.start_registry(None)?;
    let node = lab.install(&NodeConfig::new("seed", Release::V4_17_4, 20).with_agent(&agent))?;
    node.boot()?;
    node.wait_api()?;
    let objects = |what: &str| node.kubectl(&["get", what, "-A", "-o", "name"]);
    let begun = Instant::now();
    boxed::site::create_seed(&node, Release::V4_17_4)?;
    let whole = begun.elapsed();
    node.wait_api()?;
    let (nodes, secrets) = (objects("nodes")?, objects("secrets,configmaps,ibu")?);
    let pull_secret = node.run(&["cat", api::path::PULL_SECRET])?;
    for number in 1..=count("LCA_SEED_STOPS", 1) {
        let moment = random.moment(whole);
        let command = boxed::site::seed_command(Release::V4_17_4);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let mut making = node
            .command(&command)?
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        std::thread::sleep(moment);
        node.power_off_hard();
        making.wait()?;
        node.boot()?;
        node.wait_api()?;
        assert_eq!(objects("nodes")?, nodes);
        assert_eq!(objects("secrets,configmaps,ibu")?, secrets);
        assert_eq!(node.run(&["cat", api::path::PULL_SECRET])?, pull_secret);
        println!(
            "seed stop {number} after {:.2} s of {:.2} s: serves as before",
            moment.as_secs_f32(),
            whole.as_secs_f32()
        );
    }
    // And it still makes a seed, leaving nothing behind.
    boxed::site::create_seed(&node, Release::V4_17_4)?;
    assert_eq!(
        node.run(&["sh", "-c", "ls /var/tmp | grep -c lca-seed- || true"])?
            .trim(),
        "0"
    );
    Ok(())
}
