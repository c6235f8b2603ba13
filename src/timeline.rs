//! `status --timeline`: where the time of the latest upgrade went.

use std::fmt::Write;

use anyhow::Result;
use api::{ImageBasedUpgrade, StaterootName, Timestamp};
use host::{HostClock, HostFiles, HostOstree, Layout};
use node::ports::{Clock, Ostree};
use node::timeline::{Doing, Journals, PhaseTime, Split, StageTime, Stretch, Timeline};

use crate::background::Background;
use crate::cli::{ApiServer, Output, print};
use crate::status::upgrade;

/// Prints the timeline. Parts that cannot be had are named; nothing is changed.
pub(crate) fn run(api: &ApiServer, output: Output) -> Result<()> {
    let background = Background::start()?;
    let layout = Layout::running();
    let mut problems = Vec::new();
    let mut note = |what: &str, error: node::PortError| {
        problems.push(format!("{what}: {}", engine::error_chain(&error)));
    };
    let ibu = upgrade(api, &background)
        .map_err(|error| note("the upgrade's history is not known", error))
        .unwrap_or_default();
    let others = others(&HostOstree::new(layout.clone()))
        .map_err(|error| note("other releases on the node are not known", error))
        .unwrap_or_default();
    let mut journals = Journals::read(&HostFiles::new(layout), &others);
    journals.problems.splice(0..0, problems);
    let clock = HostClock::new();
    let now = Timestamp::from_unix(clock.now());
    let history = ibu.as_ref().map(history).unwrap_or_default();
    let timeline = Timeline::of(&history, journals, now, &clock.boot_id().0);
    match output {
        Output::Text => print(&text(&timeline)),
        Output::Json => print(&format!("{}\n", serde_json::to_string(&timeline)?)),
    }
}

fn history(ibu: &ImageBasedUpgrade) -> Vec<api::History> {
    let status = ibu.status.as_ref();
    status
        .map(|status| status.history.clone())
        .unwrap_or_default()
}

/// Stateroots that are not booted.
fn others(ostree: &impl Ostree) -> node::PortResult<Vec<StaterootName>> {
    let booted: Vec<_> = ostree
        .deployments()?
        .into_iter()
        .filter(|found| found.booted)
        .map(|found| found.id.stateroot)
        .collect();
    let all = ostree.stateroots()?;
    Ok(all
        .into_iter()
        .filter(|name| !booted.contains(name))
        .collect())
}

fn text(timeline: &Timeline) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, timeline);
    text
}

fn write(text: &mut String, timeline: &Timeline) -> std::fmt::Result {
    if !timeline.stages.is_empty() {
        let heads = ["Start", "Seconds", "work", "await", "wait", "reboot"];
        let [start, rest @ ..] = heads;
        write!(text, "{start:<20}")?;
        for head in rest {
            write!(text, " {head:>7}")?;
        }
        writeln!(text)?;
    }
    for stage in &timeline.stages {
        write_stage(text, stage)?;
    }
    if !timeline.stages.is_empty() {
        let Split {
            working,
            awaiting,
            waiting,
            rebooting,
        } = timeline.total;
        writeln!(
            text,
            "Worked {working} s, awaited something outside {awaiting} s, waited by itself {waiting} s ({} s of it after the reboot), rebooted {rebooting} s",
            timeline.waiting_after_boot
        )?;
    }
    for problem in &timeline.problems {
        writeln!(text, "Missing: {problem}")?;
    }
    Ok(())
}

fn write_stage(text: &mut String, stage: &StageTime) -> std::fmt::Result {
    let open = if stage.open { " (not completed)" } else { "" };
    let name = format!("{}{open}", stage.stage);
    row(text, stage.start, stage.seconds, stage.split, &name)?;
    for phase in &stage.phases {
        write_phase(text, phase)?;
    }
    Ok(())
}

fn write_phase(text: &mut String, phase: &PhaseTime) -> std::fmt::Result {
    if !phase.phase.is_empty() {
        let name = format!("  {}", phase.phase);
        row(text, phase.start, phase.seconds, phase.split, &name)?;
    }
    for stretch in &phase.stretches {
        write_stretch(text, stretch)?;
    }
    Ok(())
}

fn write_stretch(text: &mut String, stretch: &Stretch) -> std::fmt::Result {
    let seconds = stretch.seconds;
    let mut split = Split::default();
    match stretch.doing {
        Doing::Working => split.working = seconds,
        Doing::Awaiting => split.awaiting = seconds,
        Doing::Waiting => split.waiting = seconds,
        Doing::Rebooting => split.rebooting = seconds,
    }
    let mut name = format!("    {}: {}", stretch.plan, stretch.step);
    if !stretch.note.is_empty() {
        let _ = write!(name, " ({})", stretch.note);
    }
    row(text, stretch.start, seconds, split, &name)
}

fn row(text: &mut String, start: u64, seconds: u64, split: Split, name: &str) -> std::fmt::Result {
    let start = Timestamp::from_unix(i64::try_from(start).unwrap_or_default());
    write!(text, "{start:<20} {seconds:>7}")?;
    for seconds in [
        split.working,
        split.awaiting,
        split.waiting,
        split.rebooting,
    ] {
        match seconds {
            0 => write!(text, " {:>7}", "")?,
            _ => write!(text, " {seconds:>7}")?,
        }
    }
    writeln!(text, "  {name}")
}
