//! Installing, in a process of its own.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use api::{ImageRef, StaterootName, label};
use host::{HostOstree, HostSeeds, Layout};
use node::PortError;
use node::ports::{FetchLimits, FetchRequest, Ostree, PullSecret, SeedPin, Seeds, Watch};

use crate::faulty::Faulty;
use crate::image::Image;
use crate::support::Node;
use crate::tree::{Seen, seen};

/// The test that installs where these are set: the image, the node's directory, and how.
const CHILD: &str = "run::the_process_that_installs";
const IMAGE: &str = "INDEXED_TEST_IMAGE";
const NODE: &str = "INDEXED_TEST_NODE";
const HOW: &str = "INDEXED_TEST_HOW";

/// Where the child says what it resolved.
const PIN: &str = "pin.json";

/// How a seed is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By its index.
    Parts,
    /// As if it had none.
    Whole,
    /// By its index, stopped after 2 MiB.
    Stopped,
    /// Nothing is installed; what would be fetched is printed.
    Missing,
}

pub(crate) fn stateroot() -> StaterootName {
    "rhcos_4.17.4".parse().unwrap()
}

/// Hears what is fetched, and may say stop.
struct Listener {
    /// So many bytes are enough.
    enough: u64,
    stopped: Cell<Option<Instant>>,
    last: Cell<(u64, Option<u64>)>,
}

impl Watch for Listener {
    fn progress(&self, done: u64, total: Option<u64>, _object: &str) -> bool {
        self.last.set((done, total));
        if done >= self.enough && self.stopped.get().is_none() {
            self.stopped.set(Some(Instant::now()));
        }
        self.stopped.get().is_none()
    }
}

#[test]
fn the_process_that_installs() {
    let (Ok(image), Ok(node)) = (env::var(IMAGE), env::var(NODE)) else {
        // Asked for by the other tests only.
        return;
    };
    let how = env::var(HOW).unwrap();
    let layout = Layout::below(Path::new(&node));
    let seeds = HostSeeds::new(layout.clone());
    let image: ImageRef = image.parse().unwrap();
    let secret = PullSecret(br#"{"auths":{}}"#.to_vec());
    let watch = Listener {
        enough: if how == "Stopped" { 2 << 20 } else { u64::MAX },
        stopped: Cell::default(),
        last: Cell::default(),
    };
    let unstopped = Listener {
        enough: u64::MAX,
        stopped: Cell::default(),
        last: Cell::default(),
    };
    let mut pin = seeds.resolve(&image, &secret, &unstopped).unwrap();
    assert!(pin.index.is_some());
    if how == "Whole" {
        pin.index = None;
    }
    if how == "Missing" {
        let missing = seeds.missing(&pin, &secret, &watch).unwrap();
        let bytes = missing.map(|missing| missing.bytes());
        println!("bytes: {}", bytes.map_or(-1, u64::cast_signed));
        return;
    }
    fs::write(
        Path::new(&node).join(PIN),
        serde_json::to_vec(&pin).unwrap(),
    )
    .unwrap();
    HostOstree::new(layout)
        .ensure_stateroot(&stateroot())
        .unwrap();
    let request = FetchRequest {
        pin,
        stateroot: stateroot(),
        spool: true,
        limits: FetchLimits {
            bytes_per_second: env::var("INDEXED_TEST_RATE")
                .ok()
                .and_then(|rate| NonZeroU64::new(rate.parse().unwrap())),
            ..FetchLimits::default()
        },
    };
    match seeds.fetch(&request, &secret, &watch) {
        Ok(content) => println!("commit: {}", content.commit),
        Err(error) => {
            let since = watch.stopped.get().map(|stopped| stopped.elapsed());
            let since = since.unwrap_or_default().as_millis();
            println!("error: {:?} {}", error.kind(), chain(&error));
            println!("stopped for: {since} ms");
            std::process::exit(1);
        }
    }
    let (done, total) = watch.last.get();
    println!("told: {done} of {}", total.unwrap_or_default());
}

fn chain(error: &PortError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) succeeded: bool,
    pub(crate) output: String,
    /// Bytes of the layer that the registry sent.
    pub(crate) sent: u64,
    pub(crate) took: Duration,
}

