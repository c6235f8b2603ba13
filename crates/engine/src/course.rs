//! When the steps of a run began and ended, every attempt: what [`crate::RunView`], which shows how a run stands, forgets.

use serde_json::Value;

use crate::replay::{Replay, replay};
use crate::{Conclusion, Entry, JournalError, Presence, RunId};

/// The course of one run, read from its journal. Times are unix seconds by the wall clock of whoever wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// The run.
    pub run: RunId,
    /// The plan's name.
    pub plan_name: String,
    /// Boot in which the run began.
    pub boot_id: String,
    /// When it began.
    pub started: u64,
    /// Attempts at steps, in order. A journal that was rewritten because it was long lacks those that later ones made void.
    pub attempts: Vec<Attempt>,
    /// When the journal last said something of the run itself: not that somebody gave it up later.
    pub last_at: u64,
    /// How it ended for good, if it has.
    pub conclusion: Option<Conclusion>,
    /// The journal ends in a line that a crash has cut off.
    pub torn: bool,
}

/// One attempt at a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The step's journal name.
    pub step: String,
    /// When it began.
    pub started: u64,
    /// When it ended; `None` = nobody wrote that down.
    pub ended: Option<u64>,
    /// How it ended.
    pub end: AttemptEnd,
}

/// How an attempt at a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The step is done; what its probe had found.
    Done(Presence),
    /// It failed, with this chain of causes.
    Failed(String),
    /// It was stopped on request.
    Stopped,
    /// It goes on, or its process or the node ended with it.
    Open,
}

impl Course {
    /// The course that a journal's bytes tell, of any program of this format; a last line cut off by a crash is not read.
    ///
    /// # Errors
    /// [`JournalError`], but neither `OtherProgram` nor `Store`.
    pub fn from_journal(bytes: &[u8]) -> Result<Self, JournalError> {
        let Replay {
            header,
            entries,
            kept,
            ..
        } = replay::<Value>(bytes, None)?;
        let mut course = Self {
            run: header.run,
            plan_name: header.plan_name,
            boot_id: header.boot_id,
            started: header.started,
            attempts: Vec::new(),
            last_at: header.started,
            conclusion: None,
            torn: kept < bytes.len(),
        };
        for entry in &entries {
            course.tell(entry, &header.names);
        }
        Ok(course)
    }

    fn tell(&mut self, entry: &Entry, names: &[String]) {
        let before = self.last_at;
        match entry {
            Entry::Resumed { .. } => return,
            Entry::Started { index, at, .. } => {
                self.last_at = *at;
                self.attempts.push(Attempt {
                    step: names.get(*index).cloned().unwrap_or_default(),
                    started: *at,
                    ended: None,
                    end: AttemptEnd::Open,
                });
            }
            Entry::Done { presence, at, .. } => self.end(*at, AttemptEnd::Done(*presence)),
            Entry::Failed {
                index, error, at, ..
            } => {
                if !self.open() {
                    // A done step that could not be probed again.
                    self.attempts.push(Attempt {
                        step: names.get(*index).cloned().unwrap_or_default(),
                        started: *at,
                        ended: None,
                        end: AttemptEnd::Open,
                    });
                }
                self.end(*at, AttemptEnd::Failed(error.clone()));
            }
            Entry::Stopped { at, .. } => {
                if self.open() {
                    self.end(*at, AttemptEnd::Stopped);
                }
                self.last_at = *at;
            }
            Entry::Closed { conclusion, at } => {
                self.conclusion = Some(*conclusion);
                if *conclusion == Conclusion::Completed {
                    self.last_at = *at;
                }
            }
        }
        // The clock may have been set back meanwhile.
        self.last_at = self.last_at.max(before);
    }

    /// Whether the last attempt has no end yet.
    fn open(&self) -> bool {
        let last = self.attempts.last();
        last.is_some_and(|attempt| attempt.end == AttemptEnd::Open)
    }

    fn end(&mut self, at: u64, end: AttemptEnd) {
        self.last_at = at;
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.ended = Some(at);
            attempt.end = end;
        }
    }
}
