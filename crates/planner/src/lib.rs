//! Decisions: facts, spec and status go in; state, plan and conditions come out. No I/O, no clock, no randomness.

mod decide;
mod explain;
mod facts;
mod failure;
mod idle;
mod prep;
mod project;
mod reconfigure;
mod restore;
mod rollback;
mod seed_check;
mod state;
mod step;
mod transition;
mod upgrade;

pub use decide::{Act, Decision, Said, Why, decide};
pub use explain::explain_stages;
pub use facts::{
    ClusterFacts, ClusterKnowledge, Facts, PostPivot, RunFact, SeedContent, SeedPin, TargetRecord,
};
pub use failure::{Disposition, ErrorKind, LONGEST_BACKOFF, backoff, disposition};
pub use project::{
    Occasion, end_pre_pivot, failed_upgrade, failure_text, mark_uncontrolled_return, project,
};
pub use reconfigure::{finish_reconfiguration, reconfigure};
pub use restore::{Saved, Verdict, restore};
pub use state::{Overlay, Parsed, Side, State, parse};
pub use step::{Plan, PlanName, Step};
pub use transition::{Refusal, Transition, transition, valid_next};
