//! `seed create`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use api::ImageRef;

use crate::background::Background;
use crate::cli::ApiServer;
use crate::node_ports::NodePorts;

/// What to make and where to push it.
#[derive(clap::Args)]
pub struct Arguments {
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
    recert_image: String,
    #[command(flatten)]
    api: ApiServer,
}

/// Makes the seed.
pub fn run(arguments: &Arguments) -> Result<()> {
    let _ = arguments;
    let background = Background::start()?;
    let (_ports, _connection) =
        NodePorts::open(&arguments.api, &background).context("reaching the API server")?;
    anyhow::bail!("waiting for host::capture")
}
