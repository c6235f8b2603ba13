//! One agent per node.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use node::{ErrorKind, PortError, PortResult};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::failure::Attempt;

/// Longest note about its holder that is read from a lock file, in bytes.
const NOTE_LIMIT: u64 = 100;

/// Being the only one on this node, until dropped or until the process ends in whatever way.
#[derive(Debug)]
pub struct Instance {
    _lock: File,
}

impl Instance {
    /// Becomes the only agent. `Busy`, naming the holder, while another process is.
    pub fn acquire() -> PortResult<Self> {
        Self::lock(Path::new("/run/lifecycle-agent.lock"))
    }

    /// Becomes the only one on this node that works on `purpose` (a plain word).
    pub fn acquire_for(purpose: &str) -> PortResult<Self> {
        Self::lock(Path::new(&format!("/run/lifecycle-agent-{purpose}.lock")))
    }

    fn lock(path: &Path) -> PortResult<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .attempt(|| format!("opening the lock {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Only for the message; a lock without a readable note is as good.
                file.take(NOTE_LIMIT).read_to_string(&mut holder).ok();
                let text = format!(
                    "another lifecycle-agent already runs on this node (process {}, which holds {}); \
                     leave the work to it, or stop it and start again",
                    if holder.is_empty() {
                        "unknown"
                    } else {
                        holder.trim()
                    },
                    path.display()
                );
                return Err(PortError::plain(ErrorKind::Busy, text));
            }
            Err(error) => return Err(error).attempt(|| format!("locking {}", path.display())),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .attempt(|| format!("writing {}", path.display()))?;
        Ok(Self { _lock: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Instance::lock(&path).unwrap();
        let error = Instance::lock(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        let named = format!("(process {},", std::process::id());
        assert!(error.to_string().contains(&named), "{error}");
        drop(first);
        Instance::lock(&path).unwrap();
    }
}
