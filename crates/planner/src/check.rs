//! The checks: whether an upgrade can be done, one row of a table per question. Prep and `plan` ask the same rows; there
//! is no second way of checking.

mod fit;
mod health;
mod limits;
mod request;
mod seed;
mod signature;
mod space;
mod subject;
mod table;

pub(crate) use health::unhealthy;
pub use limits::limits_to_plan_with;
pub(crate) use signature::keys_to_verify_with;
pub(crate) use space::spools;
pub use space::{Need, needs};
pub use subject::Subject;
pub use table::CHECKS;

use std::fmt;

/// When a row can be answered, and what Prep does about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// Before Prep has begun; a failure is waited for, and work under way is never held up by it.
    Gate,
    /// From the cluster and the node alone.
    BeforeResolve,
    /// Once the image is resolved.
    AfterResolve,
    /// Once the image is resolved, until the first byte of it is asked for.
    BeforeFetch,
    /// Once the documents in the seed are there.
    AfterContent,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Moment::Gate => "gate",
            Moment::BeforeResolve => "before-resolve",
            Moment::AfterResolve => "after-resolve",
            Moment::BeforeFetch => "before-fetch",
            Moment::AfterContent => "after-content",
        })
    }
}

/// What an answer other than a plain yes means.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; the upgrade goes on.
    Warning,
    /// Nobody can say whether the upgrade would work.
    CouldNotTell,
    /// The upgrade would not work.
    Blocker,
}

impl Severity {
    /// The name in tables and documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::CouldNotTell => "could-not-tell",
            Severity::Blocker => "blocker",
        }
    }
}

/// One row of the table.
pub struct Check {
    /// Its name, in kebab case; stable.
    pub name: &'static str,
    /// What it looks at, for people.
    pub reads: &'static str,
    /// When.
    pub moment: Moment,
    /// What a failure means.
    pub failed: Severity,
    /// What it means that nobody knows.
    pub unknown: Severity,
    /// What the contract puts before a failure's text in Prep's condition.
    prefix: &'static [&'static str],
    judge: fn(&Subject<'_>) -> Judged,
}

/// The answer of a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is as it must be; what was found, may be empty.
    Passed(String),
    /// It is not: what, and where the reader cannot know, what to do.
    Failed(String),
    /// Nobody knows; which fact is missing and why.
    Unknown(String),
}

impl Verdict {
    /// The name in tables and documents.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Passed(_) => "passed",
            Verdict::Failed(_) => "failed",
            Verdict::Unknown(_) => "unknown",
        }
    }

    /// Its text.
    pub fn text(&self) -> &str {
        match self {
            Verdict::Passed(text) | Verdict::Failed(text) | Verdict::Unknown(text) => text,
        }
    }
}

/// Why a row does not pass.
enum Fault {
    Failed(String),
    Unknown(String),
}

/// A row's answer while it is being found: what was found, or why it does not pass.
type Judged = Result<String, Fault>;

fn failed<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Failed(text.into()))
}

fn unknown<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Unknown(text.into()))
}

impl Check {
    /// The answer.
    pub fn verdict(&self, subject: &Subject<'_>) -> Verdict {
        match (self.judge)(subject) {
            Ok(text) => Verdict::Passed(text),
            Err(Fault::Failed(text)) => Verdict::Failed(text),
            Err(Fault::Unknown(text)) => Verdict::Unknown(text),
        }
    }

    /// What an answer means; `None` for a plain yes.
    pub fn severity(&self, verdict: &Verdict) -> Option<Severity> {
        match verdict {
            Verdict::Passed(_) => None,
            Verdict::Failed(_) => Some(self.failed),
            Verdict::Unknown(_) => Some(self.unknown),
        }
    }

    /// A failure as Prep's condition tells it.
    fn told(&self, text: &str) -> String {
        format!("{}{text}", self.prefix.concat())
    }
}

/// A row and its answer.
pub struct Answer {
    /// The row.
    pub check: &'static Check,
    /// Its answer.
    pub verdict: Verdict,
}

impl Answer {
    /// What the answer means; `None` for a plain yes.
    pub fn severity(&self) -> Option<Severity> {
        self.check.severity(&self.verdict)
    }
}

/// Asks every row, in order.
pub fn answers(subject: &Subject<'_>) -> Vec<Answer> {
    let all = CHECKS.iter();
    all.map(|check| Answer {
        check,
        verdict: check.verdict(subject),
    })
    .collect()
}

/// The first failure that blocks, among the rows of a moment, in the words of Prep's condition.
pub(crate) fn first_blocker(subject: &Subject<'_>, moment: Moment) -> Result<(), String> {
    let rows = CHECKS.iter().filter(|row| row.moment == moment);
    for row in rows.filter(|row| row.failed == Severity::Blocker) {
        if let Verdict::Failed(text) = row.verdict(subject) {
            return Err(row.told(&text));
        }
    }
    Ok(())
}

/// What a user should know though it does not hold the upgrade up: name of the row and text.
pub fn warnings(subject: &Subject<'_>) -> Vec<(&'static str, String)> {
    let answers = answers(subject).into_iter();
    answers
        .filter(|answer| answer.severity() == Some(Severity::Warning))
        .map(|answer| (answer.check.name, answer.verdict.text().to_owned()))
        .collect()
}
