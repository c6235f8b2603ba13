//! Making objects and `/var` of the members that arrive.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use api::Digest;
use node::{ErrorKind, PortError, PortResult};
use seed::archive::{ArchiveReader, Entry, Kind, MemberPath, Names};
use seed::extract::{Mark, extract_from};
use seed::index::{Chain, Inflater, Member, ObjectId, ObjectKind};
use seed::reader::Part;
use seed::registry::Batch;
use tokio::sync::mpsc::Receiver;

use super::need::{Archive, LongObject};
use super::segments::Segments;
use super::settle::{Made, Settler};
use crate::failure::Attempt;
use crate::import::{archive_error, file_metadata, object, put, refused};
use crate::incoming::{Incoming, Progress};
use crate::objects::{Growth, ObjectStore, Refusal};
use crate::seed_failure::extract_kind;
use crate::transfer::{Stop, Transfer};

/// The end of an archive (POSIX.1 ustar), which stands in none of the members with objects.
const END: [u8; 1024] = [0; 1024];

const MISPLACED: Refusal = Refusal::Format("is not where the index says");

/// What all consumers work with.
#[derive(Clone, Copy)]
pub(super) struct Shop<'a> {
    pub(super) store: &'a ObjectStore,
    pub(super) incoming: &'a Incoming,
    pub(super) settler: &'a Settler<'a>,
    pub(super) transfer: &'a Transfer<'a>,
}

