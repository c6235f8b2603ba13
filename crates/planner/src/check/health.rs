//! The gate: is the cluster healthy enough to begin (contract 3.1 and 5.4)?

use api::message;

use super::{Judged, Subject, failed};

/// The row that is looked at when the others are fine.
pub(super) const NODE: &str = "node-ready";

pub(super) fn operators(subject: &Subject<'_>) -> Judged {
    match subject.cluster()?.health.operators.as_slice() {
        [] => Ok(String::new()),
        names => failed(message::operators_not_ready(names)),
    }
}

pub(super) fn pools(subject: &Subject<'_>) -> Judged {
    match subject.cluster()?.health.pools.as_slice() {
        [] => Ok(String::new()),
        names => failed(message::pools_not_ready(names)),
    }
}

pub(super) fn node(subject: &Subject<'_>) -> Judged {
    match subject.cluster()?.health.node.as_slice() {
        [] => Ok(String::new()),
        wrong => failed(wrong.join("\n  - ")),
    }
}
