//! What power cuts came to, kept in a file so that runs add up.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

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
    fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Returned => "returned",
            Self::Lost => "lost",
        }
    }
}

/// The results of all runs so far, in the order of their phases' names.
#[derive(Debug, Default)]
pub(super) struct Results {
    cuts: Vec<(String, String)>,
}

impl Results {
    /// What the file has; none is an empty one.
    pub(super) fn read(path: &Path) -> Result<Results> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let mut results = Results::default();
        for (at, line) in text.lines().enumerate() {
            let value: Value = serde_json::from_str(line)
                .with_context(|| format!("line {} of {}", at + 1, path.display()))?;
            let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            results.cuts.push((field("phase"), field("end")));
        }
        Ok(results)
    }

    /// How often `phase` was hit.
    pub(super) fn hits(&self, phase: &str) -> usize {
        self.cuts.iter().filter(|(name, _)| name == phase).count()
    }

    /// Adds one to the file and here.
    pub(super) fn add(
        &mut self,
        path: &Path,
        phase: &str,
        after: f64,
        seconds: f64,
        end: End,
    ) -> Result<()> {
        let line = json!({"phase": phase, "after_s": after, "end": end.name(), "seconds": seconds});
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("opening {}", path.display()))?;
        writeln!(file, "{line}").with_context(|| format!("writing {}", path.display()))?;
        self.cuts.push((phase.to_owned(), end.name().to_owned()));
        Ok(())
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
        let mut first = Results::read(&path)?;
        first.add(&path, "upgrade: reboot", 0.5, 90.0, End::Completed)?;
        first.add(&path, "upgrade: reboot", 0.1, 95.0, End::Returned)?;
        let mut second = Results::read(&path)?;
        assert_eq!(second.hits("upgrade: reboot"), 2);
        second.add(&path, "rollback: set-default", 0.0, 60.0, End::Lost)?;
        let table = Results::read(&path)?.table();
        assert!(
            table.ends_with("\nsoak: 3 cuts, 1 completed, 1 returned, 1 lost"),
            "{table}"
        );
        assert_eq!(table.lines().count(), 4, "{table}");
        Ok(())
    }
}
