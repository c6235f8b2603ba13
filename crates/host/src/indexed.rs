//! Seeds with an index: fetching only what the node lacks (`docs/seed-format.md`).
//!
//! ```text
//! index, documents -> commit and directories -> commit published as partial, with the import's ref
//!     -> files, /var, /etc, all at once -> every object looked for -> commit complete
//! ```
//!
//! Nothing is spooled: each object, and each part of the archives, is put where it belongs as it arrives, every byte
//! verified by the index and every object by its checksum. What is on the disk is not fetched again, so that is all that a
//! restart needs to know. Whatever is wrong with an index, the seed is installed the other way.

mod consume;
mod lanes;
mod need;
mod segments;
mod settle;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};

use api::Digest;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use node::ports::{FetchLimits, FetchRequest, PullSecret, SeedContent, SeedPin, Watch};
use node::{ErrorKind, PortError, PortResult};
use ostree::{Repo, gio};
use seed::index::{Index, ObjectId, Place};
use seed::pin::Blob;
use seed::reader::Documents;
use seed::registry::{Batch, Ranges, RegistryError};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::failure::Attempt;
use crate::import;
use crate::incoming::{Incoming, Progress};
use crate::layout::Layout;
use crate::objects::{Growth, ObjectStore, recorded_at};
use crate::seed_access::{Places, pinned, runtime};
use crate::seed_content::content;
use crate::seed_failure::registry_kind;
use crate::sysroot::repository;
use crate::sysroot_writer::{Relay, relayed};
use crate::transfer::Transfer;
use consume::Shop;
use lanes::Lane;
use need::{Archive, Figures, Need, Objects, Request};
use settle::{ALLOWANCE, Settler};

/// Threads that inflate members and write their objects, besides those for long objects and for `/var`.
const WORKERS: usize = 2;

/// Batches that wait for a consumer, at most; each is of 256 KiB or one member longer.
const WAITING: usize = 4;

/// How often what a prune took meanwhile is fetched again before that is told.
const ROUNDS: usize = 3;

const NONE: Option<&gio::Cancellable> = gio::Cancellable::NONE;

/// What a fetch of an indexed seed would ask the registry for. All sizes are bytes as they are in the seed, compressed, and
/// include what lies between two wanted ranges and is fetched with them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Missing {
    /// The index and the documents.
    pub index: u64,
    /// Objects that the node's repository lacks.
    pub repository: u64,
    /// `/var`, without what an interrupted fetch has brought.
    pub var: u64,
    /// `/etc`, likewise.
    pub etc: u64,
    /// How many objects the commit reaches.
    pub objects: u64,
    /// How many of them the node lacks.
    pub missing_objects: u64,
    /// What the missing objects and `/var` take on the disk, about: their sizes before they were compressed.
    pub inflated: u64,
    /// What the documents say.
    pub content: SeedContent,
}

impl Missing {
    /// All bytes together.
    pub fn bytes(&self) -> u64 {
        self.index + self.repository + self.var + self.etc
    }
}

/// An index.
struct Found {
    index: Index,
    /// Its own length.
    length: u64,
}

impl Found {
    /// Bytes of index and documents.
    fn bytes(&self) -> u64 {
        let documents = self.index.documents.iter();
        self.length + documents.map(|document| document.length).sum::<u64>()
    }
}

/// Where the index of a seed lies, and in which layer; `None` = it has none that can be used.
pub(crate) fn place(pin: &SeedPin) -> Option<(Place, Blob)> {
    let label = pin.index.as_deref()?;
    let layers = pin.layers.iter().map(|(digest, size)| Blob {
        digest: digest.clone(),
        size: *size,
        media_type: String::new(),
    });
    let layers: Vec<Blob> = layers.collect();
    match Place::parse(label, &layers) {
        Ok(place) => Some(place).zip(layers.into_iter().next()),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, image = %pin.image, "all of the seed is fetched");
            None
        }
    }
}

/// What [`fetch`] would ask the registry for. Changes nothing.
pub(crate) fn missing(
    layout: &Layout,
    pin: &SeedPin,
    secret: &PullSecret,
    limits: FetchLimits,
    watch: &dyn Watch,
) -> PortResult<Option<Missing>> {
    let Some((place, layer)) = place(pin) else {
        return Ok(None);
    };
    let image = pinned(pin)?;
    let places = Places::of(layout, &image, secret)?.limited(limits);
    let found = relayed(watch, |relay| {
        let session = Session::new(&places, &layer, 1, pin)?;
        lacking(layout, pin, &session, (&place, &layer), relay)
    });
    match found {
        Err(error) if error.kind() == ErrorKind::Permanent => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, image = %pin.image, "all of the seed is fetched");
            Ok(None)
        }
        found => found.map(Some),
    }
}

