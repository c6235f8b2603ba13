//! The journal of one run, open for writing.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{Sum, print_line};
use crate::legality::canonical;
use crate::replay::{Replay, replay};
use crate::{
    Conclusion, Entry, Event, EventSink, HEADER_LIMIT, Header, JournalError, JournalState,
    JournalStore, RunId, RunView,
};

/// Size of the entries, in bytes, above which a journal is rewritten without its void ones.
const COMPACT_AT: usize = 256 * 1024;

/// The journal of one run, open for writing.
///
/// The file always holds a legal history: [`Journal::append`] refuses an entry that cannot follow.
pub struct Journal<'s, S> {
    store: &'s dyn JournalStore,
    header: Header<S>,
    entries: Vec<Entry>,
    state: JournalState,
    sum: Sum,
    size: usize,
    header_size: usize,
    dropped: Option<u64>,
    spoiled: bool,
}

impl<'s, S: Serialize + DeserializeOwned + Clone> Journal<'s, S> {
    /// Begins the journal of a new run. The plan is durable when this returns.
    ///
    /// # Errors
    /// `Exists` if the run has one, `HeaderTooLarge`, `Print`, `Store`.
    pub fn create(store: &'s dyn JournalStore, header: Header<S>) -> Result<Self, JournalError> {
        let run = header.run.clone();
        let store_error = |action| {
            let run = run.clone();
            move |source| JournalError::Store {
                action,
                run,
                source,
            }
        };
        if store.read(&run).map_err(store_error("reading"))?.is_some() {
            return Err(JournalError::Exists { run });
        }
        let (line, sum) = print(&Sum::default(), &header)?;
        if line.len() > HEADER_LIMIT {
            return Err(JournalError::HeaderTooLarge { size: line.len() });
        }
        store.create(&run, &line).map_err(store_error("creating"))?;
        Ok(Self {
            store,
            header,
            entries: Vec::new(),
            state: JournalState::START,
            sum,
            size: line.len(),
            header_size: line.len(),
            dropped: None,
            spoiled: false,
        })
    }

    /// Opens the journal of `run`, to resume it or to see how it ended. A last line cut off by a
    /// crash is removed durably; the next [`crate::run`] tells it as [`Event::JournalRepaired`].
    ///
    /// # Errors
    /// See [`JournalError`]; `OtherFormat` and `OtherProgram` (a `program` that differs in any
    /// character) are found before anything that depends on the step type.
    pub fn open(
        store: &'s dyn JournalStore,
        run: &RunId,
        program: &str,
    ) -> Result<Self, JournalError> {
        let store_error = |action| {
            move |source| JournalError::Store {
                action,
                run: run.clone(),
                source,
            }
        };
        let bytes = store
            .read(run)
            .map_err(store_error("reading"))?
            .ok_or_else(|| JournalError::Missing { run: run.clone() })?;
        let Replay {
            header,
            entries,
            state,
            sum,
            kept,
        } = replay::<S>(&bytes, Some(program))?;
        if header.run != *run {
            return Err(JournalError::Corrupt {
                line: 1,
                reason: "names another run",
            });
        }
        let mut dropped = None;
        if kept < bytes.len() {
            store
                .create(run, &bytes[..kept])
                .map_err(store_error("repairing"))?;
            dropped = Some((bytes.len() - kept) as u64);
        }
        let header_size = bytes
            .iter()
            .position(|b| *b == b'\n')
            .map_or(kept, |at| at + 1);
        Ok(Self {
            store,
            header,
            entries,
            state,
            sum,
            size: kept,
            header_size,
            dropped,
            spoiled: false,
        })
    }

    /// The header: plan, facts, origin.
    #[must_use]
    pub fn header(&self) -> &Header<S> {
        &self.header
    }

    /// Where the history stands.
    #[must_use]
    pub fn state(&self) -> JournalState {
        self.state
    }

    /// Whether nothing but the header was written.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the run was completed, if it was.
    pub(crate) fn completed_at(&self) -> Option<u64> {
        match self.entries.last() {
            Some(Entry::Closed {
                conclusion: Conclusion::Completed,
                at,
            }) => Some(*at),
            _ => None,
        }
    }

