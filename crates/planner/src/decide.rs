//! The decision: where the upgrade is, and what is done next.

use api::{Condition, ImageBasedUpgradeSpec, Phase, Reason, Stage, Timestamp, message};

use crate::facts::{Facts, RunFact};
use crate::failure::{Disposition, disposition};
use crate::state::{Overlay, Parsed, Side, State, parse};
use crate::step::{Plan, PlanName};
use crate::transition::{Refusal, Transition, transition, valid_next};
use crate::{idle, peer, prep, rollback, upgrade};

/// What is waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Why {
    /// The run that is under way.
    Work,
    /// The end of a run that this position has no use for: it is asked to stop.
    OtherWork,
    /// The time until the next attempt.
    Backoff,
    /// Facts of the cluster.
    Cluster,
    /// Which deployment is booted.
    Booted,
    /// The reconfiguration of the target.
    PostPivot,
    /// The return that somebody else carries out.
    Return,
    /// A deployment to return to.
    Origin,
    /// The end of the other flow, which owns the node's deployments.
    Peer,
}

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Nothing: the position is a resting one.
    Nothing,
    /// Something else has to happen first.
    Wait(Why),
    /// The request is not permitted.
    Refuse(Refusal),
    /// The position changes; its work begins in the next pass, when the change is stored.
    Record,
    /// Work. An interrupted run of the same plan is resumed instead.
    Run(Plan),
}

/// What the user is told besides the position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// Text of the condition that speaks for the position.
    pub message: String,
    /// Text of the condition of finished work, where it has more to say than that it is finished.
    pub work: Option<String>,
    /// The phase under way, for the history.
    pub phase: Option<Phase>,
    /// Until when the origin can be returned to, once it is known.
    pub rollback_until: Option<Timestamp>,
    /// What the user should know of the work that is begun, besides the text.
    pub warning: Option<String>,
    /// The refused request.
    pub refused: Option<(Stage, Refusal)>,
    /// The requested stage that waits for the other flow, and what is told of that.
    pub blocked: Option<(Stage, String)>,
}

/// The outcome of one pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The position, new or old.
    pub state: State,
    /// What the user is told.
    pub said: Said,
    /// Stages that may be asked for.
    pub valid_next: &'static [Stage],
    /// What is done.
    pub act: Act,
    /// Seconds until the next look, if nothing happens before.
    pub look_again: Option<u64>,
}

impl Decision {
    /// The position changes.
    pub(crate) fn record(state: State, side: Side, message: impl Into<String>) -> Self {
        Self {
            state,
            said: Said {
                message: message.into(),
                ..Said::default()
            },
            valid_next: valid_next(state, side),
            act: Act::Record,
            look_again: None,
        }
    }

    /// The position stays.
    pub(crate) fn stay(state: State, side: Side, message: impl Into<String>, act: Act) -> Self {
        Self {
            act,
            ..Self::record(state, side, message)
        }
    }

    pub(crate) fn within(mut self, phase: Phase) -> Self {
        self.said.phase = Some(phase);
        self
    }

    pub(crate) fn again(mut self, seconds: u64) -> Self {
        self.look_again = Some(seconds);
        self
    }
}

/// Decides. Total and pure: the same facts give the same decision.
///
/// `parsed` comes from [`parse`] of `conditions`; both are given because a resting position keeps its texts.
pub fn decide(
    spec: &ImageBasedUpgradeSpec,
    conditions: &[Condition],
    parsed: Parsed,
    facts: &Facts,
) -> Decision {
    debug_assert_eq!(parsed, parse(conditions));
    let Parsed { state, .. } = parsed;
    let spoken = spoken(conditions, state);
    if let Err(error) = &facts.booted {
        let message = unsure(state, &spoken, error);
        return Decision::stay(state, facts.side, message, Act::Wait(Why::Booted)).again(5);
    }
    // A stage that nobody knows is refused by the schema and asks for nothing new; asking for nothing is asking for Idle.
    let requested = match spec.stage() {
        Ok(stage) => stage.unwrap_or(Stage::Idle),
        Err(_) => return work(spec, state, &spoken, facts),
    };
    match transition(state, facts.side, requested) {
        Transition::Move(to) => match peer::in_the_way(state, to, &facts.peer) {
            Some(blocked) => peer::waiting(state, requested, blocked, facts),
            None => entering(to, facts.side),
        },
        Transition::Refuse(refusal) => {
            let mut decision = work(spec, state, &spoken, facts);
            if parsed.overlay != Overlay::Refused(requested) {
                // Told first; what is under way goes on in the next pass.
                let idle = decision.act == Act::Nothing;
                decision = Decision::stay(state, facts.side, spoken, Act::Refuse(refusal));
                decision.look_again = (!idle).then_some(1);
            }
            decision.said.refused = Some((requested, refusal));
            decision
        }
        Transition::Stay => work(spec, state, &spoken, facts),
    }
}

fn entering(state: State, side: Side) -> Decision {
    Decision::record(state, side, entered(state))
}