fn lacking(
    layout: &Layout,
    pin: &SeedPin,
    session: &Session<'_>,
    (place, layer): (&Place, &Blob),
    relay: &Relay,
) -> PortResult<Missing> {
    let transfer = Transfer::new(relay, pin.image.as_str(), Some(place.length));
    let found = session.index(place, layer, &transfer)?;
    let documents = session.documents(&found.index, &transfer)?;
    let content = content(pin, &documents)?;
    let objects = layout.sysroot().join("ostree/repo/objects");
    let staged = recorded_at(layout);
    let is_present = |id: &ObjectId| {
        staged.contains(id) || std::fs::symlink_metadata(objects.join(id.path())).is_ok()
    };
    let growth = Growth::noted(layout, &pin.digest);
    let incoming = Incoming::find(layout, &pin.digest);
    let progress = incoming.as_ref().map(|(_, progress)| progress);
    let etc = incoming.as_ref().map_or(Ok(0), |(incoming, _)| {
        let file = File::open(incoming.etc()).ok();
        file.map_or(Ok(0), |file| {
            verified(&found.index, file).map(|(members, _)| members)
        })
    })?;
    let need = Need::of(&found.index, is_present, growth.as_ref(), progress, etc);
    let Figures {
        index,
        repository,
        var,
        etc,
        objects,
        missing_objects,
        inflated,
    } = need.figures(found.bytes());
    Ok(Missing {
        index,
        repository,
        var,
        etc,
        objects,
        missing_objects,
        inflated,
        content,
    })
}

/// Fetches what the node lacks of a seed and puts it in place, as [`crate::ingest`] does with a whole one.
///
/// `Permanent` where the seed cannot be installed this way.
pub(crate) fn fetch(
    layout: &Layout,
    request: &FetchRequest,
    (place, layer): (Place, Blob),
    secret: &PullSecret,
    relay: &Relay,
) -> PortResult<SeedContent> {
    let pin = &request.pin;
    let places = Places::of(layout, &pinned(pin)?, secret)?.limited(request.limits);
    let connections = usize::from(request.limits.connections);
    let session = Session::new(&places, &layer, connections, pin)?;
    let transfer = Transfer::new(relay, pin.image.as_str(), None);
    let found = session.index(&place, &layer, &transfer)?;
    let documents = session.documents(&found.index, &transfer)?;
    let content = content(pin, &documents)?;
    if Digest::from_sha256(&found.index.commit).hex() != content.commit {
        let text = "the seed's index is of another commit than its documents";
        return Err(PortError::plain(ErrorKind::Permanent, text));
    }
    let deletions = documents.get(api::seed_format::ETC_DELETIONS);
    let deletions = deletions.map_err(|error| {
        crate::seed_failure::read_error("reading the documents of the seed".to_owned(), error)
    })?;

    let repo = repository(layout)?;
    let store = ObjectStore::reopen(layout, &repo)?;
    let incoming = Incoming::of(layout, &request.stateroot);
    let install = Install {
        layout,
        session: &session,
        found: &found,
        repo: &repo,
        store: &store,
        incoming: &incoming,
        relay,
        commit: &content.commit,
        pin,
    };
    install.run()?;
    store.close(layout)?;
    incoming.mark(pin, true, Some(deletions))?;
    Ok(content)
}

/// Ranges of the seed's layer, and what fetching them runs on.
struct Session<'a> {
    ranges: Ranges<'a>,
    runtime: tokio::runtime::Runtime,
    connections: usize,
    attempted: String,
}

impl<'a> Session<'a> {
    fn new(
        places: &'a Places,
        layer: &'a Blob,
        connections: usize,
        pin: &SeedPin,
    ) -> PortResult<Self> {
        let attempted = format!("fetching parts of image {}", pin.image);
        Ok(Self {
            ranges: Ranges::new(places.sources(), layer),
            runtime: runtime(&attempted)?,
            connections,
            attempted,
        })
    }

    fn failed(&self, error: RegistryError) -> PortError {
        PortError::new(registry_kind(&error), self.attempted.clone(), error)
    }

    fn index(&self, place: &Place, layer: &Blob, transfer: &Transfer<'_>) -> PortResult<Found> {
        let mut watch = transfer;
        let fetched = self.ranges.exact(place.range(), &place.sha256, &mut watch);
        let bytes = self
            .runtime
            .block_on(fetched)
            .map_err(|error| self.failed(error))?;
        let index = Index::decode(&bytes, place, layer.size).map_err(|error| {
            PortError::new(ErrorKind::Permanent, "reading the seed's index", error)
        })?;
        Ok(Found {
            index,
            length: place.length,
        })
    }

