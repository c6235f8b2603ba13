//! The seeds port: the registry, the spool, and what is in a seed's archives.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;

use api::configuration::PublicKey;
use api::{DeploymentId, ImageRef, StaterootName, seed_format};
use node::ports::{
    FetchLimits, FetchRequest, Files, PullSecret, SeedContent, SeedPin, SeedSignature, Seeds, Watch,
};
use node::record::Record;
use node::{ErrorKind, PortError, PortResult};
use seed::archive::{ArchiveReader, MemberPath, Names};
use seed::extract::extract;
use seed::index::Place;
use seed::layout::{Layout as Spool, LayoutError};
use seed::pin::Blob;
use seed::pipe::PipeWriter;
use seed::reader::{Part, SeedReader};
use seed::registry::{RegistryError, Resolved, Sources};

use crate::directory::Anchor;
use crate::failure::Attempt;
use crate::files::HostFiles;
use crate::import;
use crate::incoming::Incoming;
use crate::indexed::{self, Missing};
use crate::ingest::{ingest, inlet, stage_objects};
use crate::layout::Layout;
use crate::objects::ObjectStore;
use crate::priority::step_back;
use crate::seed_access::{Places, asking, blocking, pinned};
use crate::seed_content::{content, delete};
use crate::seed_failure::{extract_kind, layout_kind, read_error, registry_kind};
use crate::seed_signature;
use crate::sysroot::{is_complete, repository};
use crate::sysroot_writer::{Relay, writing, writing_watched};
use crate::transfer::{Stop, Transfer};
use crate::tree;

/// Seeds of a node.
#[derive(Clone, Debug)]
pub struct HostSeeds {
    layout: Layout,
    /// For [`Self::missing`]; each fetch has its own.
    limits: FetchLimits,
}

