//! Making durable what arrives, while it arrives.
//!
//! What is fetched takes permits of an allowance before it is asked for; they are given back here, when what was made of those
//! bytes is written and known to whoever goes on in the same boot. So an end of the process costs no more download than the
//! allowance. All of it is synced from time to time, while more is settled, and before this ends in good order; only what was
//! synced counts in another boot, for of the rest a power cut may leave anything. What says so is written after that, and is on
//! the disk with the next sync: a power cut may cost what three of them bring.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use node::PortResult;
use seed::index::{COMPRESSED_LIMIT, ObjectId};
use tokio::sync::Semaphore;

use super::joined;
use super::segments::HELD;
use crate::failure::Attempt;
use crate::incoming::{Incoming, Progress};
use crate::objects::{Growth, ObjectStore, Recent};

/// Bytes that may be asked for and not yet be settled. With what lies between wanted ranges, and the little that is given back
/// though it may be lost ([`HELD`]), these are the 8 MiB that an interruption may cost (issue 4, item 4), however many
/// connections there are.
pub(super) const ALLOWANCE: usize = 7 << 20;

/// The longest request, of one member, finds its permits while the two that read in order keep theirs.
const _: () = assert!(ALLOWANCE >= 2 * HELD + COMPRESSED_LIMIT as usize);

/// Bytes that are waited for, and for how long, before they are noted.
const BATCH: usize = 1 << 20;
const BATCH_WAIT: Duration = Duration::from_secs(2);

/// Likewise before the disk is asked for a sync: it writes its own metadata each time, and all that is written on the
/// filesystem waits for that, etcd too.
const SYNC: usize = 32 << 20;
const SYNC_WAIT: Duration = Duration::from_secs(5);

/// How long less is waited for when somebody waits for permits, of which there are few then.
const SCARCE_WAIT: Duration = Duration::from_millis(100);
const SCARCE: usize = 1 << 20;

/// What is to be settled.
#[derive(Default)]
pub(super) struct Made {
    /// Long objects that have grown to their ends.
    pub(super) grown: Vec<ObjectId>,
    /// How far another has grown.
    pub(super) growth: Option<Growth>,
    /// How far `/var` is.
    pub(super) progress: Option<Progress>,
    /// Bytes of `/etc`, whose digests tell what is there.
    pub(super) etc: bool,
}

/// What counts in this boot only.
struct Pending {
    bytes: usize,
    growth: bool,
    progress: bool,
    anything: bool,
    since: Instant,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            bytes: 0,
            growth: false,
            progress: false,
            anything: false,
            since: Instant::now(),
        }
    }
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
        all.etc |= made.etc;
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
        thread::scope(|scope| {
            let mut pending = Pending::default();
            let mut syncing = Syncing(None);
            loop {
                let (made, bytes, closed) = self.next();
                pending.bytes += bytes;
                self.note(made, &mut pending)?;
                self.allowance.add_permits(bytes);
                if closed {
                    syncing.finished()?;
                    return match pending.anything {
                        true => self.begin_sync(&mut pending)?.finish(self),
                        false => Ok(()),
                    };
                }
                let is_due = pending.bytes >= SYNC || pending.since.elapsed() >= SYNC_WAIT;
                let may_wait = syncing.under_way() && pending.bytes < 2 * SYNC;
                if pending.anything && is_due && !may_wait {
                    syncing.finished()?;
                    let sync = self.begin_sync(&mut pending)?;
                    syncing.start(scope, move || sync.finish(self))?;
                }
            }
        })
    }

    fn next(&self) -> (Made, usize, bool) {
        let waiting = |state: &mut State| state.bytes < BATCH && !state.closed;
        let begun = Instant::now();
        let mut state = self.state();
        loop {
            let waited = self.changed.wait_timeout_while(state, SCARCE_WAIT, waiting);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let is_scarce = state.bytes > 0 && self.allowance.available_permits() < SCARCE;
            if !waiting(&mut state) || is_scarce || begun.elapsed() >= BATCH_WAIT {
                break;
            }
        }
        let made = mem::take(&mut state.made);
        (made, mem::take(&mut state.bytes), state.closed)
    }

    /// Makes it known to whoever goes on in this boot.
    fn note(&self, made: Made, pending: &mut Pending) -> PortResult<()> {
        let Made {
            grown,
            growth,
            progress,
            etc,
        } = made;
        self.store.settle(&grown).attempt(attempted)?;
        if let Some(growth) = &growth {
            self.store.growth().write(growth).attempt(attempted)?;
        }
        if let Some(progress) = &progress {
            self.incoming.write_note(progress)?;
        }
        pending.growth |= growth.is_some();
        pending.progress |= progress.is_some();
        pending.anything |= pending.bytes > 0 || etc || pending.growth || pending.progress;
        Ok(())
    }

    /// Takes what is to be made durable; what is noted from now on is for the next time.
    fn begin_sync(&self, pending: &mut Pending) -> PortResult<Sync> {
        let Pending {
            growth, progress, ..
        } = mem::take(pending);
        if growth {
            self.store.growth().pick().attempt(attempted)?;
        }
        if progress {
            self.incoming.pick_note()?;
        }
        Ok(Sync {
            recent: self.store.take_recent(),
            growth,
            progress,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is made durable at one time.
struct Sync {
    recent: Recent,
    growth: bool,
    progress: bool,
}

impl Sync {
    /// Makes it durable, and lets it count in later boots.
    fn finish(self, settler: &Settler<'_>) -> PortResult<()> {
        let settled = settler.store.settle_durably(self.recent);
        settled.attempt(attempted)?;
        if self.growth {
            settler.store.growth().keep().attempt(attempted)?;
        }
        match self.progress {
            true => settler.incoming.keep_note(),
            false => Ok(()),
        }
    }
}

/// The sync that is under way, if any: while the disk is waited for, what arrives is settled, and more can be fetched.
struct Syncing<'scope>(Option<ScopedJoinHandle<'scope, PortResult<()>>>);

impl<'scope> Syncing<'scope> {
    fn under_way(&self) -> bool {
        self.0.as_ref().is_some_and(|sync| !sync.is_finished())
    }

    /// Waits for its end.
    fn finished(&mut self) -> PortResult<()> {
        self.0.take().map_or(Ok(()), joined)
    }

    fn start<'env>(
        &mut self,
        scope: &'scope Scope<'scope, 'env>,
        sync: impl FnOnce() -> PortResult<()> + Send + 'scope,
    ) -> PortResult<()> {
        let begun = thread::Builder::new()
            .name("sync".to_owned())
            .spawn_scoped(scope, sync);
        self.0 = Some(begun.attempt(attempted)?);
        Ok(())
    }
}

fn attempted() -> String {
    "making durable what was fetched".to_owned()
}
