//! The last progress of a run, kept beside its journal for whoever looks later.

use engine::{FailureView, Progress, RunView, Unit};
use serde::{Deserialize, Serialize};

use crate::PortResult;
use crate::journal_files::RUNS;
use crate::place::{self, Amount, Place};
use crate::ports::{Files, NodePath};

/// The note's file, beside the journals. A journal holds what is needed to go on, durably; this is for people, so it
/// is written without waiting for the disk and replaced as the run gets on.
const NAME: &str = "progress.json";
/// A larger file is none of ours, in bytes.
const LIMIT: u64 = 64 << 10;

/// How far a step was when it was last noted. The field names are those of `lifecycle-agent status -o json`
/// (docs/metrics.md) and stay.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressNote {
    /// The run, as its journal's file is named.
    pub run: String,
    /// The plan.
    pub plan: String,
    /// The step's name.
    pub step: String,
    /// The step's number, from 1.
    pub number: usize,
    /// How many steps the plan has.
    pub steps: usize,
    /// Units done.
    pub done: u64,
    /// Units altogether, where known.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
    /// Units per second, where known; for fractions of one, 0.
    pub rate_per_second: Option<u64>,
    /// Seconds until the step is done, where known.
    pub seconds_left: Option<u64>,
    /// What is worked on; may be empty.
    pub object: String,
    /// When this was so, unix seconds.
    pub at: u64,
}

impl ProgressNote {
    /// What a view shows at unix second `at`; `None` where no step tells how far it is.
    pub fn of(view: &RunView, at: u64) -> Option<Self> {
        let index = view.current?;
        let Progress {
            done,
            total,
            unit,
            object,
        } = view.progress.clone()?;
        Some(Self {
            run: view.run.as_ref()?.as_str().to_owned(),
            plan: view.plan_name.clone(),
            step: view.steps.get(index)?.name.clone(),
            number: index + 1,
            steps: view.steps.len(),
            done,
            total,
            unit,
            rate_per_second: view.pace.rate().map(|thousandths| thousandths / 1000),
            seconds_left: view.pace.left(total),
            object,
            at,
        })
    }

    /// Whether it tells of a step of this run that is not done.
    pub fn speaks_of(&self, view: &RunView) -> bool {
        let of_run = view
            .run
            .as_ref()
            .is_some_and(|run| run.as_str() == self.run);
        let step = self.number.checked_sub(1).and_then(|at| view.steps.get(at));
        of_run && step.is_some_and(|step| step.state != engine::StepState::Done)
    }

    /// As the condition tells it.
    pub fn place(&self) -> Place {
        let progress = Progress {
            done: self.done,
            total: self.total,
            unit: self.unit,
            object: String::new(),
        };
        let rate = self.rate_per_second.map(|rate| rate.saturating_mul(1000));
        Place {
            step: self.step.clone(),
            number: self.number,
            steps: self.steps,
            amount: Some(Amount::of(&progress)),
            pace: place::pace(self.unit, rate, self.seconds_left),
            object: place::object(&self.object),
            error: String::new(),
        }
    }

    /// Leaves the note.
    ///
    /// # Errors
    /// The file cannot be written; nothing depends on it.
    pub(crate) fn leave(&self, files: &dyn Files) -> PortResult<()> {
        let Ok(mut content) = serde_json::to_vec(self) else {
            return Ok(());
        };
        content.push(b'\n');
        files.jot(&path(), &content)
    }

    /// The note that was left last; `None` where there is none, or a power cut has spoiled it.
    pub fn find(files: &dyn Files) -> Option<Self> {
        let content = files.read(&path(), LIMIT).ok()??;
        serde_json::from_slice(&content).ok()
    }
}

fn path() -> NodePath {
    NodePath::booted(RUNS).join(NAME)
}

/// The last failure of a run in the words of `lifecycle-agent status -o json`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureNote<'a> {
    /// The step that failed.
    pub step: &'a str,
    /// The kind: `transient`, `busy`, `permanent`, `contradiction` or `interrupted`.
    pub kind: &'a str,
    /// The error with its causes.
    pub error: &'a str,
    /// When, unix seconds.
    pub at: u64,
}

impl<'a> From<&'a FailureView> for FailureNote<'a> {
    fn from(view: &'a FailureView) -> Self {
        Self {
            step: &view.step.name,
            kind: &view.kind,
            error: &view.error,
            at: view.at,
        }
    }
}
