//! Fetching blobs: one request after the other until all bytes are there.

use std::io;
use std::time::{Duration, Instant};

use api::Digest;
use futures::StreamExt as _;
use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::error::{by_status, requested, said};
use super::{Registry, RegistryError};
use crate::pin::Blob;
use crate::watch::Watch;

/// Most bytes of a blob that the registry sends once more, because it ignores ranges, are read over
/// this many times before that counts as a failure.
const WHOLE_LIMIT: u32 = 3;

/// Where a fetched blob goes.
pub trait BlobSink: Send {
    /// Bytes that were taken so far.
    fn len(&self) -> u64;

    /// True before the first byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// Ends the fetch.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl BlobSink for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// A request that did not bring the blob to its end.
struct Broken {
    error: RegistryError,
    then: Then,
}

/// What to do about it.
enum Then {
    GiveUp,
    /// Try again later; the registry may have said when.
    Wait(Option<Duration>),
    /// The token was refused: get another.
    Authenticate,
    /// Ranges do not work: ask for the whole blob.
    Whole,
}

/// How the rest of a blob is asked for.
struct Asking {
    ranges: bool,
    wholes: u32,
}

impl Registry {
    /// Fetches a small blob, verified.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    pub async fn fetch(
        &self,
        blob: &Blob,
        watch: &mut dyn Watch,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        self.fetch_rest(blob, &mut bytes, watch).await?;
        let actual = Digest::from_sha256(&Sha256::digest(&bytes).into());
        if actual == blob.digest {
            Ok(bytes)
        } else {
            Err(self.wrong(blob, actual.to_string()))
        }
    }

