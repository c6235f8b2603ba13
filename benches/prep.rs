//! `hack/bench prep`: what installing a seed costs, against the stock way with podman, tar and ostree.
//!
//! The seed is made as the Go original makes one, from the mini-SNO and files of this machine (at least 1.5 GB and 40,000
//! files), and kept in the cache. Both ways start with a cold page cache, fetch from the same registry on the loopback,
//! and end with everything on the disk. The same content is then installed as an indexed seed, on an empty node and on nodes
//! that have nine tenths of its objects. CPU time and bytes written are those of all processes but the registry. The last
//! line printed is one JSON object.

#![expect(clippy::print_stdout, reason = "figures are part of the result")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "prep/floor.rs"]
mod floor;
#[path = "prep/ground.rs"]
mod ground;
#[path = "prep/indexed.rs"]
mod indexed;
#[path = "prep/install.rs"]
mod install;
#[path = "prep/stock.rs"]
mod stock;
#[path = "prep/usage.rs"]
mod usage;

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;

use ground::Ground;
use indexed::{Indexed, Lacks};
use install::Measured;
use usage::Usage;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments
        .iter()
        .position(|argument| argument == "--install")
    {
        return install::run(&arguments[at + 1..]);
    }
    let ground = Ground::prepare()?;
    let seed = &ground.seed;
    eprintln!(
        "seed: {} MiB compressed, {} MiB and {} files unpacked",
        seed.compressed >> 20,
        seed.bytes >> 20,
        seed.files
    );
    ensure!(
        seed.bytes >= 1_500_000_000 && seed.files >= 40_000,
        "the seed is too small"
    );

    let rounds = std::env::var("LCA_BENCH_ROUNDS").map_or(1, |text| text.parse().unwrap());
    let skip_stock = std::env::var_os("LCA_BENCH_OURS_ONLY").is_some();
    let indexed = Indexed::prepare(&ground)?;
    let (mut stock, mut ours, mut by_parts) = (Vec::new(), Vec::new(), Vec::new());
    let nothing = |_: &Path| Ok(());
    for _ in 0..rounds {
        if !skip_stock {
            let usage = stock::install(&ground)?;
            eprintln!("stock: {usage}");
            stock.push(usage);
        }
        let Measured { usage, .. } = install::measure(&ground, &ground.image(), nothing)?;
        eprintln!("ours: {usage}");
        ours.push(usage);
        let Measured { usage, .. } = install::measure(&ground, &indexed.image, nothing)?;
        eprintln!("indexed: {usage}");
        by_parts.push(usage);
    }
    let second = Second::measure(&ground, &indexed, Lacks::Directories)?;
    let scattered = Second::measure(&ground, &indexed, Lacks::Scattered)?;
    let (ours, by_parts) = (Usage::median(ours), Usage::median(by_parts));
    let all = [&ours, &by_parts, &second.usage, &scattered.usage];
    let peaks = all.map(|usage| usage.peak_rss_mib.unwrap_or_default());
    let stock = if skip_stock {
        ours.clone()
    } else {
        Usage::median(stock)
    };
    let floor = floor::measure(&ground)?;
    eprintln!("floor: {floor:?}");
    println!(
        "{}",
        json!({
            "wall_ratio": ratio(ours.wall, stock.wall),
            "cpu_ratio": ratio(ours.cpu, stock.cpu),
            "written_over_final": ratio(ours.written as f64, ours.remaining as f64),
            "peak_rss_mib": peaks.into_iter().fold(0.0, f64::max),
            "floor_ratio": ratio(ours.wall, floor.slowest()),
            "indexed_wall_ratio": ratio(by_parts.wall, stock.wall),
            "indexed_written_over_final": ratio(by_parts.written as f64, by_parts.remaining as f64),
            "indexed_size_ratio": ratio(indexed.compressed as f64, seed.compressed as f64),
            "second_wall_ratio": ratio(second.usage.wall, by_parts.wall),
            "refetch_ratio": second.refetch_ratio,
            "scattered_refetch_ratio": scattered.refetch_ratio,
            "indexed_cpu_ratio": ratio(by_parts.cpu, stock.cpu),
            "indexed_peak_rss_mib": by_parts.peak_rss_mib,
            "indexed_wall_s": by_parts.wall,
            "wall_s": ours.wall,
            "stock_wall_s": stock.wall,
            "cpu_s": ours.cpu,
            "stock_cpu_s": stock.cpu,
            "stock_written_over_final": ratio(stock.written as f64, stock.remaining as f64),
        })
    );
    Ok(())
}

/// An install on a node that has most of the objects.
struct Second {
    usage: Usage,
    /// Bytes fetched, to the compressed bytes of what lacks.
    refetch_ratio: f64,
}

impl Second {
    fn measure(ground: &Ground, indexed: &Indexed, lacks: Lacks) -> Result<Self> {
        let mut lacking = 0.0;
        let fill = |sysroot: &Path| {
            lacking = indexed.fill(ground, sysroot, lacks)?;
            Ok(())
        };
        let Measured { usage, fetched } = install::measure(ground, &indexed.image, fill)?;
        eprintln!(
            "second: {usage}; {} KiB fetched for {} KiB",
            fetched >> 10,
            lacking as u64 >> 10
        );
        Ok(Self {
            usage,
            refetch_ratio: ratio(fetched as f64, lacking),
        })
    }
}

fn ratio(ours: f64, theirs: f64) -> f64 {
    (ours / theirs * 1000.0).round() / 1000.0
}
