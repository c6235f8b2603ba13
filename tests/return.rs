//! Always back: faults in the new release, on a node in the box, end on the old one without anybody's help.

#![expect(clippy::print_stdout, reason = "the table is part of the result")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boxed::site::{conditions, message, seed_image};
use boxed::{Release, Site};
use serde_json::{Value, json};

const ORIGIN: &str = "rhcos";
const TARGET: &str = "rhcos_4.17.4";
/// Seconds that the new release has: enough for a healthy one here, and the longest that a test waits for.
const DEADLINE: u64 = 25;
const MONITOR: &str = "lca-init-monitor.service";

/// A line of the table.
struct Row {
    fault: &'static str,
    boots: u32,
    seconds: f64,
    outcome: String,
}

/// A node that has asked for the reboot of its pivot and is off, the new release untouched.
fn at_the_pivot(site: &Site) -> Result<()> {
    site.patch(&json!({"spec": {
        "stage": "Prep",
        "seedImageRef": {
            "image": seed_image(Release::V4_17_4),
            "version": Release::V4_17_4.version(),
        },
        "autoRollbackOnFailure": {"initMonitorTimeoutSeconds": DEADLINE},
    }}))?;
    site.wait_stage("Prep")?;
    site.node.hold_at_reboot(true);
    site.request("Upgrade")?;
    site.node.wait_off()?;
    site.node.hold_at_reboot(false);
    Ok(())
}

fn in_target(site: &Site, path: &str) -> Result<PathBuf> {
    site.node.path_in_stateroot(TARGET, path)
}

/// Keeps a unit of the new release from ever starting.
fn mask(site: &Site, unit: &str) -> Result<()> {
    let path = in_target(site, &format!("/etc/systemd/system/{unit}"))?;
    if path.symlink_metadata().is_ok() {
        fs::remove_file(&path)?;
    }
    symlink("/dev/null", &path).with_context(|| format!("masking {}", path.display()))
}

fn change(site: &Site, path: &str, edit: impl FnOnce(&mut Value)) -> Result<()> {
    let path = in_target(site, path)?;
    let mut document = serde_json::from_slice(&fs::read(&path)?)?;
    edit(&mut document);
    fs::write(&path, serde_json::to_vec(&document)?)?;
    Ok(())
}

/// Boots into the fault and waits for the old release and its upgrade object.
fn returns(site: &Site, fault: &'static str, reason: &str) -> Result<Row> {
    let (boots, begun) = (site.node.boots(), Instant::now());
    site.node.boot()?;
    let limit = Duration::from_secs(DEADLINE + 120);
    let back = site.wait(limit, |ibu| {
        let booted = site.node.booted().map(|booted| booted.stateroot);
        booted.as_deref() == Some(ORIGIN)
            && conditions(ibu).contains(&("UpgradeCompleted", "False"))
    });
    let ibu = back.with_context(|| format!("{fault}: not back"))?;
    let row = Row {
        fault,
        boots: site.node.boots() - boots - 1,
        seconds: begun.elapsed().as_secs_f64(),
        outcome: message(&ibu, "UpgradeInProgress"),
    };
    println!("{fault}: {}", row.outcome);
    ensure!(row.outcome.starts_with(reason), "{fault}: {}", row.outcome);
    ensure!(message(&ibu, "UpgradeCompleted") == "Upgrade failed");
    ensure!(ibu["status"]["validNextStages"] == json!(["Idle"]), "{ibu}");
    site.go("Idle")?;
    Ok(row)
}

fn completes(
    site: &Site,
    fault: &'static str,
    disturb: impl FnOnce() -> Result<()>,
) -> Result<Row> {
    let (boots, begun) = (site.node.boots(), Instant::now());
    site.node.boot()?;
    disturb()?;
    let ibu = site.wait_stage("Upgrade")?;
    let row = Row {
        fault,
        boots: site.node.boots() - boots,
        seconds: begun.elapsed().as_secs_f64(),
        outcome: message(&ibu, "UpgradeCompleted"),
    };
    ensure!(
        ibu["status"]["rollbackAvailabilityExpiration"].is_string(),
        "{}",
        ibu["status"]
    );
    // Nobody watches any more, now or at a later boot.
    let unit = in_target(site, &format!("/etc/systemd/system/{MONITOR}"))?;
    let begun = Instant::now();
    while unit.exists() {
        ensure!(
            begun.elapsed() < Duration::from_secs(20),
            "{MONITOR} is still there"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let verdict = fs::read_to_string(in_target(site, "/var/lib/lca/verdict.json")?)?;
    ensure!(verdict.contains(r#""outcome":"completed""#), "{verdict}");
    Ok(row)
}

#[test]
fn every_fault_in_the_new_release_ends_on_the_old_one() -> Result<()> {
    let site = Site::boot("return")?;
    let timeout = format!("Rollback due to LCA Init Monitor timeout, after {DEADLINE}s");
    let mut rows = Vec::new();

    at_the_pivot(&site)?;
    mask(&site, "lifecycle-agent.service")?;
    rows.push(returns(&site, "agent gone for good", &timeout)?);

    at_the_pivot(&site)?;
    mask(&site, "lifecycle-agent.service")?;
    fs::write(
        in_target(&site, "/var/lib/lca/autorollback_config.json")?,
        "{",
    )?;
    change(
        &site,
        "/var/opt/openshift/cluster-configuration/manifest.json",
        |document| {
            document["hostname"] = json!("localhost");
        },
    )?;
    let failure = "Rollback due to postpivot failure: planning the reconfiguration of this node";
    rows.push(returns(
        &site,
        "first boot fails for good, configuration torn",
        failure,
    )?);

    at_the_pivot(&site)?;
    // Not what etcd can read: there will be no API server.
    let etcd = in_target(&site, "/var/lib/etcd/member")?;
    fs::remove_dir_all(&etcd)?;
    fs::write(&etcd, "no database")?;
    rows.push(returns(
        &site,
        "API server never up, deadline passed",
        &timeout,
    )?);

    at_the_pivot(&site)?;
    let saved = in_target(&site, "/var/lib/lca/ibu.json")?;
    let content = fs::read(&saved)?;
    fs::write(&saved, &content[..content.len() / 2])?;
    let failure = "Rollback due to upgrade failure: the saved ImageBasedUpgrade";
    rows.push(returns(&site, "saved object truncated", failure)?);

    at_the_pivot(&site)?;
    rows.push(completes(
        &site,
        "two clean reboots, monitor and agent killed",
        || {
            for boot in [1, 2] {
                site.node.wait_ready()?;
                for unit in [MONITOR, "lifecycle-agent.service"] {
                    site.node
                        .exec(&["systemctl", "kill", "--signal=KILL", unit])?;
                }
                let before = site.node.boots();
                site.node.run(&["systemctl", "reboot"])?;
                site.node
                    .wait_boot(before + 1, Duration::from_secs(120))
                    .with_context(|| format!("reboot {boot}"))?;
            }
            Ok(())
        },
    )?);

    println!("| fault | boots | seconds | outcome |\n|---|---|---|---|");
    for row in &rows {
        let Row {
            fault,
            boots,
            seconds,
            outcome,
        } = row;
        println!("| {fault} | {boots} | {seconds:.1} | {outcome} |");
    }
    Ok(())
}
