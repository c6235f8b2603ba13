//! `post-pivot`: what installation-configuration.service runs on the target's first boot.

use anyhow::Result;
use engine::StopToken;
use node::ports::{Cluster as _, Ports};
use node::{Agent, FirstBoot, PortError};

use crate::announcing::{Announced, Announcing};
use crate::background::Background;
use crate::cli::{ApiServer, PROGRAM};
use crate::metrics::Metrics;
use crate::node_ports::NodePorts;
use crate::telling::Telling;

/// Gives the node its identity. Transient failures are retried here; a permanent one leads back to the old release. Where the
/// user has switched that off, it ends the process with status 1 and systemd starts it again.
pub(crate) fn run(api: &ApiServer) -> Result<()> {
    let background = Background::start()?;
    let opened = NodePorts::open_patiently(api, &background, |wait| {
        std::thread::sleep(wait);
        false
    });
    let (ports, _connection) = match opened {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(()),
        Err(error) => return without_api(error),
    };
    let agent = Agent::new(ports.ports(), PROGRAM);
    let (announced, metrics) = (Announced::default(), Metrics::default());
    // Nobody serves these: the controller tells what it finds in the journal.
    metrics.follow(agent.latest().clone());
    let announcing = Announcing::new(ports.cluster(), &announced, None, 1);
    let mut telling = Telling::new(announcing, metrics, || {});
    match node::first_boot_or_return(&agent, &StopToken::new(), &mut telling)? {
        FirstBoot::NothingToDo => {
            nothing_to_do(&ports.ports())?;
        }
        FirstBoot::Done => {
            ports.cluster().await_announced();
            tracing::info!("this node has its identity");
        }
        FirstBoot::Stopped => tracing::info!("stopped"),
    }
    Ok(())
}

/// No way to the API server, for good, is a failure of the first boot like any other; going back needs none.
fn without_api(error: PortError) -> Result<()> {
    tracing::warn!(
        error = engine::error_chain(&error),
        "the first boot cannot begin"
    );
    let ports = NodePorts::unasked();
    let agent = Agent::new(ports.ports(), PROGRAM);
    let (announced, metrics) = (Announced::default(), Metrics::default());
    let announcing = Announcing::new(ports.cluster(), &announced, None, 1);
    let mut telling = Telling::new(announcing, metrics, || {});
    match node::return_from_first_boot(&agent, error, &StopToken::new(), &mut telling)? {
        FirstBoot::NothingToDo => nothing_to_do(&ports.ports())?,
        FirstBoot::Done | FirstBoot::Stopped => tracing::info!("stopped"),
    }
    Ok(())
}

/// Somebody else's boot, or the work was done before the unit was disabled.
fn nothing_to_do(ports: &Ports<'_>) -> Result<()> {
    tracing::info!("no configuration was handed over: nothing to do");
    Ok(ports.units.notify_ready("nothing to do")?)
}