impl HostSeeds {
    /// Seeds of the node that lies there.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            limits: FetchLimits::default(),
        }
    }

    /// Keeps to these limits when it looks for what is missing.
    #[must_use]
    pub fn limited(self, limits: FetchLimits) -> Self {
        Self { limits, ..self }
    }

    /// What a fetch of a resolved seed would ask the registry for; `None` when all of it, because it has no index that can be
    /// used. Fetches the index and the documents, and changes nothing on the node.
    pub fn missing(
        &self,
        pin: &SeedPin,
        secret: &PullSecret,
        watch: &dyn Watch,
    ) -> PortResult<Option<Missing>> {
        match self.is_spooled(pin) {
            false => indexed::missing(&self.layout, pin, secret, self.limits, watch),
            true => Ok(None),
        }
    }

    /// Where the index of a seed lies that is to be fetched by it. What was begun to be spooled is spooled to its end.
    fn indexed(&self, pin: &SeedPin) -> Option<(Place, Blob)> {
        match self.is_spooled(pin) {
            false => indexed::place(pin),
            true => None,
        }
    }

    /// Whether something of a layer is in the spool.
    fn is_spooled(&self, pin: &SeedPin) -> bool {
        let blobs = self.spool_path().join("blobs/sha256");
        pin.layers.iter().any(|(digest, _)| {
            let hex = digest.hex();
            let names = [hex.to_owned(), format!("{hex}.partial")];
            names.iter().any(|name| blobs.join(name).exists())
        })
    }

    fn spool_path(&self) -> PathBuf {
        self.layout.shared().join("seed")
    }

    fn spool(&self) -> PortResult<Spool> {
        let path = self.spool_path();
        Spool::create(&path).map_err(|error| {
            PortError::new(
                layout_kind(&error),
                format!("opening the spool {}", path.display()),
                error,
            )
        })
    }

    /// Runs `consume` on an archive of the spooled seed.
    fn archive<T>(
        &self,
        pin: &SeedPin,
        part: Part,
        relay: &Relay,
        consume: impl FnOnce(&SeedReader<'_>, &mut dyn Read, &Transfer<'_>) -> PortResult<T>,
    ) -> PortResult<T> {
        let attempt =
            |error| read_error(format!("reading {} of the seed", part.file_name()), error);
        let (spool, pin) = (self.spool()?, format_pin(pin));
        self.check_spooled(&spool, &pin)?;
        let mut search = &Transfer::new(relay, part.file_name(), None);
        let reader = SeedReader::open(&spool, &pin, &mut search).map_err(attempt)?;
        let transfer = Transfer::new(relay, part.file_name(), Some(reader.part_size(part)));
        reader
            .with_part(part, |bytes| {
                let mut counted = Counted {
                    bytes,
                    transfer: &transfer,
                };
                consume(&reader, &mut counted, &transfer)
            })
            .map_err(attempt)?
    }

    /// Fails where the spool lacks a layer, and has the seed fetched again: without its record it does not count as
    /// fetched. There may never have been room for the spool.
    fn check_spooled(&self, spool: &Spool, pin: &seed::pin::SeedPin) -> PortResult<()> {
        let is_missing = |layer: &Blob| match spool.open(&layer.digest) {
            Err(LayoutError::Io { source, .. }) => source.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        };
        if !pin.layers.iter().any(is_missing) {
            return Ok(());
        }
        HostFiles::new(self.layout.clone()).remove(&Record::SeedContent.path())?;
        let text = format!(
            "the node has not kept seed {}; it is fetched again",
            pin.digest
        );
        Err(PortError::plain(ErrorKind::Transient, text))
    }

    /// Unpacks the members below `prefix` of an archive in the spool, and gives the seed's list of deletions.
    fn unpack_spooled(
        &self,
        pin: &SeedPin,
        part: Part,
        prefix: &str,
        destination: &Path,
        names: &Path,
        relay: &Relay,
    ) -> PortResult<String> {
        self.archive(pin, part, relay, |reader, bytes, transfer| {
            unpack(bytes, part, prefix, destination, names, transfer)?;
            let deletions = reader.documents().get(seed_format::ETC_DELETIONS);
            let attempt = || format!("unpacking {} of the seed", part.file_name());
            let deletions = deletions.map_err(|error| read_error(attempt(), error))?;
            Ok(String::from_utf8_lossy(deletions).into_owned())
        })
    }

    /// Fetches a seed and does with it what can be done meanwhile.
    fn fetch_watched(
        &self,
        request: &FetchRequest,
        secret: &PullSecret,
        relay: &Relay,
    ) -> PortResult<SeedContent> {
        if let Some(place) = self.indexed(&request.pin) {
            match indexed::fetch(&self.layout, request, place, secret, relay) {
                Err(error) if is_of_the_seed(&error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "all of the seed is fetched, not what its index says");
                }
                fetched => return fetched,
            }
        }
        let FetchRequest {
            pin,
            stateroot,
            spool,
            limits,
        } = request;
        let image = pinned(pin)?;
        let attempted = format!("fetching image {image}");
        let total = pin.layers.iter().map(|(_, size)| size).sum();
        let transfer = Transfer::new(relay, pin.image.as_str(), Some(total));
        let places = Places::of(&self.layout, &image, secret)?.limited(*limits);
        let layout = spool.then(|| self.spool()).transpose()?;
        let repo = repository(&self.layout)?;
        let store = ObjectStore::open(&self.layout, &repo)?;
        let incoming = Incoming::of(&self.layout, stateroot);
        incoming.begin()?;
        let (pipe, input) = inlet();
        let (fetched, ingested) = thread::scope(|scope| {
            let ingesting = scope.spawn(|| ingest(pin, input, &incoming, &store, &transfer));
            let fetched = blocking(
                fetch_layers(places.sources(), pin, layout.as_ref(), pipe, &transfer),
                &attempted,
            );
            let ingested = ingesting
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (fetched, ingested)
        });
        fetched?;
        let ingested = match (ingested, &layout) {
            (Err(error), Some(layout)) if error.kind() != ErrorKind::Interrupted => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    error,
                    "the seed is unpacked from the spool, not as it arrived"
                );
                store.close(&self.layout)?;
                incoming.remove()?;
                let format_pin = format_pin(pin);
                let mut search = &Transfer::new(relay, pin.image.as_str(), None);
                let reader = SeedReader::open(layout, &format_pin, &mut search)
                    .map_err(|error| read_error(format!("reading seed image {image}"), error))?;
                return content(pin, reader.documents());
            }
            (ingested, _) => ingested?,
        };
        let var = is_unpacked(ingested.var, layout.is_some())?;
        let content = content(pin, &ingested.documents)?;
        let deletions = ingested.documents.get(seed_format::ETC_DELETIONS);
        let deletions = deletions.map_err(|error| read_error(attempted.clone(), error))?;
        import::adopt(&repo, &store, &content.commit, &ingested.commits)?;
        store.close(&self.layout)?;
        incoming.mark(pin, var, Some(deletions))?;
        Ok(content)
    }

    /// A directory whose `/etc/passwd` and `/etc/group` name the users of the stateroot's release: one of its
    /// deployments, or else the running system.
    fn names(&self, stateroot: &StaterootName) -> PathBuf {
        let deployments = self.layout.stateroot(stateroot).join("deploy");
        let entries = std::fs::read_dir(deployments)
            .into_iter()
            .flatten()
            .flatten();
        let mut directories = entries
            .map(|entry| entry.path())
            .filter(|path| path.is_dir());
        directories
            .next()
            .unwrap_or_else(|| self.layout.booted().to_owned())
    }
}

