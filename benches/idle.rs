//! `hack/bench idle`: what the agent costs at rest, and how soon it answers.
//!
//! The agent runs in the box as on a node. It idles for `LCA_BENCH_IDLE_SECONDS` (default 300), then 200 alternating
//! patches of `spec.stage` are sent; for each, the time from the API server's answer until a watch shows the first
//! change of status is taken. The same is measured in the same run with the agent stopped and a client in its place that
//! thinks of nothing and writes one status for each patch: what API server, etcd and disk take whoever answers (`floor_*`).
//! The last line printed is one JSON object.

#![expect(clippy::print_stdout, reason = "figures are part of the result")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boxed::Site;
use futures::StreamExt;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

/// How many patches are sent.
const PATCHES: usize = 200;
/// Arguments of this program for its parts in the lab's network; each is followed by a kubeconfig.
const LATENCIES: &str = "--latencies";
const ANSWERS: &str = "--answers";
/// How long a change of status, or the way back to Idle, may take.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let part = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    };
    if let Some(kubeconfig) = part(LATENCIES) {
        println!("{}", json!(runtime()?.block_on(latencies(kubeconfig))?));
        return Ok(());
    }
    match part(ANSWERS) {
        Some(kubeconfig) => runtime()?.block_on(answer(kubeconfig)),
        None => bench(),
    }
}

fn bench() -> Result<()> {
    let idle: u64 = match std::env::var("LCA_BENCH_IDLE_SECONDS") {
        Ok(text) => text.parse().context("LCA_BENCH_IDLE_SECONDS")?,
        Err(_) => 300,
    };
    let agent = boxed::site::agent_binary()?;
    let binary = std::fs::metadata(&agent)?.len();
    eprintln!("booting a node with {}", agent.display());
    let site = Site::boot("bench")?;
    // What starting up needed is over.
    std::thread::sleep(Duration::from_secs(10));
    eprintln!("idling for {idle} s");
    let before = Usage::of_agent(&site)?;
    std::thread::sleep(Duration::from_secs(idle));
    let after = Usage::of_agent(&site)?;
    ensure!(
        before.pid == after.pid,
        "the agent was restarted while it idled"
    );
    eprintln!("sending {PATCHES} patches");
    let agents = measured(&site)?;
    let ended = Usage::of_agent(&site)?;
    eprintln!("sending {PATCHES} patches to a client that only writes");
    site.node
        .run(&["systemctl", "stop", "lifecycle-agent.service"])?;
    let mut writer = part(&site, ANSWERS)?.spawn()?;
    let floor = measured(&site);
    writer.kill()?;
    writer.wait()?;
    let floor = floor?;
    let minutes = idle as f64 / 60.0;
    println!(
        "{}",
        json!({
            "rss_mib": round(after.rss_kib / 1024.0),
            "rss_anon_mib": round(after.anon_kib / 1024.0),
            "cpu_percent": round((after.cpu_seconds - before.cpu_seconds) / idle as f64 * 100.0),
            "switches_per_minute": round((after.switches - before.switches) / minutes),
            "binary_mib": round(binary as f64 / f64::from(1 << 20)),
            "first_status_ms_p50": round(at(&agents, 0.5)),
            "first_status_ms_p99": round(at(&agents, 0.99)),
            "floor_ms_p50": round(at(&floor, 0.5)),
            "floor_ms_p99": round(at(&floor, 0.99)),
            "first_status_over_floor_p50": round(at(&agents, 0.5) / at(&floor, 0.5)),
            "first_status_over_floor_p99": round(at(&agents, 0.99) / at(&floor, 0.99)),
            "rss_after_patches_mib": round(ended.rss_kib / 1024.0),
        })
    );
    Ok(())
}

/// This program again, within the lab's network, as the part that the argument names.
fn part(site: &Site, argument: &str) -> Result<Command> {
    let program = std::env::current_exe()?.display().to_string();
    let mut command = site.lab.command(&program);
    command.arg(argument).arg(site.node.kubeconfig()?);
    Ok(command)
}

/// Milliseconds, sorted, of all patches.
fn measured(site: &Site) -> Result<Vec<f64>> {
    let output = part(site, LATENCIES)?.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "measuring the latencies failed");
    let mut latencies: Vec<f64> = serde_json::from_slice(&output.stdout)?;
    latencies.sort_by(f64::total_cmp);
    ensure!(
        latencies.len() == PATCHES,
        "{} of {PATCHES} patches were measured",
        latencies.len()
    );
    Ok(latencies)
}

/// The value that this share of them do not exceed.
fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

/// What the kernel says of the agent's process.
struct Usage {
    pid: String,
    rss_kib: f64,
    anon_kib: f64,
    cpu_seconds: f64,
    /// Voluntary context switches of all threads: every wake-up from a wait is one.
    switches: f64,
}

