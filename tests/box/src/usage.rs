//! How much of a disk a node's directories take.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Bytes of the unit in which the kernel counts a file's blocks (stat(2)).
const BLOCK: u64 = 512;

/// Bytes on disk of everything below `dir` but the paths in `except` and what is below them; a file with several names
/// counts once, and one that vanishes meanwhile not at all.
///
/// # Errors
/// When something cannot be examined for another reason than that it is gone.
pub fn used(dir: &Path, except: &[PathBuf]) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut total = 0;
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        if except.contains(&path) {
            continue;
        }
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("examining {}", path.display()));
            }
        };
        if !metadata.is_dir() && !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        total += metadata.blocks() * BLOCK;
        if metadata.is_dir() {
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("listing {}", path.display()));
                }
            };
            // What goes while it is listed ends the list early; the next look is whole.
            left.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_once_and_what_is_left_out_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let empty = used(dir.path(), &[]).unwrap();
        fs::write(at("one"), vec![1; 8 << 10]).unwrap();
        fs::hard_link(at("one"), at("two")).unwrap();
        let both = used(dir.path(), &[]).unwrap();
        assert_eq!(both, empty + (8 << 10));
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/three"), vec![1; 64 << 10]).unwrap();
        assert_eq!(used(dir.path(), &[at("sub")]).unwrap(), both);
        assert!(used(dir.path(), &[]).unwrap() >= both + (64 << 10));
        assert_eq!(used(&at("none"), &[]).unwrap(), 0);
    }
}
