//! Changes to a captured tree that leave the tree alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::entry::MemberPath;

/// What a capture finds at a path instead of what is there.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    /// Nothing.
    Absent,
    /// What is there, with everything below, whatever the exclude patterns say.
    Keep,
    /// What is at this other path, with everything below.
    Source(PathBuf),
    /// A file of this content. Owner and attributes are those of the file it replaces; else root's
    /// and the SELinux label of the directory.
    File {
        /// Content.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
    /// A symlink of root's.
    Symlink(Vec<u8>),
    /// A directory that is empty but for what the overlay puts into it.
    Dir {
        /// Permission bits.
        mode: u32,
    },
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Keep => f.write_str("Keep"),
            Self::Source(path) => f.debug_tuple("Source").field(path).finish(),
            // Content may be a secret.
            Self::File { content, mode } => write!(f, "File({} bytes, {mode:o})", content.len()),
            Self::Symlink(target) => write!(f, "Symlink({})", super::shown(target)),
            Self::Dir { mode } => write!(f, "Dir({mode:o})"),
        }
    }
}

/// A set of changes by member path.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    nodes: BTreeMap<MemberPath, Node>,
}

impl Overlay {
    /// Puts `node` at `path`; an earlier one is replaced. Missing directories above it are made up
    /// (root's, mode 0755).
    pub fn insert(&mut self, path: MemberPath, node: Node) {
        self.nodes.insert(path, node);
    }

    /// What stands at `path`.
    pub fn get(&self, path: &MemberPath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// All paths with what stands there, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&MemberPath, &Node)> {
        self.nodes.iter()
    }

    /// True when something other than [`Node::Absent`] stands below `dir`.
    pub(crate) fn reaches_below(&self, dir: &MemberPath) -> bool {
        self.below(dir).any(|(_, node)| *node != Node::Absent)
    }

    /// Names in `dir` that the overlay touches.
    pub(crate) fn names(&self, dir: &MemberPath) -> BTreeSet<Vec<u8>> {
        self.below(dir)
            .filter_map(|(path, _)| path.below(dir)?.components().next().map(<[u8]>::to_vec))
            .collect()
    }

    fn below<'a>(
        &'a self,
        dir: &'a MemberPath,
    ) -> impl Iterator<Item = (&'a MemberPath, &'a Node)> {
        // Paths below `dir` follow each other from "<dir>/" on.
        let start = if dir.is_root() {
            MemberPath::root()
        } else {
            dir.joined(b"")
        };
        self.nodes
            .range(start..)
            .take_while(move |(path, _)| path.below(dir).is_some())
            .filter(move |(path, _)| *path != dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below() {
        let path = |text: &str| MemberPath::parse(text.as_bytes()).unwrap();
        let mut overlay = Overlay::default();
        for text in ["var/a/x", "var/a/y", "var/b", "var-x/c", "var"] {
            overlay.insert(path(text), Node::Keep);
        }
        overlay.insert(path("etc/gone"), Node::Absent);
        let check = |dir: &str, expect: &[&[u8]]| {
            let names: Vec<_> = overlay.names(&path(dir)).into_iter().collect();
            assert_eq!(names, expect, "{dir}");
        };
        check("", &[b"etc", b"var", b"var-x"]);
        check("var", &[b"a", b"b"]);
        check("var/a", &[b"x", b"y"]);
        check("var/b", &[]);
        assert!(overlay.reaches_below(&path("var/a")));
        assert!(!overlay.reaches_below(&path("etc")));
    }
}
