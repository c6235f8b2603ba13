//! `hack/bench precache`: what precaching costs.
//!
//! A loopback registry offers 120 images: 30 that share base layers, as the images of a release do, and 90 small ones.
//! Measured are the step of the product when all 120 are present, and when the 30 are not, against ten `podman pull`
//! processes at a time, each with a fresh storage, in turn. The last line printed is one JSON object.

#![expect(clippy::print_stdout, reason = "figures are part of the result")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use boxed::{Lab, REGISTRY_PASSWORD, REGISTRY_USER, Registry};
use engine::{Event, StepContext, StepRef, StopToken, Work};
use host::{HostClock, HostFiles, HostImages, Layout};
use node::ports::{Files, NodePath, Ports};
use node::steps::NodeWork;
use planner::{PrecachePolicy, Step};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Images that share layers, and those besides.
const FAMILY: usize = 30;
const ALL: usize = 120;
/// Families of images with a layer of their own.
const BRANCHES: usize = 5;
/// MiB of files in a layer: two that all of the family share, one of each branch, one of each image.
const BASES: [u64; 2] = [100, 40];
const BRANCH: u64 = 20;
const OWN: u64 = 10;
/// Processes of the baseline.
const BASELINE: usize = 10;
/// How often both sides are measured.
const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    match after("--inside") {
        // In the lab's network, where the registry is.
        Some(spec) => inside(&serde_json::from_str(spec)?),
        None => bench(),
    }
}

fn bench() -> Result<()> {
    let lab = Lab::new("precache")?;
    let storage = lab.dir().join("offered");
    eprintln!("making {ALL} images");
    let layers = offer(&storage, &lab.dir().join("making"))?;
    let registry = lab.start_registry(Some(&storage))?;
    let mut absent = Vec::new();
    let mut twice = 0;
    for round in 0..ROUNDS {
        let mut seconds = [0.0; 2];
        // In turn, so that neither side always finds the page cache as the other left it.
        for side in [round % 2, 1 - round % 2] {
            let (way, last) = ([Way::Ours, Way::Podman][side], round + 1 == ROUNDS);
            let before = fs::metadata(registry.log())?.len();
            let present = way == Way::Ours && last;
            let measured = measure(&lab, &registry, way, present)?;
            seconds[side] = measured["absent_s"].as_f64().context("absent_s")?;
            let fetched = fetched(&registry, before, &layers)?;
            if way == Way::Ours {
                twice = twice.max(fetched.values().filter(|count| **count > 1).count());
                ensure!(
                    fetched.len() == layers.len(),
                    "{} layers fetched",
                    fetched.len()
                );
            }
            let all: usize = fetched.values().sum();
            eprintln!(
                "{way:?}: {:.2} s, {all} fetches of {} layers",
                seconds[side],
                layers.len()
            );
            if let Some(seconds) = measured["present_120_s"].as_f64() {
                absent.push(("present_120_s", seconds));
            }
        }
        absent.push(("ratio", seconds[0] / seconds[1]));
    }
    let mut ratios: Vec<f64> = of(&absent, "ratio");
    ratios.sort_by(f64::total_cmp);
    let present = of(&absent, "present_120_s");
    println!(
        "{}",
        json!({
            "present_120_s": round3(*present.first().context("not measured")?),
            "absent_ratio": round3(ratios[ratios.len() / 2]),
            "absent_ratio_worst": round3(ratios[ratios.len() - 1]),
            "layers_fetched_twice": twice,
        })
    );
    Ok(())
}

fn of(figures: &[(&str, f64)], name: &str) -> Vec<f64> {
    let wanted = figures.iter().filter(|(found, _)| *found == name);
    wanted.map(|(_, figure)| *figure).collect()
}

fn round3(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Ours,
    Podman,
}

