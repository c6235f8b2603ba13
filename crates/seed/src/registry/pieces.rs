//! Bytes that arrive in pieces, each with a digest of its own.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use super::{BlobSink, Refused};
use crate::index::Checksum;

/// Verified bytes that are passed on at once, about: short pieces are passed on together.
const BATCH: usize = 256 << 10;

/// A piece that is expected.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The number by which its receiver knows it.
    pub number: usize,
    /// Its bytes.
    pub length: u32,
    /// Its SHA-256; `None` = it only lies between others, and is dropped.
    pub digest: Option<Checksum>,
}

/// Verified pieces.
#[derive(Debug, Default)]
pub struct Batch {
    /// Their numbers, and where in [`Self::bytes`] they lie.
    pub pieces: Vec<(usize, Range<usize>)>,
    /// Their bytes.
    pub bytes: Vec<u8>,
}

/// A sink that takes the pieces of a range, verifies each as soon as it is there, and passes them on.
///
/// Whoever asks for a range takes a permit of the allowance for each byte that is wanted of it, and whoever has made that byte
/// safe gives it back, so no more than the allowance can be lost. Here it is only looked at: a closed one ends the fetch.
pub struct Pieces {
    expected: VecDeque<Piece>,
    /// What was taken of the first expected piece.
    begun: u32,
    len: u64,
    batch: Batch,
    out: Sender<Batch>,
    allowance: Arc<Semaphore>,
    passed_on: usize,
    gone: bool,
}

impl Pieces {
    /// Takes these pieces, which lie back to back.
    pub fn new(
        expected: impl IntoIterator<Item = Piece>,
        out: Sender<Batch>,
        allowance: Arc<Semaphore>,
    ) -> Self {
        Self {
            expected: expected.into_iter().collect(),
            begun: 0,
            len: 0,
            batch: Batch::default(),
            out,
            allowance,
            passed_on: 0,
            gone: false,
        }
    }

    /// Passes on what is left after the fetch; says whether somebody takes it.
    pub async fn finish(&mut self) -> bool {
        self.pass_on().await;
        !self.gone
    }

    /// Bytes that were taken.
    pub fn passed_on(&self) -> usize {
        self.passed_on
    }

    /// Where the bytes of whole pieces end.
    fn whole(&self) -> usize {
        self.batch.pieces.last().map_or(0, |(_, at)| at.end)
    }

    async fn pass_on(&mut self) {
        let whole = self.whole();
        let rest = self.batch.bytes.split_off(whole);
        let next = Batch {
            pieces: Vec::new(),
            bytes: rest,
        };
        let batch = std::mem::replace(&mut self.batch, next);
        if batch.pieces.is_empty() {
            return;
        }
        // Whoever closed it may keep a receiver that takes nothing any more: there is no room to wait for.
        if self.gone || self.allowance.is_closed() {
            self.gone = true;
            return;
        }
        let bytes = batch.bytes.len();
        match self.out.send(batch).await {
            Ok(()) => self.passed_on += bytes,
            Err(_) => self.gone = true,
        }
    }

    /// Judges the first expected piece, of which all bytes are there.
    fn end_piece(&mut self, piece: Piece) -> Result<(), Refused> {
        let whole = self.whole();
        if let Some(digest) = piece.digest {
            let bytes = self.batch.bytes.get(whole..).unwrap_or_default();
            if Checksum::from(Sha256::digest(bytes)) != digest {
                self.batch.bytes.truncate(whole);
                self.len -= u64::from(self.begun);
                self.begun = 0;
                let text = "bytes of another digest than the seed's index says".to_owned();
                return Err(Refused::Wrong(text));
            }
            let end = self.batch.bytes.len();
            self.batch.pieces.push((piece.number, whole..end));
        }
        self.begun = 0;
        self.expected.pop_front();
        Ok(())
    }
}

impl BlobSink for Pieces {
    fn len(&self) -> u64 {
        self.len
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        if self.gone {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
        while let (false, Some(piece)) = (bytes.is_empty(), self.expected.front().copied()) {
            let lacking = piece.length.saturating_sub(self.begun) as usize;
            let (now, later) = bytes.split_at(lacking.min(bytes.len()));
            if piece.digest.is_some() {
                self.batch.bytes.extend_from_slice(now);
            }
            self.len += now.len() as u64;
            // No more than `piece.length`, which is of this type.
            self.begun += u32::try_from(now.len()).unwrap_or(u32::MAX);
            if self.begun >= piece.length {
                self.end_piece(piece)?;
            }
            bytes = later;
        }
        Ok(())
    }

    fn room(&mut self) -> Option<BoxFuture<'_, ()>> {
        (self.whole() >= BATCH).then(|| self.pass_on().boxed())
    }
}
