//! The directory outside the tree in which everything costly is kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

/// `$LCA_CACHE`, else `lifecycle-agent` under `$XDG_CACHE_HOME` or `~/.cache`; the same as in
/// `hack/mini-sno/build` and `hack/testenv/build`.
#[must_use]
pub fn cache_dir() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = set("LCA_CACHE") {
        return dir.into();
    }
    let base = set("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(set("HOME").unwrap_or_else(|| "/root".into())).join(".cache"),
        PathBuf::from,
    );
    base.join("lifecycle-agent")
}

/// The directory `name` under `mini-sno` of the cache, which `fill` fills the first time.
///
/// One process fills at a time; the name appears only when `fill` has succeeded.
///
/// # Errors
/// When it cannot be filled.
pub fn entry(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let parent = cache_dir().join("mini-sno");
    let path = parent.join(name);
    if path.is_dir() {
        return Ok(path);
    }
    fs::create_dir_all(&parent).with_context(|| format!("creating {}", parent.display()))?;
    let lock = parent.join(format!("{name}.lock"));
    let file = File::create(&lock).with_context(|| format!("creating {}", lock.display()))?;
    let _locked = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("locking {}", lock.display()))?;
    if !path.is_dir() {
        let new = tempfile::Builder::new()
            .prefix("new-")
            .tempdir_in(&parent)
            .with_context(|| format!("creating a directory in {}", parent.display()))?;
        fill(new.path()).with_context(|| format!("making {}", path.display()))?;
        fs::rename(new.path(), &path).with_context(|| format!("naming {}", path.display()))?;
    }
    Ok(path)
}

/// The directory that the build script `script` prints, which it fills unless it is in the cache.
///
/// # Errors
/// When the build fails; it says why on standard error.
pub fn built_by(script: &Path) -> Result<PathBuf> {
    let output = Command::new(script)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {}", script.display()))?;
    ensure!(
        output.status.success(),
        "{} ended with {}",
        script.display(),
        output.status
    );
    let printed = String::from_utf8(output.stdout).context("path printed by the build")?;
    Ok(printed.trim_end().into())
}

/// The first 16 hexadecimal digits of the SHA-256 over `parts`.
#[must_use]
pub fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