/// Runs one side in the lab's network, with a storage of its own.
fn measure(lab: &Lab, registry: &Registry, way: Way, present: bool) -> Result<Value> {
    // Podman wants a short name.
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let spec = json!({
        "dir": dir.path(),
        "registry": registry.address(),
        "podman": way == Way::Podman,
        "present": present,
    });
    let output = lab
        .command(&std::env::current_exe()?.display().to_string())
        .args(["--inside", &spec.to_string()])
        .env("SSL_CERT_FILE", registry.authority()?)
        .stderr(Stdio::inherit())
        .output()?;
    // Podman's mount would keep the directory.
    Command::new("umount")
        .arg("--quiet")
        .arg(dir.path().join("root/overlay"))
        .output()?;
    ensure!(
        output.status.success(),
        "{way:?} ended with {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("reading the figures")
}

fn podman(dir: &Path) -> Command {
    let mut command = Command::new("/usr/bin/podman");
    command
        .args(["--log-level", "error"])
        .arg(format!("--root={}", dir.join("root").display()))
        .arg(format!("--runroot={}", dir.join("run").display()));
    command
}

fn names(registry: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{registry}/release/image{number}:v1"))
        .collect()
}

fn inside(spec: &Value) -> Result<()> {
    let dir = PathBuf::from(spec["dir"].as_str().context("dir")?);
    let registry = spec["registry"].as_str().context("registry")?;
    let auth = json!({"auths": {registry: {
        "username": REGISTRY_USER, "password": REGISTRY_PASSWORD,
        "auth": base64(&format!("{REGISTRY_USER}:{REGISTRY_PASSWORD}")),
    }}});
    let family = names(registry, FAMILY);
    if spec["podman"] == true {
        let secret = dir.join("auth.json");
        fs::write(&secret, auth.to_string())?;
        let seconds = baseline(&dir, &secret, &family)?;
        println!("{}", json!({"absent_s": seconds}));
        return Ok(());
    }
    let (images, files, clock) = (
        HostImages::below(&dir),
        HostFiles::new(Layout::below(&dir.join("node"))),
        HostClock::new(),
    );
    fs::create_dir_all(dir.join("node/root"))?;
    let secret = NodePath::booted(api::path::PULL_SECRET);
    files.replace(&secret, auth.to_string().as_bytes(), 0o600)?;
    let machine = sim::template::machine();
    let guard = sim::Guard::new(&machine);
    let rest = sim::Node::new(machine, guard);
    let ports = Ports {
        images: &images,
        files: &files,
        clock: &clock,
        ..rest.ports()
    };
    let absent = step(ports, &family)?;
    let mut figures = json!({"absent_s": absent});
    if spec["present"] == true {
        let all = names(registry, ALL);
        step(ports, &all)?;
        let mut seconds = [step(ports, &all)?, step(ports, &all)?, step(ports, &all)?];
        seconds.sort_by(f64::total_cmp);
        figures["present_120_s"] = json!(seconds[1]);
    }
    println!("{figures}");
    Ok(())
}

/// The product's step, as its engine runs it; seconds.
fn step(ports: Ports<'_>, images: &[String]) -> Result<f64> {
    let step = Step::PrecacheImages {
        images: images.to_vec(),
        policy: PrecachePolicy::default(),
    };
    let token = StopToken::new();
    let mut ignored = |_: &Event| {};
    let place = StepRef {
        index: 0,
        name: step.name().to_owned(),
    };
    let context = StepContext::new(&token, place, &mut ignored);
    let begun = Instant::now();
    let mut work = NodeWork::new(ports);
    work.apply(&step, &context)?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Ten processes at a time, each of the next image; seconds.
fn baseline(dir: &Path, secret: &Path, images: &[String]) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let pull = || -> Result<()> {
            while let Some(image) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut command = podman(dir);
                command.args(["pull", "--quiet", "--authfile"]).arg(secret);
                let output = command.arg(image).output()?;
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "podman pull {image}: {said}");
            }
            Ok(())
        };
        let pulls: Vec<_> = (0..BASELINE).map(|_| scope.spawn(pull)).collect();
        for pull in pulls {
            pull.join()
                .map_err(|_| anyhow::anyhow!("a pull panicked"))??;
        }
        Ok(begun.elapsed().as_secs_f64())
    })
}

