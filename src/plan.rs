//! `plan`: what an upgrade would do, and what is in its way, with no side effects: nothing is written on the node, in the
//! cluster or in the registry.

mod document;
mod fetch;
mod images;
mod known;
mod objects;
mod preview;
mod print;
mod seed;
mod signature;

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use self::known::Known;
use crate::background::Background;
use crate::cli::{ApiServer, print as print_text};

/// What to preview.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The seed image; without it, what the upgrade object's spec asks for.
    #[arg(long)]
    image: Option<String>,
    /// The seed's version; without it, what the seed says of itself.
    #[arg(long, requires = "image")]
    version: Option<String>,
    /// Credentials for the seed's registry: a docker configuration file (with a `/` in its name), or a Secret in the
    /// operator's namespace; without it, the node's own.
    #[arg(long)]
    pull_secret: Option<String>,
    /// Format.
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    api: ApiServer,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// Prints the preview. The exit status is 0 when nothing blocks, 1 when something does, 2 when nobody could tell.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let background = Background::start()?;
    let document = Known::gather(arguments, &background).document();
    let text = match arguments.output {
        Format::Text => print::text(&document),
        Format::Json => format!("{:#}\n", serde_json::to_value(&document)?),
        Format::Yaml => serde_yaml_ng::to_string(&document)?,
    };
    print_text(&text)?;
    Ok(document.verdict.exit_status())
}
