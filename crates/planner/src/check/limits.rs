//! Is it known how hard the network may be worked?

use api::network_limits::NetworkLimits;

use super::{Fault, Judged, Subject, failed};
use crate::limits::Limits;

pub(super) fn network(subject: &Subject<'_>) -> Judged {
    match limits(subject)? {
        Ok(limits) => Ok(limits.to_string()),
        // A limit that nobody understands is not taken for none.
        Err(error) => failed(format!("{error}: {}", super::request::NEXT)),
    }
}

fn limits(subject: &Subject<'_>) -> Result<Result<Limits, String>, Fault> {
    let own = match subject.limits {
        Ok(own) => *own,
        Err(error) => return Ok(Err(error.to_owned())),
    };
    let shared = NetworkLimits::of_config_map(&subject.cluster()?.configuration);
    Ok(match shared {
        Ok(shared) => Ok(Limits::of(own.or(shared), subject.precaching)),
        Err(error) => Err(error.to_string()),
    })
}

/// The limits that a plan is made with.
///
/// # Errors
///
/// Why there are none: what is set cannot be kept, and is never taken for no limit.
pub fn limits_to_plan_with(subject: &Subject<'_>) -> Result<Limits, String> {
    match limits(subject) {
        Ok(limits) => limits,
        Err(Fault::Failed(error) | Fault::Unknown(error)) => Err(error),
    }
}
