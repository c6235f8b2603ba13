//! Journals of runs as files of the booted stateroot.

use std::io;

use engine::{JournalStore, RunId};

use crate::PortError;
use crate::ports::{Files, NodePath};

/// Directory of the journals: one file a run.
pub const RUNS: &str = "/var/lib/lca/runs";

/// The store on a node's files.
#[derive(Clone, Copy)]
pub struct JournalFiles<'a>(pub &'a dyn Files);

fn path(run: &RunId) -> NodePath {
    NodePath::booted(RUNS).join(&format!("{}.jsonl", run.as_str()))
}

fn failed(error: PortError) -> io::Error {
    io::Error::other(error)
}

impl JournalStore for JournalFiles<'_> {
    fn create(&self, run: &RunId, content: &[u8]) -> io::Result<()> {
        self.0.replace(&path(run), content, 0o600).map_err(failed)
    }

    fn append(&self, run: &RunId, line: &[u8]) -> io::Result<()> {
        self.0.append(&path(run), line).map_err(failed)
    }

    fn read(&self, run: &RunId) -> io::Result<Option<Vec<u8>>> {
        self.0
            .read(&path(run), engine::JOURNAL_LIMIT as u64 + 1)
            .map_err(failed)
    }

    fn list(&self) -> io::Result<Vec<RunId>> {
        let names = self.0.list(&NodePath::booted(RUNS)).map_err(failed)?;
        Ok(names
            .iter()
            .filter_map(|name| name.strip_suffix(".jsonl")?.parse().ok())
            .collect())
    }

    fn remove(&self, run: &RunId) -> io::Result<()> {
        self.0.remove(&path(run)).map_err(failed)
    }
}
