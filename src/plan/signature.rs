//! The signature of the seed in the preview.

use api::configuration::SignaturePolicy;
use host::HostSeeds;
use node::ports::{PullSecret, Seeds, Unwatched};
use node::{ErrorKind, PortResult};
use planner::check::Answer;
use planner::{ClusterFacts, SeedPin};

use super::known::{chain, patiently};

/// Looks for a signature where the policy requires one, and notes it in the pin; else why there is none.
pub(super) fn verify(
    facts: &ClusterFacts,
    pin: &mut SeedPin,
    access: impl FnOnce() -> PortResult<(HostSeeds, PullSecret)>,
) -> Option<(ErrorKind, String)> {
    // What is wrong with the policy is a row of its own.
    let Ok(SignaturePolicy::Required(keys)) = SignaturePolicy::parse(&facts.configuration) else {
        return None;
    };
    let known = pin.signature.as_ref();
    if known.is_some_and(|known| keys.contains(&known.key)) {
        return None;
    }
    let verified = access()
        .and_then(|(seeds, secret)| patiently(|| seeds.verify(pin, &keys, &secret, &Unwatched)));
    match verified {
        Ok(signature) => {
            pin.signature = Some(signature);
            None
        }
        Err(error) => Some((error.kind(), chain(&error))),
    }
}

/// The fault as the checks take it.
pub(super) fn told(fault: &Option<(ErrorKind, String)>) -> Option<(ErrorKind, &str)> {
    fault.as_ref().map(|(kind, text)| (*kind, text.as_str()))
}

/// The answer of the row about the signature, in a line.
pub(super) fn row(answers: &[Answer]) -> String {
    let row = answers
        .iter()
        .find(|answer| answer.check.name == "signature");
    row.map_or_else(String::new, |answer| {
        format!("{}: {}", answer.verdict.as_str(), answer.verdict.text())
    })
}
