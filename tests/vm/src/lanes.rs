//! Several machines at once, each on ground of its own.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, iter, thread};

use anyhow::{Context, Result, ensure};

use crate::ground::Ground;

/// What one machine takes of the host's memory, in KiB: its own 3 GiB and what QEMU and its files in the cache need.
const MACHINE_KIB: u64 = 4 << 20;

/// How many machines this host runs at once without one waiting for another: a processor and 4 GiB of memory that is
/// available now for each, and at least one.
///
/// # Errors
/// When the kernel does not tell.
pub fn usual() -> Result<usize> {
    let processors = thread::available_parallelism().context("counting processors")?;
    let memory = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let available = available(&memory).context("/proc/meminfo has no MemAvailable")?;
    let fit = usize::try_from(available / MACHINE_KIB).unwrap_or(usize::MAX);
    Ok(processors.get().min(fit).max(1))
}

fn available(memory: &str) -> Option<u64> {
    let line = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Works on all `items`, `lanes` of them at once; each lane takes the next one as soon as it is free. What came of them, by lanes.
///
/// # Errors
/// When there is no lane, or its ground cannot be made.
pub fn work<T: Sync, R: Send>(
    ground: &Ground,
    lanes: usize,
    items: &[T],
    act: impl Fn(&Ground, &T) -> R + Sync,
) -> Result<Vec<R>> {
    ensure!(lanes > 0, "0 lanes: at least one is needed");
    let more: Vec<Ground> = (1..lanes.min(items.len()))
        .map(|_| ground.beside())
        .collect::<Result<_>>()?;
    let next = AtomicUsize::new(0);
    let lane = |ground: &Ground| -> Vec<R> {
        let items = iter::from_fn(|| items.get(next.fetch_add(1, Ordering::Relaxed)));
        items.map(|item| act(ground, item)).collect()
    };
    let lane = &lane;
    let done: Vec<Vec<R>> = thread::scope(|scope| {
        let lanes: Vec<_> = iter::once(ground)
            .chain(&more)
            .map(|ground| scope.spawn(move || lane(ground)))
            .collect();
        let joined = lanes.into_iter().map(|lane| lane.join());
        joined
            .map(|done| done.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    Ok(done.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24589572 kB\nMemFree:  1 kB\nMemAvailable:   23068672 kB\n";
        assert_eq!(available(text), Some(23_068_672));
        assert_eq!(available("MemTotal: 3 kB\n"), None);
    }
}
