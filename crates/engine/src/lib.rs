//! Runs a list of steps once, in order, resumably; tells what happens as events; folds events
//! into a view.
//!
//! The crate knows nothing of what the steps do. It has no clock, no randomness and no I/O of its
//! own: times and run ids are given by the caller, files are behind [`JournalStore`].
//!
//! Per step, and nothing else: append `started` (durable), [`Work::probe`], [`Work::apply`] unless
//! present, [`Work::settle`], append `done` (durable), event. See [`run`] for what it guarantees.
//!
//! # Reading order
//!
//! [`Work`] (what the caller gives), [`run`] (the loop), [`Entry`] and [`JournalState`] (what is
//! written and which histories are legal), [`Journal`] (opening, repair), [`Event`], [`RunView`]
//! and [`Course`] (what readers see).

mod context;
mod course;
mod entry;
mod event;
mod frame;
mod journal;
mod legality;
mod pace;
mod replay;
mod run;
mod run_id;
mod stop;
mod store;
mod view;
mod work;

#[cfg(test)]
mod tests;

pub use context::{Progress, StepContext, Unit};
pub use course::{Attempt, AttemptEnd, Course};
pub use entry::{Conclusion, ERROR_TEXT_LIMIT, Entry, FORMAT, HEADER_LIMIT, Header};
pub use event::{Event, EventSink, StepRef};
pub use journal::{Journal, discard};
pub use legality::{Illegal, JournalState};
pub use pace::Pace;
pub use replay::{JOURNAL_LIMIT, JournalError};
pub use run::{Outcome, run};
pub use run_id::{RunId, RunIdError};
pub use stop::StopToken;
pub use store::JournalStore;
pub use view::{FailureView, RunEnd, RunView, StepState, StepView};
pub use work::{Presence, StepError, Work, error_chain};
