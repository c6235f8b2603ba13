//! Files.

use node::ports::{Attributes, FileKind, Files, NodePath, Root};
use node::{ErrorKind, PortError, PortResult};

use crate::machine::Machine;
use crate::node::Node;
use crate::tree::Entry;

/// The physical path, unless the path's root is not there: only the shared directory is made when it is missing.
fn writable(machine: &Machine, path: &NodePath) -> PortResult<String> {
    let root = machine.root(&path.root);
    if path.root != Root::Shared && machine.cache.get(&root).is_none() {
        let text = format!("writing {path}: its root is not there");
        return Err(PortError::plain(ErrorKind::Permanent, text));
    }
    Ok(machine.resolve(path))
}

/// Refuses paths that [`NodePath`] does not allow.
fn check(path: &NodePath) -> PortResult<()> {
    if path
        .rel
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."))
    {
        let text = format!("{path:?} is not a path below its root");
        return Err(PortError::plain(ErrorKind::Permanent, text));
    }
    Ok(())
}

impl Node {
    fn target(&self, path: &NodePath) -> PortResult<String> {
        check(path)?;
        self.see(|machine| writable(machine, path))
    }

    /// The same for what takes room.
    fn roomy_target(&self, path: &NodePath) -> PortResult<String> {
        if path.root == Root::Shared && self.see(|machine| machine.shared_full) {
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            let text = format!("writing {path}");
            return Err(PortError::new(ErrorKind::Permanent, text, error));
        }
        self.target(path)
    }
}

/// Held until it is dropped.
struct Held<'a>(&'a Node, NodePath);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.lock().held.remove(&self.1);
    }
}

impl Files for Node {
    fn read(&self, path: &NodePath, limit: u64) -> PortResult<Option<Vec<u8>>> {
        check(path)?;
        self.operation("read", path)?;
        let entry = self.see(|machine| machine.cache.get(&machine.resolve(path)).cloned());
        let refused = |text: String| Err(PortError::plain(ErrorKind::Permanent, text));
        match entry {
            None => Ok(None),
            Some(Entry::Directory(_)) => refused(format!("{path} is not a regular file")),
            Some(Entry::File(_, content)) if content.len() as u64 > limit => {
                refused(format!("{path} is larger than {limit} bytes"))
            }
            Some(Entry::File(_, content)) => Ok(Some(content.to_vec())),
        }
    }

    fn kind(&self, path: &NodePath) -> PortResult<Option<FileKind>> {
        check(path)?;
        self.operation("kind", path)?;
        Ok(self.see(|machine| {
            let entry = machine.cache.get(&machine.resolve(path))?;
            Some(match entry {
                Entry::Directory(_) => FileKind::Directory,
                Entry::File(_, content) => FileKind::File(content.len() as u64),
            })
        }))
    }

    fn list(&self, path: &NodePath) -> PortResult<Vec<String>> {
        check(path)?;
        self.operation("list", path)?;
        Ok(self.see(|machine| machine.cache.names(&machine.resolve(path))))
    }

    fn replace(&self, path: &NodePath, content: &[u8], mode: u32) -> PortResult<()> {
        self.operation("replace", path)?;
        let target = self.roomy_target(path)?;
        self.effect(|machine| machine.write_durably(&target, mode, content))?;
        self.operation("replaced", path)
    }

    // Owners and labels are not simulated.
    fn replace_with(
        &self,
        path: &NodePath,
        content: &[u8],
        attributes: &Attributes<'_>,
    ) -> PortResult<()> {
        self.replace(path, content, attributes.mode)
    }

    fn create_exclusively(&self, path: &NodePath, content: &[u8], mode: u32) -> PortResult<bool> {
        self.operation("create", path)?;
        let target = self.roomy_target(path)?;
        let first = self.effect(|machine| {
            let first = machine.cache.get(&target).is_none();
            if first {
                machine.cache.write(&target, mode, content);
            }
            first
        })?;
        // Others see it before it is durable.
        self.operation("create: seen", path)?;
        self.effect(|machine| {
            let Machine { disk, cache, .. } = machine;
            disk.follow(cache, &target);
        })?;
        self.operation("created", path)?;
        Ok(first)
    }

