//! What a way of installing costs.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// Clock ticks per second in `/proc` (`USER_HZ`, the same on every Linux that we run on).
const TICKS: f64 = 100.0;

/// The cost of one installation.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    /// Seconds until everything is on the disk.
    pub(crate) wall: f64,
    /// CPU seconds of the processes.
    pub(crate) cpu: f64,
    /// Bytes that the processes had written to the disk.
    pub(crate) written: u64,
    /// Bytes that remain, without the spool.
    pub(crate) remaining: u64,
    /// Largest resident set of the installing process, if it is one.
    pub(crate) peak_rss_mib: Option<f64>,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage {
            wall,
            cpu,
            written,
            remaining,
            peak_rss_mib,
        } = self;
        let (written, remaining) = (written >> 20, remaining >> 20);
        write!(
            f,
            "{wall:.2} s, {cpu:.2} CPU s, {written} MiB written, {remaining} MiB remain"
        )?;
        peak_rss_mib.map_or(Ok(()), |peak| write!(f, ", peak {peak:.1} MiB"))
    }
}

impl Usage {
    /// The one with the median wall time.
    pub(crate) fn median(mut all: Vec<Usage>) -> Usage {
        all.sort_by(|a, b| a.wall.total_cmp(&b.wall));
        all.swap_remove(all.len() / 2)
    }
}

/// The cost of processes that this one starts and waits for from now on.
pub(crate) struct Meter {
    started: Instant,
    cpu: f64,
    written: u64,
}

impl Meter {
    /// Drops the page cache and starts.
    pub(crate) fn start() -> Result<Meter> {
        run(&mut Command::new("sync"))?;
        fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the page cache")?;
        Ok(Meter {
            cpu: children_cpu()?,
            written: written()?,
            started: Instant::now(),
        })
    }

    /// Makes the filesystem of `directory` durable and reads the meter; what remains is in `kept`.
    pub(crate) fn stop(self, directory: &Path, kept: &[&Path]) -> Result<Usage> {
        run(Command::new("sync").arg("-f").arg(directory))?;
        Ok(Usage {
            wall: self.started.elapsed().as_secs_f64(),
            cpu: children_cpu()? - self.cpu,
            written: written()? - self.written,
            remaining: kept
                .iter()
                .map(|path| bytes_below(path))
                .sum::<Result<u64>>()?,
            peak_rss_mib: None,
        })
    }
}

/// Runs a command to its end; gives what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Bytes that a directory occupies, links counted once.
pub(crate) fn bytes_below(path: &Path) -> Result<u64> {
    let printed = run(Command::new("du").args(["-sx", "--block-size=1"]).arg(path))?;
    let number = printed.split_whitespace().next().unwrap_or_default();
    Ok(number.parse()?)
}

/// User and system time of children that ended (proc(5), `/proc/[pid]/stat`, fields 16 and 17).
fn children_cpu() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: f64 = fields[13].parse::<f64>()? + fields[14].parse::<f64>()?;
    Ok(ticks / TICKS)
}

/// Bytes that this process and its ended children caused to be written.
fn written() -> Result<u64> {
    let io = fs::read_to_string("/proc/self/io")?;
    let field = |name: &str| -> Result<u64> {
        let value = io.lines().find_map(|line| line.strip_prefix(name));
        Ok(value.context("/proc/self/io")?.trim().parse()?)
    };
    Ok(field("write_bytes:")? - field("cancelled_write_bytes:")?)
}
