//! Making a bundle.

use api::{DeploymentId, Timestamp};
use planner::ErrorKind;

use super::{Bundle, FORMAT, LIMIT, MANIFEST, directory, names, number, redact, tidy, upgrade_to};
use crate::journal_files::RUNS;
use crate::ports::{NodePath, Ports, Trace};
use crate::record::Record;
use crate::{PortError, PortResult};

/// Longest document of ours that is kept, bytes.
const DOCUMENT: u64 = 64 << 10;
/// What all journals of runs may take, bytes.
const ALL_RUNS: u64 = 2 << 20;
/// Most journals of runs that are kept, the latest.
const RUN_COUNT: usize = 12;
/// Longest part that is none of ours, bytes: above all the system's journal.
const TRACE: u64 = 4 << 20;
/// What is looked at before the part of a text that is kept, bytes: a private key that begins there is known for what it is. Longer
/// than any, with what a journal puts before its lines.
const MARGIN: usize = 64 << 10;
/// Seconds after which no further part is taken. A call that hangs in the disk cannot be taken back, nor left to a thread: the ports
/// are lent to us. The init monitor waits longer, and then goes without.
const TIME: u64 = 25;
/// Longest document that is read to be cut, bytes.
const READ: u64 = 16 << 20;

/// Seals what there is to know of the boots of `target`; where it is. All or nothing: what was half written is removed.
pub(super) fn seal(
    ports: &Ports<'_>,
    target: &DeploymentId,
    boot_id: Option<&str>,
    reason: &str,
) -> PortResult<NodePath> {
    // Of an interrupted one first: its space may be what is lacking.
    tidy(ports.files)?;
    let last = names(ports.files)?.last().and_then(|name| number(name));
    let name = format!("{:04}-{}", last.unwrap_or_default() + 1, target.stateroot);
    let mut sealing = Sealing {
        ports,
        place: directory().join(&name),
        left: LIMIT,
        until: ports.clock.uptime().saturating_add(TIME),
        parts: Vec::new(),
        missing: Vec::new(),
    };
    let bundle = Bundle {
        format: FORMAT,
        target: target.clone(),
        upgrade: upgrade_to(ports, target),
        boot_id: boot_id.map(ToOwned::to_owned),
        reason: redact(reason),
        sealed_at: Timestamp::from_unix(ports.clock.now()),
        bytes: 0,
        parts: Vec::new(),
        missing: Vec::new(),
    };
    match sealing.fill(bundle) {
        Ok(()) => Ok(sealing.place),
        Err(error) => {
            ports.files.remove(&sealing.place).ok();
            Err(error.within("sealing evidence"))
        }
    }
}

/// Why a part is missing that there was no time for.
const LATE: &str = "sealing has taken too long already";

/// A bundle that is being made.
struct Sealing<'a, 'p> {
    ports: &'a Ports<'p>,
    place: NodePath,
    /// Bytes that may still be written.
    left: u64,
    /// Uptime at which it has taken long enough.
    until: u64,
    parts: Vec<String>,
    missing: Vec<String>,
}

impl Sealing<'_, '_> {
    fn fill(&mut self, bundle: Bundle) -> PortResult<()> {
        let ports = self.ports;
        ports.files.ensure_directory(&directory(), 0o700)?;
        ports.files.ensure_directory(&self.place, 0o700)?;
        let stateroot = &bundle.target.stateroot;
        for record in [Record::Verdict, Record::InitMonitor, Record::Fallback] {
            self.document(&record.path_in(stateroot), DOCUMENT)?;
        }
        self.document(&Record::FailedBoot.path(), DOCUMENT)?;
        self.runs(&NodePath::in_stateroot(stateroot, RUNS))?;
        for Trace { name, content } in ports
            .traces
            .left_by(&bundle.target, bundle.boot_id.is_some())
        {
            match content {
                Ok(content) => self.part(&name, &content, TRACE)?,
                Err(why) => self.missing.push(format!("{name}: {why}")),
            }
        }
        let bundle = Bundle {
            bytes: LIMIT - self.left,
            parts: std::mem::take(&mut self.parts),
            missing: std::mem::take(&mut self.missing),
            ..bundle
        };
        let path = self.place.join(MANIFEST);
        let mut bytes = serde_json::to_vec_pretty(&bundle).map_err(|error| {
            PortError::new(ErrorKind::Permanent, format!("writing {path}"), error)
        })?;
        bytes.push(b'\n');
        ports.files.replace(&path, &bytes, 0o600)
    }

