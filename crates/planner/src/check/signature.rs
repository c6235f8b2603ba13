//! Is the seed signed as this site wants it?

use api::configuration::{PublicKey, SignaturePolicy};

use super::{Judged, Subject, failed, unknown};
use crate::failure::ErrorKind;

pub(super) fn policy(subject: &Subject<'_>) -> Judged {
    match SignaturePolicy::parse(&subject.cluster()?.configuration) {
        Ok(SignaturePolicy::Off) => Ok("off".to_owned()),
        Ok(SignaturePolicy::Required(keys)) => Ok(match keys.len() {
            1 => "required, 1 key".to_owned(),
            count => format!("required, {count} keys"),
        }),
        // A policy that nobody understands is not taken for none.
        Err(error) => failed(format!("{error}: {}", super::request::NEXT)),
    }
}

pub(super) fn signed(subject: &Subject<'_>) -> Judged {
    let keys = match SignaturePolicy::parse(&subject.cluster()?.configuration) {
        Ok(SignaturePolicy::Off) => return Ok("not asked for".to_owned()),
        Ok(SignaturePolicy::Required(keys)) => keys,
        Err(_) => return unknown("what is asked of signatures is not known"),
    };
    let found = subject.pin()?.signature.as_ref();
    match (
        found.filter(|found| keys.contains(&found.key)),
        subject.signature_fault,
    ) {
        (Some(found), _) => {
            let mut text = format!("with key {}", found.fingerprint);
            if let Some(reference) = &found.reference {
                text.push_str(&format!(", as {reference}"));
            }
            for (name, value) in &found.claims {
                text.push_str(&format!(", {name}={value}"));
            }
            Ok(text)
        }
        (None, Some((ErrorKind::Permanent, error))) => failed(error),
        (None, Some((_, error))) => unknown(error),
        (None, None) => unknown("no signature of the image has been looked for yet"),
    }
}

/// The keys that a signature must be found with before the seed is fetched; `None` when none is missing. A key that was
/// taken out of the list vouches for nothing any more.
pub(crate) fn keys_to_verify_with(subject: &Subject<'_>) -> Option<Vec<PublicKey>> {
    let policy = SignaturePolicy::parse(&subject.cluster.ok()?.configuration);
    let SignaturePolicy::Required(keys) = policy.ok()? else {
        return None;
    };
    let found = subject.pin.ok()?.signature.as_ref();
    let verified = found.is_some_and(|found| keys.contains(&found.key));
    (!verified).then_some(keys)
}
