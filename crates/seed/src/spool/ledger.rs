//! What is known of a blob that is growing on disk.
//!
//! Beside `<hex>.partial` lies `<hex>.ledger`: records of 40 bytes, each the length of a beginning of
//! the blob (little-endian) and the SHA-256 of that beginning. They are the states of one running
//! hash, so a blob is hashed once, and a restart that hashes what is on disk anyway checks every
//! record on its way. A record is appended after its bytes are on the disk; one that a power cut
//! tore, or whose bytes it lost, does not match and ends the known beginning.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Bytes of one record.
const RECORD: usize = 40;

/// Longest ledger that is read: a record per chunk of the largest blob that anybody stores.
const LIMIT: u64 = 64 << 20;

/// Bytes that may be written and not yet be in the ledger: what a power cut costs at most, with one
/// chunk that is under way. Limits of the brief: 8 MiB (issue 4, item 4).
const UNSETTLED_LIMIT: u64 = 6 << 20;

/// Bytes that are waited for, and for how long, before the disk is asked to settle: it writes its own metadata each time.
const BATCH: u64 = 2 << 20;
const BATCH_WAIT: Duration = Duration::from_millis(100);

/// A beginning of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Its length in bytes.
    pub(super) len: u64,
    /// Its SHA-256.
    pub(super) digest: [u8; 32],
}

/// All whole records of a ledger, as they stand there; none when there is no ledger.
pub(super) fn read(path: &Path) -> io::Result<Vec<Record>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => drop(file.take(LIMIT).read_to_end(&mut bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let (records, _torn) = bytes.as_chunks::<RECORD>();
    let parse = |record: &[u8; RECORD]| {
        let (len, digest) = record.split_first_chunk::<8>()?;
        Some(Record {
            len: u64::from_le_bytes(*len),
            digest: digest.try_into().ok()?,
        })
    };
    Ok(records.iter().filter_map(parse).collect())
}

/// Keeps the ledger of a growing blob on a thread of its own: bytes first, then their record.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pending: Vec<Record>,
    /// Length that is in the ledger, durably.
    settled: u64,
    /// Nothing more is noted: the blob is complete, or the thread has ended.
    closed: bool,
    failed: Option<io::Error>,
}

impl State {
    /// The error that closed the ledger, once; then that it is closed.
    fn failure(&mut self) -> io::Result<()> {
        match self.closed {
            true => Err(self.failed.take().unwrap_or_else(ended)),
            false => Ok(()),
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("the ledger of the spool has ended")
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Starts after the `known` records, dropping what follows them in the ledger.
    pub(super) fn start(data: &File, ledger: &Path, known: &[Record]) -> io::Result<Self> {
        let data = data.try_clone()?;
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(ledger)?;
        let keep = (known.len() * RECORD) as u64;
        file.set_len(keep)?;
        file.seek(SeekFrom::Start(keep))?;
        Self::keep(data, file, known.last().map_or(0, |record| record.len))
    }

    fn keep(data: File, mut ledger: File, settled: u64) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.lock().settled = settled;
        let keeping = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || keep_ledger(&keeping, &data, &mut ledger))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Notes a beginning that was written. Waits while too much is not durable yet.
    ///
    /// # Errors
    ///
    /// Those of the ledger's thread. After one, every further call fails.
    pub(super) fn note(&self, record: Record) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.pending.push(record);
        self.shared.changed.notify_all();
        while !state.closed && record.len.saturating_sub(state.settled) > UNSETTLED_LIMIT {
            state = self.shared.wait(state);
        }
        state.failure()
    }

    /// Waits until all that was noted is durable.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.end();
        let mut state = self.shared.lock();
        match state.pending.is_empty() {
            true => state.failed.take().map_or(Ok(()), Err),
            false => Err(state.failed.take().unwrap_or_else(ended)),
        }
    }

    fn end(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread loses records, which only costs bytes to be fetched again.
            drop(thread.join());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

fn keep_ledger(shared: &Shared, data: &File, ledger: &mut File) {
    loop {
        let mut state = shared.lock();
        while state.pending.is_empty() && !state.closed {
            state = shared.wait(state);
        }
        let is_short = |state: &mut State| {
            let noted = state.pending.last().map_or(0, |record| record.len);
            !state.closed && noted < state.settled + BATCH
        };
        let (mut state, _) = shared
            .changed
            .wait_timeout_while(state, BATCH_WAIT, is_short)
            .unwrap_or_else(PoisonError::into_inner);
        let records = std::mem::take(&mut state.pending);
        drop(state);
        let Some(last) = records.last() else { return };
        let settled = settle(data, ledger, &records);
        let mut state = shared.lock();
        match settled {
            Ok(()) => state.settled = last.len,
            Err(error) => {
                state.failed = Some(error);
                state.closed = true;
                shared.changed.notify_all();
                return;
            }
        }
        shared.changed.notify_all();
    }
}

fn settle(data: &File, ledger: &mut File, records: &[Record]) -> io::Result<()> {
    data.sync_data()?;
    let mut bytes = Vec::with_capacity(records.len() * RECORD);
    for Record { len, digest } in records {
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(digest);
    }
    ledger.write_all(&bytes)?;
    ledger.sync_data()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_failure_is_told_and_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let data = File::create(dir.path().join("data")).unwrap();
        // Every write there fails with ENOSPC.
        let ledger = File::options().write(true).open("/dev/full").unwrap();
        let keeper = Keeper::keep(data, ledger, 0).unwrap();
        let record = |len| Record {
            len,
            digest: [7; 32],
        };
        let (tell, told) = mpsc::channel();
        let noting = thread::spawn(move || {
            // More than may be unsettled: each of them would wait for a ledger that is alive.
            let kind = |error: io::Error| error.kind();
            for len in [20 << 20, 40 << 20] {
                tell.send(keeper.note(record(len)).map_err(kind)).unwrap();
            }
            tell.send(keeper.close().map_err(kind)).unwrap();
        });
        let expect = [
            io::ErrorKind::StorageFull,
            io::ErrorKind::Other,
            io::ErrorKind::Other,
        ];
        for kind in expect {
            let result = told.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(result, Err(kind));
        }
        noting.join().unwrap();
    }
}
