//! Who is let in to read metrics: whoever the API server knows and lets `get` their path (contract 10.3).

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cluster::{Connection, Review};
use hyper::StatusCode;

/// How long somebody who was let in is not asked about again: two questions in a minute instead of two a scrape. So long may
/// a right that was taken away still open.
const GRANT_LASTS: Duration = Duration::from_secs(60);

/// Asks the API server about each bearer of a token. Clones share what is known.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    connection: OnceLock<Connection>,
    /// Since when the bearer of the token with this hash may read, as one scraper is usual.
    granted: Mutex<Option<(Instant, u64)>>,
    hasher: RandomState,
}

impl Gate {
    /// From now on the API server can be asked.
    pub(crate) fn ask_by(&self, connection: Connection) {
        // Told once in a process.
        let _known = self.0.connection.set(connection);
    }

    /// Why the sender of this `Authorization` header may not read the path, if so.
    pub(crate) async fn refusal(
        &self,
        authorization: Option<&str>,
        path: &str,
    ) -> Option<(StatusCode, &'static str)> {
        let token = authorization.and_then(|value| value.strip_prefix("Bearer "));
        let Some(token) = token.map(str::trim).filter(|token| !token.is_empty()) else {
            return Some((StatusCode::UNAUTHORIZED, "a bearer token is needed"));
        };
        let hash = self.0.hasher.hash_one((token, path));
        if self
            .granted()
            .is_some_and(|(since, known)| known == hash && since.elapsed() < GRANT_LASTS)
        {
            return None;
        }
        let review = match self.0.connection.get() {
            None => None,
            Some(connection) => match cluster::may_get(connection, token, path).await {
                Ok(review) => Some(review),
                Err(error) => {
                    let error = engine::error_chain(&error);
                    tracing::debug!(error, "nobody can say who asks for metrics");
                    None
                }
            },
        };
        match review {
            Some(Review::Allowed) => {
                self.grant(hash);
                None
            }
            Some(Review::Forbidden) => Some((StatusCode::FORBIDDEN, "not allowed")),
            Some(Review::Unknown) => Some((StatusCode::UNAUTHORIZED, "nobody has this token")),
            None => Some((
                StatusCode::SERVICE_UNAVAILABLE,
                "the API server cannot be asked who this is",
            )),
        }
    }

    fn grant(&self, hash: u64) {
        let mut granted = self
            .0
            .granted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *granted = Some((Instant::now(), hash));
    }

    /// As if the API server had let the bearer in.
    #[cfg(test)]
    pub(crate) fn let_in(&self, token: &str, path: &str) {
        self.grant(self.0.hasher.hash_one((token, path)));
    }

    fn granted(&self) -> Option<(Instant, u64)> {
        *self
            .0
            .granted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_api_server_only_who_was_let_in_is_let_in() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let gate = Gate::default();
        let check = |header: Option<&str>, expect: Option<StatusCode>| {
            let refusal = runtime.block_on(gate.refusal(header, "/metrics"));
            assert_eq!(refusal.map(|(status, _)| status), expect, "{header:?}");
        };
        check(None, Some(StatusCode::UNAUTHORIZED));
        check(Some("Basic YTpi"), Some(StatusCode::UNAUTHORIZED));
        check(Some("Bearer  "), Some(StatusCode::UNAUTHORIZED));
        check(Some("Bearer abc"), Some(StatusCode::SERVICE_UNAVAILABLE));
        gate.let_in("abc", "/metrics");
        check(Some("Bearer abc"), None);
        check(Some("Bearer abd"), Some(StatusCode::SERVICE_UNAVAILABLE));
    }
}
