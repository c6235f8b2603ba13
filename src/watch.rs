//! `watch`: the upgrade as it goes, until the requested stage has ended.

use std::time::Duration;

use anyhow::{Result, bail};
use api::{ImageBasedUpgrade, Stage, Timestamp};
use cluster::Sighting;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use node::Place;
use planner::State;
use serde_json::json;

use crate::background::Background;
use crate::cli::{ApiServer, Output, print};
use crate::node_ports::connect;

/// Follows until the stage has ended (never, with `forever`). An ended stage that failed is an error.
pub(crate) fn run(api: &ApiServer, output: Output, forever: bool) -> Result<()> {
    let background = Background::start()?;
    let connection = connect(api, &background)?;
    let mut sightings = background
        .handle()
        .block_on(async { cluster::watch(connection) });
    let mut screen = Screen::new(output);
    while let Some(sighting) = sightings.blocking_recv() {
        match sighting {
            Sighting::Unreachable { reason, .. } => screen.unreachable(&reason)?,
            Sighting::Upgrade(None) => screen.line("there is no ImageBasedUpgrade yet")?,
            Sighting::Upgrade(Some(ibu)) => {
                screen.show(&ibu)?;
                match ended(&ibu) {
                    Some(Ok(())) if !forever => return Ok(()),
                    Some(Err(message)) if !forever => bail!("{message}"),
                    _ => {}
                }
            }
        }
    }
    bail!("the watch on the upgrade object ended")
}

/// Whether the requested stage has ended, and how.
fn ended(ibu: &ImageBasedUpgrade) -> Option<Result<(), String>> {
    let status = ibu.status.as_ref()?;
    if status.observed_generation != ibu.metadata.generation {
        return None;
    }
    let requested = ibu.spec.stage().ok().flatten().unwrap_or(Stage::Idle);
    let message = || latest_message(ibu);
    match (requested, planner::parse(&status.conditions).state) {
        (Stage::Idle, State::Idle)
        | (Stage::Prep, State::PrepCompleted)
        | (Stage::Upgrade, State::UpgradeCompleted)
        | (Stage::Rollback, State::RollbackCompleted) => Some(Ok(())),
        (Stage::Prep, State::PrepFailed)
        | (Stage::Upgrade, State::UpgradeFailed)
        | (Stage::Rollback, State::RollbackFailed) => Some(Err(message())),
        _ => None,
    }
}

fn latest_message(ibu: &ImageBasedUpgrade) -> String {
    let conditions = ibu
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    conditions
        .and_then(<[_]>::last)
        .map(|last| last.message.clone())
        .unwrap_or_default()
}

/// What is worth a line of its own: the step and what went wrong before, but not how far it is.
fn change(text: &str, place: Option<&Place>) -> String {
    let Some(place) = place else {
        return text.to_owned();
    };
    let mut line = format!("{text} [{} {}/{}]", place.step, place.number, place.steps);
    if !place.error.is_empty() {
        line.push_str(" after an error: ");
        line.push_str(&place.error);
    }
    line
}

/// A terminal with a bar, or lines where there is none.
struct Screen {
    output: Output,
    bar: ProgressBar,
    told: String,
}

impl Screen {
    fn new(output: Output) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("  {prefix:<24} {bar:30.cyan/blue} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self {
            output,
            bar,
            told: String::new(),
        }
    }

    fn show(&mut self, ibu: &ImageBasedUpgrade) -> Result<()> {
        if self.output == Output::Json {
            return print(&format!("{}\n", json!(ibu)));
        }
        let message = latest_message(ibu);
        let status = ibu.status.clone().unwrap_or_default();
        let state = planner::parse(&status.conditions).state;
        let (text, place) = match Place::find(&message) {
            Some((text, place)) => (text, Some(place)),
            None => (message.as_str(), None),
        };
        self.line(&format!("{state}: {}", change(text, place.as_ref())))?;
        let Some((place, amount)) = place.and_then(|mut place| {
            let amount = place.amount.take()?;
            Some((place, amount))
        }) else {
            self.bar.set_length(0);
            return Ok(());
        };
        let told = [amount.to_string(), place.pace, place.object];
        let told: Vec<String> = told.into_iter().filter(|part| !part.is_empty()).collect();
        self.bar.set_prefix(place.step);
        self.bar.set_length(amount.total.unwrap_or_default());
        self.bar.set_position(amount.done);
        self.bar.set_message(told.join(", "));
        Ok(())
    }

    fn unreachable(&mut self, reason: &str) -> Result<()> {
        tracing::debug!(reason, "unreachable");
        self.line("the API server does not answer (it is away while the node reboots)")
    }

    /// Prints a line once, however often it is told.
    fn line(&mut self, text: &str) -> Result<()> {
        if self.told == text {
            return Ok(());
        }
        text.clone_into(&mut self.told);
        let line = format!(
            "{} {text}\n",
            Timestamp::from_system_time(std::time::SystemTime::now())
        );
        let mut printed = Ok(());
        self.bar.suspend(|| printed = print(&line));
        printed
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_alone_is_no_change() {
        let check = |message: &str, expect: &str| {
            let found = Place::find(message);
            let (text, place) = found.map_or((message, None), |(text, place)| (text, Some(place)));
            assert_eq!(change(text, place.as_ref()), expect);
        };
        check("Prep stage completed", "Prep stage completed");
        for amount in [
            "",
            ": 1 of 9 MiB",
            ": 5 of 9 MiB, 85 MiB/s, 1 s left (layer)",
        ] {
            check(
                &format!("In progress. step fetch-seed (1 of 4){amount}"),
                "In progress [fetch-seed 1/4]",
            );
        }
        check(
            "In progress. step fetch-seed (1 of 4): 5 of 9 MiB; after an error: reset",
            "In progress [fetch-seed 1/4] after an error: reset",
        );
    }
}
