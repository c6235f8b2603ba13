//! Long objects that are written piece by piece, so that a restart goes on with them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};

use api::Digest;
use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use seed::index::{ObjectId, ObjectKind};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::layout::Layout;
use crate::notes::Notes;

use super::{CHUNK, FileMetadata, ObjectStore, Refusal, S_IFREG, describe, hash_header, verify};

/// Below the repository: where these objects are until they are whole and durable.
pub(super) const DIRECTORY: &str = "tmp/lca-import-long";

/// Says how far the one that is being written has come.
const NOTE: &str = "growth";
/// Longest note in bytes.
const NOTE_LIMIT: u64 = 4 << 10;

/// Bytes between two tellings of how far it has come.
const INTERVAL: u64 = 1 << 20;

/// How far the file of an object has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Growth {
    /// The seed: another one may have other headers before the same object.
    pub(crate) seed: Digest,
    /// The object's checksum.
    pub(crate) object: Digest,
    /// Bytes of the archive before its content, counted from where its entry begins.
    pub(crate) content: u64,
    /// Bytes of its content that are durable.
    pub(crate) written: u64,
}

impl ObjectStore {
    /// Notes of how far the one that is being written has come.
    pub(crate) fn growth(&self) -> Notes<'_> {
        notes(self.growing.as_fd())
    }

    /// Writes a long file behind its first `kept` bytes, which are there, while it is read. `told` hears how much is written.
    /// What has another checksum than its name says is removed.
    pub(crate) fn grow(
        &self,
        id: &ObjectId,
        meta: &FileMetadata,
        content: &mut dyn Read,
        kept: u64,
        told: &mut dyn FnMut(u64),
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), Refusal> {
        let name = name(id);
        let mut file = self.open_growing(&name, kept)?;
        let mut hasher = Sha256::new();
        hash_header(&mut hasher, meta, S_IFREG | meta.mode, "");
        let mut chunk = vec![0; CHUNK];
        let mut left = kept;
        while left > 0 {
            let room = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let bytes = chunk.get_mut(..room).unwrap_or_default();
            file.read_exact(bytes)?;
            hasher.update(&bytes);
            left -= room as u64;
            if !go_on() {
                return Err(Refusal::Stopped);
            }
        }
        file.set_len(kept)?;
        file.seek(SeekFrom::Start(kept))?;
        let (mut written, mut last) = (kept, kept);
        loop {
            let length = content.read(&mut chunk).map_err(Refusal::Content)?;
            let Some(bytes @ [_, ..]) = chunk.get(..length) else {
                break;
            };
            hasher.update(bytes);
            file.write_all(bytes)?;
            written += length as u64;
            if written - last >= INTERVAL {
                last = written;
                told(written);
            }
            if !go_on() {
                return Err(Refusal::Stopped);
            }
        }
        verify(hasher, id).inspect_err(|_| {
            // Left where it is it would be gone on with.
            fs::unlinkat(&self.growing, name.as_str(), AtFlags::empty()).ok();
        })?;
        // What is not the object's own could be refused by the disk, which would tell nothing of the seed.
        describe(&file, meta)
    }

    fn open_growing(&self, name: &str, kept: u64) -> Result<File, Refusal> {
        let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if kept == 0 {
            match fs::unlinkat(&self.growing, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            flags |= OFlags::CREATE | OFlags::EXCL;
        }
        let file = fs::openat(&self.growing, name, flags, Mode::from_raw_mode(0o600))?;
        Ok(file.into())
    }

    /// Puts a whole object to those that are staged.
    pub(super) fn stage_grown(&self, id: &ObjectId, path: &str) -> io::Result<()> {
        let flags = RenameFlags::empty();
        let rename = || fs::renameat_with(&self.growing, name(id), &self.staged, path, flags);
        Ok(self.in_directory(path, rename)?)
    }
}

impl Growth {
    /// How far an object of this seed had come when that was last noted; `None` also where its file is gone.
    pub(crate) fn noted(layout: &Layout, seed: &Digest) -> Option<Self> {
        let directory = layout.sysroot().join("ostree/repo").join(DIRECTORY);
        let growth: Self = notes(File::open(&directory).ok()?.as_fd()).last()?;
        if growth.seed != *seed {
            return None;
        }
        let file = directory.join(name(&growth.id()?));
        let length = std::fs::symlink_metadata(file).ok()?.len();
        (length >= growth.written).then_some(growth)
    }

    /// The object; `None` for a digest that is of another kind.
    pub(crate) fn id(&self) -> Option<ObjectId> {
        let id = crate::import::commit_id(self.object.hex()).ok()?;
        let kind = ObjectKind::File;
        Some(ObjectId { kind, ..id })
    }
}

fn notes(directory: BorrowedFd<'_>) -> Notes<'_> {
    Notes {
        directory,
        name: NOTE,
        limit: NOTE_LIMIT,
    }
}

fn name(id: &ObjectId) -> String {
    let digest = Digest::from_sha256(&id.checksum);
    format!("{}.{}", digest.hex(), id.kind.suffix())
}