/// Text of a position that has nothing more precise to say.
fn entered(state: State) -> &'static str {
    match state {
        State::Idle => message::IDLE,
        State::Aborting => message::ABORTING,
        State::Finalizing => message::FINALIZING,
        State::RollbackInProgress => message::INITIATING_ROLLBACK,
        State::PrepFailed => message::PREP_FAILED,
        State::PrepCompleted => message::PREP_SUCCEEDED,
        State::UpgradeFailed => message::UPGRADE_FAILED,
        State::UpgradeCompleted => message::UPGRADE_COMPLETED,
        State::RollbackFailed => message::ROLLBACK_FAILED,
        State::RollbackCompleted => message::ROLLBACK_COMPLETED,
        State::Uninitialized | State::Contradictory => "",
        _ => message::IN_PROGRESS,
    }
}

/// What is told while nobody knows what is booted. Never made from the last message, which may hold the same note.
fn unsure(state: State, spoken: &str, error: &str) -> String {
    match state {
        State::PrepInProgress
        | State::UpgradeInProgress
        | State::RollbackInProgress
        | State::Aborting
        | State::Finalizing => noted(entered(state), error),
        _ => spoken.to_owned(),
    }
}

fn work(spec: &ImageBasedUpgradeSpec, state: State, spoken: &str, facts: &Facts) -> Decision {
    match state {
        State::PrepInProgress => prep::decide(spec, facts),
        State::UpgradeInProgress => upgrade::decide(facts),
        State::UpgradeFailed if facts.side == Side::Target => upgrade::failed(spoken, facts),
        State::RollbackInProgress | State::RollbackFailed => rollback::decide(state, spoken, facts),
        State::Aborting | State::AbortFailed => idle::abort(state, spoken, facts),
        State::Finalizing | State::FinalizeFailed => idle::finalize(state, spoken, facts),
        _ => resting(state, spoken, facts),
    }
}

/// A position without work of its own but to disarm what watched over the way to it and to keep what is known of why it was taken. A run that outlived its position is stopped.
pub(crate) fn resting(state: State, spoken: &str, facts: &Facts) -> Decision {
    match &facts.run {
        RunFact::Running { plan, .. }
            if !matches!(plan, PlanName::Disarm | PlanName::SealEvidence) =>
        {
            Decision::stay(state, facts.side, spoken, Act::Wait(Why::OtherWork))
        }
        _ => upgrade::resting(state, spoken, facts),
    }
}

/// Text of the condition that speaks for a position: a resting position keeps what it said when it was entered. A condition
/// that something lies over has lost its text.
fn spoken(conditions: &[Condition], state: State) -> String {
    use api::ConditionType as Type;
    let type_ = match state {
        State::PrepInProgress | State::PrepFailed => Type::PrepInProgress,
        State::PrepCompleted => Type::PrepCompleted,
        State::UpgradeInProgress | State::UpgradeFailed => Type::UpgradeInProgress,
        State::UpgradeCompleted => Type::UpgradeCompleted,
        State::RollbackInProgress | State::RollbackFailed => Type::RollbackInProgress,
        State::RollbackCompleted => Type::RollbackCompleted,
        _ => Type::Idle,
    };
    crate::state::find(conditions, type_)
        .filter(|found| {
            !matches!(
                found.known_reason(),
                Some(Reason::InvalidTransition | Reason::Blocked)
            )
        })
        .map_or_else(|| entered(state).to_owned(), |found| found.message.clone())
}

/// What the latest run means for a position that wants `wanted` plans to run.
pub(crate) enum Pending {
    /// Nothing is in the way of running a plan.
    Free,
    /// Wait, telling `note`.
    Wait {
        /// What for.
        why: Why,
        /// What to tell besides the usual text; may be empty.
        note: String,
        /// Seconds.
        again: Option<u64>,
    },
    /// The work has failed for good.
    Failed(String),
}

pub(crate) fn pending(run: &RunFact, wanted: &[PlanName]) -> Pending {
    match run {
        RunFact::None | RunFact::Interrupted { .. } | RunFact::Completed { .. } => Pending::Free,
        RunFact::Running { plan, progress } if wanted.contains(plan) => Pending::Wait {
            why: Why::Work,
            note: progress.clone(),
            again: None,
        },
        RunFact::Running { .. } => Pending::Wait {
            why: Why::OtherWork,
            note: String::new(),
            again: None,
        },
        RunFact::Failed { plan, .. } if !wanted.contains(plan) => Pending::Free,
        RunFact::Failed {
            kind,
            error,
            attempt,
            since,
            ..
        } => match disposition(*kind, *attempt) {
            Disposition::Fail => Pending::Failed(error.clone()),
            Disposition::Resume => Pending::Free,
            Disposition::Retry { after } if *since >= after => Pending::Free,
            Disposition::Retry { after } => Pending::Wait {
                why: Why::Backoff,
                note: format!("attempt {attempt} failed, trying again: {error}"),
                again: Some(after - since),
            },
        },
    }
}

/// A contract text with a note after it.
pub(crate) fn noted(text: &str, note: &str) -> String {
    match (text.is_empty(), note.is_empty()) {
        (_, true) => text.to_owned(),
        (true, false) => note.to_owned(),
        (false, false) => format!("{text}. {note}"),
    }
}
