//! Scenarios: what they are, how they run, and the table of what came of them.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::ground::{Ground, Moment};
use crate::site::Site;

/// A story with one node.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What happens, in a few words; the name by which it is chosen.
    pub name: &'static str,
    /// Where it begins.
    pub from: Moment,
    /// What is done and must be seen.
    pub play: fn(&mut Site) -> Result<Outcome>,
}

/// What a scenario has to tell besides that it passed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// From the fault until the old release served its API again.
    pub back: Option<Duration>,
    /// What was sealed of the failed boot.
    pub evidence: Option<String>,
}

/// A scenario that was played.
#[derive(Debug)]
pub struct Played {
    name: &'static str,
    boots: usize,
    took: Duration,
    outcome: Result<Outcome>,
}

impl Played {
    /// Whether it went as it must.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.outcome.is_ok()
    }
}

/// Plays one scenario.
#[must_use]
pub fn play(ground: &Ground, scenario: &Scenario) -> Played {
    let begun = Instant::now();
    let mut boots = 0;
    let outcome = ground.at(scenario.from).and_then(|mut site| {
        let outcome = (scenario.play)(&mut site);
        boots = site.vm.boots();
        outcome.map_err(|error| site.with_evidence(error))
    });
    Played {
        name: scenario.name,
        boots,
        took: begun.elapsed(),
        outcome,
    }
}

/// The table's head.
#[must_use]
pub fn head() -> String {
    row(
        "scenario",
        "boots",
        "back in s",
        "evidence",
        "took s",
        "result",
    )
}

/// A played scenario's row, with its error below it.
#[must_use]
pub fn line(played: &Played) -> String {
    let outcome = played.outcome.as_ref();
    let told = outcome.ok().cloned().unwrap_or_default();
    let back = told.back.map(|back| format!("{:.0}", back.as_secs_f64()));
    let line = row(
        played.name,
        &played.boots.to_string(),
        back.as_deref().unwrap_or("-"),
        told.evidence.as_deref().unwrap_or("-"),
        &format!("{:.0}", played.took.as_secs_f64()),
        if outcome.is_ok() { "passed" } else { "FAILED" },
    );
    match outcome {
        Ok(_) => line,
        Err(error) => format!("{line}\n    {error:#}"),
    }
}

/// The last line of all.
#[must_use]
pub fn verdict(played: &[Played]) -> String {
    let passed = played.iter().filter(|played| played.passed()).count();
    format!("vm: {} scenarios, {passed} passed", played.len())
}

fn row(name: &str, boots: &str, back: &str, evidence: &str, took: &str, result: &str) -> String {
    format!("{name:<52} {boots:>5} {back:>9}  {evidence:<24} {took:>6} {result}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_scenario_shows_why_and_is_not_counted() {
        let played = |outcome| Played {
            name: "a story",
            boots: 2,
            took: Duration::from_secs(90),
            outcome,
        };
        let good = played(Ok(Outcome {
            back: Some(Duration::from_secs(61)),
            evidence: None,
        }));
        let bad = played(Err(anyhow::anyhow!("it hung")));
        assert!(line(&good).ends_with("passed"), "{}", line(&good));
        assert!(line(&good).contains(" 61 "), "{}", line(&good));
        assert!(
            line(&bad).ends_with("FAILED\n    it hung"),
            "{}",
            line(&bad)
        );
        assert_eq!(verdict(&[good, bad]), "vm: 2 scenarios, 1 passed");
    }
}
