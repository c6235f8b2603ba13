//! Installing a seed while it arrives: what can be done before the seed is verified, done in one pass over its bytes.
//!
//! ```text
//! registry -> hash -> spool -> [pipe] -> inflate the layer -> [pipe] -> inflate an archive -> [pipe] -> objects, /var
//! ```
//!
//! Each arrow between brackets is a thread's border: pipes are short, so the memory that this takes does not depend on
//! the seed. Nothing that is made here is used before the seed's digests were verified: objects are staged, and
//! `incoming/` has no marks. If it goes wrong, whatever the reason, the work is done from the spool later; without a spool
//! the fetch has failed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, Scope, ScopedJoinHandle, Thread};
use std::time::Duration;

use node::ports::SeedPin;
use node::{ErrorKind, PortError, PortResult};
use seed::archive::{ArchiveReader, Decoded, MemberPath, Names};
use seed::extract::extract;
use seed::pipe::{PipeReader, PipeWriter, pipe};
use seed::reader::{Collector, Documents, Part, PartSink};

use crate::failure::Attempt;
use crate::import::{self, Commits};
use crate::incoming::Incoming;
use crate::objects::ObjectStore;
use crate::seed_failure::{extract_kind, read_error};
use crate::transfer::{Stop, Transfer};

/// Buffers of a pipe, and their size: 2 MiB between two threads. Eight threads' worth of them stay below 20 MiB.
const BUFFERS: usize = 8;
const BUFFER: usize = 256 << 10;

/// How often what was written so far is sent to the disk: at the end little is left to wait for.
const FLUSH_INTERVAL: Duration = Duration::from_millis(800);

/// What was made of a seed while it arrived.
pub(crate) struct Ingested {
    pub(crate) documents: Documents,
    /// Its commits; its other objects are staged.
    pub(crate) commits: Commits,
    /// Whether `/var` is complete. It is not where an access list names users of the seed's own release.
    pub(crate) var: PortResult<()>,
}

/// The pipe that [`ingest`] reads from.
pub(crate) fn inlet() -> (PipeWriter, PipeReader) {
    pipe(BUFFERS, BUFFER)
}

/// Reads all layers of a seed from `input` and makes of them what can be made. Success says nothing of the seed's digests.
pub(crate) fn ingest(
    pin: &SeedPin,
    mut input: PipeReader,
    incoming: &Incoming,
    store: &ObjectStore,
    transfer: &Transfer<'_>,
) -> PortResult<Ingested> {
    let attempt = || "reading the seed as it arrives".to_owned();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = flush_until_dropped(scope, incoming, &over)?;
        let mut parts = Parts {
            scope,
            incoming,
            store,
            transfer,
            objects: None,
            var: None,
            etc: false,
            removed: false,
        };
        let mut collector = Collector::default();
        for (layer, _) in &pin.layers {
            if !input.next_stream().attempt(attempt)? {
                return Err(PortError::plain(
                    ErrorKind::Transient,
                    "the seed was cut off",
                ));
            }
            collector
                .layer(layer, &mut input, &mut parts, &|| false)
                .map_err(|error| read_error(attempt(), error))?;
            input.drain().attempt(attempt)?;
        }
        let documents = collector
            .documents()
            .map_err(|error| read_error(attempt(), error))?;
        parts.finish(documents)
    })
}

/// Stages the objects in an archive that is read from the spool.
pub(crate) fn stage_objects(
    content: &mut dyn Read,
    store: &ObjectStore,
    transfer: &Transfer<'_>,
) -> PortResult<Commits> {
    thread::scope(|scope| {
        let mut work = objects(scope, store, transfer)?;
        let fed = work.feed(content);
        let staged = work.finish()?;
        fed.attempt(|| "reading the seed's repository".to_owned())?;
        Ok(staged)
    })
}

/// Sends what was written to the disk again and again, until the value that it gives is dropped.
fn flush_until_dropped<'scope>(
    scope: &'scope Scope<'scope, '_>,
    incoming: &Incoming,
    over: &'scope AtomicBool,
) -> PortResult<Over<'scope>> {
    let attempt = || "writing back what was unpacked".to_owned();
    let directory = File::open(incoming.var()).attempt(attempt)?;
    let flusher = thread::Builder::new()
        .name("flusher".to_owned())
        .spawn_scoped(scope, move || {
            while !over.load(Relaxed) {
                thread::park_timeout(FLUSH_INTERVAL);
                // A failure shows where durability is asked for.
                rustix::fs::syncfs(&directory).ok();
            }
        })
        .attempt(attempt)?;
    Ok(Over(over, flusher.thread().clone()))
}

/// Ends the flusher.
struct Over<'a>(&'a AtomicBool, Thread);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        self.1.unpark();
    }
}

/// An archive that is being inflated and consumed on threads of its own.
struct Work<'scope, T> {
    compressed: PipeWriter,
    inflating: ScopedJoinHandle<'scope, io::Result<()>>,
    consuming: ScopedJoinHandle<'scope, PortResult<T>>,
}

