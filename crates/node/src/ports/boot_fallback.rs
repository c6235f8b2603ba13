//! The boot loader's own way back, below everything that a release runs.

use planner::FallbackState;

use crate::PortResult;

/// Boot fallback: after a bounded number of boots that nobody has declared good, the boot loader starts another entry than
/// the default. Changing calls are idempotent, and durable when they return in a way that the boot loader sees: it replays
/// no journal of a filesystem.
pub trait BootFallback: Send + Sync {
    /// What would happen. Cheap.
    fn state(&self) -> PortResult<FallbackState>;

    /// From the next boot on the default gets this many attempts, whatever was left before; behind them the entry is started,
    /// which [`super::Ostree::entry_after`] names. To do so again declares a boot good. All or nothing. `Permanent` where the
    /// state is [`FallbackState::None`].
    fn arm(&self, entry: &str, attempts: u32) -> PortResult<()>;

    /// Takes everything back; what else the boot loader's configuration has stays. Nothing to take back is success.
    fn disarm(&self) -> PortResult<()>;
}