    /// The journals of the latest runs, which are named by time.
    fn runs(&mut self, runs: &NodePath) -> PortResult<()> {
        let mut names = match self.ports.files.list(runs) {
            Ok(names) => names,
            Err(error) => {
                self.lacks(runs, &error);
                return Ok(());
            }
        };
        names.retain(|name| name.ends_with(".jsonl"));
        let mut room = ALL_RUNS;
        for name in names.iter().rev().take(RUN_COUNT) {
            let before = self.left;
            self.document(&runs.join(name), room)?;
            room -= before - self.left;
        }
        Ok(())
    }

    /// A file of ours, if there is one; one that cannot be read is told.
    fn document(&mut self, path: &NodePath, limit: u64) -> PortResult<()> {
        if self.is_late() {
            self.missing.push(format!("{path}: {LATE}"));
            return Ok(());
        }
        match self.ports.files.read(path, READ) {
            Ok(Some(content)) => {
                let name = path.rel.rsplit('/').next().unwrap_or(&path.rel);
                self.part(name, &content, limit)
            }
            Ok(None) => Ok(()),
            Err(error) => {
                self.lacks(path, &error);
                Ok(())
            }
        }
    }

    fn is_late(&self) -> bool {
        self.ports.clock.uptime() > self.until
    }

    fn lacks(&mut self, path: &NodePath, error: &PortError) {
        let why = engine::error_chain(error);
        self.missing.push(format!("{path}: {why}"));
    }

    /// Writes a part: text without secrets, its end where it is too long.
    fn part(&mut self, name: &str, content: &[u8], limit: u64) -> PortResult<()> {
        if self.is_late() {
            self.missing.push(format!("{name}: {LATE}"));
            return Ok(());
        }
        let limit = usize::try_from(limit.min(self.left)).unwrap_or(usize::MAX);
        let (text, before) = redacted_end(content, limit);
        let end = end(&text, limit);
        let cut = before + text.len() - end.len();
        if cut > 0 {
            self.missing.push(format!("{name}: its first {cut} bytes"));
        }
        if end.is_empty() {
            return Ok(());
        }
        self.ports
            .files
            .replace(&self.place.join(name), end.as_bytes(), 0o600)?;
        self.left = self.left.saturating_sub(end.len() as u64);
        self.parts.push(name.to_owned());
        Ok(())
    }
}

/// The end of a text, of whole lines and at least this long where there is so much, without secrets; and how many bytes were left
/// out before it. No more than that and [`MARGIN`] is looked at, but for a line that is longer than both.
fn redacted_end(content: &[u8], limit: usize) -> (String, usize) {
    let line_at = |at: usize| {
        let before = content.get(..at).unwrap_or_default();
        before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1)
    };
    let from = line_at(content.len().saturating_sub(limit));
    let early = line_at(from.saturating_sub(MARGIN));
    let text = |from: usize, to: usize| {
        redact(&String::from_utf8_lossy(
            content.get(from..to).unwrap_or_default(),
        ))
    };
    // The margin is whole lines, so this is what the whole begins with.
    let margin = text(early, from).len();
    let whole = text(early, content.len());
    (whole.get(margin..).unwrap_or_default().to_owned(), from)
}

/// The end of a text, of whole lines where it has any that fit.
fn end(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut from = text.len() - limit;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let end = text.get(from..).unwrap_or_default();
    match end.split_once('\n') {
        Some((_, lines)) if !lines.is_empty() => lines,
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_is_redacted_as_in_the_whole() {
        let key = "-----BEGIN PRIVATE KEY-----\nMHcAAAA\nMHcBBBB\n-----END PRIVATE KEY-----\n";
        let text = format!("{}{key}the end\n", "a line\n".repeat(20_000));
        for limit in [0, 9, 40, 50, 90, 1000] {
            let (end, before) = redacted_end(text.as_bytes(), limit);
            assert!(!end.contains("MHc"), "{limit}: {end}");
            assert!(limit == 0 || end.ends_with("the end\n"), "{limit}: {end}");
            assert!(before + limit <= text.len());
        }
        assert_eq!(
            redacted_end(b"token=abc\nb\n", 100),
            ("token=[redacted]\nb\n".to_owned(), 0)
        );
        // A line of its own length: what names a secret is not cut off.
        let long = format!("token={}", "x".repeat(200_000));
        assert_eq!(
            redacted_end(long.as_bytes(), 100),
            ("token=[redacted]".to_owned(), 0)
        );
    }
}
