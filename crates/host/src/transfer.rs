//! What the crate `seed` tells of its work, as a port's watch understands it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use node::ports::Watch;

use crate::sysroot_writer::Relay;

/// How often a watch is told, at most: telling it costs two changes of thread.
const INTERVAL: Duration = Duration::from_millis(100);

/// One piece of work whose bytes are counted.
pub(crate) struct Transfer<'a> {
    relay: &'a Relay,
    object: &'a str,
    total: Option<u64>,
    done: AtomicU64,
    told: Mutex<Option<Instant>>,
    stopped: AtomicBool,
}

impl<'a> Transfer<'a> {
    /// Work on `object` that is done after `total` bytes.
    pub(crate) fn new(relay: &'a Relay, object: &'a str, total: Option<u64>) -> Self {
        Self {
            relay,
            object,
            total,
            done: AtomicU64::new(0),
            told: Mutex::new(None),
            stopped: AtomicBool::new(false),
        }
    }

    /// Counts bytes without telling anybody yet.
    pub(crate) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
    }

    /// Tells the watch how much was done in the end.
    pub(crate) fn end(&self) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.go_on();
    }

    /// Tells the watch when it is time to, and whether the work shall go on.
    pub(crate) fn go_on(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|told| told.elapsed() >= INTERVAL);
        if due && !self.stopped.load(Relaxed) {
            let done = self.done.load(Relaxed);
            let go_on = self.relay.progress(done, self.total, self.object);
            self.stopped.store(!go_on, Relaxed);
            *told = Some(Instant::now());
        }
        !self.stopped.load(Relaxed)
    }
}

impl seed::watch::Watch for &Transfer<'_> {
    fn advanced(&mut self, bytes: u64) {
        self.add(bytes);
    }

    fn stop_requested(&self) -> bool {
        !self.go_on()
    }
}

/// Passes on the wish to stop; the bytes are counted elsewhere.
pub(crate) struct Stop<'a>(pub(crate) &'a Transfer<'a>);

impl seed::watch::Watch for Stop<'_> {
    fn advanced(&mut self, _bytes: u64) {}

    fn stop_requested(&self) -> bool {
        !self.0.go_on()
    }
}
