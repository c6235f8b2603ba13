//! What power cuts came to, kept in a file so that runs add up.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// How a node ended that lost its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// What was asked for has completed.
    Completed,
    /// The old release runs, and says that the upgrade failed.
    Returned,
    /// Neither, or something of it is damaged.
    Lost,
}

impl End {
    /// In a word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Returned => "returned",
            Self::Lost => "lost",
        }
    }
}

/// The results of all runs so far, in the order in which they came.
#[derive(Debug)]
pub(super) struct Results {
    path: PathBuf,
    cuts: Vec<(String, String)>,
    /// The phases of cuts that have not come to an end yet.
    drawn: Vec<String>,
}

impl Results {
    /// What the file has; none is an empty one.
    pub(super) fn open(path: &Path) -> Result<Results> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let mut results = Results {
            path: path.to_owned(),
            cuts: Vec::new(),
            drawn: Vec::new(),
        };
        for (at, line) in text.lines().enumerate() {
            let value: Value = serde_json::from_str(line)
                .with_context(|| format!("line {} of {}", at + 1, path.display()))?;
            let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            results.cuts.push((field("phase"), field("end")));
        }
        Ok(results)
    }

    /// How often `phase` was hit or is about to be.
    pub(super) fn hits(&self, phase: &str) -> usize {
        let hit = self.cuts.iter().map(|(name, _)| name);
        hit.chain(&self.drawn).filter(|name| *name == phase).count()
    }

    /// Counts a cut that is about to be.
    pub(super) fn draw(&mut self, phase: &str) {
        self.drawn.push(phase.to_owned());
    }

    /// Adds what one came to, to the file and here.
    pub(super) fn add(&mut self, phase: &str, after: f64, seconds: f64, end: End) -> Result<()> {
        if let Some(at) = self.drawn.iter().position(|name| name == phase) {
            self.drawn.swap_remove(at);
        }
        self.cuts.push((phase.to_owned(), end.name().to_owned()));
        let line = json!({"phase": phase, "after_s": after, "end": end.name(), "seconds": seconds});
        let path = &self.path;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("opening {}", path.display()))?;
        writeln!(file, "{line}").with_context(|| format!("writing {}", path.display()))
    }

    /// A line for each phase, and the last line.
    pub(super) fn table(&self) -> String {
        let mut phases: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
        let mut all = [0; 4];
        for (phase, end) in &self.cuts {
            let kind = ["completed", "returned"]
                .iter()
                .position(|name| name == end)
                .map_or(3, |at| at + 1);
            for counts in [phases.entry(phase).or_default(), &mut all] {
                counts[0] += 1;
                counts[kind] += 1;
            }
        }
        let mut text = format!(
            "{:<44} {:>5} {:>9} {:>8} {:>5}\n",
            "phase", "cuts", "completed", "returned", "lost"
        );
        for (phase, [cuts, completed, returned, lost]) in phases {
            text.push_str(&format!(
                "{phase:<44} {cuts:>5} {completed:>9} {returned:>8} {lost:>5}\n"
            ));
        }
        let [cuts, completed, returned, lost] = all;
        text.push_str(&format!(
            "soak: {cuts} cuts, {completed} completed, {returned} returned, {lost} lost"
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_add_up_and_what_is_neither_is_lost() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("results");
        let mut first = Results::open(&path)?;
        first.draw("upgrade: reboot");
        assert_eq!(first.hits("upgrade: reboot"), 1);
        first.add("upgrade: reboot", 0.5, 90.0, End::Completed)?;
        first.add("upgrade: reboot", 0.1, 95.0, End::Returned)?;
        let mut second = Results::open(&path)?;
        assert_eq!(second.hits("upgrade: reboot"), 2);
        second.add("rollback: set-default", 0.0, 60.0, End::Lost)?;
        let table = Results::open(&path)?.table();
        assert!(
            table.ends_with("\nsoak: 3 cuts, 1 completed, 1 returned, 1 lost"),
            "{table}"
        );
        assert_eq!(table.lines().count(), 4, "{table}");
        Ok(())
    }
}
