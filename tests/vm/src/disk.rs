//! A disk with the partitions of RHCOS and a node of the mini-SNO on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use boxed::cache;
use boxed::{NodeConfig, succeed};

use crate::boot_sectors::{self, SECTOR};

/// Sectors of a MiB.
const MIB: u64 = (1 << 20) / SECTOR;

/// A partition.
struct Partition {
    name: &'static str,
    /// GUID of its type.
    kind: &'static str,
    first: u64,
    sectors: u64,
}

/// The type of everything with a filesystem.
const LINUX: &str = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
/// The type of the room for GRUB, which has no filesystem.
const BIOS: &str = "21686148-6449-6E6F-744E-656564454649";

/// As RHCOS names them; `hack/mini-sno/grub/build` expects the boot partition to be the second. The last one is what
/// users of image-based upgrades add for the container storage that all stateroots share.
const PARTITIONS: [Partition; 4] = [
    Partition {
        name: "BIOS-BOOT",
        kind: BIOS,
        first: MIB,
        sectors: MIB,
    },
    Partition {
        name: "boot",
        kind: LINUX,
        first: 2 * MIB,
        sectors: 384 * MIB,
    },
    Partition {
        name: "root",
        kind: LINUX,
        first: 386 * MIB,
        sectors: 6144 * MIB,
    },
    Partition {
        name: "var-lib-containers",
        kind: LINUX,
        first: 6530 * MIB,
        sectors: 4096 * MIB,
    },
];
/// Sectors of the whole disk: the copy of the partition table is in the last ones.
const DISK_SECTORS: u64 = 10628 * MIB;

/// What of this crate decides what is on a disk.
const SOURCES: [&str; 2] = [include_str!("disk.rs"), include_str!("boot_sectors.rs")];

/// The disk of `config`, from the cache or made now (about 20 s; it is sparse, about 900 MiB).
///
/// # Errors
/// When a part of it cannot be made. Needs root and loop devices.
pub fn ensure(config: &NodeConfig) -> Result<PathBuf> {
    let grub = boot_loader()?;
    let content = boxed::content_key(config)?;
    let name = grub.file_name().unwrap_or_default().as_encoded_bytes();
    let parts = SOURCES.map(str::as_bytes).into_iter();
    let key = cache::key(parts.chain([content.as_bytes(), name]));
    let dir = cache::entry(&format!("vm-disk-{key}"), |dir| {
        make(&dir.join("disk.raw"), &dir.join("mounted"), config, &grub)
    })?;
    Ok(dir.join("disk.raw"))
}

/// The directory with the boot loader, made by `hack/mini-sno/grub/build` unless it is in the cache.
fn boot_loader() -> Result<PathBuf> {
    cache::built_by(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/mini-sno/grub/build"))
}

fn make(disk: &Path, mounted: &Path, config: &NodeConfig, grub: &Path) -> Result<()> {
    let file = File::create(disk).with_context(|| format!("creating {}", disk.display()))?;
    file.set_len(DISK_SECTORS * SECTOR)
        .with_context(|| format!("sizing {}", disk.display()))?;
    partition(disk)?;
    let [bios, boot, root, containers] = &PARTITIONS;
    boot_sectors::write(disk, grub, bios.first, bios.sectors)?;
    let boot = Loop::attach(disk, boot)?;
    let root = Loop::attach(disk, root)?;
    let containers = Loop::attach(disk, containers)?;
    format(&["mkfs.ext4", "-q", "-F", "-L", "boot"], &boot)?;
    format(&["mkfs.xfs", "-q", "-f", "-K", "-L", "root"], &root)?;
    format(
        &["mkfs.xfs", "-q", "-f", "-K", "-L", "containers"],
        &containers,
    )?;
    let sysroot = mounted.join("sysroot");
    let root = Mount::new(&root, &sysroot)?;
    let boot = Mount::new(&boot, &sysroot.join("boot"))?;
    let containers = Mount::new(&containers, &mounted.join("containers"))?;
    boxed::install(mounted, config)?;
    // For a box only: there the page cache outlives everything.
    let repo = format!("--repo={}", sysroot.join("ostree/repo").display());
    succeed(Command::new("ostree").args(["config", &repo, "unset", "core.fsync"]))?;
    succeed(
        Command::new("cp")
            .arg("-r")
            .arg(grub.join("grub2"))
            .arg(sysroot.join("boot")),
    )?;
    for mount in [containers, boot, root] {
        mount.release()?;
    }
    fs::remove_dir_all(mounted).with_context(|| format!("removing {}", mounted.display()))
}

fn partition(disk: &Path) -> Result<()> {
    let mut table = String::from("label: gpt\nunit: sectors\n");
    for part in &PARTITIONS {
        let Partition {
            name,
            kind,
            first,
            sectors,
        } = part;
        table.push_str(&format!(
            "start={first}, size={sectors}, type={kind}, name=\"{name}\"\n"
        ));
    }
    let script = disk.with_extension("sfdisk");
    fs::write(&script, table).with_context(|| format!("writing {}", script.display()))?;
    let input = File::open(&script).with_context(|| format!("opening {}", script.display()))?;
    let output = Command::new("sfdisk")
        .args(["--quiet", "--no-reread"])
        .arg(disk)
        .stdin(input)
        .output()
        .context("starting sfdisk")?;
    ensure!(
        output.status.success(),
        "sfdisk: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    fs::remove_file(&script).with_context(|| format!("removing {}", script.display()))
}

fn format(command: &[&str], device: &Loop) -> Result<()> {
    succeed(Command::new(command[0]).args(&command[1..]).arg(&device.0)).map(drop)
}

/// A loop device on one partition; there may be nobody who makes devices for the partitions of one.
struct Loop(String);

impl Loop {
    fn attach(disk: &Path, partition: &Partition) -> Result<Loop> {
        let device = succeed(
            Command::new("losetup")
                .args(["--find", "--show", "--offset"])
                .arg((partition.first * SECTOR).to_string())
                .arg("--sizelimit")
                .arg((partition.sectors * SECTOR).to_string())
                .arg(disk),
        )?;
        Ok(Loop(device.trim_end().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = succeed(Command::new("losetup").arg("--detach").arg(&self.0)) {
            eprintln!("vm: {error:#}");
        }
    }
}

/// A mounted filesystem.
struct Mount(Option<PathBuf>);

impl Mount {
    fn new(device: &Loop, dir: &Path) -> Result<Mount> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        succeed(Command::new("mount").arg(&device.0).arg(dir))?;
        Ok(Mount(Some(dir.to_owned())))
    }

    /// Unmounts it, which writes everything.
    fn release(mut self) -> Result<()> {
        match self.0.take() {
            Some(dir) => succeed(Command::new("umount").arg(dir)).map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(dir) = &self.0 {
            // Somebody may be in it still; the error that led here says more.
            let _ = succeed(Command::new("umount").arg("--lazy").arg(dir));
        }
    }
}