    fn documents(&self, index: &Index, transfer: &Transfer<'_>) -> PortResult<Documents> {
        let fetched = index.documents.iter().map(|document| async move {
            let range = document.offset..document.offset + document.length;
            let (digest, mut watch) = (Digest::from_sha256(&document.sha256), transfer);
            let bytes = self.ranges.exact(range, &digest, &mut watch).await?;
            Ok((document.name.clone(), bytes))
        });
        let fetched = stream::iter(fetched).buffer_unordered(self.connections.max(1));
        let documents: Result<BTreeMap<String, Vec<u8>>, RegistryError> =
            self.runtime.block_on(fetched.try_collect());
        let documents = documents.map_err(|error| self.failed(error))?;
        Ok(Documents::from(documents))
    }
}

/// An installation under way.
struct Install<'a> {
    layout: &'a Layout,
    session: &'a Session<'a>,
    found: &'a Found,
    repo: &'a Repo,
    store: &'a ObjectStore,
    incoming: &'a Incoming,
    relay: &'a Relay,
    commit: &'a str,
    pin: &'a SeedPin,
}

impl Install<'_> {
    /// Fetches until nothing lacks; then the commit is complete.
    fn run(&self) -> PortResult<()> {
        let index = &self.found.index;
        for round in 1.. {
            let progress = self.incoming.resume(&self.pin.digest)?;
            let etc = self.verified_etc()?;
            let growth = Growth::noted(self.layout, &self.pin.digest);
            let is_present = |id: &_| self.store.is_present(id).unwrap_or(false);
            let need = Need::of(index, is_present, growth.as_ref(), Some(&progress), etc);
            let figures = need.figures(self.found.bytes());
            let nothing = figures.bytes() == self.found.bytes();
            tracing::info!(?figures, "fetching what the node lacks");
            let image = self.pin.image.as_str();
            let transfer = Transfer::new(self.relay, image, Some(figures.bytes()));
            transfer.add(self.found.bytes());
            let Need {
                metadata,
                files,
                var,
                etc,
                ..
            } = need;
            self.phase(metadata, None, Vec::new(), &progress, &transfer)?;
            if !self.publish()? {
                if round < ROUNDS {
                    continue;
                }
                let text = format!(
                    "commit {} of the seed is not where the index says",
                    self.commit
                );
                return Err(PortError::plain(ErrorKind::Permanent, text));
            }
            self.phase(files, var, etc, &progress, &transfer)?;
            transfer.end();
            let none = import::Commits::new();
            match import::adopt(self.repo, self.store, self.commit, &none) {
                // Somebody has pruned the repository. Where there was nothing to fetch, the index does not list everything.
                Err(error) if !nothing && round < ROUNDS => {
                    let error: &dyn std::error::Error = &error;
                    tracing::info!(error, "looking again for what the node lacks");
                }
                adopted => return adopted,
            }
        }
        Ok(())
    }

    /// How many members of `etc.tgz` are there; whatever is behind them goes.
    fn verified_etc(&self) -> PortResult<usize> {
        let path = self.incoming.etc();
        let attempt = || format!("reading {}", path.display());
        let file = match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            file => file.attempt(attempt)?,
        };
        let (members, bytes) = verified(&self.found.index, file.try_clone().attempt(attempt)?)?;
        file.set_len(bytes).attempt(attempt)?;
        Ok(members)
    }

    /// Gives the commit its name, once its directories have theirs: from then on it and its ref keep a prune from what
    /// arrives. False where it is not there: somebody has pruned it since it was looked for.
    fn publish(&self) -> PortResult<bool> {
        let attempt = || format!("importing commit {} from the seed", self.commit);
        let (kind, commit) = (ostree::ObjectType::Commit, self.commit);
        if !self.repo.has_object(kind, commit, NONE).attempt(attempt)? {
            self.repo
                .mark_commit_partial(commit, true)
                .attempt(attempt)?;
            self.store.adopt().attempt(attempt)?;
        }
        if !self.repo.has_object(kind, commit, NONE).attempt(attempt)? {
            return Ok(false);
        }
        import::protect(self.repo, commit).map(|()| true)
    }

    /// Fetches some of it, and puts it in place; durable when this returns, but for names.
    fn phase(
        &self,
        objects: Objects,
        var: Option<Archive>,
        etc: Vec<Request>,
        progress: &Progress,
        transfer: &Transfer<'_>,
    ) -> PortResult<()> {
        let index = &self.found.index;
        let allowance = Arc::new(Semaphore::new(ALLOWANCE));
        let settler = Settler::new(self.store, self.incoming, &allowance);
        let shop = Shop {
            store: self.store,
            incoming: self.incoming,
            settler: &settler,
            transfer,
        };
        let failure = Failure {
            first: Mutex::default(),
            allowance: &allowance,
        };
        let (short_out, short_in) = channel(WAITING);
        let short_in = Arc::new(Mutex::new(short_in));
        thread::scope(|scope| {
            let settling = failure.watch(scope, "settle", || settler.run())?;
            // Closed whatever happens, or it would be waited for without end.
            let closing = Closing(&settler);
            let mut consumers = Vec::new();
            let mut ordered = Vec::new();
            if let Some(mut archive) = var {
                let (lane, batches) = lane(std::mem::take(&mut archive.requests));
                ordered.push(lane);
                let work = move || shop.var(&index.var, archive, progress, batches);
                consumers.push(failure.watch(scope, "unpack", work)?);
            }
            if !objects.long_objects.is_empty() {
                let (lane, batches) = lane(objects.long);
                ordered.push(lane);
                let long = objects.long_objects;
                let seed = &self.pin.digest;
                let work = move || shop.long(&index.ostree, seed, long, batches);
                consumers.push(failure.watch(scope, "long objects", work)?);
            }
            if !etc.is_empty() {
                let (lane, batches) = lane(etc);
                ordered.push(lane);
                consumers.push(failure.watch(scope, "etc", move || shop.etc(batches))?);
            }
            for _ in 0..WORKERS {
                let batches = Arc::clone(&short_in);
                let work = move || shop.short(&index.ostree, batches);
                consumers.push(failure.watch(scope, "objects", work)?);
            }
            drop(short_in);
            let others = Lane {
                requests: objects.short,
                out: short_out,
            };
            let session = self.session;
            let fetching = lanes::fetch(
                &session.ranges,
                ordered,
                others,
                session.connections,
                &allowance,
                transfer,
            );
            let fetched = session.runtime.block_on(fetching);
            for consumer in consumers {
                joined(consumer);
            }
            drop(closing);
            joined(settling);
            // What ended a consumer or the settling ended the fetch, and not the other way round.
            match (fetched, failure.first()) {
                (Err(RegistryError::Store { .. }) | Ok(()), Some(error)) => Err(error),
                (Err(error), _) => Err(session.failed(error)),
                (Ok(()), None) => {
                    // Otherwise sooner or later nothing would be fetched any more.
                    debug_assert_eq!(allowance.available_permits(), ALLOWANCE);
                    Ok(())
                }
            }
        })
    }
}