    fn append(&self, path: &NodePath, content: &[u8]) -> PortResult<()> {
        self.operation("append", path)?;
        let target = self.roomy_target(path)?;
        let before = self.see(|machine| {
            let content = machine.cache.content(&target);
            content.map_or_else(Vec::new, |content| content.to_vec())
        });
        let upto = |end: usize| {
            let part = content.get(..end).unwrap_or(content);
            [before.as_slice(), part].concat()
        };
        if self.is_watched() {
            // Any prefix may be there, or zeros in its length.
            let zeros = [before.clone(), vec![0; content.len()]].concat();
            self.effect(|machine| machine.write_durably(&target, 0o600, zeros))?;
            self.operation("append: only the size", path)?;
            for end in [1, content.len() / 2, content.len().saturating_sub(1)] {
                self.effect(|machine| machine.write_durably(&target, 0o600, upto(end)))?;
                self.operation("append: a part", path)?;
            }
        }
        self.effect(|machine| machine.write_durably(&target, 0o600, upto(content.len())))?;
        self.operation("appended", path)
    }

    // No operation: nothing depends on it, so a fault at it shows nothing.
    fn jot(&self, path: &NodePath, content: &[u8]) -> PortResult<()> {
        let target = self.target(path)?;
        let entry = Entry::File(0o600, content.into());
        self.effect(|machine| machine.cache.put(&target, entry))
    }

    fn ensure_directory(&self, path: &NodePath, mode: u32) -> PortResult<()> {
        self.operation("ensure_directory", path)?;
        let target = self.roomy_target(path)?;
        self.effect(|machine| {
            machine.cache.make_directory(&target, mode);
            machine.disk.make_directory(&target, mode);
        })?;
        self.operation("ensured_directory", path)
    }

    fn copy_tree(&self, from: &NodePath, to: &NodePath) -> PortResult<bool> {
        self.operation("copy_tree", from)?;
        let target = self.target(to)?;
        let (directory, entries) = self.see(|machine| {
            let from = machine.resolve(from);
            let below = machine.cache.below(&from);
            let relative = |path: &str| path.get(from.len()..).unwrap_or_default().to_owned();
            let entries: Vec<(String, Entry)> = below
                .map(|(path, entry)| (relative(path), entry.clone()))
                .collect();
            (machine.cache.get(&from).cloned(), entries)
        });
        let Some(directory @ Entry::Directory(_)) = directory else {
            return Ok(false);
        };
        self.effect(|machine| machine.cache.put(&target, directory))?;
        for (relative, entry) in entries {
            self.operation("copy_tree: an entry", to)?;
            let path = format!("{target}{relative}");
            self.effect(|machine| machine.cache.put(&path, entry))?;
        }
        self.operation("copy_tree: not durable", to)?;
        self.effect(|machine| machine.sync(&to.root))?;
        self.operation("copied_tree", to)?;
        Ok(true)
    }

    fn remove(&self, path: &NodePath) -> PortResult<()> {
        self.operation("remove", path)?;
        let target = self.target(path)?;
        // Entries of a directory go one by one, in no order that anybody may rely on.
        let below: Vec<String> = self.see(|machine| {
            let below = machine.cache.below(&target);
            let mut below: Vec<String> = below.map(|(path, _)| path.to_string()).collect();
            below.sort_by_key(|path| std::cmp::Reverse(path.matches('/').count()));
            below
        });
        for inside in below {
            self.effect(|machine| {
                machine.cache.remove(&inside);
                machine.disk.remove(&inside);
            })?;
            self.operation("remove: an entry", &inside)?;
        }
        self.effect(|machine| {
            machine.cache.remove(&target);
            machine.disk.remove(&target);
        })?;
        self.operation("removed", path)
    }

    fn hold<'a>(&'a self, path: &NodePath) -> PortResult<Option<Box<dyn Send + 'a>>> {
        check(path)?;
        self.operation("hold", path)?;
        // Whose process has ended holds nothing: a node that goes on is made anew.
        let first = self.lock().held.insert(path.clone());
        Ok(first.then(|| -> Box<dyn Send + 'a> { Box::new(Held(self, path.clone())) }))
    }

    fn sync(&self, root: &Root) -> PortResult<()> {
        let name = format!("{root:?}");
        self.operation("sync", &name)?;
        self.effect(|machine| machine.sync(root))?;
        self.operation("synced", &name)
    }
}
