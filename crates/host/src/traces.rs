//! The traces port: journald's files, systemd's units, and what the kernel left of a panic.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::DeploymentId;
use node::ports::{Trace, Traces};
use node::{PortResult, error_chain};
use zbus::OwnedObjectPath;

use crate::bus::{Bus, on_bus};
use crate::command::{Command, CommandError};
use crate::failure::Attempt;
use crate::layout::Layout;
use crate::units::{MANAGER, SYSTEMD};

/// Reads what journald wrote, of whichever release.
const JOURNALCTL: &str = "journalctl";
/// How many lines of the journal are asked for, and how long that may take. The second attempt is for journals of a few lines
/// that are huge or on a disk that hardly answers. With the units that makes at most 18 s.
const ATTEMPTS: [(u32, Duration); 2] = [
    (20_000, Duration::from_secs(10)),
    (1_000, Duration::from_secs(4)),
];
/// How long systemd may take to list its units.
const UNITS_DEADLINE: Duration = Duration::from_secs(4);
/// Where journald keeps its files in a stateroot.
const JOURNAL: &str = "var/log/journal";
/// Where the firmware's store shows what the kernel said last.
const STORE: &str = "sys/fs/pstore";
/// Where systemd-pstore.service moves it to, early in the next boot of whichever release.
const MOVED_STORE: &str = "var/lib/systemd/pstore";
/// Files of panics that are kept, the latest, and their bytes together.
const PANICS: usize = 16;
const PANIC_BYTES: usize = 1 << 20;
/// Entries of a store that are looked at.
const ENTRIES: usize = 512;

/// What releases of this node have left.
#[derive(Clone, Debug)]
pub struct HostTraces {
    layout: Layout,
}

/// One of `ListUnits`: name, description, states of load, of activity and of the kind's own, whom it follows, object, and its job's
/// number, kind and object.
type Listed = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

impl HostTraces {
    /// Traces on the node that lies there.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// The end of the journal of all boots of a release: a stateroot is new with each upgrade, so there are no others in it. Where it
    /// runs, what journald has in memory only is in it too.
    fn journal(&self, release: &DeploymentId, runs: bool) -> Result<Vec<u8>, CommandError> {
        let directory = self.layout.stateroot(&release.stateroot).join(JOURNAL);
        let read = |lines: u32, deadline| {
            let command = Command::new(JOURNALCTL, deadline)
                .args(["--no-pager", "--quiet", "--output=short-iso-precise"])
                .arg(format!("--lines={lines}"));
            if runs && self.layout.is_running() {
                return command.run();
            }
            command.arg("--directory").arg(&directory).run()
        };
        let [(lines, deadline), (fewer, short)] = ATTEMPTS;
        match read(lines, deadline) {
            Err(CommandError::Late { .. } | CommandError::Flood { .. }) => read(fewer, short),
            other => other,
        }
    }

    /// What the kernel left of panics, the latest first, each behind a line that says where it was and when it was written.
    fn panics(&self, release: &DeploymentId) -> PortResult<Vec<u8>> {
        let booted = self.layout.booted();
        let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
        for store in [
            booted.join(STORE),
            booted.join(MOVED_STORE),
            self.layout.stateroot(&release.stateroot).join(MOVED_STORE),
        ] {
            files_below(&store, 3, &mut found)
                .attempt(|| format!("looking for panics in {}", store.display()))?;
        }
        found.sort_unstable();
        found.dedup();
        let mut text = Vec::new();
        for (written, file) in found.iter().rev().take(PANICS) {
            let content = fs::read(file).attempt(|| format!("reading {}", file.display()))?;
            let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
            let head = format!("# {}, {} s since 1970\n", file.display(), since.as_secs());
            // One that takes all the room bars none of the others.
            if text.len() + head.len() + content.len() > PANIC_BYTES {
                continue;
            }
            text.extend_from_slice(head.as_bytes());
            text.extend_from_slice(&content);
            text.push(b'\n');
        }
        Ok(text)
    }
}

