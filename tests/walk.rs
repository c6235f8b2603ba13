//! The whole program on a node in the box: one upgrade, its rollback, an abort, and what bad input leads to.

#![expect(clippy::print_stdout, reason = "figures are part of the result")]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use boxed::site::{conditions, message, seed_image};
use boxed::snapshot::{Exclusions, Snapshot};
use boxed::{Release, Site};
use serde_json::{Value, json};

const TARGET: &str = "rhcos_4.17.4";
const ORIGIN: &str = "rhcos";

/// What both sides of a pivot may write into the other's `/var`: nothing but this.
const EXCHANGE: &str = "var/lib/lca/ibu.json  the saved upgrade object is handed over in it";

fn jsonpath(site: &Site, what: &[&str], path: &str) -> Result<String> {
    let output = format!("jsonpath={path}");
    let args: Vec<&str> = ["get"]
        .into_iter()
        .chain(what.iter().copied())
        .chain(["-o", &output])
        .collect();
    site.node.kubectl(&args)
}

fn stateroots(site: &Site) -> Result<Vec<String>> {
    let list = site.node.run(&["ls", "/sysroot/ostree/deploy"])?;
    Ok(list.split_whitespace().map(ToOwned::to_owned).collect())
}

fn origin_var(site: &Site) -> Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    let exclusions = Exclusions::parse(EXCHANGE)?;
    snapshot.add(&site.node.sysroot().var(ORIGIN), "var", &exclusions)?;
    Ok(snapshot)
}

