//! The manifests grant what a whole walk asks of the API server: its audit log against the roles.

#![expect(clippy::print_stdout, reason = "figures are part of the result")]

mod rbac;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use boxed::Site;
use rbac::{Request, Rules};
use serde_json::Value;

const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";
const FLAGS: &str = "MINI_SNO_APISERVER_FLAGS=--audit-policy-file=/etc/mini-sno/audit.yaml --audit-log-path=/var/lib/audit.json\n";
/// Where the log is: not below /var/log, whose emptiness tells that a target was never booted.
const LOG: &str = "/var/lib/audit.json";

/// Lets a stateroot's API server keep an audit log from its next start on.
fn audit(site: &Site, stateroot: &str) -> Result<()> {
    let policy = site
        .node
        .path_in_stateroot(stateroot, "/etc/mini-sno/audit.yaml")?;
    fs::write(&policy, POLICY).with_context(|| format!("writing {}", policy.display()))?;
    let flags = site
        .node
        .path_in_stateroot(stateroot, "/etc/mini-sno/kubelet")?;
    // A release may have no flags of its own.
    let text = match fs::read_to_string(&flags) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("reading {}", flags.display()))?,
    };
    fs::write(&flags, format!("{text}{FLAGS}"))
        .with_context(|| format!("writing {}", flags.display()))
}

/// What the agent asked for.
fn requests(site: &Site, stateroot: &str) -> Result<BTreeSet<Request>> {
    let text = fs::read_to_string(site.node.path_in_stateroot(stateroot, LOG)?)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let events: Vec<Value> = whole
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let ours = |event: &&Value| {
        event["userAgent"]
            .as_str()
            .is_some_and(|agent| agent.starts_with("lifecycle-agent"))
    };
    Ok(events
        .iter()
        .filter(ours)
        .filter_map(Request::of_audit_event)
        .collect())
}

/// The first boot's service comes with the node's own kubeconfig, not with the service account.
fn is_the_nodes(request: &Request) -> bool {
    cluster::NODE.iter().any(|permission| {
        permission.verb.as_str() == request.verb
            && permission.group == request.group
            && permission.resource == request.resource
            && permission.subresource == request.subresource
    })
}

#[test]
fn a_walk_asks_for_nothing_that_is_not_granted() -> Result<()> {
    let manifests = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests"));
    let rules = Rules::read(
        manifests,
        "openshift-lifecycle-agent",
        "lifecycle-agent-controller-manager",
    )?;
    let site = Site::install("audit")?;
    audit(&site, "rhcos")?;
    site.node.boot()?;
    // Not only the API server: its Node too.
    site.node.wait_api()?;
    site.wait_stage("Idle")?;
    site.go("Prep")?;
    audit(&site, "rhcos_4.17.4")?;
    site.go("Upgrade")?;
    site.go("Rollback")?;
    let mut asked = requests(&site, "rhcos_4.17.4")?;
    site.go("Idle")?;
    asked.append(&mut requests(&site, "rhcos")?);
    ensure!(asked.len() >= 10, "the audit log shows only {asked:?}");
    let watches = asked
        .iter()
        .filter(|request| request.verb == "watch")
        .count();
    ensure!(watches == 1, "one watch on one object, not {watches}");
    let refused: Vec<&Request> = asked
        .iter()
        .filter(|request| !rules.allows(request) && !is_the_nodes(request))
        .collect();
    ensure!(
        refused.is_empty(),
        "not granted by manifests/: {refused:#?}"
    );
    println!("{} kinds of request, all granted", asked.len());
    Ok(())
}
