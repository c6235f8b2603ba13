//! What the work must cost at least: its parts alone.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::ground::Ground;
use crate::usage::run;

/// Seconds of each part alone, read from the page cache where it can be.
#[derive(Debug)]
pub(crate) struct Floor {
    download: f64,
    hash: f64,
    inflate: f64,
    create: f64,
}

impl Floor {
    /// The slowest: what a perfect pipeline takes.
    pub(crate) fn slowest(&self) -> f64 {
        self.download
            .max(self.hash)
            .max(self.inflate)
            .max(self.create)
    }
}

/// Measures all parts.
pub(crate) fn measure(ground: &Ground) -> Result<Floor> {
    let timed = |script: &str| -> Result<f64> {
        let started = Instant::now();
        run(Command::new("bash")
            .args(["-c", script])
            .current_dir(&ground.dir))?;
        Ok(started.elapsed().as_secs_f64())
    };
    let found = find(ground);
    let blob = format!("$({found})");
    let digest = format!("sha256:$(basename $(dirname {blob}))");
    let image = ground.image();
    let (registry, _) = image.split_once('/').context("the seed's reference")?;
    let download = timed(&format!(
        "curl -fsS --cacert certs/ca.crt https://{registry}/v2/seed/blobs/{digest} > /dev/null"
    ))?;
    let hash = timed(&format!("cat {blob} | openssl dgst -sha256 > /dev/null"))?;
    let inflate = inflate(ground)?;
    ground.place("floor")?;
    // As many writers as the machine has cores (two trees), reading from the page cache.
    timed("tar cf - repo capture/var | cat > /dev/null")?;
    let started = Instant::now();
    run(Command::new("bash")
        .args([
            "-c",
            "(cp -a repo floor/repo & cp -a capture/var floor/var & wait); sync -f floor",
        ])
        .current_dir(&ground.dir))?;
    let create = started.elapsed().as_secs_f64();
    ground.place("floor")?;
    Ok(Floor {
        download,
        hash,
        inflate,
        create,
    })
}

/// The command that finds the stock seed's layer in the registry's storage.
fn find(ground: &Ground) -> String {
    let size = ground.seed.compressed;
    format!("find registry/docker/registry/v2/blobs -name data -size {size}c")
}

/// Inflates the layer and, on another thread, the archives in it.
fn inflate(ground: &Ground) -> Result<f64> {
    use seed::archive::{ArchiveReader, Decoded, Names};
    use std::io::{Read as _, sink};
    let blob = run(Command::new("sh")
        .args(["-c", &find(ground)])
        .current_dir(&ground.dir))?;
    let started = Instant::now();
    let file = fs::File::open(ground.dir.join(blob))?;
    let (mut writer, mut reader) = seed::pipe::pipe(8, 256 << 10);
    let inner = std::thread::spawn(move || -> std::io::Result<()> {
        while reader.next_stream()? {
            std::io::copy(&mut Decoded::new(&mut reader)?, &mut sink())?;
            reader.drain()?;
        }
        Ok(())
    });
    let mut archive = ArchiveReader::new(Decoded::new(file)?, Names::none());
    while let Some(entry) = archive.next_entry()? {
        if entry.path.as_bytes().ends_with(b".tgz") {
            writer.pour(&mut archive.content())?;
            writer.end()?;
        } else {
            archive.content().read_to_end(&mut Vec::new())?;
        }
    }
    drop(writer);
    inner.join().unwrap()?;
    Ok(started.elapsed().as_secs_f64())
}