#[test]
fn an_upgrade_goes_there_and_back_and_there_and_is_finalized() -> Result<()> {
    let site = Site::boot("walk")?;
    let id = jsonpath(&site, &["clusterversion", "version"], "{.spec.clusterID}")?;
    let address = jsonpath(
        &site,
        &["nodes"],
        "{.items[*].status.addresses[?(@.type==\"InternalIP\")].address}",
    )?;
    ensure!(
        jsonpath(
            &site,
            &["clusterversion", "version"],
            "{.status.desired.version}"
        )? == "4.16.9"
    );

    let ibu = site.go("Prep")?;
    assert_eq!(
        message(&ibu, "PrepCompleted"),
        "Prep stage completed successfully"
    );
    assert_eq!(ibu["status"]["validNextStages"], json!(["Idle", "Upgrade"]));
    let deployments = site.node.deployments()?;
    assert_eq!(deployments.len(), 2);
    assert_eq!(
        deployments[0].stateroot, ORIGIN,
        "Prep must not change what boots"
    );
    assert_eq!(site.node.boots(), 1);

    let ibu = site.go("Upgrade")?;
    assert_eq!(site.node.boots(), 2, "exactly one reboot");
    assert_eq!(message(&ibu, "UpgradeCompleted"), "Upgrade completed");
    assert_eq!(
        ibu["status"]["validNextStages"],
        json!(["Idle", "Rollback"])
    );
    let phases = |ibu: &Value| -> Vec<String> {
        let history = ibu["status"]["history"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let phases = history
            .iter()
            .flat_map(|entry| entry["phases"].as_array().cloned().unwrap_or_default());
        phases
            .map(|phase| {
                let done = if phase["completionTime"].is_string() {
                    ""
                } else {
                    "?"
                };
                format!("{}{done}", phase["phase"].as_str().unwrap_or_default())
            })
            .collect()
    };
    assert_eq!(
        phases(&ibu),
        ["Stateroot", "Precache", "PrePivot", "PostPivot"]
    );
    // Across the pivot, from the journals of both releases.
    let timeline = ["lifecycle-agent", "status", "--timeline", "-o", "json"];
    let timeline: Value = serde_json::from_str(&site.node.run(&timeline)?)?;
    ensure!(timeline["problems"] == json!([]), "{timeline}");
    let stages = timeline["stages"].as_array().cloned().unwrap_or_default();
    let stages: Vec<&str> = stages
        .iter()
        .filter_map(|one| one["stage"].as_str())
        .collect();
    ensure!(stages == ["Prep", "Upgrade"], "{timeline}");
    // A box boots within the second in which it was told to.
    ensure!(
        timeline.to_string().contains(r#""doing":"rebooting""#),
        "{timeline}"
    );
    ensure!(
        timeline["waitingAfterBoot"].as_u64() <= Some(5),
        "{timeline}"
    );
    // The seed's etcd, with this site's name, address and id.
    assert_eq!(
        site.node.booted().map(|booted| booted.stateroot).as_deref(),
        Some(TARGET)
    );
    assert_eq!(
        jsonpath(
            &site,
            &["clusterversion", "version"],
            "{.status.desired.version}"
        )?,
        "4.17.4"
    );
    assert_eq!(
        jsonpath(&site, &["clusterversion", "version"], "{.spec.clusterID}")?,
        id
    );
    assert_eq!(
        jsonpath(&site, &["nodes"], "{.items[*].metadata.name}")?,
        "site"
    );
    assert_eq!(
        jsonpath(
            &site,
            &["nodes"],
            "{.items[*].status.addresses[?(@.type==\"InternalIP\")].address}"
        )?,
        address
    );
    assert_eq!(site.node.run(&["hostname"])?.trim(), "site");
    assert!(
        site.node
            .exec(&["test", "-e", "/var/opt/openshift"])?
            .status
            .code()
            == Some(1),
        "keys were left behind"
    );

    site.go("Rollback")?;
    assert_eq!(site.node.boots(), 3);
    assert_eq!(
        site.node.booted().map(|booted| booted.stateroot).as_deref(),
        Some(ORIGIN)
    );
    assert_eq!(
        jsonpath(
            &site,
            &["clusterversion", "version"],
            "{.status.desired.version}"
        )?,
        "4.16.9"
    );

    let ibu = site.go("Idle")?;
    assert_eq!(conditions(&ibu), [("Idle", "True")]);
    assert_eq!(stateroots(&site)?, [ORIGIN]);

    // What happened in this stateroot since it is back, without the progress between.
    let told = jsonpath(
        &site,
        &["events.events.k8s.io", "-n", "default"],
        "{range .items[?(@.regarding.name==\"upgrade\")]}{.type} {.reason}: {.note}{\"\\n\"}{end}",
    )?;
    for expect in [
        "Normal Reboot: System will now reboot for upgrade",
        "Normal StepStarted: step fetch-seed (5 of 5) of fetch-seed started",
        "Normal StepCompleted: step deploy-stateroot",
        "Normal RunCompleted: install-stateroot completed",
    ] {
        ensure!(told.contains(expect), "no event {expect:?}:\n{told}");
    }

    site.go("Prep")?;
    site.go("Upgrade")?;
    site.go("Idle")?;
    assert_eq!(stateroots(&site)?, [TARGET]);
    assert_eq!(site.node.deployments()?.len(), 1);
    Ok(())
}

/// Nothing of ours runs on the origin between the pivot's shutdown and its next boot, and nobody else may write there.
#[test]
fn the_origin_lies_still_while_the_target_runs() -> Result<()> {
    let site = Site::boot("still")?;
    site.go("Prep")?;
    site.node.hold_at_reboot(true);
    site.request("Upgrade")?;
    site.node.wait_off()?;
    let before = origin_var(&site)?;
    ensure!(before.len() > 50, "only {} files", before.len());
    site.node.boot()?;
    site.wait_stage("Upgrade")?;
    site.request("Rollback")?;
    site.node.wait_off()?;
    let after = origin_var(&site)?;
    let differences = before.differences(&after);
    ensure!(
        differences.is_empty(),
        "the origin's /var changed:\n{}",
        differences.join("\n")
    );
    site.node.hold_at_reboot(false);
    site.node.boot()?;
    site.wait_stage("Rollback")?;
    Ok(())
}

#[test]
fn prep_is_aborted_and_can_begin_again() -> Result<()> {
    let site = Site::boot("abort")?;
    site.request_prep()?;
    site.wait(Duration::from_secs(60), |ibu| {
        message(ibu, "PrepInProgress").contains("step ")
    })?;
    let ibu = site.go("Idle")?;
    assert_eq!(conditions(&ibu), [("Idle", "True")]);
    assert_eq!(stateroots(&site)?, [ORIGIN]);
    assert_eq!(site.node.deployments()?.len(), 1);
    site.go("Prep")?;
    site.go("Idle")?;
    assert_eq!(stateroots(&site)?, [ORIGIN]);
    Ok(())
}

/// Each bad input ends in a condition that names object, reason and next action, and Idle leads out of it.
#[test]
fn bad_input_is_told_and_left_again() -> Result<()> {
    let site = Site::boot("bad")?;
    let image = seed_image(Release::V4_17_4);
    let rows: [(Value, &[&str]); 5] = [
        (
            json!({"version": "4.17.4"}),
            &["spec.seedImageRef.image", "request stage Idle"],
        ),
        (
            json!({"version": "4.15.1", "image": image}),
            &["4.15.1", "must be higher than current OCP version (4.16.9)"],
        ),
        (
            json!({"version": "4.17.5", "image": image}),
            &["4.17.4", "differs from version in spec (4.17.5)"],
        ),
        (
            json!({"version": "4.17.4", "image": format!("{image}-no")}),
            &["seed:4.17.4-no"],
        ),
        (
            json!({"version": "seventeen", "image": image}),
            &["seventeen"],
        ),
    ];
    for (seed, texts) in rows {
        site.patch(&json!({"spec": {"stage": "Prep", "seedImageRef": seed}}))?;
        let ibu = site.wait(Duration::from_secs(120), |ibu| {
            conditions(ibu).contains(&("PrepCompleted", "False"))
        })?;
        let told = message(&ibu, "PrepInProgress");
        for text in texts {
            assert!(told.contains(text), "{seed}: {told:?} lacks {text:?}");
        }
        println!("{seed}: {told}");
        site.patch(&json!({"spec": {"stage": "Idle", "seedImageRef": null}}))?;
        site.wait_stage("Idle")?;
    }
    let refused = site.request("Finalize").unwrap_err();
    assert!(
        format!("{refused:#}").contains("Unsupported value"),
        "{refused:#}"
    );
    Ok(())
}

/// What the agent showed last of a step is on the node, for a user who finds it with nothing answering.
#[test]
fn progress_is_told_without_an_api_server_and_after_a_power_cut() -> Result<()> {
    let site = Site::boot("told")?;
    let status = || -> Result<Value> {
        let text = site
            .node
            .run(&["lifecycle-agent", "status", "-o", "json"])?;
        Ok(serde_json::from_str(&text)?)
    };
    let signal = |signal: &str| {
        let signal = format!("--signal={signal}");
        site.node
            .run(&["systemctl", "kill", &signal, "lifecycle-agent"])
    };
    site.request_prep()?;
    // Stopped in the middle of a step that has told how far it is.
    let begun = Instant::now();
    let before = loop {
        signal("STOP")?;
        let status = status()?;
        if status["progress"].is_object() {
            break status;
        }
        signal("CONT")?;
        ensure!(begun.elapsed() < Duration::from_secs(60), "{status}");
    };
    site.node
        .run(&["systemctl", "disable", "kubelet", "lifecycle-agent"])?;
    site.node.power_off_hard();
    site.node.boot()?;
    site.node.wait_ready()?;
    let after = status()?;
    println!("{:#}", after["progress"]);
    assert_eq!(after["stage"], "Prep", "{after}");
    assert_eq!(after["progress"], before["progress"], "{after}");
    assert!(after["progress"]["at"].as_u64() > Some(0), "{after}");
    assert!(after["upgrade"]["error"].is_string(), "{after}");
    Ok(())
}
