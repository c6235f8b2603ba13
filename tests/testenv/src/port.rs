//! Loopback ports that nobody else takes between choosing them and listening on them.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Below the kernel's ephemeral range (from 32768 on), so that no outgoing connection takes a port
/// that was found free.
const RANGE: std::ops::Range<u16> = 21_000..31_000;

/// A loopback port, reserved among all processes of this user that use this crate, while this
/// value lives.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    /// Holds the file lock that is the reservation; the kernel lets go of it with the process.
    _reservation: File,
}

impl Port {
    /// Reserves `N` free ports.
    pub(crate) fn reserve<const N: usize>() -> Result<[Port; N]> {
        let uid = std::fs::metadata("/proc/self")
            .context("reading our user id")?
            .uid();
        let dir = std::env::temp_dir().join(format!("lifecycle-agent-ports-{uid}"));
        std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        // Processes start at different places, so that they do not walk over each other's ports.
        let span = RANGE.len();
        let start = (std::process::id() as usize).wrapping_mul(97) % span;
        let mut found = Vec::with_capacity(N);
        for number in RANGE.cycle_from(start) {
            if found.len() == N {
                break;
            }
            found.extend(reserve_one(&dir, number)?);
        }
        match found.try_into() {
            Ok(ports) => Ok(ports),
            Err(_) => bail!(
                "no free loopback port between {} and {}",
                RANGE.start,
                RANGE.end
            ),
        }
    }
}

/// `None` when somebody else has the port.
fn reserve_one(dir: &Path, number: u16) -> Result<Option<Port>> {
    let path = dir.join(number.to_string());
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    let free = file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok();
    Ok(free.then_some(Port {
        number,
        _reservation: file,
    }))
}

trait CycleFrom {
    fn cycle_from(self, start: usize) -> impl Iterator<Item = u16>;
}

impl CycleFrom for std::ops::Range<u16> {
    /// Every element once, beginning with the one at index `start`.
    fn cycle_from(self, start: usize) -> impl Iterator<Item = u16> {
        self.clone().skip(start).chain(self.take(start))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn reserved_ports_are_distinct_and_free() {
        let first = Port::reserve::<3>().unwrap();
        let second = Port::reserve::<3>().unwrap();
        let numbers: BTreeSet<u16> = first
            .iter()
            .chain(&second)
            .map(|port| port.number)
            .collect();
        assert_eq!(numbers.len(), 6);
        for number in numbers {
            TcpListener::bind(("127.0.0.1", number)).unwrap();
        }
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        // In a directory of its own: reservations of other tests do not hide what is asked here.
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let number = listener.local_addr().unwrap().port();
        assert!(reserve_one(dir.path(), number).unwrap().is_none());
    }

    #[test]
    fn every_port_of_the_range_is_tried_once() {
        let seen: Vec<u16> = (3..7).cycle_from(2).collect();
        assert_eq!(seen, [5, 6, 3, 4]);
    }
}
