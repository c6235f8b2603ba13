//! A blob on its way: hashed, written and passed on, chunk by chunk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use api::Digest;
use sha2::{Digest as _, Sha256};

use super::ledger::{self, Keeper, Record};
use crate::layout::{Layout, LayoutError, failed};
use crate::pin::Blob;
use crate::pipe::PipeWriter;
use crate::registry::{BlobSink, Refused};
use crate::watch::Watch;

/// Bytes that are hashed, written and passed on at once, and stand in one record of the ledger.
const CHUNK: usize = 256 << 10;

/// Longest piece between two records that is believed.
const PIECE_LIMIT: u64 = 4 << 20;

/// Reads a stream of blobs while they arrive. What it reads is not verified yet; a consumer acts on
/// it only after the whole blob was (see [`super::spool`]).
pub(super) struct Tap {
    pipe: Option<PipeWriter>,
    was_cut: bool,
}

impl Tap {
    pub(super) fn new(pipe: Option<PipeWriter>) -> Self {
        Self {
            pipe,
            was_cut: false,
        }
    }

    pub(super) fn pass(&mut self, bytes: &[u8]) {
        // Nobody reads on: the consumer has failed and says so itself.
        if self
            .pipe
            .as_mut()
            .is_some_and(|pipe| pipe.write_all(bytes).is_err())
        {
            self.pipe = None;
        }
    }

    /// The blob is whole and verified.
    pub(super) fn end(&mut self) {
        if self.pipe.as_mut().is_some_and(|pipe| pipe.end().is_err()) {
            self.pipe = None;
        }
    }

    /// What was passed on of this blob is not the blob.
    pub(super) fn cut(&mut self) {
        self.pipe = None;
        self.was_cut = true;
    }

    /// Whether wrong bytes were passed on. The consumer may have failed of them before.
    pub(super) fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// Whether the consumer goes on.
    pub(super) fn is_open(&self) -> bool {
        self.pipe.is_some()
    }
}

/// A blob that grows, on disk or only through the tap.
pub(super) struct Growing<'a> {
    on_disk: Option<OnDisk>,
    buffer: Vec<u8>,
    hasher: Sha256,
    len: u64,
    tap: &'a mut Tap,
}

struct OnDisk {
    file: File,
    path: PathBuf,
    ledger: PathBuf,
    keeper: Keeper,
}

impl<'a> Growing<'a> {
    /// A blob that is not kept.
    pub(super) fn passing(tap: &'a mut Tap) -> Self {
        Self {
            on_disk: None,
            buffer: Vec::with_capacity(CHUNK),
            hasher: Sha256::new(),
            len: 0,
            tap,
        }
    }

