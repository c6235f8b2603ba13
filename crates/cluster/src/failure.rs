//! Why the API server did not do what it was asked, and of what kind that failure is.

use std::time::Duration;

use kube::core::Status;
use node::{ErrorKind, PortError};

use crate::call::Call;

/// The most characters of a server's message that an error carries. A refusal of an object may quote the object.
const MESSAGE_LIMIT: usize = 2000;

/// An answer that is none, or a refusal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the API server did not answer within {} s", .0.as_secs())]
    Deadline(Duration),
    #[error("the API server cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the API server is not ready: {0}")]
    Unready(String),
    #[error("not found: {0}")]
    NotFound(String),
    #[error("the resource is not served; install its CustomResourceDefinition")]
    NotServed,
    #[error("somebody else wrote first: {0}")]
    Conflict(String),
    #[error("no permission to {verb} {resource}: {message}; apply the RBAC rules in manifests/")]
    Forbidden {
        verb: &'static str,
        resource: String,
        message: String,
    },
    #[error(
        "the API server does not accept the credentials; check the token or the client certificate"
    )]
    Unauthorized,
    #[error("refused as invalid: {0}")]
    Invalid(String),
    #[error("the API server refused the request ({code}): {message}")]
    Refused { code: u16, message: String },
    #[error("\"{0}\" cannot be the name of an object")]
    Name(String),
    #[error("the answer has an unexpected shape")]
    Shape(#[source] serde_json::Error),
}

impl Failure {
    /// What a refusal by the server means for `call`.
    pub(crate) fn from_status(call: &Call<'_>, status: &Status) -> Self {
        let message = bounded(&status.message);
        match status.code {
            401 => Self::Unauthorized,
            403 => Self::Forbidden {
                verb: call.verb.as_str(),
                resource: match call.subresource {
                    Some(subresource) => format!("{}/{subresource}", call.kind.resource()),
                    None => call.kind.resource(),
                },
                message,
            },
            // The path of a kind that is not served is answered without naming an object.
            404 if status
                .details
                .as_ref()
                .is_none_or(|details| details.name.is_empty()) =>
            {
                Self::NotServed
            }
            404 => Self::NotFound(message),
            409 => Self::Conflict(message),
            422 => Self::Invalid(message),
            408 | 410 | 429 | 500.. => Self::Unready(format!("{} ({message})", status.code)),
            code => Self::Refused { code, message },
        }
    }

    /// What kube could not do for `call`.
    pub(crate) fn from_client(call: &Call<'_>, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from_status(call, &status),
            kube::Error::Service(error) => Self::Unreachable(error),
            kube::Error::HyperError(error) => Self::Unreachable(error.into()),
            kube::Error::ReadEvents(error) => Self::Unreachable(error.into()),
            kube::Error::SerdeError(error) => Self::Shape(error),
            other => Self::Unreachable(other.into()),
        }
    }

    /// Refused credentials are transient: tokens rotate, and around a pivot the server may not know them yet.
    /// A kind that is not served is transient too: a starting server serves custom resources last.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Deadline(_)
            | Self::Unreachable(_)
            | Self::Unready(_)
            | Self::NotServed
            | Self::Unauthorized
            | Self::Conflict(_) => ErrorKind::Transient,
            Self::NotFound(_)
            | Self::Forbidden { .. }
            | Self::Invalid(_)
            | Self::Refused { .. }
            | Self::Name(_)
            | Self::Shape(_) => ErrorKind::Permanent,
        }
    }

    /// The port's error for `call`.
    pub(crate) fn during(self, call: &Call<'_>) -> PortError {
        PortError::new(self.kind(), call.to_string(), self)
    }
}

/// The head of a message from outside, on one line.
fn bounded(message: &str) -> String {
    let mut head: String = message
        .chars()
        .take(MESSAGE_LIMIT)
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    if message.chars().nth(MESSAGE_LIMIT).is_some() {
        head.push_str("...");
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind;

    #[test]
    fn kinds_follow_the_code() {
        let check = |code: u16, details: bool, kind: ErrorKind, text: &str| {
            let details = if details {
                r#"{"name": "cluster"}"#
            } else {
                "{}"
            };
            let status: Status = serde_json::from_str(&format!(
                r#"{{"code": {code}, "message": "because", "details": {details}}}"#
            ))
            .unwrap();
            let call = Call::get(&kind::PROXY, "cluster");
            let failure = Failure::from_status(&call, &status);
            assert_eq!((failure.kind(), failure.to_string().as_str()), (kind, text));
        };
        use ErrorKind::{Permanent, Transient};
        check(
            400,
            true,
            Permanent,
            "the API server refused the request (400): because",
        );
        check(
            401,
            true,
            Transient,
            "the API server does not accept the credentials; check the token or the client certificate",
        );
        check(
            403,
            true,
            Permanent,
            "no permission to get proxies.config.openshift.io: because; apply the RBAC rules in manifests/",
        );
        check(404, true, Permanent, "not found: because");
        check(
            404,
            false,
            Transient,
            "the resource is not served; install its CustomResourceDefinition",
        );
        check(409, true, Transient, "somebody else wrote first: because");
        check(
            410,
            true,
            Transient,
            "the API server is not ready: 410 (because)",
        );
        check(422, true, Permanent, "refused as invalid: because");
        check(
            429,
            true,
            Transient,
            "the API server is not ready: 429 (because)",
        );
        check(
            500,
            true,
            Transient,
            "the API server is not ready: 500 (because)",
        );
        check(
            503,
            true,
            Transient,
            "the API server is not ready: 503 (because)",
        );
    }

    #[test]
    fn messages_are_bounded_and_on_one_line() {
        assert_eq!(bounded("a\nb"), "a b");
        assert_eq!(
            bounded(&"ä".repeat(100_000)).chars().count(),
            MESSAGE_LIMIT + 3
        );
    }
}
