//! Decisions: facts, spec and status go in; state, plan and conditions come out. No I/O, no clock, no randomness.

mod boot;
pub mod check;
mod cleanup;
mod decide;
mod evidence;
mod explain;
mod facts;
mod failure;
mod idle;
mod image_facts;
mod kernel_arguments;
mod limits;
mod monitor;
mod peer;
mod precache_list;
mod prep;
mod project;
mod reconfigure;
mod restore;
mod rollback;
mod state;
mod step;
mod transition;
mod upgrade;
mod verdict;

pub use boot::{
    BootAct, BootFacts, FALLBACK_ATTEMPTS, FailedBoot, FallbackNote, FallbackState, Noted,
    judge_boot,
};
pub use cleanup::{
    HeldImages, ImageCleanup, Kept, NeededImages, StoredImage, batches, exceeds, kept,
};
pub use decide::{Act, Decision, Said, Why, decide};
pub use explain::{explain_checks, explain_stages};
pub use facts::{
    ClusterFacts, ClusterKnowledge, EvidenceFact, Facts, Filesystem, Health, NodeFacts,
    NodeKnowledge, PostPivot, RunFact, SeedContent, SeedPin, SeedSignature, Space, TargetRecord,
    Told,
};
pub use failure::{Disposition, ErrorKind, LONGEST_BACKOFF, backoff, disposition};
pub use image_facts::{ImageFacts, PrecachePolicy, PrecacheRecord, PrecacheTally};
pub use kernel_arguments::rebooting;
pub use limits::{FetchLimits, Limits};
pub use monitor::{
    BOOT_LIMIT, ConfigFact, Disarmed, GRACE, MonitorAct, MonitorFacts, tells_completion, watch_over,
};
pub use peer::{Peer, owns, peer_owns};
pub use precache_list::images;
pub use project::{
    Occasion, end_pre_pivot, failed_upgrade, failure_text, mark_uncontrolled_return, project,
    tell_failed_boot,
};
pub use reconfigure::{finish_reconfiguration, reconfigure};
pub use restore::{Saved, Verdict, restore};
pub use state::{Overlay, Parsed, Side, State, parse};
pub use step::{BOOT_RESERVE, Owner, Plan, PlanName, SYSROOT_RESERVE, Step};
pub use transition::{Refusal, Transition, transition, valid_next};
pub use verdict::{Return, VerdictFact, automatic_return};