/// Whether an indexed seed's fetch failed of something that another way of fetching it may not meet: neither of a stop nor of
/// what may pass, nor of the disk.
fn is_of_the_seed(error: &PortError) -> bool {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    let is_of_the_disk = causes.any(|cause| {
        let error = cause.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| error.raw_os_error().is_some() || is_full(error.kind()))
    });
    error.kind() == ErrorKind::Permanent && !is_of_the_disk
}

fn is_full(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(kind, StorageFull | QuotaExceeded)
}

/// Whether `/var` was unpacked as it arrived. Where it was not it is read from the spool later, if there is one.
fn is_unpacked(var: PortResult<()>, is_kept: bool) -> PortResult<bool> {
    match var {
        Ok(()) => Ok(true),
        Err(error) if is_kept => {
            let error: &dyn std::error::Error = &error;
            tracing::info!(error, "/var is unpacked once its release is deployed");
            Ok(false)
        }
        Err(error) => {
            let attempted = "installing the seed as it arrives: there is no room to keep it";
            Err(error.within(attempted))
        }
    }
}

/// Unpacks the members below `prefix` of an archive.
fn unpack(
    bytes: &mut dyn Read,
    part: Part,
    prefix: &str,
    destination: &Path,
    names: &Path,
    transfer: &Transfer<'_>,
) -> PortResult<()> {
    let attempt = || format!("unpacking {} of the seed", part.file_name());
    let names = Names::read(names).attempt(attempt)?;
    let mut archive = ArchiveReader::decoding(bytes, names).attempt(attempt)?;
    let prefix = MemberPath::parse(prefix.as_bytes())
        .map_err(|error| PortError::new(ErrorKind::Permanent, attempt(), error))?;
    let extracted = extract(&mut archive, &prefix, destination, &mut Stop(transfer))
        .map_err(|error| PortError::new(extract_kind(&error), attempt(), error))?;
    tracing::info!(part = part.file_name(), ?extracted, "unpacked");
    Ok(())
}

/// Fetches the layers of a pinned seed into the spool and the pipe, or only into the pipe. The registry is not asked for
/// documents that the spool has.
async fn fetch_layers(
    sources: Sources<'_>,
    pin: &SeedPin,
    layout: Option<&Spool>,
    pipe: PipeWriter,
    transfer: &Transfer<'_>,
) -> Result<(), RegistryError> {
    let mut watch = transfer;
    let known = layout.and_then(|layout| Resolved::spooled(layout, &pin.image, &pin.digest));
    let resolved = match known {
        Some(resolved) => resolved,
        None => sources.resolve(&mut watch).await?,
    };
    match layout {
        Some(layout) => {
            seed::spool::spool(sources, &resolved, layout, Some(pipe), &mut watch).await
        }
        None => seed::spool::pass(sources, &resolved, pipe, &mut watch).await,
    }
}

/// The label that says where the seed's index lies, if it can be used.
fn index(pin: &seed::pin::SeedPin) -> Option<String> {
    let index = pin.index().unwrap_or_else(|error| {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, image = %pin.reference, "all of the seed is fetched");
        None
    });
    index.map(ToOwned::to_owned)
}

/// A pin as the crate `seed` has it; only what reading from the spool needs.
fn format_pin(pin: &SeedPin) -> seed::pin::SeedPin {
    let blob = |(digest, size): &(api::Digest, u64)| Blob {
        digest: digest.clone(),
        size: *size,
        media_type: String::new(),
    };
    seed::pin::SeedPin {
        reference: pin.image.clone(),
        digest: pin.digest.clone(),
        labels: std::collections::BTreeMap::new(),
        layers: pin.layers.iter().map(blob).collect(),
        config: blob(&(pin.digest.clone(), 0)),
    }
}

/// Counts the bytes of an archive.
struct Counted<'a> {
    bytes: &'a mut dyn Read,
    transfer: &'a Transfer<'a>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.bytes.read(buffer)?;
        self.transfer.add(length as u64);
        Ok(length)
    }
}

fn sync(directory: &Path) -> PortResult<()> {
    let attempt = || format!("syncing the filesystem of {}", directory.display());
    Anchor::open(directory)
        .and_then(|anchor| anchor.map_or(Ok(()), |anchor| anchor.sync()))
        .attempt(attempt)
}

