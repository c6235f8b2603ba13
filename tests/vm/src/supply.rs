//! The second disk: what a test brings into the guest without a network.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use boxed::succeed;

/// Its size, always the same: a guest that goes on expects the disk that it knew. The image is sparse.
const BYTES: u64 = 1 << 30;

/// Where [`crate::Vm`]s have it.
pub(crate) const DEVICE: &str = "/dev/vdb";

/// An empty one in `dir`.
pub(crate) fn empty(dir: &Path) -> Result<PathBuf> {
    let image = dir.join("supply.img");
    File::create(&image)
        .and_then(|file| file.set_len(BYTES))
        .with_context(|| format!("creating {}", image.display()))?;
    Ok(image)
}

/// One with the files of `content`, in `dir`.
pub(crate) fn with(dir: &Path, content: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let image = empty(dir)?;
    succeed(
        Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1", "-d"])
            .arg(content)
            .arg(&image),
    )?;
    Ok(image)
}
