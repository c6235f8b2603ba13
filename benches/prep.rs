//! `hack/bench prep`: what installing a seed costs, against the stock way with podman, tar and ostree.
//!
//! The seed is made as the Go original makes one, from the mini-SNO and files of this machine (at least 1.5 GB and 40,000
//! files), and kept in the cache. Both ways start with a cold page cache, fetch from the same registry on the loopback,
//! and end with everything on the disk. CPU time and bytes written are those of all processes but the registry. The last
//! line printed is one JSON object.

#![expect(clippy::print_stdout, reason = "figures are part of the result")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "prep/floor.rs"]
mod floor;
#[path = "prep/ground.rs"]
mod ground;
#[path = "prep/install.rs"]
mod install;
#[path = "prep/stock.rs"]
mod stock;
#[path = "prep/usage.rs"]
mod usage;

use anyhow::{Result, ensure};
use serde_json::json;

use ground::Ground;
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
    let (mut stock, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        if !skip_stock {
            let usage = stock::install(&ground)?;
            eprintln!("stock: {usage}");
            stock.push(usage);
        }
        let usage = install::measure(&ground)?;
        eprintln!("ours: {usage}");
        ours.push(usage);
    }
    let ours = Usage::median(ours);
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
            "peak_rss_mib": ours.peak_rss_mib,
            "floor_ratio": ratio(ours.wall, floor.slowest()),
            "wall_s": ours.wall,
            "stock_wall_s": stock.wall,
            "cpu_s": ours.cpu,
            "stock_cpu_s": stock.cpu,
            "stock_written_over_final": ratio(stock.written as f64, stock.remaining as f64),
        })
    );
    Ok(())
}

fn ratio(ours: f64, theirs: f64) -> f64 {
    (ours / theirs * 1000.0).round() / 1000.0
}
