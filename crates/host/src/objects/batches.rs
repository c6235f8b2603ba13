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
use crate::boot::recent;
use crate::layout::Layout;

/// The record, in the staging directory: for each durable object the number of its batch, its kind and its checksum.
const RECORD: &str = "record";
const RECORD_SIZE: usize = 37;

/// Longest record that is read: ten million objects.
const RECORD_LIMIT: u64 = 370 << 20;

/// A staged object, and the number of its batch.
pub(super) type Staged = (u32, ObjectId);

/// What is recorded for this boot only, on its way to be recorded for later ones.
#[must_use]
pub(crate) struct Recent(Vec<Staged>);

/// What is staged, by batches.
#[derive(Default)]
pub(super) struct Batches(Mutex<State>);

#[derive(Default)]
struct State {
    number: u32,
    /// Whole, and in no record.
    fresh: Vec<Staged>,
    /// In the record of this boot.
    recent: Vec<Staged>,
    /// In the other record, too.
    durable: Vec<Staged>,
}

impl Batches {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a sync has made all of it durable.
    pub(super) fn are_durable(&self) -> bool {
        let state = self.state();
        state.fresh.is_empty() && state.recent.is_empty()
    }

    /// All that is staged.
    pub(super) fn take_all(&self) -> Vec<Staged> {
        let mut state = self.state();
        let mut all = mem::take(&mut state.durable);
        all.append(&mut state.recent);
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

    /// Records what is staged, and what has `grown`, for those who come later in this boot.
    pub(crate) fn settle(&self, grown: &[ObjectId]) -> io::Result<()> {
        let Some(batches) = &self.batches else {
            return Ok(());
        };
        let (mut fresh, number) = {
            let mut state = batches.state();
            (mem::take(&mut state.fresh), state.number)
        };
        fresh.extend(grown.iter().map(|id| (number, *id)));
        self.record(&recent(RECORD), &fresh)?;
        batches.state().recent.extend(fresh);
        // Until then their growth is what counts.
        for id in grown {
            self.stage_grown(id, &path(number, id))?;
        }
        Ok(())
    }

    /// Takes what was recorded for this boot, so that it can be made durable while more is recorded.
    pub(crate) fn take_recent(&self) -> Recent {
        let taken = self.batches.as_ref().map(|batches| {
            let mut state = batches.state();
            state.number += 1;
            mem::take(&mut state.recent)
        });
        Recent(taken.unwrap_or_default())
    }

    /// Makes durable what was taken, and everything else on the filesystem; then it is recorded for later boots.
    pub(crate) fn settle_durably(&self, recent: Recent) -> io::Result<()> {
        self.sync()?;
        let Some(batches) = &self.batches else {
            return Ok(());
        };
        self.record(RECORD, &recent.0)?;
        batches.state().durable.extend(recent.0);
        Ok(())
    }

    fn record(&self, name: &str, staged: &[Staged]) -> io::Result<()> {
        if staged.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(staged.len() * RECORD_SIZE);
        for (number, id) in staged {
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.push(id.kind as u8);
            bytes.extend_from_slice(&id.checksum);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        let file = fs::openat(&self.staged, name, flags, Mode::from_raw_mode(0o600))?;
        File::from(file).write_all(&bytes)
    }

    /// Gives durable objects their names in the order that they were staged in, the commits last, if they are to have theirs: what
    /// a prune finds no way to from a commit that is there, it removes.
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

/// What the records of a staging directory say.
pub(super) fn recorded(staging: &Path) -> Vec<Staged> {
    let mut all = read(&staging.join(RECORD));
    all.extend(read(&staging.join(recent(RECORD))));
    all
}

/// A power cut may tear a record, which costs what follows.
fn read(record: &Path) -> Vec<Staged> {
    let mut bytes = Vec::new();
    let file = File::open(record);
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
