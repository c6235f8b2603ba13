//! The whole program on a node in the box where the other flow is in progress: Prep waits for it and begins by itself.

#![expect(clippy::print_stdout, reason = "figures are part of the result")]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use boxed::Site;
use boxed::site::conditions;
use serde_json::{Value, json};

/// As much of the kind's definition as matters here.
fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "ipconfigs.lca.openshift.io"},
        "spec": {
            "group": "lca.openshift.io",
            "scope": "Cluster",
            "names": {"kind": "IPConfig", "plural": "ipconfigs", "singular": "ipconfig"},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

fn ip_config(stage: &str, idle: &str) -> Value {
    json!({
        "apiVersion": "lca.openshift.io/v1",
        "kind": "IPConfig",
        "metadata": {"name": "ipconfig"},
        "spec": {"stage": stage},
        "status": {"conditions": [{
            "type": "Idle", "status": idle, "reason": "ConfigurationInProgress", "message": "Configuration in progress",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    })
}

fn apply(site: &Site, object: &Value) -> Result<()> {
    let file = site.lab.dir().join("object.json");
    std::fs::write(&file, object.to_string())?;
    let file = file.display().to_string();
    site.node.kubectl(&["apply", "-f", &file]).map(drop)
}

fn blocked(ibu: &Value) -> bool {
    let list = ibu["status"]["conditions"].as_array();
    list.into_iter().flatten().any(|found| {
        found["type"] == "PrepInProgress"
            && found["reason"] == "Blocked"
            && found["message"] == "IPC is not idle"
    })
}

#[test]
fn prep_waits_for_the_other_flow_and_begins_at_its_end() -> Result<()> {
    let site = Site::boot("blocked")?;
    apply(&site, &definition())?;
    let established = [
        "wait",
        "--for=condition=Established",
        "crd/ipconfigs.lca.openshift.io",
        "--timeout=30s",
    ];
    site.node.kubectl(&established)?;
    apply(&site, &ip_config("Config", "False"))?;

    site.request_prep()?;
    let ibu = site.wait(Duration::from_secs(10), blocked)?;
    ensure!(conditions(&ibu)[0] == ("Idle", "True"), "{ibu}");
    ensure!(
        ibu["status"]["validNextStages"] == json!(["Idle", "Prep"]),
        "{ibu}"
    );
    // It may be taken back, and asked for again.
    site.go("Idle")?;
    ensure!(!blocked(&site.upgrade()?));
    site.request_prep()?;
    site.wait(Duration::from_secs(10), blocked)?;

    apply(&site, &ip_config("Idle", "True"))?;
    let ended = Instant::now();
    site.wait(Duration::from_secs(10), |ibu| {
        conditions(ibu).contains(&("PrepInProgress", "True"))
            || conditions(ibu).contains(&("PrepCompleted", "True"))
    })?;
    println!(
        "begun {:.2} s after the other's end",
        ended.elapsed().as_secs_f64()
    );

    // A newcomer does not stop work that has begun, which is with the digest of the seed. Before that, this flow gives way.
    site.wait(Duration::from_secs(30), |ibu| {
        ibu["metadata"]["annotations"]["lca.openshift.io/seed-digest"].is_string()
    })?;
    apply(&site, &ip_config("Config", "False"))?;
    site.wait_stage("Prep")?;
    site.go("Idle")?;
    Ok(())
}