impl<'scope, T: Send + 'scope> Work<'scope, T> {
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        consume: impl FnOnce(&mut PipeReader) -> PortResult<T> + Send + 'scope,
    ) -> PortResult<Self> {
        let attempt = || "starting to unpack".to_owned();
        let (compressed, mut to_inflate) = pipe(BUFFERS, BUFFER);
        let (mut inflated, mut to_consume) = pipe(BUFFERS, BUFFER);
        let inflating = thread::Builder::new()
            .name("inflate".to_owned())
            .spawn_scoped(scope, move || {
                to_inflate.next_stream()?;
                inflated.pour(&mut Decoded::new(&mut to_inflate)?)?;
                inflated.end()?;
                to_inflate.drain()
            })
            .attempt(attempt)?;
        let consuming = thread::Builder::new()
            .name("unpack".to_owned())
            .spawn_scoped(scope, move || {
                to_consume.next_stream().attempt(attempt)?;
                consume(&mut to_consume)
            })
            .attempt(attempt)?;
        Ok(Self {
            compressed,
            inflating,
            consuming,
        })
    }

    /// Gives it the archive. A consumer that has failed takes no more, which [`Self::finish`] tells.
    fn feed(&mut self, content: &mut dyn Read) -> io::Result<()> {
        let fed = self.compressed.pour(content);
        match fed.and_then(|()| self.compressed.end()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            fed => fed,
        }
    }

    fn finish(self) -> PortResult<T> {
        drop(self.compressed);
        let inflated = joined(self.inflating);
        let consumed = joined(self.consuming);
        match inflated {
            // The consumer sees only that its input was cut off.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(PortError::new(
                ErrorKind::Permanent,
                "inflating an archive",
                error,
            )),
            _ => consumed,
        }
    }
}

fn joined<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn objects<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    store: &'env ObjectStore,
    transfer: &'env Transfer<'_>,
) -> PortResult<Work<'scope, Commits>> {
    Work::start(scope, move |reader| {
        let mut archive = ArchiveReader::new(reader, Names::none());
        import::stage(&mut archive, store, &|| transfer.go_on())
    })
}

/// The archives of a seed, each consumed while it is read.
struct Parts<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    incoming: &'env Incoming,
    store: &'env ObjectStore,
    transfer: &'env Transfer<'env>,
    objects: Option<Work<'scope, Commits>>,
    var: Option<Work<'scope, ()>>,
    etc: bool,
    removed: bool,
}

impl Parts<'_, '_> {
    fn finish(self, documents: Documents) -> PortResult<Ingested> {
        let missing = || PortError::plain(ErrorKind::Permanent, "the seed lacks an archive");
        let commits = self.objects.ok_or_else(missing)?.finish();
        let var = self.var.ok_or_else(missing)?.finish();
        let commits = commits?;
        if self.removed {
            let text = "a later layer of the seed takes an archive away";
            return Err(PortError::plain(ErrorKind::Permanent, text));
        }
        let var = match var {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            var => var,
        };
        Ok(Ingested {
            documents,
            commits,
            var,
        })
    }
}

impl PartSink for Parts<'_, '_> {
    fn part(&mut self, part: Part, content: &mut dyn Read) -> io::Result<()> {
        let again = || io::Error::other("a later layer brings an archive once more");
        match part {
            Part::Ostree if self.objects.is_none() => {
                let work = objects(self.scope, self.store, self.transfer);
                let work = self.objects.insert(work.map_err(io::Error::other)?);
                work.feed(content)
            }
            Part::Var if self.var.is_none() => {
                let (destination, transfer) = (self.incoming.var(), self.transfer);
                let work = Work::start(self.scope, move |reader| {
                    unpack_var(reader, &destination, transfer)
                });
                let work = self.var.insert(work.map_err(io::Error::other)?);
                work.feed(content)
            }
            Part::Etc if !self.etc => {
                self.etc = true;
                let mut file = File::create_new(self.incoming.etc())?;
                io::copy(content, &mut file)?;
                file.flush()
            }
            _ => Err(again()),
        }
    }

    fn removed(&mut self, _part: Part) {
        self.removed = true;
    }
}

/// Access lists that name users are refused here: the names are those of a release that is not deployed yet.
fn unpack_var(
    reader: &mut PipeReader,
    destination: &Path,
    transfer: &Transfer<'_>,
) -> PortResult<()> {
    let attempt = || format!("unpacking {} of the seed", Part::Var.file_name());
    let prefix = MemberPath::parse(b"var")
        .map_err(|error| PortError::new(ErrorKind::Permanent, attempt(), error))?;
    let mut archive = ArchiveReader::new(reader, Names::none());
    let extracted = extract(&mut archive, &prefix, destination, &mut Stop(transfer))
        .map_err(|error| PortError::new(extract_kind(&error), attempt(), error))?;
    tracing::info!(?extracted, "unpacked /var");
    Ok(())
}
