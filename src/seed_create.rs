//! `seed create`: asks the cluster what it is, then has the host make and push the seed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use api::ImageRef;
use api::seed_node::SeedNodeFacts;
use cluster::SeedHost;
use host::{HostImages, HostMachine, HostOstree, HostUnits, Layout, SeedRequest, SeedUnit};

use node::ports::{Cluster, Machine, Told};
use planner::State;

use crate::background::{self, Background};
use crate::cli::{ApiServer, print};
use crate::node_ports::NodePorts;

/// The units that a target needs, as seeds carry them.
const UNITS: [SeedUnit; 4] = [
    SeedUnit {
        name: api::names::POST_PIVOT_UNIT,
        text: include_str!("../systemd/installation-configuration.service"),
        wanted_by: &["multi-user.target"],
    },
    SeedUnit {
        name: api::names::BOOT_GOOD_UNIT,
        text: include_str!("../systemd/lca-boot-good.service"),
        wanted_by: &["sysinit.target"],
    },
    SeedUnit {
        name: api::names::INIT_MONITOR_UNIT,
        text: include_str!("../systemd/lca-init-monitor.service"),
        // The second as the Go original's has it: whether it is there says whether it is enabled.
        wanted_by: &["sysinit.target", "multi-user.target"],
    },
    SeedUnit {
        name: api::names::EMERGENCY_RETURN_UNIT,
        text: include_str!("../systemd/lca-emergency-return.service"),
        wanted_by: &["emergency.target", "rescue.target"],
    },
];

/// What to make and where to push it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The image to make, with a tag.
    #[arg(short, long)]
    image: ImageRef,
    /// Docker configuration file with credentials for the image's registry.
    #[arg(short, long, default_value = api::path::PULL_SECRET)]
    authfile: PathBuf,
    /// The recert image that the Go original's first boot would run; recorded in the seed.
    #[arg(
        short = 'e',
        long,
        default_value = "quay.io/edge-infrastructure/recert:v0"
    )]
    recert_image: ImageRef,
    #[command(flatten)]
    api: ApiServer,
}

/// Makes the seed. A signal ends it in good order: the cluster runs again.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let begun = Instant::now();
    let _instance =
        host::Instance::acquire_for("seed").context("becoming this node's only seed maker")?;
    let background = Background::start()?;
    let request = request(arguments, &background)?;
    let mut telling = Telling::new(&background);
    let layout = Layout::running();
    let ostree = HostOstree::new(layout.clone());
    let made = host::create_seed(&layout, &ostree, &HostUnits, &request, &mut telling)
        .with_context(|| format!("making the seed {}", arguments.image))?;
    for warning in &made.warnings {
        tracing::warn!("{warning}");
    }
    print(&format!(
        "pushed {} ({}, {} MiB) in {} s\n",
        arguments.image,
        made.digest.as_str(),
        made.size >> 20,
        begun.elapsed().as_secs()
    ))
}

/// Everything that has to be asked while the cluster still runs.
fn request(arguments: &Arguments, background: &Background) -> Result<SeedRequest> {
    let credentials = std::fs::read(&arguments.authfile)
        .with_context(|| format!("reading {}", arguments.authfile.display()))?;
    let (ports, _connection) =
        NodePorts::open(&arguments.api, background).context("reaching the API server")?;
    refuse_in_an_upgrade(ports.cluster())?;
    let host = SeedHost {
        container_storage_target: host::container_storage_target()?,
        recert_image: arguments.recert_image.as_str().to_owned(),
    };
    let info = ports
        .cluster()
        .seed_info(&host)
        .context("describing this cluster")?;
    let operators = ports
        .cluster()
        .container_images()
        .context("listing the operators' images")?;
    let present = HostImages::new()
        .references()
        .context("listing the node's images")?;
    let node = node_facts(ports.cluster())?;
    let images = to_precache(
        present,
        operators.related,
        &operators.catalogs,
        &arguments.recert_image,
    );
    let program = std::env::current_exe().context("finding this program")?;
    let image = arguments.image.clone();
    Ok(SeedRequest {
        image,
        credentials,
        info,
        node,
        images,
        units: UNITS.to_vec(),
        program,
    })
}

/// What targets compare with their own node. What cannot be had is left out: it is a warning there.
fn node_facts(cluster: &dyn Cluster) -> Result<SeedNodeFacts> {
    fn known<T>(told: Told<T>) -> Option<T> {
        match told {
            Told::Known(value) => Some(value),
            Told::Unknown(error) => {
                tracing::warn!(error, "the seed will not say all of its node");
                None
            }
        }
    }
    let machine = HostMachine::new(Layout::running())
        .facts(None)
        .context("examining this node")?;
    let cluster = cluster.facts().context("examining this cluster")?;
    Ok(SeedNodeFacts {
        architecture: machine.architecture,
        cpu: Some(machine.cpu),
        reserved_cpus: known(machine.reserved_cpus),
        machine_configs: known(cluster.machine_configs),
        kernel_arguments: Some(cluster.kernel_arguments),
        operators: known(cluster.operators),
        installed: None,
    })
}

/// The control plane is stopped for a seed; in the middle of an upgrade it must not be.
fn refuse_in_an_upgrade(cluster: &dyn Cluster) -> Result<()> {
    let status = cluster
        .upgrade()
        .context("reading the upgrade object")?
        .and_then(|ibu| ibu.status);
    let state = planner::parse(&status.unwrap_or_default().conditions).state;
    anyhow::ensure!(
        matches!(state, State::Idle | State::Uninitialized),
        "an upgrade of this node is under way (state {state}): request stage Idle and wait for it first"
    );
    Ok(())
}

/// Images of the node and of its operators, without catalogs, which are always pulled (contract S 1.3.1).
fn to_precache(
    present: BTreeSet<String>,
    related: BTreeSet<String>,
    catalogs: &BTreeSet<String>,
    recert: &ImageRef,
) -> Vec<ImageRef> {
    let recert = [recert.as_str().to_owned()];
    let listed: BTreeSet<String> = present.into_iter().chain(related).chain(recert).collect();
    let wanted = listed.into_iter().filter(|image| !catalogs.contains(image));
    // What is no pull specification, such as an image that was only built here, cannot be pulled either.
    wanted.filter_map(|image| image.parse().ok()).collect()
}

/// Tells every few seconds how much has been captured and pushed, and passes a signal on.
struct Telling {
    bytes: u64,
    told: Instant,
    stop: Arc<AtomicBool>,
}

impl Telling {
    fn new(background: &Background) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let signalled = Arc::clone(&stop);
        background.handle().spawn(async move {
            background::end_signal().await;
            tracing::info!("stopping; the control plane is started again");
            signalled.store(true, Ordering::Relaxed);
        });
        Self {
            bytes: 0,
            told: Instant::now(),
            stop,
        }
    }
}

impl seed::watch::Watch for Telling {
    fn advanced(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.told.elapsed() >= Duration::from_secs(2) {
            self.told = Instant::now();
            tracing::info!(mib = self.bytes >> 20, "captured and pushed so far");
        }
    }

    fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
