//! Reading what members of a chain inflate to, as they arrive.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use seed::index::{Chain, Inflater, Segment};
use seed::registry::Batch;
use tokio::sync::mpsc::Receiver;

use super::settle::{Made, Settler};

/// Bytes that are kept from the allowance while more is waited for. More of them, of which nothing that can be taken up again
/// was made, are lost if this ends, and nobody waits for that: a sparse file may be so long, or what is skipped. As it is told
/// at each MiB how far what can be taken up again is, and that is what the longest member has, others are hardly ever more.
pub(super) const HELD: usize = (1 << 20) + (256 << 10);

/// Segments of a chain whose members arrive in the order of the segments, as one stream of bytes.
pub(super) struct Segments<'a> {
    chain: &'a Chain,
    batches: Receiver<Batch>,
    batch: Batch,
    /// Pieces of the batch that were taken.
    taken: usize,
    segments: VecDeque<Segment>,
    inflater: Inflater,
    /// The member that was inflated last, and what is left to read of it.
    member: Option<usize>,
    left: Range<usize>,
    /// Compressed bytes of the members before that one.
    used: &'a AtomicUsize,
    current: usize,
    settler: &'a Settler<'a>,
}

impl<'a> Segments<'a> {
    /// Reads nothing yet. `used` counts the compressed bytes of which everything was read.
    pub(super) fn new(
        chain: &'a Chain,
        batches: Receiver<Batch>,
        used: &'a AtomicUsize,
        settler: &'a Settler<'a>,
    ) -> Self {
        Self {
            chain,
            batches,
            batch: Batch::default(),
            taken: 0,
            segments: VecDeque::new(),
            inflater: Inflater::default(),
            member: None,
            left: 0..0,
            used,
            current: 0,
            settler,
        }
    }

    /// Goes on with these; what was left of those before is dropped.
    pub(super) fn begin(&mut self, segments: Vec<Segment>) {
        self.segments = segments.into();
        self.left = 0..0;
    }

    fn load(&mut self, member: usize) -> io::Result<()> {
        self.used.fetch_add(mem::take(&mut self.current), Relaxed);
        if self.used.load(Relaxed) > HELD {
            self.give_back();
        }
        while self.taken >= self.batch.pieces.len() {
            let next = self.batches.blocking_recv();
            self.batch = next.ok_or_else(|| io::Error::other("the fetch has ended"))?;
            self.taken = 0;
        }
        let piece = self.batch.pieces.get(self.taken).cloned();
        self.taken += 1;
        let piece = piece.filter(|(number, _)| *number == member);
        let known = self.chain.members.get(member);
        let Some((member, (number, bytes))) = known.zip(piece) else {
            return Err(io::Error::other("another part of the archive came"));
        };
        let bytes = self.batch.bytes.get(bytes).unwrap_or_default();
        self.inflater.inflate(member, bytes)?;
        self.current = bytes.len();
        self.member = Some(number);
        Ok(())
    }

    fn give_back(&self) {
        let used = self.used.swap(0, Relaxed);
        self.settler.add(used, Made::default());
    }
}

/// Nothing of what it has is waited for any more.
impl Drop for Segments<'_> {
    fn drop(&mut self) {
        self.used.fetch_add(self.current, Relaxed);
        self.batches.close();
        let mut batch = mem::take(&mut self.batch);
        let mut pieces = batch.pieces.split_off(self.taken.min(batch.pieces.len()));
        loop {
            let bytes: usize = pieces.iter().map(|(_, bytes)| bytes.len()).sum();
            self.used.fetch_add(bytes, Relaxed);
            match self.batches.blocking_recv() {
                Some(batch) => pieces = batch.pieces,
                None => break,
            }
        }
        self.give_back();
    }
}

impl Read for Segments<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() {
            let Some(Segment { member, bytes }) = self.segments.pop_front() else {
                return Ok(0);
            };
            if self.member != Some(member) {
                self.load(member)?;
            }
            self.left = bytes;
        }
        let inflated = self.inflater.inflated();
        let bytes = inflated.get(self.left.clone()).unwrap_or_default();
        let length = bytes.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), bytes.get(..length)) {
            to.copy_from_slice(from);
        }
        if length == 0 && !buffer.is_empty() {
            return Err(io::Error::other("a member of the archive is too short"));
        }
        self.left.start += length;
        Ok(length)
    }
}
