//! The processor, from `/proc/cpuinfo` and sysfs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use api::seed_node::Cpu;
use node::PortResult;

use crate::failure::Attempt;

const CPUINFO: &str = "/proc/cpuinfo";
const CPUS: &str = "/sys/devices/system/cpu";

/// CPUs that are there, online or not, as a list of ranges (kernel documentation, cputopology).
const PRESENT: &str = "/sys/devices/system/cpu/present";

/// Fields that name a processor: x86, then what other architectures have.
const MODEL: [&str; 4] = ["model name", "cpu model", "CPU part", "machine"];

/// This machine's architecture as Go and OCI call it.
pub(super) fn architecture() -> String {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
    .to_owned()
}

/// Reads it.
///
/// # Errors
/// When the kernel does not tell.
pub(super) fn observe() -> PortResult<Cpu> {
    let text = fs::read_to_string(CPUINFO).attempt(|| format!("reading {CPUINFO}"))?;
    let topology = topology(Path::new(CPUS));
    let threads = match topology.len() {
        // A container may hide it.
        0 => text
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count(),
        count => count,
    };
    let sockets: BTreeSet<&str> = topology.iter().map(|(socket, _)| socket.as_str()).collect();
    let cores: BTreeSet<&(String, String)> = topology.iter().collect();
    let count = |count: usize| u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    Ok(Cpu {
        model: model(&text).to_owned(),
        sockets: count(sockets.len()),
        cores: count(if cores.is_empty() {
            threads
        } else {
            cores.len()
        }),
        threads: count(threads),
    })
}

/// One more than the highest number of a CPU that is there, online or not; `cpu`'s threads where the kernel does not tell.
/// Numbers have gaps where CPUs are offline, so counting those that are online is too few.
pub(super) fn numbers(cpu: &Cpu) -> u32 {
    let text = fs::read_to_string(PRESENT).unwrap_or_default();
    beyond(&text).unwrap_or(cpu.threads).max(cpu.threads)
}

/// One more than the highest number in a list of ranges (`0-3,8`).
fn beyond(list: &str) -> Option<u32> {
    let numbers = list.trim().split([',', '-']);
    let highest = numbers
        .filter_map(|number| number.parse::<u32>().ok())
        .max();
    highest?.checked_add(1)
}

fn model(cpuinfo: &str) -> &str {
    let field = |name: &&str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == *name).then(|| value.trim())
        })
    };
    MODEL.iter().find_map(field).unwrap_or("unknown")
}

/// Socket and core of every CPU that is online.
fn topology(cpus: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(cpus).into_iter().flatten().flatten();
    let numbered = entries.filter(|entry| {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("cpu"));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    });
    numbered
        .filter_map(|entry| {
            let read = |name: &str| {
                let text = fs::read_to_string(entry.path().join("topology").join(name)).ok()?;
                Some(text.trim().to_owned())
            };
            // Without a topology it is offline.
            Some((read("physical_package_id")?, read("core_id")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_architectures() {
        let check = |text: &str, expect: &str| assert_eq!(model(text), expect);
        check(
            "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Xeon(R) Gold: X\n",
            "Xeon(R) Gold: X",
        );
        check("processor\t: 0\nCPU part\t: 0xd0c\n", "0xd0c");
        check("", "unknown");
    }

    #[test]
    fn numbers_end_behind_the_highest() {
        let check = |list: &str, expect| assert_eq!(beyond(list), expect, "{list:?}");
        check("0\n", Some(1));
        check("0-7\n", Some(8));
        check("0-3,8-11,6\n", Some(12));
        check("", None);
        check("none", None);
        check("4294967295", None);
    }
}
