//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::{
    boot_good, controller, endpoints, init_monitor, plan, post_pivot, seed_create, status,
    timeline, watch,
};

/// Name and version: what journals are signed with.
pub(crate) const PROGRAM: &str = concat!("lifecycle-agent ", env!("CARGO_PKG_VERSION"));

/// Upgrades this single-node OpenShift by installing a seed image as a second release beside the running one,
/// switching to it with one reboot, and back if need be.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    /// How log lines are written to standard error. `LCA_LOG` filters them, e.g. `LCA_LOG=debug`.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// How read-only views are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where the API server is.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ApiServer {
    /// Kubeconfig; without it, KUBECONFIG, a pod's service account, or the node's own kubeconfig.
    #[arg(long)]
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl ApiServer {
    /// The way to the API server, in the order that the help text names.
    pub(crate) fn access(&self) -> node::PortResult<cluster::Access> {
        let variable = |name: &str| std::env::var(name).ok();
        let named = self
            .kubeconfig
            .clone()
            .or_else(|| variable("KUBECONFIG").map(PathBuf::from));
        if named.is_none() && variable("KUBERNETES_SERVICE_HOST").is_none() {
            return Ok(cluster::Access::Kubeconfig(PathBuf::from(
                api::path::KUBECONFIG,
            )));
        }
        cluster::Access::find(named.as_deref(), variable)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Watch the ImageBasedUpgrade and carry out what its stage asks for. Runs on the node as root.
    Controller {
        #[command(flatten)]
        api: ApiServer,
        #[command(flatten)]
        endpoints: endpoints::Arguments,
    },
    /// Give a freshly booted target this site's identity (installation-configuration.service).
    PostPivot(ApiServer),
    /// Declare this boot good to the boot loader, or take over again from a release that it gave up
    /// (lca-boot-good.service).
    BootGood,
    /// Watch over a freshly booted target until its upgrade has completed, and go back to the old release if it does not
    /// (lca-init-monitor.service).
    InitMonitor(init_monitor::Arguments),
    /// Make seed images.
    #[command(subcommand)]
    Seed(SeedCommand),
    /// Show where the upgrade stands: the object, the deployments, the latest run.
    Status {
        #[command(flatten)]
        api: ApiServer,
        /// Format.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
        /// Show instead where the time of the latest upgrade went.
        #[arg(long)]
        timeline: bool,
    },
    /// Follow the upgrade with progress until the requested stage has ended.
    Watch {
        #[command(flatten)]
        api: ApiServer,
        /// Format; `json` prints one object a line.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
        /// Go on when the stage has ended.
        #[arg(long)]
        forever: bool,
    },
    /// Preview an upgrade: what it would fetch and change, and what is in its way. Changes nothing. Exit status 0: nothing
    /// blocks, 1: something does, 2: nobody could tell.
    Plan(plan::Arguments),
    /// Explain how the agent decides.
    #[command(subcommand)]
    Explain(ExplainCommand),
    /// Print the CustomResourceDefinitions.
    Crds,
}

#[derive(Subcommand)]
enum SeedCommand {
    /// Make a seed image of this node and push it. The node's cluster is stopped meanwhile and nothing on it is changed.
    Create(seed_create::Arguments),
}

#[derive(Subcommand)]
enum ExplainCommand {
    /// The transition table: which stage may be requested where, and where it leads.
    Stages,
    /// The checks of Prep and `plan`: when each is answered, what a failure means, and what it reads.
    Checks,
}

/// Runs the command. The exit status is 0 for success, 1 for a failure that is told on standard error, 2 for a
/// command line that makes no sense.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging(arguments.log_format);
    match run(arguments.command) {
        Ok(status) => status,
        Err(error) => {
            tracing::error!("{}", engine::error_chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Controller { api, endpoints } => controller::run(&api, &endpoints),
        Command::PostPivot(api) => post_pivot::run(&api),
        Command::BootGood => boot_good::run(),
        Command::InitMonitor(arguments) => init_monitor::run(&arguments),
        Command::Seed(SeedCommand::Create(arguments)) => seed_create::run(&arguments),
        Command::Status {
            api,
            output,
            timeline: true,
        } => timeline::run(&api, output),
        Command::Status { api, output, .. } => status::run(&api, output),
        Command::Watch {
            api,
            output,
            forever,
        } => watch::run(&api, output, forever),
        Command::Explain(ExplainCommand::Stages) => print(&planner::explain_stages()),
        Command::Explain(ExplainCommand::Checks) => print(&planner::explain_checks()),
        Command::Plan(arguments) => return plan::run(&arguments),
        Command::Crds => print(&api::crd::crds_yaml()),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Prints to standard output; a reader that goes away is no failure.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn start_logging(format: LogFormat) {
    // A connection that fails is told by whoever asked; kube's own words about it would say it twice.
    let usual = || {
        Targets::new()
            .with_default(LevelFilter::INFO)
            .with_target("kube_client", LevelFilter::ERROR)
    };
    let asked = std::env::var("LCA_LOG");
    let filter: Option<Targets> = asked.ok().and_then(|asked| asked.parse().ok());
    let filtered = tracing_subscriber::registry().with(filter.unwrap_or_else(usual));
    let logs = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => filtered.with(logs.json()).init(),
        // journald puts the time on every line itself.
        LogFormat::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            filtered.with(logs.without_time()).init()
        }
        LogFormat::Text => filtered.with(logs).init(),
    }
}
