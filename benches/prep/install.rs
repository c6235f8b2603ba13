//! Our way: the calls that the steps of Prep make, in a process of their own.

use std::cell::Cell;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use host::{HostOstree, HostSeeds, Layout};
use node::ports::{
    DeploymentSpec, FetchLimits, FetchRequest, Ostree as _, PullSecret, Seeds as _, Unwatched,
    Watch,
};

use crate::ground::{Ground, STATEROOT};
use crate::usage::{Meter, Usage};

/// What an installation cost, and the bytes that were fetched for it.
pub(crate) struct Measured {
    pub(crate) usage: Usage,
    pub(crate) fetched: u64,
}

/// Installs an image once and measures it. `prepare` gets the empty sysroot before.
pub(crate) fn measure(
    ground: &Ground,
    image: &str,
    prepare: impl FnOnce(&Path) -> Result<()>,
) -> Result<Measured> {
    let place = ground.place("ours")?;
    let sysroot = place.join("sysroot");
    ground.sysroot(&sysroot)?;
    prepare(&sysroot)?;
    std::fs::create_dir_all(place.join("root"))?;
    let meter = Meter::start()?;
    let output = Command::new(std::env::current_exe()?)
        .args(["--install", image, &place.display().to_string()])
        .env("SSL_CERT_FILE", ground.authority())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the installation failed");
    let usage = meter.stop(&place, &[&sysroot])?;
    let printed = String::from_utf8(output.stdout)?;
    let figures = printed
        .lines()
        .last()
        .context("figures of the installation")?;
    let (peak, fetched) = figures.split_once(' ').context("peak and bytes fetched")?;
    Ok(Measured {
        usage: Usage {
            peak_rss_mib: Some(peak.parse::<f64>()? / 1024.0),
            ..usage
        },
        fetched: fetched.parse()?,
    })
}

/// Remembers how many bytes were fetched.
struct Fetched(Cell<u64>);

impl Watch for Fetched {
    fn progress(&self, done: u64, _total: Option<u64>, _object: &str) -> bool {
        self.0.set(done);
        true
    }
}

/// `--install IMAGE PLACE`: what [`measure`] starts. Prints its peak in KiB, and the bytes that it fetched.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [image, place, ..] = arguments else {
        anyhow::bail!("--install IMAGE PLACE");
    };
    if std::env::var_os("LCA_BENCH_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .init();
    }
    let layout = Layout::below(Path::new(place));
    let (seeds, ostree) = (HostSeeds::new(layout.clone()), HostOstree::new(layout));
    let secret = PullSecret(br#"{"auths":{}}"#.to_vec());
    let stateroot: api::StaterootName = STATEROOT.parse()?;
    let started = std::time::Instant::now();
    let lap = |what: &str| eprintln!("  {:6.2} s {what}", started.elapsed().as_secs_f64());
    let pin = seeds.resolve(&image.parse()?, &secret, &Unwatched)?;
    ostree.ensure_stateroot(&stateroot)?;
    let request = FetchRequest {
        pin: pin.clone(),
        stateroot: stateroot.clone(),
        spool: true,
        limits: FetchLimits::default(),
    };
    let fetched = Fetched(Cell::new(0));
    let content = seeds.fetch(&request, &secret, &fetched)?;
    lap("fetched");
    if !ostree.is_imported(&content.commit)? {
        seeds.import_commit(&pin, &content.commit, &Unwatched)?;
    }
    lap("imported");
    let deployment = ostree.deploy(&DeploymentSpec {
        stateroot: stateroot.clone(),
        commit: content.commit,
        kernel_arguments: vec!["ibu=4.17.4".to_owned()],
        origin: content.origin,
    })?;
    lap("deployed");
    seeds.unpack_var(&pin, &stateroot, &Unwatched)?;
    lap("/var unpacked");
    seeds.unpack_etc(&pin, &deployment, &Unwatched)?;
    lap("/etc unpacked");
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    let peak = peak.context("VmHWM in /proc/self/status")?;
    println!("{} {}", peak.trim(), fetched.0.get());
    Ok(())
}