/// How often each layer was fetched, by the registry's log behind `from`.
fn fetched(registry: &Registry, from: u64, layers: &[String]) -> Result<BTreeMap<String, usize>> {
    let log = fs::read(registry.log())?;
    let log = String::from_utf8_lossy(log.get(usize::try_from(from)?..).unwrap_or_default());
    let mut counts = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("\"GET /v2/")) {
        let Some((_, rest)) = line.split_once("/blobs/") else {
            continue;
        };
        let answered = rest.contains("\" 200 ") || rest.contains("\" 206 ");
        let digest = rest
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned();
        if answered && layers.contains(&digest) {
            *counts.entry(digest).or_default() += 1;
        }
    }
    Ok(counts)
}

/// A layer: the digests of its archive, inflated and not, and the bytes of the latter.
#[derive(Clone)]
struct Layer {
    inflated: String,
    digest: String,
    bytes: u64,
}

/// Writes a registry's storage with the images; the digests of the layers of those that share some.
fn offer(storage: &Path, work: &Path) -> Result<Vec<String>> {
    fs::create_dir_all(work)?;
    let blobs = Blobs(storage.join("docker/registry/v2"));
    let mut files = RealFiles::find()?;
    let sizes: Vec<u64> = BASES
        .into_iter()
        .chain([BRANCH; BRANCHES])
        .chain([OWN; FAMILY])
        .collect();
    let lists: Vec<Vec<PathBuf>> = sizes.iter().map(|size| files.take(size << 20)).collect();
    let made = make(&blobs, work, &lists)?;
    let (bases, rest) = made.split_at(BASES.len());
    let (branches, own) = rest.split_at(BRANCHES);
    for number in 0..ALL {
        let layers: Vec<Layer> = match own.get(number) {
            Some(own) => {
                let branch = &branches[number % BRANCHES];
                bases.iter().chain([branch, own]).cloned().collect()
            }
            None => {
                let text = work.join(format!("text{number}"));
                fs::write(&text, number.to_string())?;
                let small = make(&blobs, work, &[vec![text]])?;
                bases.iter().chain(&small).cloned().collect()
            }
        };
        blobs.image(&format!("release/image{number}"), &layers)?;
    }
    Ok(made.into_iter().map(|layer| layer.digest).collect())
}

/// Makes layers of these files, two at a time.
fn make(blobs: &Blobs, work: &Path, lists: &[Vec<PathBuf>]) -> Result<Vec<Layer>> {
    let next = AtomicUsize::new(0);
    let mut made: Vec<(usize, Layer)> = std::thread::scope(|scope| {
        let make = || -> Result<Vec<(usize, Layer)>> {
            let mut made = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(list) = lists.get(number) else {
                    return Ok(made);
                };
                made.push((number, layer(blobs, work, list)?));
            }
        };
        let makers = [scope.spawn(make), scope.spawn(make)];
        let mut all = Vec::new();
        for maker in makers {
            all.extend(
                maker
                    .join()
                    .map_err(|_| anyhow::anyhow!("a maker panicked"))??,
            );
        }
        anyhow::Ok(all)
    })?;
    made.sort_by_key(|(number, _)| *number);
    Ok(made.into_iter().map(|(_, layer)| layer).collect())
}

fn layer(blobs: &Blobs, work: &Path, files: &[PathBuf]) -> Result<Layer> {
    let mut list = tempfile::NamedTempFile::new_in(work)?;
    for file in files {
        writeln!(list, "{}", file.display())?;
    }
    let archive = tempfile::NamedTempFile::new_in(work)?;
    let status = Command::new("tar")
        .args([
            "--create",
            "--no-recursion",
            "--absolute-names",
            "--transform=s,^/,,",
        ])
        .arg("--file")
        .arg(archive.path())
        .arg("--files-from")
        .arg(list.path())
        .status()?;
    ensure!(status.success(), "tar ended with {status}");
    let inflated = format!("sha256:{}", hex(&Sha256::digest(fs::read(archive.path())?)));
    let output = Command::new("gzip")
        .args(["-3", "-n", "-c"])
        .arg(archive.path())
        .output()?;
    ensure!(output.status.success(), "gzip ended with {}", output.status);
    let digest = blobs.put(&output.stdout)?;
    Ok(Layer {
        inflated,
        digest,
        bytes: output.stdout.len() as u64,
    })
}

