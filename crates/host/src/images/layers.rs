//! Which layers images have, and which are in the storage: advice for the order of pulls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use api::ImageRef;
use futures::StreamExt as _;
use node::ports::{Layer, PullSecret};
use seed::auth::AuthFile;
use seed::mirrors::Mirrors;
use seed::registry::Lookup;
use seed::trust::Trust;
use serde::Deserialize;

use crate::seed_access::REGISTRY_CERTIFICATES;

/// Where `registries.conf` is, which podman obeys too.
const REGISTRIES: &str = "/etc/containers";

/// Questions to registries at a time: they are small.
const QUESTIONS: usize = 8;

/// How often a stop is looked for.
const STOP_INTERVAL: Duration = Duration::from_secs(1);

/// How long all questions may take. Without answers images are pulled all the same.
const DEADLINE: Duration = Duration::from_secs(60);

/// Longest list of layers that is read, bytes: some 100,000 layers.
const LIMIT: u64 = 64 << 20;

/// The layers in a storage of containers/storage. Its list is read as it lies on disk, without a lock: it is replaced as a
/// whole, and podman makes up its own mind.
#[derive(Clone, Debug)]
pub(super) struct LayerStore {
    list: PathBuf,
    /// What was read last, and what the list looked like then.
    seen: Arc<Mutex<Option<Seen>>>,
}

#[derive(Debug)]
struct Seen {
    changed: SystemTime,
    size: u64,
    whole: BTreeSet<String>,
}

/// An entry of `layers.json`.
#[derive(Deserialize)]
struct Stored {
    /// Of the blob that it was made from; missing while it is made.
    #[serde(rename = "compressed-diff-digest")]
    digest: Option<String>,
    #[serde(default)]
    flags: Option<BTreeMap<String, serde_json::Value>>,
}

impl LayerStore {
    /// The layers of the storage with this root, where it uses overlayfs, as all nodes do.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            list: root.join("overlay-layers/layers.json"),
            seen: Arc::default(),
        }
    }

    /// Digests of the blobs whose layers are whole; empty where that is not to be learned.
    pub(super) fn whole(&self) -> BTreeSet<String> {
        let Ok(metadata) = std::fs::metadata(&self.list) else {
            return BTreeSet::new();
        };
        let (changed, size) = (metadata.modified(), metadata.len());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(seen), Ok(changed)) = (&*seen, &changed)
            && seen.changed == *changed
            && seen.size == size
        {
            return seen.whole.clone();
        }
        let Some(whole) = read(&self.list, size) else {
            return BTreeSet::new();
        };
        if let Ok(changed) = changed {
            *seen = Some(Seen {
                changed,
                size,
                whole: whole.clone(),
            });
        }
        whole
    }
}

fn read(list: &Path, size: u64) -> Option<BTreeSet<String>> {
    if size > LIMIT {
        return None;
    }
    parse(&std::fs::read(list).ok()?)
}

fn parse(json: &[u8]) -> Option<BTreeSet<String>> {
    let layers: Vec<Stored> = serde_json::from_slice(json).ok()?;
    let half = |layer: &Stored| {
        let flags = layer.flags.as_ref();
        flags.is_some_and(|flags| flags.contains_key("incomplete"))
    };
    let whole = layers.into_iter().filter(|layer| !half(layer));
    Some(whole.filter_map(|layer| layer.digest).collect())
}

