//! Progress and stop requests of long work.

/// Sees how far long work has come and may stop it.
///
/// Work asks after every chunk (at most 1 MiB), so a stop takes effect within milliseconds.
pub trait Watch: Send {
    /// `bytes` more were done.
    fn advanced(&mut self, bytes: u64);

    /// True when the work shall end now with a "stopped" error.
    fn stop_requested(&self) -> bool;
}

/// Nobody watches.
impl Watch for () {
    fn advanced(&mut self, _bytes: u64) {}

    fn stop_requested(&self) -> bool {
        false
    }
}

/// A [`Watch`] of two closures.
pub struct Watching<A, S> {
    /// Called with the bytes done since the last call.
    pub advanced: A,
    /// Tells whether to stop.
    pub stop: S,
}

impl<A: FnMut(u64) + Send, S: Fn() -> bool + Send> Watch for Watching<A, S> {
    fn advanced(&mut self, bytes: u64) {
        (self.advanced)(bytes);
    }

    fn stop_requested(&self) -> bool {
        (self.stop)()
    }
}