impl Outcome {
    /// The number behind a word in the output.
    pub(crate) fn number(&self, word: &str) -> u64 {
        let line = self.output.lines().find_map(|line| line.split_once(word));
        assert!(line.is_some(), "{word}: {}", self.output);
        let (_, rest) = line.unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// A node, and how seeds are installed there.
pub(crate) struct Site {
    pub(crate) node: Node,
    authorities: PathBuf,
}

impl Site {
    pub(crate) fn new(servers: &[&Faulty]) -> Self {
        let node = Node::new();
        let authorities = node.dir.path().join("authorities.pem");
        let pem: Vec<&str> = servers.iter().map(|server| server.pem.as_str()).collect();
        fs::write(&authorities, pem.join("\n")).unwrap();
        Self { node, authorities }
    }

    pub(crate) fn start(&self, server: &Faulty, how: How) -> Child {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", CHILD, "--nocapture", "--test-threads=1"])
            .env(IMAGE, server.image().as_str())
            .env(NODE, self.node.dir.path())
            .env(HOW, format!("{how:?}"))
            .env("SSL_CERT_FILE", &self.authorities)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    pub(crate) fn run(&self, server: &Faulty, how: How) -> Outcome {
        let (before, begun) = (server.sent(), Instant::now());
        let output = self.start(server, how).wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Outcome {
            succeeded: output.status.success(),
            output: String::from_utf8_lossy(&text).into_owned(),
            sent: server.sent() - before,
            took: begun.elapsed(),
        }
    }

    /// As [`Self::run`], which succeeds.
    pub(crate) fn install(&self, server: &Faulty, how: How) -> Outcome {
        let outcome = self.run(server, how);
        assert!(outcome.succeeded, "{}", outcome.output);
        outcome
    }

    /// What the last installation resolved.
    pub(crate) fn pin(&self) -> SeedPin {
        let text = fs::read(self.node.dir.path().join(PIN)).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.node.layout.sysroot().join("ostree/repo/objects")
    }

    /// What lies in the node after a fetch: the image's objects in the repository, and what was brought for the stateroot.
    pub(crate) fn seen(&self, image: &Image) -> BTreeMap<PathBuf, Seen> {
        let members = image.index().ostree.members;
        let ids = members.iter().flat_map(|member| &member.objects);
        let ours: BTreeSet<PathBuf> = ids.map(|id| id.path().into()).collect();
        let incoming = self.node.layout.stateroot(&stateroot()).join("incoming");
        let mut all = BTreeMap::new();
        for (name, directory) in [("objects", self.objects()), ("incoming", incoming)] {
            for (path, mut seen) in seen(&directory) {
                if name == "objects" && !ours.contains(&path) {
                    continue;
                }
                let is_directory_of_ours = path.components().count() < 2;
                let is_metadata = path.extension().is_some_and(|end| end != "file");
                if is_directory_of_ours || path.starts_with("var/lib") || is_metadata {
                    // Theirs is the time of the installation; and some of the metadata, libostree has written before.
                    seen.mtime = (0, 0);
                }
                all.insert(Path::new(name).join(path), seen);
            }
        }
        // How far it came is of one way only.
        all.remove(Path::new("incoming/progress"));
        all
    }

    pub(crate) fn is_whole(&self, image: &Image) -> bool {
        self.node.ostree.is_imported(&image.commit).unwrap()
    }

    /// Removes the objects of the image for which `fits` says so, given their paths below `objects/`.
    pub(crate) fn forget(&self, image: &Image, fits: impl Fn(&str) -> bool) {
        for member in image.index().ostree.members {
            for id in member.objects.iter().filter(|id| fits(&id.path())) {
                fs::remove_file(self.objects().join(id.path())).unwrap();
            }
        }
    }
}

/// A registry with an image.
pub(crate) fn serve(image: &Image) -> Faulty {
    let server = Faulty::start(image.layer.clone());
    label_image(&server, &image.layer, &image.label());
    server
}

pub(crate) fn label_image(server: &Faulty, layer: &[u8], index: &str) {
    let labels = [
        (label::SEED_FORMAT_VERSION.to_owned(), "4".to_owned()),
        (label::SEED_INDEX.to_owned(), index.to_owned()),
    ];
    server.label(layer, &labels.into());
}

/// Compares what lies in two nodes.
pub(crate) fn assert_same(
    what: &str,
    one: &BTreeMap<PathBuf, Seen>,
    other: &BTreeMap<PathBuf, Seen>,
) {
    assert!(one.len() > 100, "{what}: nearly empty");
    for (path, seen) in one {
        assert!(other.get(path) == Some(seen), "{what}: {}", path.display());
    }
    let more = other.keys().find(|path| !one.contains_key(*path));
    assert_eq!(more, None, "{what}");
}