fn lane(requests: Vec<Request>) -> (Lane, Receiver<Batch>) {
    let (out, batches): (Sender<Batch>, _) = channel(WAITING);
    (Lane { requests, out }, batches)
}

/// How many members of `etc.tgz` a file begins with, and their bytes.
fn verified(index: &Index, file: File) -> PortResult<(usize, u64)> {
    let attempt = || "reading etc.tgz of the seed".to_owned();
    let mut file = std::io::BufReader::new(file);
    let (mut bytes, mut end) = (Vec::new(), 0);
    for (number, member) in index.etc.members.iter().enumerate() {
        bytes.clear();
        let length = u64::from(member.compressed);
        let read = file.by_ref().take(length).read_to_end(&mut bytes);
        read.attempt(attempt)?;
        if <[u8; 32]>::from(Sha256::digest(&bytes)) != member.digest {
            return Ok((number, end));
        }
        end += length;
    }
    Ok((index.etc.members.len(), end))
}

/// What failed first of all that works at once. It ends the others.
struct Failure<'a> {
    first: Mutex<Option<PortError>>,
    allowance: &'a Semaphore,
}

impl Failure<'_> {
    /// Runs `work` on a thread, and keeps the error that it ends with.
    fn watch<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        name: &str,
        work: impl FnOnce() -> PortResult<()> + Send + 'scope,
    ) -> PortResult<ScopedJoinHandle<'scope, ()>> {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, move || {
                if let Err(error) = work() {
                    let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error);
                    self.allowance.close();
                }
            })
            .attempt(|| "starting to install a seed".to_owned())
    }

    fn first(&self) -> Option<PortError> {
        self.first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// Ends the settling when it is dropped.
struct Closing<'a>(&'a Settler<'a>);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn joined<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