impl Seeds for HostSeeds {
    fn resolve(
        &self,
        image: &ImageRef,
        secret: &PullSecret,
        watch: &dyn Watch,
    ) -> PortResult<SeedPin> {
        let places = Places::of(&self.layout, image, secret)?;
        let (sources, mut nobody) = (places.sources(), ());
        let resolved = asking(
            sources.resolve(&mut nobody),
            registry_kind,
            watch,
            &format!("resolving image {image}"),
        )?;
        let architecture = seed::pin::parse_architecture(&resolved.config);
        let pin = resolved.pin;
        let label = |name: &str| pin.labels.get(name).cloned();
        Ok(SeedPin {
            image: image.clone(),
            format_version: label(api::label::SEED_FORMAT_VERSION),
            cluster_info: label(api::label::SEED_CLUSTER_INFO),
            node_facts: label(api::label::SEED_NODE_FACTS),
            index: index(&pin),
            architecture,
            signature: None,
            documents: (resolved.manifest.len() + resolved.config.len()) as u64,
            layers: pin
                .layers
                .into_iter()
                .map(|blob| (blob.digest, blob.size))
                .collect(),
            digest: pin.digest,
        })
    }

    fn verify(
        &self,
        pin: &SeedPin,
        keys: &[PublicKey],
        secret: &PullSecret,
        watch: &dyn Watch,
    ) -> PortResult<SeedSignature> {
        seed_signature::verify(&self.layout, pin, keys, secret, watch)
    }

    fn fetch(
        &self,
        request: &FetchRequest,
        secret: &PullSecret,
        watch: &dyn Watch,
    ) -> PortResult<SeedContent> {
        writing_watched(&self.layout, watch, |relay| {
            step_back();
            self.fetch_watched(request, secret, relay)
        })
    }

    fn import_commit(&self, pin: &SeedPin, commit: &str, watch: &dyn Watch) -> PortResult<()> {
        writing_watched(&self.layout, watch, |relay| {
            step_back();
            let repo = repository(&self.layout)?;
            if is_complete(&repo, commit)? {
                import::protect(&repo, commit)?;
            } else {
                let store = ObjectStore::open(&self.layout, &repo)?;
                let commits = self.archive(pin, Part::Ostree, relay, |_, bytes, transfer| {
                    stage_objects(bytes, &store, transfer)
                })?;
                import::adopt(&repo, &store, commit, &commits)?;
                store.close(&self.layout)?;
            }
            sync(self.layout.sysroot())
        })
    }

    fn unpack_var(
        &self,
        pin: &SeedPin,
        stateroot: &StaterootName,
        watch: &dyn Watch,
    ) -> PortResult<()> {
        writing_watched(&self.layout, watch, |relay| {
            step_back();
            if Incoming::of(&self.layout, stateroot).take_var(pin)? {
                return Ok(());
            }
            let destination = self.layout.stateroot(stateroot).join("var");
            let names = self.names(stateroot);
            self.unpack_spooled(pin, Part::Var, "var", &destination, &names, relay)?;
            sync(&destination)
        })
    }

    fn unpack_etc(
        &self,
        pin: &SeedPin,
        deployment: &DeploymentId,
        watch: &dyn Watch,
    ) -> PortResult<()> {
        writing_watched(&self.layout, watch, |relay| {
            step_back();
            let root = self.layout.deployment(deployment);
            let etc = root.join("etc");
            let incoming = Incoming::of(&self.layout, &deployment.stateroot);
            let deletions = match incoming.take_etc(pin)? {
                Some((mut archive, deletions)) => {
                    let transfer = Transfer::new(relay, Part::Etc.file_name(), None);
                    unpack(&mut archive, Part::Etc, "etc", &etc, &root, &transfer)?;
                    deletions
                }
                None => self.unpack_spooled(pin, Part::Etc, "etc", &etc, &root, relay)?,
            };
            delete(&etc, &deletions)?;
            // The archive stays until Idle: this is done again when a kill comes before the step is marked.
            incoming.remove_var()?;
            sync(&etc)
        })
    }

    fn discard(&self) -> PortResult<()> {
        writing(&self.layout, || Incoming::remove_all(&self.layout))?;
        let path = self.spool_path();
        let attempt = || format!("removing the spool {}", path.display());
        let parent = Anchor::open(self.layout.shared()).attempt(attempt)?;
        let place = parent
            .map(|parent| parent.place("seed"))
            .transpose()
            .attempt(attempt)?
            .flatten();
        let Some(place) = place else { return Ok(()) };
        tree::remove(&place, &mut |_| true).attempt(attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_spool_var_is_unpacked_at_once() {
        let check = |error: Option<ErrorKind>, is_kept, expect: Result<bool, ErrorKind>| {
            let var = error.map_or(Ok(()), |kind| Err(PortError::plain(kind, "no room")));
            let unpacked = is_unpacked(var, is_kept);
            assert_eq!(unpacked.map_err(|error| error.kind()), expect, "{error:?}");
        };
        for is_kept in [false, true] {
            check(None, is_kept, Ok(true));
        }
        for kind in [ErrorKind::Permanent, ErrorKind::Transient] {
            check(Some(kind), true, Ok(false));
            check(Some(kind), false, Err(kind));
        }
    }
}
