//! Journals of runs as files of the booted stateroot.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use api::StaterootName;
use engine::{JournalStore, RunId};

use crate::PortError;
use crate::ports::{Files, NodePath};

/// Directory of the journals: one file a run.
pub const RUNS: &str = "/var/lib/lca/runs";

/// The store on a node's files.
#[derive(Clone)]
pub struct JournalFiles<'a> {
    files: &'a dyn Files,
    directory: NodePath,
}

impl<'a> JournalFiles<'a> {
    /// The journals of the running release.
    pub fn new(files: &'a dyn Files) -> Self {
        let directory = NodePath::booted(RUNS);
        Self { files, directory }
    }

    /// Those of another release's stateroot. They are its own: only to be read.
    pub fn in_stateroot(files: &'a dyn Files, stateroot: &StaterootName) -> Self {
        let directory = NodePath::in_stateroot(stateroot, RUNS);
        Self { files, directory }
    }

    fn path(&self, run: &RunId) -> NodePath {
        self.directory.join(&format!("{}.jsonl", run.as_str()))
    }
}

/// A full disk stays one: who keeps journals treats it in a way of its own.
fn failed(error: PortError) -> io::Error {
    if is_full(&error) {
        io::Error::new(io::ErrorKind::StorageFull, error)
    } else {
        io::Error::other(error)
    }
}

/// Whether a full filesystem is at the bottom of an error.
pub(crate) fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::StorageFull)
}

impl JournalStore for JournalFiles<'_> {
    fn create(&self, run: &RunId, content: &[u8]) -> io::Result<()> {
        self.files
            .replace(&self.path(run), content, 0o600)
            .map_err(failed)
    }

    fn append(&self, run: &RunId, line: &[u8]) -> io::Result<()> {
        self.files.append(&self.path(run), line).map_err(failed)
    }

    fn read(&self, run: &RunId) -> io::Result<Option<Vec<u8>>> {
        self.files
            .read(&self.path(run), engine::JOURNAL_LIMIT as u64 + 1)
            .map_err(failed)
    }

    fn list(&self) -> io::Result<Vec<RunId>> {
        let names = self.files.list(&self.directory).map_err(failed)?;
        Ok(names
            .iter()
            .filter_map(|name| name.strip_suffix(".jsonl")?.parse().ok())
            .collect())
    }

    fn remove(&self, run: &RunId) -> io::Result<()> {
        self.files.remove(&self.path(run)).map_err(failed)
    }
}

/// Journals that end with the process: where no disk keeps any and the work must go on all the same.
#[derive(Default)]
pub(crate) struct JournalMemory(RefCell<BTreeMap<RunId, Vec<u8>>>);

impl JournalStore for JournalMemory {
    fn create(&self, run: &RunId, content: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().insert(run.clone(), content.to_vec());
        Ok(())
    }

    fn append(&self, run: &RunId, line: &[u8]) -> io::Result<()> {
        match self.0.borrow_mut().get_mut(run) {
            Some(content) => content.extend_from_slice(line),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(())
    }

    fn read(&self, run: &RunId) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.borrow().get(run).cloned())
    }

    fn list(&self) -> io::Result<Vec<RunId>> {
        Ok(self.0.borrow().keys().cloned().collect())
    }

    fn remove(&self, run: &RunId) -> io::Result<()> {
        self.0.borrow_mut().remove(run);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use planner::ErrorKind;

    use super::*;

    #[test]
    fn a_full_disk_is_known_through_all_layers() {
        let check = |kind: io::ErrorKind, expect: io::ErrorKind| {
            let port = PortError::new(ErrorKind::Permanent, "appending", io::Error::from(kind));
            assert_eq!(failed(port.within("keeping a journal")).kind(), expect);
        };
        check(io::ErrorKind::StorageFull, io::ErrorKind::StorageFull);
        check(io::ErrorKind::PermissionDenied, io::ErrorKind::Other);
    }
}
