//! A file tree, as the page cache shows it or as the disk holds it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
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
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Each with its hash.
    entries: BTreeMap<Arc<str>, (Entry, u64)>,
    /// Sum of the entries' hashes: equal for equal trees.
    fingerprint: u64,
    /// Paths whose entries were put or removed since somebody looked.
    touched: Vec<Arc<str>>,
}

fn hash(path: &str, entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, entry).hash(&mut hasher);
    hasher.finish()
}

impl Tree {
    /// The entry at a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path).map(|(entry, _)| entry)
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

    /// Equal for trees with equal entries, and unlike for others but for one chance in 2^64.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Puts a file in place, with its parents (0700 where they are missing).
    pub fn write(&mut self, path: &str, mode: u32, content: impl Into<Arc<[u8]>>) {
        self.put(path, Entry::File(mode, content.into()));
    }

    /// Makes a directory, with its parents, and gives it this mode.
    pub fn make_directory(&mut self, path: &str, mode: u32) {
        self.put(path, Entry::Directory(mode));
    }

    /// Puts an entry in place, with its parents.
    pub fn put(&mut self, path: &str, entry: Entry) {
        let parent = path
            .rfind('/')
            .and_then(|at| path.get(..at))
            .unwrap_or_default();
        if !parent.is_empty() && !self.entries.contains_key(parent) {
            self.put(parent, Entry::Directory(0o700));
        }
        let path: Arc<str> = path.into();
        let hash = hash(&path, &entry);
        self.insert(path, entry, hash);
    }

    fn insert(&mut self, path: Arc<str>, entry: Entry, hash: u64) {
        self.fingerprint = self.fingerprint.wrapping_add(hash);
        self.touched.push(path.clone());
        if let Some((_, old)) = self.entries.insert(path, (entry, hash)) {
            self.fingerprint = self.fingerprint.wrapping_sub(old);
        }
    }

    /// Removes what stands at a path, and below it.
    pub fn remove(&mut self, path: &str) {
        let below: Vec<Arc<str>> = self.below(path).map(|(path, _)| path.clone()).collect();
        for path in below.iter().map(|path| &**path).chain([path]) {
            if let Some((path, (_, old))) = self.entries.remove_entry(path) {
                self.fingerprint = self.fingerprint.wrapping_sub(old);
                self.touched.push(path);
            }
        }
    }

    /// Moves what is below one directory below another, over what is there, and removes the first.
    pub(crate) fn graft(&mut self, from: &str, to: &str) {
        let moved = self.below(from).map(|(path, entry)| {
            let rest = path.get(from.len()..).unwrap_or_default();
            (format!("{to}{rest}"), entry.clone())
        });
        let moved: Vec<_> = moved.collect();
        for (path, entry) in moved {
            self.put(&path, entry);
        }
        self.remove(from);
    }

    /// All entries below a directory, in the order of their paths; not the directory itself.
    pub fn below(&self, path: &str) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        let prefix = format!("{path}/");
        let from = std::ops::Bound::Included(prefix.as_str());
        self.entries
            .range::<str, _>((from, std::ops::Bound::Unbounded))
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, (entry, _))| (path, entry))
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
        self.entries.iter().map(|(path, (entry, _))| (path, entry))
    }

    /// Makes what stands at one path what it is in another tree.
    pub fn follow(&mut self, other: &Tree, path: &str) {
        let Some((path, (entry, hash))) = other.entries.get_key_value(path) else {
            return self.remove(path);
        };
        if self.entries.get(path).is_some_and(|(_, own)| own == hash) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/')
            && !parent.is_empty()
            && !self.entries.contains_key(parent)
        {
            self.follow(other, parent);
        }
        self.insert(path.clone(), entry.clone(), *hash);
    }

    /// Paths that were put or removed since the last call.
    pub(crate) fn take_touched(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.touched)
    }
}
