//! Reading a journal's bytes.

use std::io;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::frame::{Sum, parse_line};
use crate::{Entry, FORMAT, HEADER_LIMIT, Header, Illegal, JournalState, RunId};

/// Largest journal that is read, in bytes. Journals stay far below: [`crate::run`] rewrites a long
/// one before it goes on.
pub const JOURNAL_LIMIT: usize = 8 * 1024 * 1024;

/// Why a journal cannot be used. Except for `Store`, trying again does not help: the safe choice is
/// [`crate::discard`] and planning anew from facts.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The store failed.
    #[error("{action} journal of run {run}")]
    Store {
        /// What was tried, for example `appending to`.
        action: &'static str,
        /// Whose journal.
        run: RunId,
        /// The store's error.
        #[source]
        source: io::Error,
    },
    /// There is no journal of this run.
    #[error("run {run} has no journal")]
    Missing {
        /// Whose journal.
        run: RunId,
    },
    /// The run has a journal already; ids are used once.
    #[error("run {run} has a journal already")]
    Exists {
        /// Whose journal.
        run: RunId,
    },
    /// A line other than a cut-off last one is damaged or not understood.
    #[error("journal is corrupt at line {line}: {reason}")]
    Corrupt {
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Every line is intact, but together they tell what cannot have happened.
    #[error("journal tells an impossible history at line {line}")]
    Illegal {
        /// Line number, from 1.
        line: usize,
        /// What cannot follow what.
        #[source]
        source: Illegal,
    },
    /// Written in another format.
    #[error("journal has format {found}, this program writes {FORMAT}")]
    OtherFormat {
        /// The format found.
        found: u32,
    },
    /// Written by another program version.
    #[error("journal was written by {found}")]
    OtherProgram {
        /// The program found.
        found: String,
    },
    /// The plan does not fit into a header.
    #[error("plan with its facts takes {size} bytes, more than {HEADER_LIMIT}")]
    HeaderTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Too large to be one of ours.
    #[error("journal takes {size} bytes or more, more than {JOURNAL_LIMIT}")]
    TooLarge {
        /// The size seen, in bytes.
        size: usize,
    },
    /// The plan or an entry could not be turned into JSON.
    #[error("printing a journal line")]
    Print(#[source] serde_json::Error),
    /// An append failed before; what the file holds is unknown until it is opened again.
    #[error("journal must be opened again after a failed write")]
    Spoiled,
}

impl JournalError {
    /// Whether the same call may succeed later with the journal as it is.
    #[must_use]
    pub fn is_store(&self) -> bool {
        matches!(self, Self::Store { .. })
    }
}

/// A journal read whole.
pub(crate) struct Replay<S> {
    pub header: Header<S>,
    pub entries: Vec<Entry>,
    pub state: JournalState,
    /// Sum of the last line.
    pub sum: Sum,
    /// Bytes of the lines kept; what follows was cut off by a crash.
    pub kept: usize,
}

/// The part of a header that every format has.
#[derive(Deserialize)]
struct Origin {
    format: u32,
    program: String,
}

/// Reads a journal. `program` refuses those of another program; `None` takes any (to show it).
pub(crate) fn replay<S: DeserializeOwned>(
    bytes: &[u8],
    program: Option<&str>,
) -> Result<Replay<S>, JournalError> {
    if bytes.len() > JOURNAL_LIMIT {
        return Err(JournalError::TooLarge { size: bytes.len() });
    }
    let corrupt = |line, reason| JournalError::Corrupt { line, reason };
    let mut lines = complete_lines(bytes).enumerate();

    let (_, first) = lines.next().ok_or(corrupt(1, "no header"))?;
    let (body, mut sum) =
        parse_line(&Sum::default(), bare(first)).ok_or(corrupt(1, "wrong checksum"))?;
    let origin: Origin =
        serde_json::from_slice(body).map_err(|_| corrupt(1, "not a journal header"))?;
    if origin.format != FORMAT {
        return Err(JournalError::OtherFormat {
            found: origin.format,
        });
    }
    if program.is_some_and(|own| own != origin.program) {
        return Err(JournalError::OtherProgram {
            found: origin.program,
        });
    }
    let header: Header<S> =
        serde_json::from_slice(body).map_err(|_| corrupt(1, "header is not understood"))?;
    if header.names.len() != header.steps.len() {
        return Err(corrupt(1, "names and steps differ in number"));
    }

    let mut kept = first.len();
    let mut entries = Vec::new();
    let mut state = JournalState::START;
    for (index, raw) in lines {
        let line = index + 1;
        let (body, next) = parse_line(&sum, bare(raw)).ok_or(corrupt(line, "wrong checksum"))?;
        let entry: Entry =
            serde_json::from_slice(body).map_err(|_| corrupt(line, "entry is not understood"))?;
        state = state
            .after(&entry, header.steps.len())
            .map_err(|source| JournalError::Illegal { line, source })?;
        entries.push(entry);
        sum = next;
        kept += raw.len();
    }
    Ok(Replay {
        header,
        entries,
        state,
        sum,
        kept,
    })
}

/// The lines of a journal, without a last one that a crash cut off: one without newline, or with
/// zeros in it (a block that the file's size covers, but that never reached the disk).
fn complete_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = bytes.len();
    let mut from = 0;
    bytes.split_inclusive(|b| *b == b'\n').filter(move |line| {
        from += line.len();
        line.ends_with(b"\n") && !(from == end && line.contains(&0))
    })
}

fn bare(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}
