//! Random moments that can be repeated, and how many of them.

use std::time::{Duration, SystemTime};

/// A small generator (xorshift64*): moments need not be unguessable, only different and repeatable.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers from the seed in `LCA_RANDOM`, or from one of this second; it is printed.
    #[must_use]
    pub fn from_environment() -> Random {
        let seed = match std::env::var("LCA_RANDOM") {
            Ok(text) => text.parse().unwrap_or(1),
            Err(_) => SystemTime::UNIX_EPOCH
                .elapsed()
                .map_or(1, |now| now.as_secs()),
        };
        eprintln!("LCA_RANDOM={seed}");
        // The generator's first numbers are as alike as the seeds are: mixed, they are not.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A share of the whole: at least 0, less than 1.
    pub fn share(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A moment `within` a time.
    pub fn moment(&mut self, within: Duration) -> Duration {
        within.mul_f64(self.share())
    }
}

/// The number in the environment variable `name`.
#[must_use]
pub fn count(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}
