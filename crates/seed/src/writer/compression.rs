//! Gzip members, made on a few threads.

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use libdeflater::{CompressionLvl, Compressor};
use sha2::{Digest as _, Sha256};

use crate::index::Checksum;

/// Level of libdeflate: as fast as zlib-rs at its level 6 (46 MB/s a core), and 3 % smaller; a level less saves a quarter
/// of the time for 0.5 % more, a level more costs a tenth for 0.4 % less (bench seed, 1.77 GB of objects in 22,000 members).
const LEVEL: i32 = 6;

/// Most threads. The control plane stands still meanwhile, so all processors may work; more than these would only
/// wait for the disk.
const THREADS: usize = 8;

/// Pieces that wait at each thread, or are done and were not taken: 8 threads hold 48 MiB at most.
const WAITING: usize = 3;

/// A piece as it was, compressed.
pub(super) struct Pressed {
    /// Bytes that were compressed.
    pub(super) inflated: usize,
    /// The gzip member.
    pub(super) bytes: Vec<u8>,
    /// Its SHA-256.
    pub(super) digest: Checksum,
}

/// Threads that compress one piece after the other. What goes in comes out in the same order: the piece that goes into
/// the first thread comes out of it before the next thread is asked.
pub(super) struct Compression {
    threads: Vec<Thread>,
    taken_in: usize,
    given_back: usize,
}

struct Thread {
    pieces: SyncSender<Vec<u8>>,
    pressed: Receiver<io::Result<Pressed>>,
}

impl Compression {
    /// Starts the threads.
    pub(super) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..count.min(THREADS)).map(|_| Thread::start());
        Ok(Self {
            threads: threads.collect::<io::Result<_>>()?,
            taken_in: 0,
            given_back: 0,
        })
    }

    /// Whether a piece has to be taken back before another one can be given.
    pub(super) fn is_full(&self) -> bool {
        self.taken_in - self.given_back == self.threads.len() * WAITING
    }

    /// Gives a piece to be compressed.
    pub(super) fn give(&mut self, piece: Vec<u8>) -> io::Result<()> {
        let thread = self.thread(self.taken_in)?;
        thread.pieces.send(piece).map_err(|_| ended())?;
        self.taken_in += 1;
        Ok(())
    }

    /// Takes the oldest piece back, once it is compressed; `None` when all were.
    pub(super) fn take(&mut self) -> io::Result<Option<Pressed>> {
        if self.given_back == self.taken_in {
            return Ok(None);
        }
        let thread = self.thread(self.given_back)?;
        let pressed = thread.pressed.recv().map_err(|_| ended())??;
        self.given_back += 1;
        Ok(Some(pressed))
    }

    fn thread(&self, number: usize) -> io::Result<&Thread> {
        let thread = self.threads.get(number % self.threads.len().max(1));
        thread.ok_or_else(ended)
    }
}

fn ended() -> io::Error {
    io::Error::other("a thread that compresses has ended")
}

impl Thread {
    fn start() -> io::Result<Self> {
        let (pieces, waiting) = sync_channel::<Vec<u8>>(WAITING);
        let (done, pressed) = channel();
        let work = move || press_all(&waiting, &done);
        thread::Builder::new()
            .name("compress".to_owned())
            .spawn(work)?;
        Ok(Self { pieces, pressed })
    }
}

/// Until nobody gives or takes any more.
fn press_all(waiting: &Receiver<Vec<u8>>, done: &Sender<io::Result<Pressed>>) {
    let level = CompressionLvl::new(LEVEL).unwrap_or_default();
    let mut compressor = Compressor::new(level);
    let mut space = Vec::new();
    for piece in waiting {
        if done
            .send(press(&mut compressor, &piece, &mut space))
            .is_err()
        {
            return;
        }
    }
}

fn press(compressor: &mut Compressor, piece: &[u8], space: &mut Vec<u8>) -> io::Result<Pressed> {
    let bound = compressor.gzip_compress_bound(piece.len());
    if space.len() < bound {
        space.resize(bound, 0);
    }
    let length = compressor
        .gzip_compress(piece, space)
        .map_err(io::Error::other)?;
    let bytes = space.get(..length).unwrap_or_default().to_vec();
    Ok(Pressed {
        inflated: piece.len(),
        digest: Sha256::digest(&bytes).into(),
        bytes,
    })
}