    /// Fetches what `sink` lacks of a blob. Success means that it has as many bytes as the blob; their
    /// digest is the caller's to check. Failures that may pass are tried again in place, as long as
    /// bytes keep coming without limit.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    pub(crate) async fn fetch_rest(
        &self,
        blob: &Blob,
        sink: &mut dyn BlobSink,
        watch: &mut dyn Watch,
    ) -> Result<(), RegistryError> {
        let mut asking = Asking {
            ranges: true,
            wholes: 0,
        };
        let (mut failures, mut renewed) = (0, false);
        while sink.len() < blob.size {
            let before = sink.len();
            let result = self.request_rest(blob, &mut asking, sink, watch).await;
            let Err(Broken { error, then }) = result else {
                break;
            };
            if sink.len() > before {
                (failures, renewed) = (0, false);
            }
            let (error, asked) = match then {
                Then::GiveUp => return Err(error),
                Then::Whole => {
                    asking.ranges = false;
                    continue;
                }
                Then::Authenticate if renewed => return Err(error),
                Then::Authenticate => match self.renew(watch).await {
                    Ok(()) => {
                        renewed = true;
                        continue;
                    }
                    Err(error) if error.is_transient() => (error, None),
                    Err(error) => return Err(error),
                },
                Then::Wait(asked) => (error, asked),
            };
            failures += 1;
            if failures >= self.patience.tries {
                return Err(error);
            }
            let wait = self.patience.wait(failures, asked);
            let cause: &dyn std::error::Error = &error;
            tracing::info!(
                error = cause,
                ?wait,
                at = sink.len(),
                "waiting for the registry"
            );
            self.until_stopped(watch, tokio::time::sleep(wait)).await?;
        }
        Ok(())
    }

    /// One request and as much of its answer as there is.
    async fn request_rest(
        &self,
        blob: &Blob,
        asking: &mut Asking,
        sink: &mut dyn BlobSink,
        watch: &mut dyn Watch,
    ) -> Result<(), Broken> {
        let from = sink.len();
        let mut request = self.authorized(self.http.get(self.blob_url(blob)));
        if from > 0 && asking.ranges {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let answer = self.until_stopped(watch, request.send()).await?;
        let answer = answer.map_err(|error| self.broken(error))?;
        let begins = self.accept(blob, from, &answer)?;
        if begins < from {
            asking.wholes += 1;
            if asking.wholes > WHOLE_LIMIT {
                let text = "the registry ignores ranges and breaks off again and again";
                return Err(self.unreachable(text).into());
            }
        }
        // Bytes that the sink has already: the registry ignores ranges.
        let mut known = from.saturating_sub(begins);
        let mut stream = answer.bytes_stream();
        while let Some(chunk) = self.until_stopped(watch, stream.next()).await? {
            let chunk = chunk.map_err(|error| self.broken(error))?;
            let skip = known.min(chunk.len() as u64);
            known -= skip;
            let new = chunk.get(skip as usize..).unwrap_or_default();
            if sink.len() + new.len() as u64 > blob.size {
                let actual = format!("more than its {} bytes", blob.size);
                return Err(Broken {
                    error: self.wrong(blob, actual),
                    then: Then::GiveUp,
                });
            }
            sink.take(new).map_err(|source| RegistryError::Store {
                image: self.image.clone(),
                source,
            })?;
            watch.advanced(new.len() as u64);
            self.pace(chunk.len(), watch).await?;
        }
        let len = sink.len();
        if len < blob.size {
            let text = format!(
                "blob {} ended after {len} of {} bytes",
                blob.digest, blob.size
            );
            return Err(Broken {
                error: self.unreachable(&text),
                then: Then::Wait(None),
            });
        }
        Ok(())
    }

    /// Judges the head of an answer; gives the place in the blob where its body begins.
    fn accept(&self, blob: &Blob, from: u64, answer: &Response) -> Result<u64, Broken> {
        let status = answer.status();
        if status == StatusCode::OK {
            return Ok(0);
        }
        let broken = |error, then| Err(Broken { error, then });
        let protocol = |text: &str| RegistryError::Protocol {
            image: self.image.clone(),
            source: said(text),
        };
        if status == StatusCode::PARTIAL_CONTENT {
            let begins = content_range(answer.headers(), blob.size);
            return match begins {
                Some(begins) if begins <= from => Ok(begins),
                _ => broken(
                    protocol("it sent another range than was asked for"),
                    Then::Whole,
                ),
            };
        }
        if status == StatusCode::RANGE_NOT_SATISFIABLE && from > 0 {
            return broken(protocol("it refuses a range within the blob"), Then::Whole);
        }
        let text = format!("status {status} for blob {}", blob.digest);
        let error = by_status(self.image.clone(), status.as_u16(), said(&text));
        // A store behind the registry forgets its links after a while; the registry gives new ones.
        let asked: Option<reqwest::Url> = self.blob_url(blob).parse().ok();
        let redirected = asked.is_none_or(|asked| asked.origin() != answer.url().origin());
        let then = match status {
            StatusCode::UNAUTHORIZED if !redirected => Then::Authenticate,
            _ if error.is_transient() => Then::Wait(retry_after(answer.headers())),
            _ if redirected && status.is_client_error() => Then::Wait(None),
            _ => Then::GiveUp,
        };
        broken(error, then)
    }

    /// The connection failed, before the answer or within it.
    fn broken(&self, error: reqwest::Error) -> Broken {
        let error = requested(self.image.clone(), error);
        let then = match error.is_transient() {
            true => Then::Wait(None),
            false => Then::GiveUp,
        };
        Broken { error, then }
    }

    fn unreachable(&self, text: &str) -> RegistryError {
        RegistryError::Unreachable {
            image: self.image.clone(),
            source: said(text),
        }
    }

    /// Waits as long as the budget asks after `bytes` were received.
    async fn pace(&self, bytes: usize, watch: &mut dyn Watch) -> Result<(), RegistryError> {
        let Some(budget) = &self.budget else {
            return Ok(());
        };
        let wait = budget.spend(bytes, Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        self.until_stopped(watch, tokio::time::sleep(wait)).await
    }

    pub(crate) fn wrong(&self, blob: &Blob, actual: String) -> RegistryError {
        RegistryError::WrongDigest {
            image: self.image.clone(),
            expected: blob.digest.clone(),
            actual,
        }
    }
}

impl From<RegistryError> for Broken {
    fn from(error: RegistryError) -> Self {
        let then = Then::GiveUp;
        Self { error, then }
    }
}

/// Where a partial answer begins, if it is a part of a blob of this size (RFC 9110, 14.4).
fn content_range(headers: &HeaderMap, size: u64) -> Option<u64> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let fits = total.trim() == "*" || total.trim().parse() == Ok(size);
    (fits && first <= last && last < size).then_some(first)
}

/// The wait that a busy registry asks for, when it says so in seconds. A date is as good as no word:
/// clocks of nodes and registries differ.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_strictly() {
        let check = |value: &str, expect: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, value.parse().unwrap());
            assert_eq!(content_range(&headers, 100), expect, "{value}");
        };
        check("bytes 10-99/100", Some(10));
        check("bytes 0-9/*", Some(0));
        check("bytes 10-99/101", None);
        check("bytes 10-100/100", None);
        check("bytes 20-10/100", None);
        check("bytes */100", None);
        check("items 10-99/100", None);
        check("bytes x-99/100", None);
        assert_eq!(content_range(&HeaderMap::new(), 100), None);
    }
}
