//! What `hack/vm` runs: VMs for people, and the scenarios.
#![expect(
    clippy::print_stdout,
    reason = "printing is what a command line tool does"
)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use boxed::{Lab, NodeConfig, Release, succeed};
use clap::{Parser, Subcommand};
use vm::scenario::{self, Scenario};
use vm::{Accelerator, Frozen, Ground, Mark, Moment, Vm, scenarios};

/// Boots mini-SNO nodes in virtual machines.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Play the scenarios and print a table; the last line counts them.
    Suite {
        /// Only those whose name contains this; may be given several times.
        names: Vec<String>,
        #[command(flatten)]
        lanes: Lanes,
        /// Print the names and play nothing.
        #[arg(long)]
        list: bool,
    },
    /// Upgrade, finalize and roll back on the shortest way.
    Smoke,
    /// Cut the power of upgrades and rollbacks, and see each come to a good end.
    Power {
        /// How many times.
        #[arg(long)]
        cuts: usize,
        #[command(flatten)]
        lanes: Lanes,
        /// The file that the results are added to; the table counts all that are in it. Usually in the cache.
        #[arg(long)]
        results: Option<PathBuf>,
    },
    /// Start a VM with the agent and a registry with a seed, and open a shell in it; the VM ends with the shell.
    Shell {
        /// Where to begin: serving, idle, prepared or upgraded.
        #[arg(long, default_value = "idle")]
        at: String,
    },
    /// Boot a VM from its disk, as nobody keeps it, and open a shell in it.
    Run {
        /// 4.16.9, 4.17.4, 4.17.5 or 4.18.1.
        #[arg(long, default_value = "4.16.9")]
        release: Release,
    },
    /// Make a disk of 4.16.9 in a file, and print a libvirt domain with it.
    LibvirtXml {
        /// The file to make, in qcow2; one that is there is used.
        disk: PathBuf,
    },
}

#[derive(clap::Args)]
struct Lanes {
    /// How many machines run at once. Usually one for each processor, if there are 4 GiB of memory for each.
    #[arg(long)]
    lanes: Option<usize>,
}

impl Lanes {
    fn count(&self) -> Result<usize> {
        self.lanes.map_or_else(vm::lanes::usual, Ok)
    }
}

fn main() -> Result<()> {
    match Arguments::parse().action {
        Action::Suite { names, lanes, list } => suite(&names, &lanes, list),
        Action::Smoke => smoke(),
        Action::Power {
            cuts,
            lanes,
            results,
        } => {
            let results = results.map_or_else(vm::soak::usual_results, Ok)?;
            let ground = Ground::prepare("soak", &[Release::V4_17_4])?;
            println!(
                "{}",
                vm::soak::power(&ground, cuts, lanes.count()?, &results)?
            );
            Ok(())
        }
        Action::Shell { at } => {
            let moment = match at.as_str() {
                "serving" => Moment::Serving,
                "idle" => Moment::Idle,
                "prepared" => Moment::Prepared,
                "upgraded" => Moment::Upgraded,
                _ => anyhow::bail!("{at:?}: known are serving, idle, prepared and upgraded"),
            };
            let ground = Ground::prepare("shell", &[Release::V4_17_4])?;
            let site = ground.at(moment)?;
            shell(ground.lab(), &site.vm)
        }
        Action::Run { release } => {
            let config = NodeConfig::new("site", release, 10);
            let disk = vm::disk::ensure(&config)?;
            let lab = Arc::new(Lab::new("run")?);
            lab.add_address(config.address)?;
            let vm = Vm::start(&lab, config.address, &Frozen::fresh(disk), None)?;
            println!("console: {}", vm.dir().join("serial.log").display());
            println!("{}", vm.wait_up(Mark::default())?);
            vm.wait_guest()?;
            vm.wait_api()?;
            shell(&lab, &vm)
        }
        Action::LibvirtXml { disk } => {
            if !disk.exists() {
                let made = vm::disk::ensure(&NodeConfig::new("site", Release::V4_16_9, 10))?;
                succeed(
                    Command::new("qemu-img")
                        .args(["convert", "-O", "qcow2"])
                        .args([&made, &disk]),
                )?;
            }
            let disk = disk.canonicalize().context("the disk's path")?;
            print!("{}", vm::libvirt::domain(&disk));
            Ok(())
        }
    }
}

fn suite(names: &[String], lanes: &Lanes, list: bool) -> Result<()> {
    let chosen = |scenario: &Scenario| {
        names.is_empty() || names.iter().any(|name| scenario.name.contains(name))
    };
    let scenarios: Vec<Scenario> = scenarios::all().into_iter().filter(chosen).collect();
    if list {
        for scenario in &scenarios {
            println!("{}", scenario.name);
        }
        return Ok(());
    }
    ensure!(!scenarios.is_empty(), "no scenario is called {names:?}");
    let lanes = lanes.count()?;
    println!(
        "accelerator: {}; machines at once: {lanes}",
        Accelerator::find()?.name()
    );
    let ground = Ground::prepare(
        "suite",
        &[Release::V4_17_4, Release::V4_17_5, Release::V4_18_1],
    )?;
    println!("{}", scenario::head());
    let played = vm::lanes::work(&ground, lanes, &scenarios, |ground, scenario| {
        let one = scenario::play(ground, scenario);
        println!("{}", scenario::line(&one));
        one
    })?;
    drop(ground);
    println!("{}", scenario::verdict(&played));
    let all = played.iter().all(scenario::Played::passed);
    ensure!(all, "some scenarios did not pass");
    Ok(())
}

fn smoke() -> Result<()> {
    let begun = Instant::now();
    let ground = Ground::prepare("smoke", &[Release::V4_17_4])?;
    scenarios::smoke(&ground)?;
    println!(
        "vm: upgraded, finalized and rolled back in {} s",
        begun.elapsed().as_secs()
    );
    Ok(())
}

/// A shell by ssh, with a key that is made for it.
fn shell(lab: &Lab, vm: &Vm) -> Result<()> {
    let key = vm.dir().join("key");
    succeed(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key),
    )?;
    let public = std::fs::read_to_string(key.with_extension("pub")).context("reading the key")?;
    vm.script(&format!(
        "mkdir -p -m 0700 /root/.ssh; echo '{}' >>/root/.ssh/authorized_keys",
        public.trim_end()
    ))?;
    let mut ssh = lab.command("ssh");
    ssh.arg("-i")
        .arg(&key)
        .args(["-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"])
        .args(["-o", "UserKnownHostsFile=/dev/null"])
        .arg(format!("root@{}", vm.address()));
    println!("console: {}", vm.dir().join("serial.log").display());
    println!("kubeconfig: {}", vm.kubeconfig()?.display());
    println!("one more shell: {}", line(&ssh));
    ssh.status().context("starting ssh").map(drop)
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
