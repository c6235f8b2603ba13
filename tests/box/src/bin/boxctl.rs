//! Nodes in a box from the command line, for a closer look.
#![expect(
    clippy::print_stdout,
    reason = "printing is what a command line tool does"
)]

use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boxed::{Lab, NodeConfig, Release, Running, process_runs};
use clap::{Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

/// Boots mini-SNO nodes and reaches into them.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Install a node and boot it; it runs until this program is interrupted.
    Up {
        /// Name, and hostname.
        #[arg(long, default_value = "sno")]
        name: String,
        /// 4.16.9, 4.17.4, 4.17.5 or 4.18.1.
        #[arg(long, default_value = "4.16.9")]
        release: Release,
        /// Last number of the address 192.168.127.N.
        #[arg(long, default_value_t = 10)]
        number: u8,
        /// The lifecycle-agent program to install as a service.
        #[arg(long)]
        agent: Option<PathBuf>,
        /// Start a registry as well, with its blobs in this directory.
        #[arg(long)]
        registry: Option<PathBuf>,
        /// Leave the node running in the background and return when its API serves.
        #[arg(long)]
        keep: bool,
    },
    /// Run a command in a running node.
    Exec {
        /// Name of the node.
        name: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run kubectl against a running node.
    Kubectl {
        /// Name of the node.
        name: String,
        /// Arguments of kubectl.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// End a node that `up --keep` left running, and remove it.
    Down {
        /// Name of the node.
        name: String,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().action {
        Action::Up { keep: true, .. } => detach(),
        Action::Up {
            name,
            release,
            number,
            agent,
            registry,
            keep: false,
        } => {
            let mut config = NodeConfig::new(&name, release, number);
            config.agent_binary = agent;
            serve(&config, registry)
        }
        Action::Exec { name, command } => {
            let args: Vec<&str> = command.iter().map(String::as_str).collect();
            Err(Running::find(&name)?.command(&args).exec().into())
        }
        Action::Kubectl { name, arguments } => {
            let args: Vec<&str> = arguments.iter().map(String::as_str).collect();
            Err(Running::find(&name)?.kubectl_command(&args)?.exec().into())
        }
        Action::Down { name } => down(&name),
    }
}

/// What `serve` prints when the API serves.
const SERVING: &str = "serving";

fn serve(config: &NodeConfig, registry: Option<PathBuf>) -> Result<()> {
    // Before any thread exists, so that all of them leave these signals to `wait` below.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("blocking signals")?;
    let lab = Lab::new(&config.name)?;
    let _registry = registry
        .map(|storage| lab.start_registry(Some(&storage)))
        .transpose()?;
    let node = lab.install(config)?;
    node.boot()?;
    node.wait_api()?;
    println!("{SERVING} {} at {}", node.name(), node.address());
    std::io::stdout().flush().context("standard output")?;
    signals.wait().context("waiting for a signal")?;
    Ok(())
}

/// Runs the same command without `--keep` in a session of its own.
fn detach() -> Result<()> {
    // Not ours: whoever reads our standard error would wait for the keeper's end.
    let mut log = tempfile::tempfile().context("a file for the keeper's errors")?;
    let program = std::env::current_exe().context("path of this program")?;
    let mut command = Command::new("setsid");
    command
        .arg(program)
        .args(std::env::args_os().skip(1).filter(|arg| arg != "--keep"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.try_clone().context("the keeper's errors")?);
    let mut child = command.spawn().context("starting the node's keeper")?;
    let output = child.stdout.take().context("its output")?;
    let mut line = String::new();
    BufReader::new(output)
        .read_line(&mut line)
        .context("its first line")?;
    if !line.starts_with(SERVING) {
        let status = child.wait().context("waiting for the keeper")?;
        let mut said = String::new();
        log.rewind().context("the keeper's errors")?;
        log.read_to_string(&mut said)
            .context("the keeper's errors")?;
        bail!("the node's keeper ended with {status}: {}", said.trim_end());
    }
    print!("{line}");
    Ok(())
}

/// How long a node's keeper may take to end and clean up.
const DOWN_LIMIT: Duration = Duration::from_secs(60);

fn down(name: &str) -> Result<()> {
    let keeper = Running::find(name)?.keeper();
    ensure!(keeper > 1, "the keeper of {name} is gone");
    kill(Pid::from_raw(keeper), Signal::SIGTERM)
        .with_context(|| format!("ending process {keeper}"))?;
    let until = Instant::now() + DOWN_LIMIT;
    while process_runs(keeper) {
        ensure!(Instant::now() < until, "process {keeper} does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
