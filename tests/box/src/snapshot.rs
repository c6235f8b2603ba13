//! What a tree looks like to somebody who compares: owner, mode, extended attributes and content of every file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

/// Paths that two runs need not have alike, each with its reason.
#[derive(Clone, Debug, Default)]
pub struct Exclusions(Vec<String>);

impl Exclusions {
    /// Reads a list: one pattern a line, then its reason; `#` begins a comment. A pattern is a path, below which all is
    /// excluded too; a `*` stands for anything but a slash.
    ///
    /// # Errors
    /// A line without a reason.
    pub fn parse(text: &str) -> Result<Exclusions> {
        let mut patterns = Vec::new();
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (pattern, reason) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            ensure!(
                !reason.trim().is_empty(),
                "exclusion {pattern:?} has no reason"
            );
            patterns.push(pattern.to_owned());
        }
        Ok(Exclusions(patterns))
    }

    fn excludes(&self, path: &str) -> bool {
        self.0.iter().any(|pattern| covers(pattern, path))
    }
}

/// Whether the pattern is the path or a directory above it.
fn covers(pattern: &str, path: &str) -> bool {
    let mut names = path.split('/');
    pattern
        .split('/')
        .all(|wanted| names.next().is_some_and(|name| fits(wanted, name)))
}

fn fits(wanted: &str, name: &str) -> bool {
    match wanted.split_once('*') {
        None => wanted == name,
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    }
}

/// A tree: path below its root, and a line that says all about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    /// Takes in everything below `root` under `label`, but what is excluded.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn add(&mut self, root: &Path, label: &str, exclusions: &Exclusions) -> Result<()> {
        for entry in fs::read_dir(root).with_context(|| format!("listing {}", root.display()))? {
            let entry = entry?;
            let path = format!("{label}/{}", entry.file_name().to_string_lossy());
            if exclusions.excludes(&path) {
                continue;
            }
            let metadata = entry.path().symlink_metadata()?;
            let line = describe(&entry.path(), &metadata)
                .with_context(|| format!("reading {}", entry.path().display()))?;
            self.0.insert(path.clone(), line);
            if metadata.is_dir() {
                self.add(&entry.path(), &path, exclusions)?;
            }
        }
        Ok(())
    }

    /// How many files it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What differs, one line a path: only here (`-`), only in the other (`+`), or different (`!`).
    #[must_use]
    pub fn differences(&self, other: &Snapshot) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, line) in &self.0 {
            match other.0.get(path) {
                None => lines.push(format!("- {path} {line}")),
                Some(same) if same == line => {}
                Some(different) => lines.push(format!("! {path}: {line} became {different}")),
            }
        }
        let added = other
            .0
            .iter()
            .filter(|(path, _)| !self.0.contains_key(*path));
        lines.extend(added.map(|(path, line)| format!("+ {path} {line}")));
        lines
    }
}

fn describe(path: &Path, metadata: &fs::Metadata) -> Result<String> {
    let content = if metadata.is_symlink() {
        format!("-> {}", fs::read_link(path)?.display())
    } else if metadata.is_file() {
        let mut hash = Sha256::new();
        let mut file = fs::File::open(path)?;
        let mut chunk = vec![0; 1 << 16];
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            hash.update(&chunk[..read]);
        }
        let digest: String = hash
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{} bytes {digest}", metadata.len())
    } else {
        String::new()
    };
    let attributes = attributes(path)?;
    Ok(format!(
        "{:o} {}:{} {attributes}{content}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid()
    ))
}

fn attributes(path: &Path) -> Result<String> {
    let mut names = vec![0_u8; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names)?;
    let mut text = String::new();
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0_u8; 1 << 16];
        let length = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value)?;
        let value: String = value[..length]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        text.push_str(&format!("{}={value} ", String::from_utf8_lossy(name)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_itself_and_what_is_below() {
        let check = |pattern: &str, path: &str, expect: bool| {
            assert_eq!(covers(pattern, path), expect, "{pattern} {path}");
        };
        check("a/b", "a/b", true);
        check("a/b", "a/b/c/d", true);
        check("a/b", "a/bc", false);
        check("a/b", "a", false);
        check("a/*/c", "a/b/c", true);
        check("a/x*z/c", "a/xyz/c", true);
        check("a/x*z/c", "a/xz", false);
        check("a/*", "a/b/c", true);
    }

    #[test]
    fn differences_name_paths_and_what_changed() {
        let trees = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for tree in &trees {
            for name in ["same", "differs", "skipped"] {
                fs::write(tree.path().join(name), name).unwrap();
            }
        }
        fs::write(trees[0].path().join("gone"), "").unwrap();
        fs::write(trees[1].path().join("differs"), "more").unwrap();
        fs::write(trees[1].path().join("skipped"), "other").unwrap();
        let exclusions = Exclusions::parse("# none\nt/skipped  it may differ\n").unwrap();
        let take = |path: &Path| {
            let mut snapshot = Snapshot::default();
            snapshot.add(path, "t", &exclusions).unwrap();
            snapshot
        };
        let (old, new) = (take(trees[0].path()), take(trees[1].path()));
        let differences = old.differences(&new);
        assert_eq!(differences.len(), 2, "{differences:?}");
        assert!(
            differences[0].starts_with("! t/differs: ") && differences[1].starts_with("- t/gone ")
        );
        assert!(Exclusions::parse("t/x\n").is_err());
    }
}