impl Shop<'_> {
    /// Stages the objects of members that hold whole ones.
    ///
    /// Whoever fetches waits for room as long as there is a receiver; so each of those who share it drops it at its end.
    pub(super) fn short(
        &self,
        chain: &Chain,
        batches: Arc<Mutex<Receiver<Batch>>>,
    ) -> PortResult<()> {
        let mut inflater = Inflater::default();
        loop {
            let next = batches
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .blocking_recv();
            let Some(batch) = next else { return Ok(()) };
            for (number, bytes) in &batch.pieces {
                let bytes = batch.bytes.get(bytes.clone()).unwrap_or_default();
                let Some(member) = chain.members.get(*number) else {
                    continue;
                };
                let inflated = inflater.inflate(member, bytes).map_err(damaged)?;
                self.member(member, inflated)?;
            }
            self.settler.add(batch.bytes.len(), Made::default());
        }
    }

    /// Stages the objects that a member lists and the repository lacks.
    fn member(&self, member: &Member, inflated: &[u8]) -> PortResult<()> {
        let mut listed: BTreeSet<&ObjectId> = member.objects.iter().collect();
        let mut archive = ArchiveReader::new(inflated.chain(&END[..]), Names::none());
        while let Some((id, entry)) = next_object(&mut archive)? {
            let failed = |error| refused(&id, error);
            if !listed.remove(&id) {
                return Err(failed(MISPLACED));
            }
            let present = self.store.is_present(&id);
            if present.map_err(|error| failed(error.into()))? {
                continue;
            }
            let go_on = || self.transfer.go_on();
            put(self.store, &id, &entry, archive.content(), &go_on).map_err(failed)?;
        }
        // Whatever counts on it would fail of the disk, and not of the seed.
        match listed.first() {
            Some(id) => Err(refused(id, MISPLACED)),
            None => Ok(()),
        }
    }

    /// Writes long objects, one after the other.
    pub(super) fn long(
        &self,
        chain: &Chain,
        seed: &Digest,
        objects: Vec<LongObject>,
        batches: Receiver<Batch>,
    ) -> PortResult<()> {
        let used = AtomicUsize::new(0);
        let mut segments = Segments::new(chain, batches, &used, self.settler);
        for object in objects {
            segments.begin(object.segments);
            let mut archive = ArchiveReader::new((&mut segments).chain(&END[..]), Names::none());
            let (id, entry) = match next_object(&mut archive)? {
                Some((id, entry)) if id == object.id => (id, entry),
                _ => return Err(refused(&object.id, MISPLACED)),
            };
            let failed = |error| refused(&id, error);
            let position = archive.position();
            let made = match (&entry.kind, &entry.extents, id.kind) {
                (Kind::File, None, ObjectKind::File) => {
                    let kept = match object.begun {
                        Some(begun) if begun.content == position => begun.written,
                        Some(_) => {
                            return Err(failed(Refusal::Format("is not where it was")));
                        }
                        None => 0,
                    };
                    archive.pass_over(kept).map_err(archive_error)?;
                    let meta = file_metadata(&entry).map_err(failed)?;
                    let mut told = |written| {
                        let growth = Growth {
                            seed: seed.clone(),
                            object: Digest::from_sha256(&id.checksum),
                            content: position,
                            written,
                        };
                        let made = Made {
                            growth: Some(growth),
                            ..Made::default()
                        };
                        self.settler.add(used.swap(0, Relaxed), made);
                    };
                    let go_on = || self.transfer.go_on();
                    let content = &mut archive.content();
                    self.store
                        .grow(&id, &meta, content, kept, &mut told, &go_on)
                        .map_err(failed)?;
                    Made {
                        grown: vec![id],
                        ..Made::default()
                    }
                }
                // A sparse file, or a directory of very many names.
                _ => {
                    let go_on = || self.transfer.go_on();
                    put(self.store, &id, &entry, archive.content(), &go_on).map_err(failed)?;
                    Made::default()
                }
            };
            self.settler.add(used.swap(0, Relaxed), made);
        }
        Ok(())
    }

    /// Unpacks `/var`.
    pub(super) fn var(
        &self,
        chain: &Chain,
        archive: Archive,
        progress: &Progress,
        batches: Receiver<Batch>,
    ) -> PortResult<()> {
        let attempt = || format!("unpacking {} of the seed", Part::Var.file_name());
        let prefix = MemberPath::parse(b"var")
            .map_err(|error| PortError::new(ErrorKind::Permanent, attempt(), error))?;
        let used = AtomicUsize::new(0);
        let mut segments = Segments::new(chain, batches, &used, self.settler);
        segments.begin(archive.segments);
        let mark = progress.var.as_ref();
        let at = mark.map_or(0, |mark| mark.archive);
        let told = |var: Option<Mark>, var_done| {
            let made = Made {
                progress: Some(Progress {
                    seed: progress.seed.clone(),
                    var,
                    var_done,
                }),
                ..Made::default()
            };
            self.settler.add(used.swap(0, Relaxed), made);
        };
        let mut note = |mark| told(Some(mark), false);
        // Names of users are those of a release that is not deployed yet: access lists that name them are refused.
        let mut archive = ArchiveReader::resumed(&mut segments, Names::none(), at);
        let (destination, mut stop) = (self.incoming.var(), Stop(self.transfer));
        let extracted = extract_from(
            &mut archive,
            &prefix,
            &destination,
            mark,
            &mut note,
            &mut stop,
        )
        .map_err(|error| PortError::new(extract_kind(&error), attempt(), error))?;
        told(None, true);
        tracing::info!(?extracted, "unpacked /var");
        Ok(())
    }

    /// Writes the archive of `/etc` as it is, behind what is there.
    pub(super) fn etc(&self, mut batches: Receiver<Batch>) -> PortResult<()> {
        let path = self.incoming.etc();
        let attempt = || format!("writing {}", path.display());
        let file = File::options().create(true).append(true).open(&path);
        let mut file = file.attempt(attempt)?;
        while let Some(batch) = batches.blocking_recv() {
            file.write_all(&batch.bytes).attempt(attempt)?;
            // After a power cut its digests tell what is there.
            let made = Made {
                etc: true,
                ..Made::default()
            };
            self.settler.add(batch.bytes.len(), made);
        }
        Ok(())
    }
}

/// The next object in an archive of nothing but objects and what their headers need.
fn next_object<R: Read>(archive: &mut ArchiveReader<R>) -> PortResult<Option<(ObjectId, Entry)>> {
    while let Some(entry) = archive.next_entry().map_err(archive_error)? {
        let id = object(&entry).map_err(|error| {
            let attempted = format!("importing {}", entry.path);
            PortError::new(error.kind(), attempted, error)
        })?;
        if let Some(id) = id {
            return Ok(Some((id, entry)));
        }
    }
    Ok(None)
}

fn damaged(error: io::Error) -> PortError {
    PortError::new(
        ErrorKind::Permanent,
        "inflating the seed's repository",
        error,
    )
}
