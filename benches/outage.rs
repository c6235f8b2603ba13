//! `hack/bench outage`: what the agent itself adds to the time that a node is away.
//!
//! In the box: an upgrade without backups, then its rollback.
//!
//! - `patch_to_reboot_s`: from `oc patch` of stage Upgrade, the client's own time included, to the call that reboots.
//! - `waiting_s`: behind the reboot, how long the agent let time pass by itself: what `lifecycle-agent status --timeline`
//!   calls waiting, of the upgrade and its rollback, in whole seconds.
//! - `verdict_to_reboot_s`: from `oc patch` of stage Rollback to the call that reboots.
//!
//! The last line printed is one JSON object with these.

#![expect(clippy::print_stdout, reason = "figures are part of the result")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use boxed::Site;
use serde_json::{Value, json};

/// What the program says right before it asks for the reboot.
const ASKING: &str = "rebooting the machine";
/// What is said when the request is there: by logind, or by the program where there is none.
const ASKED: [&str; 3] = [
    "The system will reboot now",
    "System is rebooting",
    "falling back to systemd",
];

fn main() -> Result<()> {
    let agent = boxed::site::agent_binary()?;
    eprintln!("booting a node with {}", agent.display());
    let site = Site::boot("outage")?;
    eprintln!("Prep");
    site.go("Prep")?;
    eprintln!("Upgrade");
    let patch_to_reboot = rebooted_after(&site, "Upgrade")?;
    site.wait_stage("Upgrade")?;
    eprintln!("{}", shown(&site, &[])?);
    eprintln!("Rollback");
    let verdict_to_reboot = rebooted_after(&site, "Rollback")?;
    site.wait_stage("Rollback")?;
    let timeline: Value = serde_json::from_str(&shown(&site, &["-o", "json"])?)?;
    eprintln!("{}", shown(&site, &[])?);
    let waiting = timeline["waitingAfterBoot"]
        .as_u64()
        .context("waitingAfterBoot")?;
    println!(
        "{}",
        json!({
            "patch_to_reboot_s": patch_to_reboot,
            "waiting_s": waiting,
            "verdict_to_reboot_s": verdict_to_reboot,
        })
    );
    Ok(())
}

/// The timeline as a user sees it on the node.
fn shown(site: &Site, more: &[&str]) -> Result<String> {
    let command = ["lifecycle-agent", "status", "--timeline"];
    let command: Vec<&str> = command.into_iter().chain(more.iter().copied()).collect();
    site.node.run(&command)
}

/// Asks for a stage; how many seconds later the reboot was asked for.
fn rebooted_after(site: &Site, stage: &str) -> Result<f64> {
    let mut journal = Journal::follow(site)?;
    let patched = SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64();
    site.request(stage)?;
    let answered = SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64();
    let asking = journal.said(&[ASKING])?;
    let asked = journal.said(&ASKED).unwrap_or(asking);
    eprintln!(
        "{stage}: patch answered after {:.2} s, last words after {:.2} s, reboot asked for after {:.2} s",
        answered - patched,
        asking - patched,
        asked - patched
    );
    Ok(((asked - patched) * 100.0).round() / 100.0)
}

/// The node's journal from now on, as long as it is written.
struct Journal {
    lines: BufReader<ChildStdout>,
    child: Child,
}

impl Journal {
    fn follow(site: &Site) -> Result<Self> {
        let mut command =
            site.node
                .command(&["journalctl", "--follow", "--lines=0", "--output=json"])?;
        let mut child = command
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no pipe")?);
        // It follows once it has looked: what is said before would be missed.
        std::thread::sleep(std::time::Duration::from_secs(1));
        Ok(Self { lines, child })
    }

    /// When one of these texts was said next, seconds since 1970.
    fn said(&mut self, texts: &[&str]) -> Result<f64> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.lines.read_line(&mut line)?;
            ensure!(read > 0, "the journal ended without {texts:?}");
            // Messages that are no text come as numbers.
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            let message = entry["MESSAGE"].as_str().unwrap_or_default();
            if texts.iter().any(|text| message.contains(text)) {
                let time = entry["__REALTIME_TIMESTAMP"].as_str().unwrap_or_default();
                let micros: f64 = time.parse().context("__REALTIME_TIMESTAMP")?;
                return Ok(micros / 1e6);
            }
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // It ended with the node, or is of no use any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
