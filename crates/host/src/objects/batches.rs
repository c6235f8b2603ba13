//! Objects that are staged in batches, so that a restart goes on with them.
//!
//! An object that gets its name changes one of 256 directories at random. Where that is made durable every few MiB, all of
//! them are written each time; so objects wait in directories of their own, one for each time, and get their names at the
//! end, or after a restart. A record says which of them are durable.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::Digest;
use rustix::fs::{self, Mode, OFlags};
use seed::index::{ObjectId, ObjectKind};

use super::{ObjectStore, STAGING};
use crate::layout::Layout;

/// The record, in the staging directory: for each durable object the number of its batch, its kind and its checksum.
const RECORD: &str = "record";
const RECORD_SIZE: usize = 37;

/// Longest record that is read: ten million objects.
const RECORD_LIMIT: u64 = 370 << 20;

/// A staged object, and the number of its batch.
pub(super) type Staged = (u32, ObjectId);

/// What is staged, by batches.
#[derive(Default)]
pub(super) struct Batches(Mutex<State>);

#[derive(Default)]
struct State {
    number: u32,
    /// Whole, and maybe not durable.
    fresh: Vec<Staged>,
    /// In the record.
    durable: Vec<Staged>,
}

impl Batches {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is staged.
    pub(super) fn take_all(&self) -> Vec<Staged> {
        let mut state = self.state();
        let mut all = mem::take(&mut state.durable);
        all.append(&mut state.fresh);
        all
    }
}

impl ObjectStore {
    /// Where an object is staged now, below the staging directory, and in which batch.
    pub(super) fn staged_place(&self, id: &ObjectId) -> (u32, String) {
        match &self.batches {
            Some(batches) => {
                let number = batches.state().number;
                (number, path(number, id))
            }
            None => (0, id.path()),
        }
    }

    /// Remembers that an object is whole.
    pub(super) fn note_staged(&self, batch: u32, id: &ObjectId) {
        if let Some(batches) = &self.batches {
            batches.state().fresh.push((batch, *id));
        }
    }

    /// Makes durable what is staged, and records it; and `more`, if there is more.
    pub(crate) fn settle(&self, more: bool) -> io::Result<()> {
        let Some(batches) = &self.batches else {
            return self.sync();
        };
        let fresh = {
            let mut state = batches.state();
            state.number += 1;
            mem::take(&mut state.fresh)
        };
        if more || !fresh.is_empty() {
            self.sync()?;
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(fresh.len() * RECORD_SIZE);
        for (number, id) in &fresh {
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.push(id.kind as u8);
            bytes.extend_from_slice(&id.checksum);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        let file = fs::openat(&self.staged, RECORD, flags, Mode::from_raw_mode(0o600))?;
        File::from(file).write_all(&bytes)?;
        batches.state().durable.extend(fresh);
        Ok(())
    }

    /// Gives durable objects their names, the commits last, if they are to have theirs.
    pub(super) fn adopt_staged(&self, staged: &[Staged], commits: bool) -> io::Result<()> {
        let is_commit = |id: &ObjectId| id.kind == ObjectKind::Commit;
        let files = staged.iter().filter(|(_, id)| !is_commit(id));
        let last = staged.iter().filter(|(_, id)| commits && is_commit(id));
        for (number, id) in files.chain(last) {
            match self.adopt_from(&self.staged, &path(*number, id), id) {
                // An earlier import was cut off while it did this.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                adopted => adopted?,
            }
        }
        Ok(())
    }
}

fn path(number: u32, id: &ObjectId) -> String {
    let digest = Digest::from_sha256(&id.checksum);
    format!("{number:x}/{}.{}", digest.hex(), id.kind.suffix())
}

/// What the record of a staging directory says. A power cut may tear it, which costs what follows.
pub(super) fn recorded(staging: &Path) -> Vec<Staged> {
    let mut bytes = Vec::new();
    let file = File::open(staging.join(RECORD));
    if file
        .and_then(|file| file.take(RECORD_LIMIT).read_to_end(&mut bytes))
        .is_err()
    {
        return Vec::new();
    }
    let (records, _torn) = bytes.as_chunks::<RECORD_SIZE>();
    records.iter().filter_map(parse).collect()
}

fn parse(record: &[u8; RECORD_SIZE]) -> Option<Staged> {
    let (number, rest) = record.split_first_chunk::<4>()?;
    let (kind, checksum) = rest.split_first()?;
    let kind = [
        ObjectKind::File,
        ObjectKind::DirTree,
        ObjectKind::DirMeta,
        ObjectKind::Commit,
    ]
    .into_iter()
    .find(|known| *known as u8 == *kind)?;
    let checksum = checksum.try_into().ok()?;
    Some((u32::from_le_bytes(*number), ObjectId { checksum, kind }))
}

/// The objects that an interrupted import has staged durably, and that the next one takes over.
pub(crate) fn recorded_at(layout: &Layout) -> HashSet<ObjectId> {
    let staging = layout.sysroot().join("ostree/repo").join(STAGING);
    let staged = recorded(&staging).into_iter().map(|(_, id)| id);
    staged.filter(|id| id.kind != ObjectKind::Commit).collect()
}
