//! A repository with what a node's has: a release of real files, and another one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lsetxattr};

use crate::tree::run;

/// Where real files are taken from: text and programs, as many files and bytes of each at most.
const SOURCES: [&str; 3] = ["/usr/include", "/usr/lib/python3", "/usr/bin"];
const FILES: usize = 800;
const BYTES: u64 = 16 << 20;

/// An object larger than this is cut, with its header (`docs/seed-format.md`).
const PIECE: usize = 1 << 20;

pub(crate) struct Release {
    pub(crate) repository: PathBuf,
    pub(crate) commit: String,
}

impl Release {
    /// Makes it below `dir`.
    pub(crate) fn make(dir: &Path) -> Self {
        let repository = dir.join("repo");
        let text = repository.display().to_string();
        let ostree = |arguments: &[&str]| {
            let repo = format!("--repo={text}");
            let arguments = [&[arguments[0], &repo], &arguments[1..]].concat();
            String::from_utf8(run("ostree", &arguments, dir)).unwrap()
        };
        ostree(&["init", "--mode=bare"]);
        let tree = dir.join("tree");
        fill(&tree);
        fs::write(tree.join("usr/of the other"), noise(3_000_000, 1)).unwrap();
        ostree(&["commit", "--branch=other", "--tree=dir=tree"]);
        fs::remove_file(tree.join("usr/of the other")).unwrap();
        let detached = "--add-detached-metadata-string=signed=no";
        let commit = ostree(&["commit", "--branch=seed", "--tree=dir=tree", detached]);
        // A deployment's files are further names of the objects.
        let deployed = "--force-copy-zerosized";
        ostree(&[
            "checkout",
            "--require-hardlinks",
            deployed,
            "seed",
            "deployed",
        ]);
        fs::write(repository.join("tmp/rest"), "left out").unwrap();
        Self {
            repository,
            commit: commit.trim().to_owned(),
        }
    }

    /// Names of the documents that a seed has.
    pub(crate) fn documents(&self) -> Vec<String> {
        let origin = format!("ostree-{}.0.origin", self.commit);
        let names = [
            "containers.list",
            "manifest.json",
            "rpm-ostree.json",
            "mco-currentconfig.json",
            &origin,
            "etc.deletions",
        ];
        names.map(ToOwned::to_owned).into()
    }

    /// Paths of all objects that the commit reaches, in the order that a seed has them in, as libostree sees it.
    pub(crate) fn objects(&self) -> Vec<String> {
        let repo = format!("--repo={}", self.repository.display());
        let listing = run(
            "ostree",
            &["ls", "-RC", &repo, &self.commit],
            Path::new("/"),
        );
        let path = |checksum: &str, kind: &str| {
            let (directory, name) = checksum.split_at(2);
            format!("{directory}/{name}.{kind}")
        };
        let (mut metadata, mut files) = (vec![path(&self.commit, "commit")], Vec::new());
        let mut seen = BTreeSet::new();
        for line in String::from_utf8_lossy(&listing).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let mut add = |list: &mut Vec<String>, path: String| {
                if seen.insert(path.clone()) {
                    list.push(path);
                }
            };
            if line.starts_with('d') {
                add(&mut metadata, path(words[4], "dirtree"));
                add(&mut metadata, path(words[5], "dirmeta"));
            } else {
                add(&mut files, path(words[4], "file"));
            }
        }
        metadata.extend(files);
        metadata
    }
}

fn fill(tree: &Path) {
    let at = |name: &str| tree.join(name);
    for name in ["usr/etc", "usr/many", "usr/empty"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for source in SOURCES {
        let mut left = (FILES, BYTES);
        copy(Path::new(source), &at(&source[1..]), &mut left);
    }
    // Names that a directory object of more than one piece has.
    for number in 0..14_000 {
        fs::write(at(&format!("usr/many/{number:0>60}")), "").unwrap();
    }
    symlink("usr/bin", at("bin")).unwrap();
    symlink("t".repeat(300), at("usr/long target")).unwrap();
    for (name, length) in [
        ("short of a piece", PIECE - 1024),
        ("a piece", PIECE - 512),
        ("more than a piece", PIECE - 511),
        ("two pieces", 2 * PIECE - 512),
        ("pieces", 5 * PIECE + 77),
        ("next", 100),
    ] {
        fs::write(at("usr").join(name), noise(length, length as u64)).unwrap();
    }
    fs::set_permissions(at("usr/next"), fs::Permissions::from_mode(0o4711)).unwrap();
    lsetxattr(
        at("usr/pieces"),
        "user.kept",
        b"x\ny\0",
        XattrFlags::empty(),
    )
    .unwrap();
}

/// Copies a directory until no more is left of files or bytes.
fn copy(from: &Path, to: &Path, left: &mut (usize, u64)) {
    fs::create_dir_all(to).unwrap();
    let mut entries: Vec<_> = fs::read_dir(from).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            copy(&from, &to, left);
        } else if meta.is_file() && left.0 > 0 && meta.len() <= left.1 {
            *left = (left.0 - 1, left.1 - meta.len());
            fs::copy(from, to).unwrap();
        }
    }
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}