/// Files of this very system, each used once: content like that of real images.
struct RealFiles(Vec<(PathBuf, u64)>);

impl RealFiles {
    fn find() -> Result<Self> {
        let mut found = Vec::new();
        let mut directories = vec![PathBuf::from("/usr/lib"), PathBuf::from("/usr/share")];
        while let Some(directory) = directories.pop() {
            let Ok(entries) = fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                let kind = entry.file_type()?;
                let size = entry.metadata().map_or(0, |metadata| metadata.len());
                // One name per line.
                let plain = entry
                    .path()
                    .to_str()
                    .is_some_and(|path| !path.contains('\n'));
                if kind.is_dir() {
                    directories.push(entry.path());
                } else if kind.is_file() && plain && (1..4 << 20).contains(&size) {
                    found.push((entry.path(), size));
                }
            }
        }
        found.sort_by_key(|(path, _)| Sha256::digest(path.as_os_str().as_encoded_bytes()).to_vec());
        Ok(Self(found))
    }

    fn take(&mut self, bytes: u64) -> Vec<PathBuf> {
        let (mut sum, mut taken) = (0, Vec::new());
        while sum < bytes
            && let Some((path, size)) = self.0.pop()
        {
            sum += size;
            taken.push(path);
        }
        taken
    }
}

/// The storage of a docker-registry (distribution), written as it writes it.
struct Blobs(PathBuf);

impl Blobs {
    fn put(&self, bytes: &[u8]) -> Result<String> {
        let hex = hex(&Sha256::digest(bytes));
        let dir = self.0.join(format!("blobs/sha256/{}/{hex}", &hex[..2]));
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("data"), bytes)?;
        Ok(format!("sha256:{hex}"))
    }

    fn image(&self, repository: &str, layers: &[Layer]) -> Result<()> {
        let inflated: Vec<&String> = layers.iter().map(|layer| &layer.inflated).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {}, "created": "2026-01-01T00:00:00Z",
            "rootfs": {"type": "layers", "diff_ids": inflated},
        })
        .to_string();
        let config_digest = self.put(config.as_bytes())?;
        let described: Vec<Value> = layers
            .iter()
            .map(|layer| {
                json!({
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": layer.digest, "size": layer.bytes,
                })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest, "size": config.len(),
            },
            "layers": described,
        });
        let manifest = self.put(manifest.to_string().as_bytes())?;
        let link = |path: &str, digest: &str| -> Result<()> {
            let dir = self.0.join("repositories").join(repository).join(path);
            fs::create_dir_all(&dir)?;
            Ok(fs::write(dir.join("link"), digest)?)
        };
        let digits = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
        for digest in layers
            .iter()
            .map(|layer| &layer.digest)
            .chain([&config_digest])
        {
            link(&format!("_layers/sha256/{}", digits(digest)), digest)?;
        }
        let revision = digits(&manifest);
        link(
            &format!("_manifests/revisions/sha256/{revision}"),
            &manifest,
        )?;
        link("_manifests/tags/v1/current", &manifest)?;
        link(
            &format!("_manifests/tags/v1/index/sha256/{revision}"),
            &manifest,
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 4648, of text that is given here.
fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32, at: u32| char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]);
    text.as_bytes()
        .chunks(3)
        .flat_map(|three| {
            let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or_default());
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            (0..4).map(move |at| {
                if at as usize <= three.len() {
                    letter(bits, at)
                } else {
                    '='
                }
            })
        })
        .collect()
}
