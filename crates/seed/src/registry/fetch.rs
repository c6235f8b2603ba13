//! Fetching blobs: one request after the other until all bytes are there.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use api::Digest;
use futures::StreamExt as _;
use futures::future::BoxFuture;
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

/// Where a fetched blob goes, or a range of one.
pub trait BlobSink: Send {
    /// Bytes that were taken so far and need not be fetched again.
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
    fn take(&mut self, bytes: &[u8]) -> Result<(), Refused>;

    /// Something to wait for before the next bytes are read, if there is: room for them.
    fn room(&mut self) -> Option<BoxFuture<'_, ()>> {
        None
    }
}

/// Why a sink takes no more.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot keep them.
    #[error("storing them")]
    Store(#[from] io::Error),
    /// They are not the blob's.
    #[error("they are {0}")]
    Wrong(String),
}

impl BlobSink for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Refused> {
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
struct Asking<'a> {
    blob: &'a Blob,
    /// What of the blob is wanted.
    range: Range<u64>,
    ranges: bool,
    wholes: u32,
}

impl Asking<'_> {
    /// Whether all of the blob is wanted. Then a registry that ignores ranges costs bytes, and otherwise too many of them.
    fn is_whole(&self) -> bool {
        self.range == (0..self.blob.size)
    }

    /// The header that asks for what follows `from` bytes of the blob.
    fn header(&self, from: u64) -> Option<String> {
        match self.is_whole() {
            true => (from > 0 && self.ranges).then(|| format!("bytes={from}-")),
            false => Some(format!("bytes={from}-{}", self.range.end.saturating_sub(1))),
        }
    }
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
        self.fetch_range(blob, 0..blob.size, sink, watch).await
    }

    /// As [`Self::fetch_rest`], of a range within the blob. Nothing outside of it is read: a registry that does not give
    /// just this range, whatever it gives, ends the fetch with [`RegistryError::RangesIgnored`].
    pub(crate) async fn fetch_range(
        &self,
        blob: &Blob,
        range: Range<u64>,
        sink: &mut dyn BlobSink,
        watch: &mut dyn Watch,
    ) -> Result<(), RegistryError> {
        let length = range.end.saturating_sub(range.start);
        let mut asking = Asking {
            blob,
            range,
            ranges: true,
            wholes: 0,
        };
        let (mut failures, mut renewed) = (0, false);
        while sink.len() < length {
            let before = sink.len();
            let result = self.request_rest(&mut asking, sink, watch).await;
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
        asking: &mut Asking<'_>,
        sink: &mut dyn BlobSink,
        watch: &mut dyn Watch,
    ) -> Result<(), Broken> {
        let (blob, length) = (asking.blob, asking.range.end - asking.range.start);
        let from = asking.range.start + sink.len();
        let mut request = self.authorized(self.http.get(self.blob_url(blob)));
        if let Some(header) = asking.header(from) {
            request = request.header(RANGE, header);
        }
        let answer = self.until_stopped(watch, request.send()).await?;
        let answer = answer.map_err(|error| self.broken(error))?;
        let begins = self.accept(asking, from, &answer)?;
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
            if sink.len() + new.len() as u64 > length {
                let error = match asking.is_whole() {
                    true => self.wrong(blob, format!("more than its {} bytes", blob.size)),
                    false => self.ranges_ignored("it sent more than was asked for"),
                };
                return Err(error.into());
            }
            sink.take(new).map_err(|refused| match refused {
                Refused::Store(source) => RegistryError::Store {
                    image: self.image.clone(),
                    source,
                },
                Refused::Wrong(actual) => self.wrong(blob, actual),
            })?;
            watch.advanced(new.len() as u64);
            self.pace(chunk.len(), watch).await?;
            if let Some(room) = sink.room() {
                self.until_stopped(watch, room).await?;
            }
        }
        let len = sink.len();
        if len < length {
            let text = format!("blob {} ended after {len} of {length} bytes", blob.digest);
            return Err(Broken {
                error: self.unreachable(&text),
                then: Then::Wait(None),
            });
        }
        Ok(())
    }

    /// Judges the head of an answer; gives the place in the blob where its body begins.
    fn accept(&self, asking: &Asking<'_>, from: u64, answer: &Response) -> Result<u64, Broken> {
        let (blob, status) = (asking.blob, answer.status());
        if !asking.is_whole() {
            let ignored = |text: &str| Err(self.ranges_ignored(text).into());
            match status {
                StatusCode::OK => return ignored("it sent all of the blob"),
                StatusCode::RANGE_NOT_SATISFIABLE => {
                    return ignored("it refuses a range within the blob");
                }
                StatusCode::PARTIAL_CONTENT => {
                    return match content_range(answer.headers(), blob.size) {
                        Some(begins) if begins == from => Ok(begins),
                        _ => ignored("it sent another range than was asked for"),
                    };
                }
                _ => {}
            }
        }
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

    fn ranges_ignored(&self, text: &str) -> RegistryError {
        RegistryError::RangesIgnored {
            image: self.image.clone(),
            source: said(text),
        }
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
