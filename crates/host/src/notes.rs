//! Notes of how far a long piece of work has come, a line each, the last one counts.
//!
//! They are appended. A file that replaces another one each time is allocated, written and discarded at once by some filesystems,
//! and whoever notes waits for the disk then, behind everybody else's writing.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, openat, renameat};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::boot::recent;
use crate::directory::absent_is_none;

/// The notes of one name in a directory.
pub(crate) struct Notes<'d> {
    pub(crate) directory: BorrowedFd<'d>,
    pub(crate) name: &'static str,
    /// Longest note in bytes.
    pub(crate) limit: u64,
}

impl Notes<'_> {
    /// Files that notes are in, the latest first. Those of this boot count in it only.
    pub(crate) fn files(name: &str) -> [String; 3] {
        [recent(name), recent(&synced(name)), name.to_owned()]
    }

    /// Adds a note, which counts in this boot. It counts in later ones if a sync begins behind it: [`Self::pick`], the sync,
    /// [`Self::keep`]. One whose name is durable before its content could be an empty one after a power cut.
    pub(crate) fn write(&self, note: &impl Serialize) -> io::Result<()> {
        // What was torn before it is no line of its own.
        let mut line = b"\n".to_vec();
        serde_json::to_writer(&mut line, note)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = openat(self.directory, recent(self.name), flags, mode)?;
        File::from(file).write_all(&line)
    }

    /// Picks what was noted so far; more may follow while the disk is waited for.
    pub(crate) fn pick(&self) -> io::Result<()> {
        self.rename(&recent(self.name), &recent(&synced(self.name)))
    }

    /// Lets what was picked count in later boots: it is durable, and so is what it says.
    pub(crate) fn keep(&self) -> io::Result<()> {
        self.rename(&recent(&synced(self.name)), self.name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(self.directory, from, self.directory, to)?)
    }

    /// The last note; `None` also where nobody can read it.
    pub(crate) fn last<T: DeserializeOwned>(&self) -> Option<T> {
        Self::files(self.name)
            .iter()
            .find_map(|file| self.last_of(file).ok().flatten())
    }

    fn last_of<T: DeserializeOwned>(&self, file: &str) -> io::Result<Option<T>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(self.directory, file, flags, Mode::empty());
        let Some(file) = absent_is_none(opened)? else {
            return Ok(None);
        };
        let mut file = File::from(file);
        // The last note, and what was torn behind it.
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(end.saturating_sub(2 * self.limit)))?;
        let mut text = Vec::new();
        file.take(2 * self.limit).read_to_end(&mut text)?;
        let mut lines = text.rsplit(|byte| *byte == b'\n');
        Ok(lines.find_map(|line| serde_json::from_slice(line).ok()))
    }
}

fn synced(name: &str) -> String {
    format!("{name}.synced")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_last_whole_note_counts() {
        let dir = tempfile::tempdir().unwrap();
        let directory = File::open(dir.path()).unwrap();
        let notes = Notes {
            directory: directory.as_fd(),
            name: "note",
            limit: 16,
        };
        let last = || notes.last::<u32>();
        assert_eq!(last(), None);
        for note in 0..100 {
            notes.write(&note).unwrap();
        }
        assert_eq!(last(), Some(99));
        notes.pick().unwrap();
        assert_eq!(last(), Some(99));
        notes.write(&100).unwrap();
        assert_eq!(last(), Some(100));
        // Cut off while it was written.
        let file = dir.path().join(recent("note"));
        let mut torn = fs::read(&file).unwrap();
        torn.extend(b"\n{\"wri");
        fs::write(&file, torn).unwrap();
        assert_eq!(last(), Some(100));
        notes.write(&101).unwrap();
        assert_eq!(last(), Some(101));
        // Another boot.
        fs::remove_file(&file).unwrap();
        notes.keep().unwrap();
        assert_eq!(last(), Some(99));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