/// Regular files below a directory, at most so many levels down; links are not followed. No directory has none.
fn files_below(
    directory: &Path,
    levels: u32,
    found: &mut Vec<(SystemTime, PathBuf)>,
) -> std::io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        if found.len() >= ENTRIES {
            break;
        }
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() && levels > 1 {
            files_below(&entry.path(), levels - 1, found)?;
        } else if metadata.is_file() && metadata.len() <= PANIC_BYTES as u64 {
            found.push((metadata.modified()?, entry.path()));
        }
    }
    Ok(())
}

/// The states of all units, and what is still to be started or stopped.
fn units() -> PortResult<Vec<u8>> {
    let mut units: Vec<Listed> = on_bus("listing units", UNITS_DEADLINE, async |bus: Bus| {
        bus.call(SYSTEMD, MANAGER, "ListUnits", &()).await
    })?;
    // What has failed first.
    units.sort_by(|one, other| {
        let failed = |unit: &Listed| unit.3 != "failed";
        (failed(one), &one.0).cmp(&(failed(other), &other.0))
    });
    let mut text = String::new();
    for (name, _, load, active, sub, _, _, job, kind, _) in units {
        text.extend([&name, " ", &load, " ", &active, " ", &sub]);
        if job != 0 {
            text.extend([", waits for its job: ", &kind]);
        }
        text.push('\n');
    }
    Ok(text.into_bytes())
}

impl Traces for HostTraces {
    fn left_by(&self, release: &DeploymentId, runs: bool) -> Vec<Trace> {
        let part = |name: &str, content: Result<Vec<u8>, String>| Trace {
            name: name.to_owned(),
            content,
        };
        let journal = self.journal(release, runs);
        let panics = self.panics(release);
        let mut parts = vec![
            part("journal.txt", journal.map_err(|error| error_chain(&error))),
            part("kernel.txt", panics.map_err(|error| error_chain(&error))),
        ];
        if runs {
            let units = units().map_err(|error| error_chain(&error));
            parts.push(part("units.txt", units));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> DeploymentId {
        format!("rhcos_4.17.4-{}.0", "a".repeat(64))
            .parse()
            .unwrap()
    }

    #[test]
    fn panics_of_all_stores_are_told_the_latest_first() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let traces = HostTraces::new(layout.clone());
        assert_eq!(traces.panics(&release()).unwrap(), b"");
        let own = layout.stateroot(&release().stateroot).join(MOVED_STORE);
        let store = layout.booted().join(STORE);
        let moved = layout.booted().join(MOVED_STORE).join("170000/001");
        for (age, directory, name, content) in [
            (3, &own, "dmesg.txt", "of an earlier boot"),
            (1, &store, "dmesg-efi-1", "of the last one"),
            (2, &moved, "dmesg.txt", "moved"),
            (0, &store, "huge", &"x".repeat(PANIC_BYTES)),
        ] {
            fs::create_dir_all(directory).unwrap();
            let file = directory.join(name);
            fs::write(&file, content).unwrap();
            let written = UNIX_EPOCH + Duration::from_secs(1_000 - age);
            let file = fs::File::options().write(true).open(&file).unwrap();
            file.set_modified(written).unwrap();
        }
        let text = String::from_utf8(traces.panics(&release()).unwrap()).unwrap();
        let at = |wanted: &str| text.find(wanted).unwrap();
        assert!(at("999 s since 1970\nof the last one") < at("998 s since 1970\nmoved"));
        assert!(at("moved\n") < at("of an earlier boot\n"));
    }

    #[test]
    fn a_release_that_left_nothing_has_an_empty_journal_or_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let traces = HostTraces::new(Layout::below(dir.path()));
        let parts = traces.left_by(&release(), false);
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["journal.txt", "kernel.txt"]);
        match &parts[0].content {
            Ok(text) => assert_eq!(text, b""),
            Err(why) => assert!(why.contains(JOURNALCTL), "{why}"),
        }
        assert_eq!(parts[1].content, Ok(Vec::new()));
    }
}
