//! `seed create`: asks the cluster what it is, then has the host make and push the seed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use api::ImageRef;
use cluster::SeedHost;
use host::{HostImages, HostOstree, HostUnits, Layout, SeedRequest};

use crate::background::Background;
use crate::cli::{ApiServer, print};
use crate::node_ports::NodePorts;

/// The unit of a target's first boot, as seeds carry it.
const UNIT: &str = include_str!("../systemd/installation-configuration.service");

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

/// Makes the seed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let begun = Instant::now();
    let _instance =
        host::Instance::acquire_for("seed").context("becoming this node's only seed maker")?;
    let request = request(arguments)?;
    let layout = Layout::running();
    let ostree = HostOstree::new(layout.clone());
    let made = host::create_seed(
        &layout,
        &ostree,
        &HostUnits,
        &request,
        &mut Telling::default(),
    )
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
fn request(arguments: &Arguments) -> Result<SeedRequest> {
    let credentials = std::fs::read(&arguments.authfile)
        .with_context(|| format!("reading {}", arguments.authfile.display()))?;
    let background = Background::start()?;
    let (ports, _connection) =
        NodePorts::open(&arguments.api, &background).context("reaching the API server")?;
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
    let images = to_precache(
        present,
        operators.related,
        &operators.catalogs,
        &arguments.recert_image,
    );
    let program = std::env::current_exe().context("finding this program")?;
    let unit = (api::names::POST_PIVOT_UNIT, UNIT);
    let image = arguments.image.clone();
    Ok(SeedRequest {
        image,
        credentials,
        info,
        images,
        unit,
        program,
    })
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

/// Tells every few seconds how much has been captured and pushed.
struct Telling {
    bytes: u64,
    told: Instant,
}

impl Default for Telling {
    fn default() -> Self {
        Self {
            bytes: 0,
            told: Instant::now(),
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
        false
    }
}
