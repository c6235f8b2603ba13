//! The gate: is the cluster healthy (contract 5.4)? Asked before Prep and the pivot begin, behind the pivot, and before
//! finalize begins.

use api::message;

use super::{Judged, Subject, failed};
use crate::facts::Health;

/// What stands between two failures.
const BETWEEN: &str = "\n  - ";

/// What is not healthy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unhealthy {
    /// It is of the checks that are asked when the others are fine.
    pub(crate) deferred: bool,
    /// All of it, in one text.
    pub(crate) text: String,
}

/// The contract's two groups: the second is asked when the first is fine. Within the first, what operators answer for is
/// asked when they are ready.
pub(crate) fn unhealthy(health: &Health) -> Option<Unhealthy> {
    let operators = failed_operators(health);
    let theirs: &[Question] = if operators.is_empty() {
        &[failed_sriov, failed_backups]
    } else {
        &[]
    };
    let ask = |questions: &[Question]| -> Vec<String> {
        questions.iter().flat_map(|ask| ask(health)).collect()
    };
    let mandatory = [operators, failed_pools(health), ask(theirs)].concat();
    let (deferred, failures) = if mandatory.is_empty() {
        let last = [
            failed_node,
            failed_service_versions,
            failed_signing_requests,
        ];
        (true, ask(&last))
    } else {
        (false, mandatory)
    };
    (!failures.is_empty()).then(|| Unhealthy {
        deferred,
        text: message::health_failed(&failures),
    })
}

/// What is wrong, in the contract's words.
type Question = fn(&Health) -> Vec<String>;

fn listed(names: &[String], text: fn(&[String]) -> String) -> Vec<String> {
    let wrong = (!names.is_empty()).then(|| text(names));
    wrong.into_iter().collect()
}

fn failed_operators(health: &Health) -> Vec<String> {
    listed(&health.operators, message::operators_not_ready)
}

fn failed_pools(health: &Health) -> Vec<String> {
    listed(&health.pools, message::pools_not_ready)
}

fn failed_sriov(health: &Health) -> Vec<String> {
    health.sriov.clone()
}

fn failed_backups(health: &Health) -> Vec<String> {
    health.backups.clone()
}

fn failed_node(health: &Health) -> Vec<String> {
    health.node.clone()
}

fn failed_service_versions(health: &Health) -> Vec<String> {
    listed(
        &health.service_versions,
        message::service_versions_not_ready,
    )
}

fn failed_signing_requests(health: &Health) -> Vec<String> {
    let names = health.signing_requests.iter();
    names
        .map(|name| message::signing_request_not_approved(name))
        .collect()
}

fn answer(subject: &Subject<'_>, ask: Question) -> Judged {
    match ask(&subject.cluster()?.health).as_slice() {
        [] => Ok(String::new()),
        wrong => failed(wrong.join(BETWEEN)),
    }
}

pub(super) fn operators(subject: &Subject<'_>) -> Judged {
    answer(subject, failed_operators)
}

pub(super) fn pools(subject: &Subject<'_>) -> Judged {
    answer(subject, failed_pools)
}

pub(super) fn sriov(subject: &Subject<'_>) -> Judged {
    answer(subject, failed_sriov)
}

pub(super) fn backups(subject: &Subject<'_>) -> Judged {
    answer(subject, failed_backups)
}

pub(super) fn node(subject: &Subject<'_>) -> Judged {
    answer(subject, failed_node)
}

pub(super) fn service_versions(subject: &Subject<'_>) -> Judged {
    answer(subject, failed_service_versions)
}

pub(super) fn signing_requests(subject: &Subject<'_>) -> Judged {
    answer(subject, failed_signing_requests)
}
