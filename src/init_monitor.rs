//! `init-monitor`: what lca-init-monitor.service runs from the target's first boot on.

use std::time::Duration;

use anyhow::{Result, bail};
use node::ports::Cluster;
use node::{Agent, InitMonitor, MonitorMemory, Tick};

use crate::announcing::{Announced, Announcing};
use crate::background::Background;
use crate::cli::{ApiServer, PROGRAM};
use crate::metrics::Metrics;
use crate::node_ports::NodePorts;
use crate::telling::Telling;

/// What the command line asks for: as units of seeds of either kind have it (contract 9.1).
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Watch over the upgrade until it has completed.
    #[arg(long, conflicts_with = "exec_stop_post")]
    monitor: bool,
    /// In a unit's ExecStopPost: go back if the unit failed and its component is watched.
    #[arg(long, value_name = "COMPONENT")]
    exec_stop_post: Option<String>,
    /// Which flow; there is one.
    #[arg(long, default_value = "ibu", value_parser = ["ibu"])]
    mode: String,
    #[command(flatten)]
    api: ApiServer,
}

/// Watches until there is nothing left to watch over. It asks the API server for nothing, but for the case that
/// [`InitMonitor::completed`] names.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let ports = NodePorts::unasked();
    let agent = Agent::new(ports.ports(), PROGRAM);
    let announced = Announced::default();
    let metrics = Metrics::default();
    metrics.follow(agent.latest().clone());
    let announcing = Announcing::new(ports.cluster(), &announced, None, 1);
    let mut telling = Telling::new(announcing, metrics, || {});
    if let Some(component) = &arguments.exec_stop_post {
        let result = std::env::var("SERVICE_RESULT").unwrap_or_default();
        if matches!(result.as_str(), "" | "success") {
            return Ok(());
        }
        node::return_for_unit(&agent, component, &mut telling)?;
        return Ok(());
    }
    if !arguments.monitor {
        bail!("must specify either --monitor or --exec-stop-post");
    }
    tracing::info!(flow = arguments.mode, "watching over the upgrade");
    let completed = || status_completed(&arguments.api);
    let mut memory = MonitorMemory::default();
    loop {
        let tick = InitMonitor {
            agent: &agent,
            completed: &completed,
            memory: &mut memory,
        }
        .look(&mut telling);
        match tick {
            Tick::Again(seconds) => std::thread::sleep(Duration::from_secs(seconds)),
            Tick::Over(why) => {
                tracing::info!(?why, "nothing to watch over any more");
                return Ok(());
            }
        }
    }
}

/// Whether the upgrade object says that the upgrade has completed; `None` = nobody could tell.
fn status_completed(api: &ApiServer) -> Option<bool> {
    let background = Background::start().ok()?;
    let (ports, _connection) = NodePorts::open(api, &background).ok()?;
    let status = ports.cluster().upgrade().ok()??.status?;
    Some(planner::tells_completion(&status.conditions))
}