impl Usage {
    fn of_agent(site: &Site) -> Result<Usage> {
        let pid = site.node.run(&[
            "systemctl",
            "show",
            "--property=MainPID",
            "--value",
            "lifecycle-agent.service",
        ])?;
        let pid = pid.trim().to_owned();
        let status = site.node.run(&["cat", &format!("/proc/{pid}/status")])?;
        let stat = site.node.run(&["cat", &format!("/proc/{pid}/stat")])?;
        let tasks = site
            .node
            .run(&["sh", "-c", &format!("cat /proc/{pid}/task/*/status")])?;
        // Fields behind the command's closing parenthesis: state is the first, utime the 12th, stime the 13th.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .context("stat")?
            .1
            .split_whitespace()
            .collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(Usage {
            rss_kib: field(&status, "VmRSS:")?,
            anon_kib: field(&status, "RssAnon:")?,
            // USER_HZ is 100 on every Linux that matters here.
            cpu_seconds: ticks / 100.0,
            switches: tasks
                .lines()
                .filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
                .map(|count| count.trim().parse::<f64>())
                .sum::<Result<f64, _>>()?,
            pid,
        })
    }
}

fn field(status: &str, name: &str) -> Result<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .context("status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

async fn upgrades(kubeconfig: &str) -> Result<Api<DynamicObject>> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config =
        kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;
    let gvk = GroupVersionKind::gvk(api::names::GROUP, api::names::VERSION, api::names::KIND);
    let resource = ApiResource::from_gvk_with_plural(&gvk, api::names::PLURAL);
    Ok(Api::all_with(client, &resource))
}

/// A watch of the one object.
fn only() -> WatchParams {
    WatchParams::default()
        .fields("metadata.name=upgrade")
        .timeout(280)
}

/// Answers each change of the stage with one write of a status that permits the next one.
async fn answer(kubeconfig: &str) -> Result<()> {
    let upgrades = upgrades(kubeconfig).await?;
    let seen = upgrades.get(api::names::IBU).await?;
    let mut stage = seen.data["spec"]["stage"].clone();
    let version = seen.metadata.resource_version.clone().unwrap_or_default();
    let mut changes = upgrades.watch(&only(), &version).await?.boxed();
    while let Some(event) = changes.next().await {
        if let WatchEvent::Modified(mut object) = event?
            && object.data["spec"]["stage"] != stage
        {
            stage = object.data["spec"]["stage"].clone();
            let next = if stage == "Prep" { "Idle" } else { "Prep" };
            object.data["status"]["validNextStages"] = json!([next]);
            upgrades
                .replace_status(api::names::IBU, &PostParams::default(), &object)
                .await?;
        }
    }
    bail!("the watch ended")
}

/// Milliseconds from the answer to each patch until a watch shows the first change of status.
async fn latencies(kubeconfig: &str) -> Result<Vec<f64>> {
    let upgrades = upgrades(kubeconfig).await?;
    let seen = upgrades.get(api::names::IBU).await?;
    let version = seen.metadata.resource_version.clone().unwrap_or_default();
    let mut changes = upgrades.watch(&only(), &version).await?.boxed();
    let mut status = seen.data["status"].clone();
    let mut measured = Vec::new();
    for number in 0..PATCHES {
        // No registry is there: Prep fails or waits, and either is a change of status.
        let spec = match number % 2 {
            0 => {
                json!({"stage": "Prep", "seedImageRef": {"version": "4.17.4", "image": "127.0.0.1:9/no/seed:x"}})
            }
            _ => json!({"stage": "Idle"}),
        };
        let patch = Patch::Merge(json!({ "spec": spec }));
        upgrades
            .patch(api::names::IBU, &PatchParams::default(), &patch)
            .await?;
        let answered = Instant::now();
        let mut first = None;
        // The next patch is permitted when this one's stage has come to rest.
        while first.is_none() || !rests(&status, number % 2 == 0) {
            let event = tokio::time::timeout(LIMIT, changes.next()).await?;
            match event.context("the watch ended")?? {
                WatchEvent::Modified(object) if object.data["status"] != status => {
                    first.get_or_insert_with(|| answered.elapsed());
                    status = object.data["status"].clone();
                }
                WatchEvent::Error(error) => bail!("the watch failed: {error:?}"),
                _ => {}
            }
        }
        measured.extend(first.map(|first| first.as_secs_f64() * 1000.0));
    }
    Ok(measured)
}

/// Whether the stage may be left again.
fn rests(status: &Value, prep: bool) -> bool {
    let next = status["validNextStages"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    next.contains(&json!(if prep { "Idle" } else { "Prep" }))
}