    /// Takes up what an earlier attempt left of `blob`, as far as the ledger knows it.
    pub(super) fn resume(
        layout: &Layout,
        blob: &Blob,
        tap: &'a mut Tap,
        watch: &mut dyn Watch,
    ) -> Result<Self, LayoutError> {
        let (path, ledger) = paths(layout, &blob.digest);
        let mut growing = Self::passing(tap);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("opening", &path))?;
        let records = ledger::read(&ledger).map_err(failed("reading", &ledger))?;
        let known = growing
            .verify(&mut file, blob, &records, watch)
            .map_err(failed("reading", &path))?;
        if watch.stop_requested() {
            // Before anything is cut: what was not looked at is not lost.
            return Err(LayoutError::Stopped {
                digest: blob.digest.clone(),
            });
        }
        if known < records.len() {
            let lost = records.len() - known;
            tracing::info!(blob = %blob.digest, lost, "the spool lost its newest chunks");
        }
        file.set_len(growing.len)
            .map_err(failed("cutting", &path))?;
        file.seek(SeekFrom::Start(growing.len))
            .map_err(failed("reading", &path))?;
        let records = records.get(..known).unwrap_or_default();
        let keeper = Keeper::start(&file, &ledger, records).map_err(failed("opening", &ledger))?;
        growing.on_disk = Some(OnDisk {
            file,
            path,
            ledger,
            keeper,
        });
        Ok(growing)
    }

    /// Hashes and passes on as many recorded pieces as are undamaged; gives their number.
    fn verify(
        &mut self,
        file: &mut File,
        blob: &Blob,
        records: &[Record],
        watch: &mut dyn Watch,
    ) -> io::Result<usize> {
        for (known, record) in records.iter().enumerate() {
            let piece = record.len.saturating_sub(self.len);
            if piece == 0 || piece > PIECE_LIMIT || record.len > blob.size || watch.stop_requested()
            {
                return Ok(known);
            }
            self.buffer.clear();
            file.take(piece).read_to_end(&mut self.buffer)?;
            let mut hasher = self.hasher.clone();
            hasher.update(&self.buffer);
            let digest: [u8; 32] = hasher.clone().finalize().into();
            if self.buffer.len() as u64 != piece || digest != record.digest {
                self.buffer.clear();
                return Ok(known);
            }
            self.tap.pass(&self.buffer);
            watch.advanced(piece);
            (self.hasher, self.len) = (hasher, record.len);
        }
        self.buffer.clear();
        Ok(records.len())
    }

    /// Whether it is on disk, too.
    pub(super) fn is_kept(&self) -> bool {
        self.on_disk.is_some()
    }

    /// Forgets all of it. What was passed on is void.
    pub(super) fn restart(&mut self) -> Result<(), LayoutError> {
        if self.len > 0 || !self.buffer.is_empty() {
            self.tap.cut();
        }
        self.buffer.clear();
        (self.hasher, self.len) = (Sha256::new(), 0);
        let Some(disk) = self.on_disk.take() else {
            return Ok(());
        };
        let OnDisk {
            mut file,
            path,
            ledger,
            keeper,
        } = disk;
        drop(keeper);
        file.set_len(0).map_err(failed("emptying", &path))?;
        file.seek(SeekFrom::Start(0))
            .map_err(failed("emptying", &path))?;
        let keeper = Keeper::start(&file, &ledger, &[]).map_err(failed("opening", &ledger))?;
        self.on_disk = Some(OnDisk {
            file,
            path,
            ledger,
            keeper,
        });
        Ok(())
    }

    /// Writes down what arrived, also a part of a chunk: a fetch was interrupted.
    pub(super) fn pause(&mut self) -> io::Result<()> {
        self.chunk()
    }

    /// The digest of all that arrived.
    pub(super) fn digest(&mut self) -> io::Result<Digest> {
        self.chunk()?;
        Ok(Digest::from_sha256(&self.hasher.clone().finalize().into()))
    }

    /// The blob is whole and right: gives it its name and ends its stream.
    pub(super) fn publish(self, layout: &Layout, blob: &Blob) -> Result<(), LayoutError> {
        if let Some(disk) = self.on_disk {
            let OnDisk {
                file,
                path,
                ledger,
                keeper,
            } = disk;
            keeper.close().map_err(failed("writing", &ledger))?;
            file.sync_all().map_err(failed("syncing", &path))?;
            layout.publish(&path, &blob.digest)?;
            match std::fs::remove_file(&ledger) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("removing", &ledger)(error));
                }
                _ => {}
            }
        }
        self.tap.end();
        Ok(())
    }

    /// The blob is whole and right, and is not kept: ends its stream.
    pub(super) fn finish(self) {
        self.tap.end();
    }

    fn chunk(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        // Taken out first: what failed here once is not counted again.
        let mut bytes = std::mem::take(&mut self.buffer);
        self.hasher.update(&bytes);
        self.len += bytes.len() as u64;
        if let Some(disk) = &mut self.on_disk {
            disk.file.write_all(&bytes)?;
            disk.keeper.note(Record {
                len: self.len,
                digest: self.hasher.clone().finalize().into(),
            })?;
        }
        self.tap.pass(&bytes);
        bytes.clear();
        self.buffer = bytes;
        Ok(())
    }
}

/// Where a blob grows, and its ledger.
pub(super) fn paths(layout: &Layout, digest: &Digest) -> (PathBuf, PathBuf) {
    let path = layout.partial(digest.hex());
    let ledger = path.with_extension("ledger");
    (path, ledger)
}

impl BlobSink for Growing<'_> {
    fn len(&self) -> u64 {
        self.len + self.buffer.len() as u64
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        while !bytes.is_empty() {
            let room = CHUNK.saturating_sub(self.buffer.len()).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() >= CHUNK {
                self.chunk()?;
            }
        }
        Ok(())
    }
}