    /// The view of the run so far; fold later events into it.
    #[must_use]
    pub fn view(&self) -> RunView {
        RunView::of(&self.header, &self.entries)
    }

    /// Appends one entry, durably.
    ///
    /// # Errors
    /// `Illegal` (nothing was written), `Print`, `Store`; after the latter all further appends say
    /// `Spoiled`: part of the line may be there, so the journal must be opened again.
    pub fn append(&mut self, entry: Entry) -> Result<(), JournalError> {
        if self.spoiled {
            return Err(JournalError::Spoiled);
        }
        let line_number = self.entries.len() + 2;
        let state = self
            .state
            .after(&entry, self.header.steps.len())
            .map_err(|source| JournalError::Illegal {
                line: line_number,
                source,
            })?;
        let (line, sum) = print(&self.sum, &entry)?;
        self.store
            .append(&self.header.run, &line)
            .map_err(|source| {
                self.spoiled = true;
                JournalError::Store {
                    action: "appending to",
                    run: self.header.run.clone(),
                    source,
                }
            })?;
        self.entries.push(entry);
        self.state = state;
        self.sum = sum;
        self.size += line.len();
        Ok(())
    }

    /// Ends a run that will not be completed, durably, and tells it as [`Event::RunClosed`].
    ///
    /// # Errors
    /// As [`Journal::append`]; `Illegal` also for `Completed`, which only [`crate::run`] may
    /// conclude, unless all steps are done.
    pub fn close(
        &mut self,
        conclusion: Conclusion,
        events: &mut dyn EventSink,
        at: u64,
    ) -> Result<(), JournalError> {
        self.append(Entry::Closed { conclusion, at })?;
        events.record(&closed_event(&self.header.run, conclusion, at));
        Ok(())
    }

    /// Bytes dropped when the journal was opened, once.
    pub(crate) fn take_dropped(&mut self) -> Option<u64> {
        self.dropped.take()
    }

    /// Rewrites a long journal without the entries that later ones made void.
    pub(crate) fn compact(&mut self) -> Result<(), JournalError> {
        if self.size - self.header_size <= COMPACT_AT || self.spoiled {
            return Ok(());
        }
        let entries = canonical(&self.entries);
        let (mut content, mut sum) = print(&Sum::default(), &self.header)?;
        for entry in &entries {
            let (line, next) = print(&sum, entry)?;
            content.extend(line);
            sum = next;
        }
        self.store
            .create(&self.header.run, &content)
            .map_err(|source| JournalError::Store {
                action: "rewriting",
                run: self.header.run.clone(),
                source,
            })?;
        self.entries = entries;
        self.sum = sum;
        self.size = content.len();
        Ok(())
    }
}

/// Removes a journal that cannot be gone on with (another program version's, or corrupt) and tells
/// it as a run closed as interrupted. Nothing is ever appended to what another version wrote.
///
/// # Errors
/// `Store`.
pub fn discard(
    store: &dyn JournalStore,
    run: &RunId,
    events: &mut dyn EventSink,
    at: u64,
) -> Result<(), JournalError> {
    store.remove(run).map_err(|source| JournalError::Store {
        action: "removing",
        run: run.clone(),
        source,
    })?;
    events.record(&closed_event(run, Conclusion::Interrupted, at));
    Ok(())
}

/// How the end of a run is told.
pub(crate) fn closed_event(run: &RunId, conclusion: Conclusion, at: u64) -> Event {
    match conclusion {
        Conclusion::Completed => Event::RunCompleted { at },
        Conclusion::Failed | Conclusion::Stopped | Conclusion::Interrupted => Event::RunClosed {
            run: run.clone(),
            conclusion,
            at,
        },
    }
}

fn print<T: Serialize>(previous: &Sum, value: &T) -> Result<(Vec<u8>, Sum), JournalError> {
    let body = serde_json::to_vec(value).map_err(JournalError::Print)?;
    Ok(print_line(previous, &body))
}
