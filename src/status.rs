//! `status`: where the upgrade stands, from the API server where it answers and from the node where this runs on it.

use std::fmt::Write;

use anyhow::Result;
use api::ImageBasedUpgrade;
use engine::{JournalStore, RunView, StepState};
use host::{HostFiles, HostOstree, Layout};
use node::ports::{Cluster, Deployment, Ostree};
use node::{JournalFiles, PortResult};
use serde_json::{Value, json};

use crate::background::Background;
use crate::cli::{ApiServer, Output, print};
use crate::node_ports::connect;

/// What is known, each part with its own reason where it is not.
struct Found {
    upgrade: Result<Option<ImageBasedUpgrade>, String>,
    deployments: Result<Vec<Deployment>, String>,
    run: Option<RunView>,
}

/// Prints the status. Parts that cannot be had are named; nothing is changed and nothing waited for longer than a few
/// seconds.
pub(crate) fn run(api: &ApiServer, output: Output) -> Result<()> {
    let background = Background::start()?;
    let chain = |error: node::PortError| engine::error_chain(&error);
    let layout = Layout::running();
    let found = Found {
        upgrade: upgrade(api, &background).map_err(chain),
        deployments: HostOstree::new(layout.clone()).deployments().map_err(chain),
        run: latest_run(&HostFiles::new(layout)),
    };
    match output {
        Output::Text => print(&text(&found)),
        Output::Json => print(&format!("{}\n", document(&found))),
    }
}

fn upgrade(api: &ApiServer, background: &Background) -> PortResult<Option<ImageBasedUpgrade>> {
    let connection = connect(api, background)?;
    let handle = background.handle().clone();
    cluster::LiveCluster::new(connection, handle, api::names::NAMESPACE, "status").upgrade()
}

fn latest_run(files: &HostFiles) -> Option<RunView> {
    let store = JournalFiles(files);
    let newest = store.list().ok()?.pop()?;
    RunView::from_journal(&store.read(&newest).ok()??).ok()
}

fn text(found: &Found) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_upgrade(&mut text, &found.upgrade);
    let _ = write_deployments(&mut text, &found.deployments);
    if let Some(run) = &found.run {
        let _ = write_run(&mut text, run);
    }
    text
}

fn write_upgrade(
    text: &mut String,
    upgrade: &Result<Option<ImageBasedUpgrade>, String>,
) -> std::fmt::Result {
    let ibu = match upgrade {
        Err(error) => return writeln!(text, "Upgrade: not known: {error}"),
        Ok(None) => return writeln!(text, "Upgrade: there is no ImageBasedUpgrade"),
        Ok(Some(ibu)) => ibu,
    };
    let status = ibu.status.clone().unwrap_or_default();
    let state = planner::parse(&status.conditions).state;
    let seed = ibu.spec.seed_image_ref.clone().unwrap_or_default();
    writeln!(text, "State:    {state}")?;
    writeln!(
        text,
        "Stage:    {}",
        ibu.spec.stage.as_deref().unwrap_or("(none)")
    )?;
    if !seed.image.is_empty() {
        writeln!(text, "Seed:     {} ({})", seed.image, seed.version)?;
    }
    let next: Vec<&str> = status
        .valid_next_stages
        .iter()
        .map(|stage| stage.as_str())
        .collect();
    writeln!(
        text,
        "Next:     {}",
        if next.is_empty() {
            "(nothing)".to_owned()
        } else {
            next.join(", ")
        }
    )?;
    for condition in &status.conditions {
        writeln!(
            text,
            "  {:<19} {:<6} {:<12} {}",
            condition.type_, condition.status, condition.reason, condition.message
        )?;
    }
    Ok(())
}

fn write_deployments(
    text: &mut String,
    deployments: &Result<Vec<Deployment>, String>,
) -> std::fmt::Result {
    match deployments {
        Err(error) => writeln!(text, "Deployments: not known: {error}"),
        Ok(deployments) => {
            writeln!(text, "Deployments, in boot order:")?;
            for found in deployments {
                let mark = if found.booted { "*" } else { " " };
                writeln!(text, "{mark} {}", found.id)?;
            }
            Ok(())
        }
    }
}

fn write_run(text: &mut String, run: &RunView) -> std::fmt::Result {
    let end = run.end.map_or("unfinished".to_owned(), |end| {
        format!("{end:?}").to_lowercase()
    });
    writeln!(text, "Latest run: {} ({end})", run.plan_name)?;
    for step in &run.steps {
        let mark = match step.state {
            StepState::Pending => " ",
            StepState::Running => ">",
            StepState::Done => "+",
            StepState::Failed => "!",
        };
        let took = match (step.started, step.ended) {
            (Some(started), Some(ended)) => format!("{} s", ended.saturating_sub(started)),
            _ => String::new(),
        };
        writeln!(text, "{mark} {:<22} {took}", step.name)?;
    }
    if let Some(failure) = &run.last_error {
        writeln!(text, "Last error ({}): {}", failure.kind, failure.error)?;
    }
    Ok(())
}

fn document(found: &Found) -> Value {
    let known = |result: Result<Value, &String>| match result {
        Ok(value) => value,
        Err(error) => json!({ "error": error }),
    };
    let deployments = found.deployments.as_ref().map(|deployments| {
        let list = deployments.iter().map(|found| {
            json!({ "id": found.id.to_string(), "booted": found.booted, "kernelArguments": found.kernel_arguments })
        });
        Value::Array(list.collect())
    });
    json!({
        "upgrade": known(found.upgrade.as_ref().map(|ibu| json!(ibu))),
        "deployments": known(deployments),
        "latestRun": found.run,
    })
}
