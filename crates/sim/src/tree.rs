//! A file tree, as the page cache shows it or as the disk holds it.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What stands at a path.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub enum Entry {
    /// A directory with its mode.
    Directory(u32),
    /// A file with its mode and content.
    File(u32, Arc<[u8]>),
}

/// Entries by absolute physical path (`/sysroot/...`, `/boot/...`, `/containers/...`). Every entry's parents are
/// directories in the tree; the root itself is not an entry.
#[derive(Clone, Debug, Default, Eq, PartialEq, Hash)]
pub struct Tree(BTreeMap<Arc<str>, Entry>);

impl Tree {
    /// The entry at a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.0.get(path)
    }

    /// The content of a file; `None` when there is no file.
    pub fn content(&self, path: &str) -> Option<&Arc<[u8]>> {
        match self.get(path) {
            Some(Entry::File(_, content)) => Some(content),
            _ => None,
        }
    }

    /// The content of a file as text.
    pub fn text(&self, path: &str) -> Option<&str> {
        std::str::from_utf8(self.content(path)?).ok()
    }

    /// Puts a file in place, with its parents (0700 where they are missing).
    pub fn write(&mut self, path: &str, mode: u32, content: impl Into<Arc<[u8]>>) {
        self.parents(path);
        self.0
            .insert(path.into(), Entry::File(mode, content.into()));
    }

    /// Makes a directory, with its parents, and gives it this mode.
    pub fn make_directory(&mut self, path: &str, mode: u32) {
        self.parents(path);
        self.0.insert(path.into(), Entry::Directory(mode));
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/').skip(1) {
            let parent = &path[..at];
            if !self.0.contains_key(parent) {
                self.0.insert(parent.into(), Entry::Directory(0o700));
            }
        }
    }

    /// Puts an entry in place as it stands in another tree, with its parents.
    pub fn put(&mut self, path: &str, entry: Entry) {
        self.parents(path);
        self.0.insert(path.into(), entry);
    }

    /// Removes what stands at a path, and below it.
    pub fn remove(&mut self, path: &str) {
        let below: Vec<Arc<str>> = self.below(path).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.0.remove(&path);
        }
        self.0.remove(path);
    }

    /// All entries below a directory, in the order of their paths; not the directory itself.
    pub fn below(&self, path: &str) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        let prefix = format!("{path}/");
        self.0
            .range::<str, _>((
                std::ops::Bound::Included(prefix.as_str()),
                std::ops::Bound::Unbounded,
            ))
            .take_while(move |(path, _)| path.starts_with(&prefix))
    }

    /// Names directly in a directory, sorted.
    pub fn names(&self, path: &str) -> Vec<String> {
        let depth = path.len() + 1;
        self.below(path)
            .filter_map(|(path, _)| path.get(depth..))
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect()
    }

    /// All entries.
    pub fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.0.iter()
    }

    /// Makes everything below a directory, and itself, what it is in another tree.
    pub fn copy_from(&mut self, other: &Tree, path: &str) {
        self.remove(path);
        if let Some(entry) = other.get(path) {
            self.put(path, entry.clone());
        }
        for (path, entry) in other.below(path) {
            self.put(path, entry.clone());
        }
    }
}
