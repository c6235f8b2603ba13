//! Where an extraction can be taken up again.

use std::io;

use serde::{Deserialize, Serialize};

use super::ExtractError;
use crate::archive::{Entry, Kind, Time};
use crate::watch::Watch;

/// Bytes between two marks in the content of one member.
const INTERVAL: u64 = 1 << 20;

/// A place in an archive, and what is not in the file system of what was before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Bytes of the archive before the headers of the member to go on with.
    pub archive: u64,
    /// What of that member is in place, if anything is.
    pub begun: Option<Begun>,
    /// The modification time that the destination gets at the end.
    pub root: Time,
    /// Names of the directories down to where the last member went, and the times that they get when they are left.
    pub levels: Vec<(Vec<u8>, Time)>,
}

/// The beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Bytes of the archive before the file's content.
    pub content: u64,
    /// Bytes of the content that are in place.
    pub written: u64,
}

impl Begun {
    /// Compares with the member at the mark, whose content begins at `content`.
    pub(super) fn check(&self, entry: &Entry, content: u64) -> Result<(), ExtractError> {
        let is_plain = entry.kind == Kind::File && entry.extents.is_none();
        if is_plain && content == self.content && self.written <= entry.size {
            return Ok(());
        }
        Err(ExtractError::Place {
            member: entry.path.clone(),
            action: "going on with",
            source: io::Error::other("the archive has another member there"),
        })
    }
}

/// Tells marks within a member's content, and all else to the watch.
pub(super) struct Noting<'a, 'b> {
    pub(super) watch: &'a mut dyn Watch,
    pub(super) note: &'a mut &'b mut (dyn FnMut(Mark) + Send),
    /// The mark at the member.
    pub(super) mark: Mark,
    /// Where the content begins, and what of it is in place and was told.
    pub(super) content: u64,
    pub(super) written: u64,
    pub(super) told: u64,
    /// Whether the content is written from its first byte to its last.
    pub(super) is_plain: bool,
}

impl Watch for Noting<'_, '_> {
    fn advanced(&mut self, bytes: u64) {
        self.watch.advanced(bytes);
        self.written += bytes;
        if self.is_plain && self.written - self.told >= INTERVAL {
            self.told = self.written;
            let begun = Begun {
                content: self.content,
                written: self.written,
            };
            (self.note)(Mark {
                begun: Some(begun),
                ..self.mark.clone()
            });
        }
    }

    fn stop_requested(&self) -> bool {
        self.watch.stop_requested()
    }
}
