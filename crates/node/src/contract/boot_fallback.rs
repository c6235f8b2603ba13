//! The contract of [`BootFallback`].

use planner::FallbackState;

use super::succeeds;
use crate::ports::BootFallback;

/// Asks everything of an implementation that nobody has armed, on a boot loader that can count.
pub fn boot_fallback(fallback: &dyn BootFallback) {
    let expect = |state: FallbackState| {
        let found = succeeds("looking", fallback.state());
        assert_eq!(found, state);
    };
    expect(FallbackState::Disarmed);
    succeeds("disarming nothing", fallback.disarm());
    for (entry, left) in [("ostree-1", 3), ("ostree-1", 3), ("ostree-2-a", 1)] {
        succeeds("arming", fallback.arm(entry, left));
        expect(FallbackState::Armed {
            entry: entry.to_owned(),
            left,
        });
    }
    for _ in 0..2 {
        succeeds("disarming", fallback.disarm());
        expect(FallbackState::Disarmed);
    }
}
