//! Where journals are kept.

use std::io;

use crate::RunId;

/// Keeps the journals, one file per run. Implemented on the node's files and on the simulated node.
///
/// The engine never has two journals of one run open; two programs are kept apart by the caller.
pub trait JournalStore {
    /// Writes the journal of `run` whole, replacing one that exists, atomically: after a power cut
    /// there is the old content, or the new, or (if there was none) nothing. Durable when returned,
    /// the directory entry included. Permissions 0600.
    ///
    /// # Errors
    /// When any of this is not certain.
    fn create(&self, run: &RunId, content: &[u8]) -> io::Result<()>;

    /// Appends `line`, which ends in a newline. Durable when returned. After a power cut before
    /// that, any prefix of the line may be there, or its length in zeros.
    ///
    /// # Errors
    /// When the line may not be durable (part of it may be there), or the journal does not exist.
    fn append(&self, run: &RunId, line: &[u8]) -> io::Result<()>;

    /// The journal's content; `None` if there is none. May end early (not before
    /// [`crate::JOURNAL_LIMIT`] + 1 bytes) for a file too large to be one.
    ///
    /// # Errors
    /// When it exists but cannot be read.
    fn read(&self, run: &RunId) -> io::Result<Option<Vec<u8>>>;

    /// The runs that have a journal, in ascending order of id. Foreign file names are skipped.
    ///
    /// # Errors
    /// When the directory exists but cannot be read.
    fn list(&self) -> io::Result<Vec<RunId>>;

    /// Removes the journal of `run`, durably. One that does not exist is no error.
    ///
    /// # Errors
    /// When it may still be there after a power cut.
    fn remove(&self, run: &RunId) -> io::Result<()>;
}
