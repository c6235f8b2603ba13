//! Who owns the node's deployments: this flow or the one that changes the node's addresses (`IPConfig`).
//!
//! The owner is whoever has left Idle, by what its object says. That lies in etcd, is written before the work that it stands for
//! begins, and goes along over a pivot, so it lasts as long as the work does. Whoever owns keeps: nobody is blocked in the middle
//! of work. The other waits with the reason `Blocked` where it would leave Idle.
//!
//! Both may have looked before either wrote that it leaves Idle. So this flow looks once more, behind its own write and before its
//! first run; if the other has begun by then, it is this one that goes back to Idle and waits there. Always this one, whoever was
//! first: nothing has begun here, and the other does not look twice. It does not wait for us meanwhile: who waits owns nothing.

use api::ip_config::IpConfig;
use api::{Condition, ConditionStatus, Phase, Reason, Stage, message};

use crate::decide::{Act, Decision, Why};
use crate::facts::Facts;
use crate::state::{Side, State};
use crate::transition::valid_next;

/// The other flow, where a decision needs to know of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Peer {
    /// Nobody looked: this flow does not leave Idle now.
    NotLooked,
    /// Its object; `None` = there is none, or this cluster has no such kind.
    Known(Option<Box<IpConfig>>),
    /// Nobody could say, with the cause chain.
    Unknown(String),
}

/// Seconds until a peer in the way is looked at again, even if nobody sees that it has changed (contract 2.7).
const AGAIN: u64 = 30;
/// The same where nobody knows.
const UNKNOWN_AGAIN: u64 = 2;

/// Whether a position of this flow owns the deployments: from the start of Prep until Idle again.
pub fn owns(state: State) -> bool {
    !matches!(state, State::Uninitialized | State::Idle)
}

/// Whether the other flow owns them. As the contract's 2.7 has it, but for one that is blocked in the middle of its own work: it
/// is not idle, so it keeps what it has.
pub fn peer_owns(peer: &IpConfig) -> bool {
    let conditions = &peer.status.conditions;
    let find = |type_: &str| conditions.iter().find(|found| found.type_ == type_);
    let is_true = |found: &Condition| found.status == ConditionStatus::True;
    if conditions.is_empty() {
        return false;
    }
    let idle = find("Idle");
    if peer.spec.stage == "Idle" && idle.is_some_and(is_true) {
        return false;
    }
    let in_progress = match peer.spec.stage.as_str() {
        "Idle" => "Idle".to_owned(),
        stage => format!("{stage}InProgress"),
    };
    let blocked = |found: &Condition| found.known_reason() == Some(Reason::Blocked);
    let begun = conditions.iter().any(|found| {
        found.type_.ends_with("Completed") || found.type_.ends_with("InProgress") && is_true(found)
    });
    !find(&in_progress).is_some_and(blocked) || begun
}

/// Whether this flow has to wait before it goes from one position to another, and what is said meanwhile.
pub(crate) fn in_the_way(from: State, to: State, peer: &Peer) -> Option<(String, u64)> {
    if owns(from) || !owns(to) {
        return None;
    }
    looked(peer)
}

fn looked(peer: &Peer) -> Option<(String, u64)> {
    match peer {
        Peer::NotLooked | Peer::Known(None) => None,
        Peer::Known(Some(peer)) => {
            peer_owns(peer).then(|| (message::IP_CONFIG_NOT_IDLE.to_owned(), AGAIN))
        }
        Peer::Unknown(error) => Some((
            format!("{}{error}", message::IP_CONFIG_UNKNOWN_PREFIX),
            UNKNOWN_AGAIN,
        )),
    }
}

/// The stage waits. It may be taken back meanwhile: what was not begun needs no abort.
pub(crate) fn waiting(
    state: State,
    requested: Stage,
    (text, again): (String, u64),
    facts: &Facts,
) -> Decision {
    let mut decision =
        Decision::stay(state, facts.side, message::IDLE, Act::Wait(Why::Peer)).again(again);
    decision.said.blocked = Some((requested, text));
    decision.valid_next = waiting_next(state, facts.side);
    decision
}

/// The same for a Prep that has not begun any work: it is taken back where the other has left Idle too, and waits where nobody knows.
pub(crate) fn before_the_first_run(facts: &Facts) -> Option<Decision> {
    let (text, again) = looked(&facts.peer)?;
    if matches!(facts.peer, Peer::Unknown(_)) {
        let act = Act::Wait(Why::Peer);
        let decision = Decision::stay(State::PrepInProgress, facts.side, text, act);
        return Some(decision.within(Phase::Stateroot).again(again));
    }
    let mut decision = Decision::record(State::Idle, facts.side, message::IDLE).again(again);
    decision.said.blocked = Some((Stage::Prep, text));
    decision.valid_next = waiting_next(State::Idle, facts.side);
    Some(decision)
}

fn waiting_next(state: State, side: Side) -> &'static [Stage] {
    match state {
        State::Idle => &[Stage::Idle, Stage::Prep],
        _ => valid_next(state, side),
    }
}
