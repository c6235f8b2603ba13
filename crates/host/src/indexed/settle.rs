//! Making durable what arrives, while it arrives.
//!
//! What is fetched takes permits of an allowance ([`Pieces`](seed::registry::Pieces)); they are given back here, when what
//! was made of those bytes is on the disk and known to a restart. So an end of the process or of the power costs no more
//! download than the allowance.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use node::PortResult;
use seed::index::ObjectId;
use tokio::sync::Semaphore;

use crate::failure::Attempt;
use crate::incoming::{Incoming, Progress};
use crate::objects::{Growth, ObjectStore};

/// Bytes that may be fetched and not yet be settled. With what is on its way on four connections, 768 KiB each, these are the
/// 8 MiB that an interruption may cost (issue 4, item 4). More than the longest batch: that is a member of 4 MiB and what
/// arrives with it.
pub(super) const ALLOWANCE: usize = 5 << 20;

/// Bytes that are waited for, and for how long, before the disk is asked to settle: it writes its own metadata each time.
const BATCH: usize = 2 << 20;
const BATCH_WAIT: Duration = Duration::from_millis(100);

/// What is to be settled.
#[derive(Default)]
pub(super) struct Made {
    /// Long objects that have grown to their ends.
    pub(super) grown: Vec<ObjectId>,
    /// How far another has grown.
    pub(super) growth: Option<Growth>,
    /// How far the archives are.
    pub(super) progress: Option<Progress>,
}

#[derive(Default)]
struct State {
    made: Made,
    /// Compressed bytes that it was made of.
    bytes: usize,
    closed: bool,
}

/// Takes what is made, and settles it on a thread of its own.
pub(super) struct Settler<'a> {
    store: &'a ObjectStore,
    incoming: &'a Incoming,
    allowance: &'a Semaphore,
    state: Mutex<State>,
    changed: Condvar,
}

impl<'a> Settler<'a> {
    pub(super) fn new(
        store: &'a ObjectStore,
        incoming: &'a Incoming,
        allowance: &'a Semaphore,
    ) -> Self {
        Self {
            store,
            incoming,
            allowance,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Adds what was made of so many bytes.
    pub(super) fn add(&self, bytes: usize, made: Made) {
        let mut state = self.state();
        let all = &mut state.made;
        all.grown.extend(made.grown);
        all.growth = made.growth.or(all.growth.take());
        all.progress = made.progress.or(all.progress.take());
        state.bytes += bytes;
        if state.bytes >= BATCH {
            self.changed.notify_one();
        }
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    /// Settles until nothing more comes.
    pub(super) fn run(&self) -> PortResult<()> {
        loop {
            let (made, bytes, closed) = self.next();
            self.settle(made)?;
            self.allowance.add_permits(bytes);
            if closed {
                return Ok(());
            }
        }
    }

    fn next(&self) -> (Made, usize, bool) {
        let waiting = |state: &mut State| state.bytes < BATCH && !state.closed;
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, BATCH_WAIT, waiting);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let made = mem::take(&mut state.made);
        (made, mem::take(&mut state.bytes), state.closed)
    }

    fn settle(&self, made: Made) -> PortResult<()> {
        let attempt = || "making durable what was fetched".to_owned();
        let Made {
            grown,
            growth,
            progress,
        } = made;
        let more = !grown.is_empty() || growth.is_some() || progress.is_some();
        self.store.settle(more).attempt(attempt)?;
        for id in &grown {
            self.store.adopt_grown(id).attempt(attempt)?;
        }
        if let Some(growth) = growth {
            self.store.note_growth(&growth).attempt(attempt)?;
        }
        progress.map_or(Ok(()), |progress| self.incoming.note(&progress))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