/// Asks the registries.
pub(super) fn look_up(
    images: &[String],
    secret: &PullSecret,
    stop: &dyn Fn() -> bool,
) -> BTreeMap<String, Vec<Layer>> {
    let places = places(images);
    let Some(first) = places.values().flatten().next() else {
        return BTreeMap::new();
    };
    let registries = places.values().flatten().map(ImageRef::registry);
    let registries: BTreeSet<&str> = registries.collect();
    let mut trust = Trust::system();
    for registry in registries {
        for directory in REGISTRY_CERTIFICATES {
            // A file that is no good keeps podman from pulling, and it will say so.
            trust.add(&Path::new(directory).join(registry)).ok();
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let lookup = AuthFile::parse(&secret.0)
        .ok()
        .and_then(|auth| Lookup::new(first, auth, &trust).ok());
    let (Ok(runtime), Some(lookup)) = (runtime, lookup) else {
        return BTreeMap::new();
    };
    let found = runtime.block_on(ask(&lookup, &places, stop));
    let (asked, known) = (images.len(), found.len());
    if known < asked {
        tracing::info!(
            asked,
            known,
            "not every image's layers are known beforehand"
        );
    }
    found
}

/// Where each image is to be had, best first; nothing where podman will not pull it from anywhere.
fn places(images: &[String]) -> BTreeMap<&String, Vec<ImageRef>> {
    let mirrors = Mirrors::read(Path::new(REGISTRIES)).ok();
    let places = |image: &ImageRef| match &mirrors {
        None => vec![image.clone()],
        Some(mirrors) => mirrors.places(image).map_or_else(
            |_| Vec::new(),
            |places| places.mirrors.into_iter().chain([places.own]).collect(),
        ),
    };
    let parsed = images.iter().map(|image| {
        let places = image
            .parse()
            .map_or_else(|_| Vec::new(), |image| places(&image));
        (image, places)
    });
    parsed.collect()
}

async fn ask(
    lookup: &Lookup,
    images: &BTreeMap<&String, Vec<ImageRef>>,
    stop: &dyn Fn() -> bool,
) -> BTreeMap<String, Vec<Layer>> {
    let question = async |(name, places): (&&String, &Vec<ImageRef>)| {
        for place in places {
            match lookup.layers(place).await {
                Ok(blobs) => {
                    let layers = blobs.into_iter().map(|blob| Layer {
                        digest: blob.digest.to_string(),
                        size: blob.size,
                    });
                    return Some(((*name).clone(), layers.collect::<Vec<Layer>>()));
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::debug!(%place, error, "an image's layers are not to be had there");
                }
            }
        }
        None
    };
    let questions = futures::stream::iter(images).map(question);
    let mut answers = std::pin::pin!(questions.buffer_unordered(QUESTIONS));
    let mut found = BTreeMap::new();
    let given_up = tokio::time::Instant::now() + DEADLINE;
    while !stop() && tokio::time::Instant::now() < given_up {
        match tokio::time::timeout(STOP_INTERVAL, answers.next()).await {
            Ok(None) => break,
            Ok(Some(answer)) => found.extend(answer),
            Err(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_whole_layers_count() {
        let dir = tempfile::tempdir().unwrap();
        let store = LayerStore::new(dir.path());
        assert_eq!(store.whole(), BTreeSet::new());
        fs::create_dir(dir.path().join("overlay-layers")).unwrap();
        let check = |json: &str, expect: &[&str]| {
            // Replaced as the storage does it.
            let new = dir.path().join("new");
            fs::write(&new, json).unwrap();
            fs::rename(&new, dir.path().join("overlay-layers/layers.json")).unwrap();
            let whole = store.whole();
            assert_eq!(
                whole.iter().map(String::as_str).collect::<Vec<_>>(),
                expect,
                "{json}"
            );
            assert_eq!(store.whole(), whole);
        };
        check("[]", &[]);
        check(
            r#"[{"id":"a","compressed-diff-digest":"sha256:1","compressed-size":7},
                {"id":"b","parent":"a","flags":{"incomplete":true}},
                {"id":"c","compressed-diff-digest":"sha256:3","flags":{"incomplete":true}},
                {"id":"d","compressed-diff-digest":"sha256:4","flags":{"other":1}}]"#,
            &["sha256:1", "sha256:4"],
        );
        check("[{\"id\":", &[]);
        check(
            r#"[{"id":"a","compressed-diff-digest":"sha256:5"}]"#,
            &["sha256:5"],
        );
    }
}
