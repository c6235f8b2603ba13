//! What a journal says.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Presence, RunId, Work};

/// Version of the journal format. Raised with every change to [`Header`] or [`Entry`], a new entry
/// kind or field included.
///
/// # Reader and writer, old and new
///
/// | | data written by the old | data written by the new |
/// |---|---|---|
/// | **old reads** | its own | refused: other format or program |
/// | **new reads** | refused: other format or program | its own |
/// | **old appends** | its own | impossible: appending needs opening, which refuses |
/// | **new appends** | impossible, likewise | its own |
///
/// A refused journal is discarded as interrupted ([`crate::discard`]) and the work planned anew
/// from facts; probes find what was done. So that any version can say whose a journal is, the
/// framing of the first line and the header's `format` and `program` never change.
pub const FORMAT: u32 = 1;

/// Longest error text in journal and events, in bytes.
pub const ERROR_TEXT_LIMIT: usize = 4 * 1024;

/// Longest first line of a journal, in bytes: the plan with its facts. A real plan takes tens of
/// KiB; what does not fit belongs into a file that the plan names by digest.
pub const HEADER_LIMIT: usize = 1024 * 1024;

/// First line of a journal: everything needed to go on with the run in another process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header<S> {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The writing program's name and version. Only the very same goes on with the run.
    pub program: String,
    /// Boot in which the run began.
    pub boot_id: String,
    /// The run.
    pub run: RunId,
    /// The plan's name.
    pub plan_name: String,
    /// When the run began, unix seconds.
    pub started: u64,
    /// What the plan was made from, for people and evidence; never read back by the engine.
    pub facts: Value,
    /// Journal names of `steps`, so that a journal can be shown without knowing the step type.
    pub names: Vec<String>,
    /// The whole plan.
    pub steps: Vec<S>,
}

impl<S> Header<S> {
    /// A header of the current format, with the names that `W` gives to the steps.
    pub fn new<W: Work<Step = S>>(
        program: impl Into<String>,
        boot_id: impl Into<String>,
        run: RunId,
        plan_name: impl Into<String>,
        started: u64,
        facts: Value,
        steps: Vec<S>,
    ) -> Self {
        Self {
            format: FORMAT,
            program: program.into(),
            boot_id: boot_id.into(),
            run,
            plan_name: plan_name.into(),
            started,
            facts,
            names: steps.iter().map(|step| W::name(step).to_owned()).collect(),
            steps,
        }
    }
}

/// Every further line of a journal. Times are the caller's, in unix seconds. Which order of entries
/// is legal says [`crate::JournalState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// A process took up a run that another execution left unfinished.
    Resumed {
        /// When.
        at: u64,
    },
    /// A step is about to touch the world. Whatever the journal said of this step and later ones
    /// before is void.
    Started {
        /// The step.
        index: usize,
        /// Its name, for people who read the file.
        name: String,
        /// When.
        at: u64,
    },
    /// The step's effect is there and durable.
    Done {
        /// The step.
        index: usize,
        /// What the probe had found.
        presence: Presence,
        /// When.
        at: u64,
    },
    /// The step failed, or a done one could not be probed again.
    Failed {
        /// The step.
        index: usize,
        /// The error's kind, as the caller's type serializes.
        kind: String,
        /// The error's chain, at most [`ERROR_TEXT_LIMIT`] bytes.
        error: String,
        /// When.
        at: u64,
    },
    /// A request to stop took effect before or inside the step.
    Stopped {
        /// The step.
        index: usize,
        /// What the interrupted step said, if it was inside.
        error: Option<String>,
        /// When.
        at: u64,
    },
    /// The run is over; nothing follows.
    Closed {
        /// How it ended.
        conclusion: Conclusion,
        /// When.
        at: u64,
    },
}

/// How a run ended for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conclusion {
    /// Every step is done.
    Completed,
    /// A step failed and will not be tried again.
    Failed,
    /// Stopped on request and not to be taken up again.
    Stopped,
    /// Its journal could not be gone on with: written by another program version, or corrupt.
    Interrupted,
}

/// Cuts a text to at most [`ERROR_TEXT_LIMIT`] bytes, marking the cut.
pub(crate) fn bounded(mut text: String) -> String {
    const MARK: &str = "...";
    if text.len() > ERROR_TEXT_LIMIT {
        let mut end = ERROR_TEXT_LIMIT - MARK.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{ERROR_TEXT_LIMIT, bounded};

    #[test]
    fn a_long_text_is_cut_between_characters_and_marked() {
        let check = |text: String, expect_len: usize| {
            let cut = bounded(text.clone());
            assert_eq!(cut.len(), expect_len);
            assert_eq!(cut.ends_with("..."), cut != text);
        };
        check("a".repeat(ERROR_TEXT_LIMIT), ERROR_TEXT_LIMIT);
        check("a".repeat(ERROR_TEXT_LIMIT + 1), ERROR_TEXT_LIMIT);
        // 4096 - 3 is odd, so a two-byte character spans the cut.
        check("é".repeat(ERROR_TEXT_LIMIT), ERROR_TEXT_LIMIT - 1);
    }
}
