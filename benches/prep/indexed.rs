//! The same content as an indexed seed, and nodes that have most of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use api::{label, seed_format};
use seed::archive::{ArchiveWriter, Capture, CaptureError, Excludes, MemberPath, Overlay, Time};
use seed::auth::AuthFile;
use seed::index::{Index, ObjectId, Place};
use seed::layout::Layout;
use seed::reader::Part;
use seed::registry::Registry;
use seed::trust::Trust;
use seed::writer::{SeedWriter, WriteError};

use crate::ground::Ground;
use crate::usage::run;

/// Changes when the indexed seed is made differently.
const EDITION: &str = "indexed-1";

const STAMP: Time = Time {
    secs: 1_700_000_000,
    nanos: 0,
};

/// What the choice of missing objects begins with: the same ones each time.
const CHOICE: u64 = 20_261_121;

/// Which objects a node lacks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lacks {
    /// A tenth of the objects, by whole directories chosen at random, with the directories above them and the commit: an
    /// update changes files that lie together.
    Directories,
    /// A tenth of the file objects, each chosen at random, and the commit.
    Scattered,
}

/// The indexed seed.
pub(crate) struct Indexed {
    /// Its reference.
    pub(crate) image: String,
    /// Bytes of its layer.
    pub(crate) compressed: u64,
    index: Index,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("write")]
    Write(#[from] WriteError),
    #[error("capture")]
    Capture(#[from] CaptureError),
}

impl Indexed {
    /// Takes the seed from the cache, or makes it.
    pub(crate) fn prepare(ground: &Ground) -> Result<Self> {
        let made = ground.dir.join(EDITION);
        let image = ground.image().replace("/seed:1", "/indexed:1");
        if !made.exists() {
            eprintln!("making the indexed seed (a minute, once)");
            let (place, index, size) = make(ground, &image)?;
            let text = serde_json::json!({ "place": place, "size": size });
            fs::write(ground.dir.join("index.bin"), index)?;
            fs::write(&made, text.to_string())?;
        }
        let text: serde_json::Value = serde_json::from_slice(&fs::read(&made)?)?;
        let place: Place = serde_json::from_value(text["place"].clone())?;
        let compressed = text["size"].as_u64().context("the layer's size")?;
        let bytes = fs::read(ground.dir.join("index.bin"))?;
        let index = Index::decode(&bytes, &place, compressed)?;
        Ok(Self {
            image,
            compressed,
            index,
        })
    }

    /// Puts most of the objects into the repository of a sysroot. Gives the compressed bytes of those that lack, and of
    /// `/var` and `/etc`.
    pub(crate) fn fill(&self, ground: &Ground, sysroot: &Path, lacks: Lacks) -> Result<f64> {
        let missing = self.missing(ground, lacks)?;
        let (from, to) = (
            ground.dir.join("repo/objects"),
            sysroot.join("ostree/repo/objects"),
        );
        let (mut bytes, mut objects, mut lacking) = (0.0, 0_u64, 0_u64);
        let mut members = self.index.ostree.members.iter().peekable();
        while let Some(member) = members.next() {
            let mut compressed = u64::from(member.compressed);
            while let Some(more) = members.next_if(|member| member.continues) {
                compressed += u64::from(more.compressed);
            }
            // Of a member's compressed bytes each object has the part that it has of those of the archive.
            let mut sizes = Vec::new();
            for id in &member.objects {
                let content = fs::symlink_metadata(from.join(id.path()))?.len();
                sizes.push((id, 1024.0 + content as f64));
            }
            let all: f64 = sizes.iter().map(|(_, size)| size).sum();
            for (id, size) in sizes {
                objects += 1;
                if missing.contains(id) {
                    lacking += 1;
                    bytes += compressed as f64 * size / all;
                    continue;
                }
                let path = to.join(id.path());
                fs::create_dir_all(path.parent().context("an object's directory")?)?;
                fs::hard_link(from.join(id.path()), path)?;
            }
        }
        eprintln!("{lacking} of {objects} objects lack ({lacks:?})");
        ensure!(
            lacking * 9 > objects - lacking - objects / 100,
            "too few objects lack"
        );
        Ok(bytes + (self.index.var.length() + self.index.etc.length()) as f64)
    }

    fn missing(&self, ground: &Ground, lacks: Lacks) -> Result<BTreeSet<ObjectId>> {
        let ids = self
            .index
            .ostree
            .members
            .iter()
            .flat_map(|member| &member.objects);
        let known: BTreeMap<String, ObjectId> = ids.map(|id| (id.path(), *id)).collect();
        let mut random = Random(CHOICE);
        let mut missing = BTreeSet::new();
        let id = |checksum: &str, kind: &str| {
            let (directory, rest) = checksum.split_at(2);
            known.get(&format!("{directory}/{rest}.{kind}")).copied()
        };
        missing.extend(id(&ground.seed.commit, "commit"));
        let wanted = known.len() / 10;
        match lacks {
            Lacks::Scattered => {
                let files: Vec<_> = known
                    .iter()
                    .filter(|(path, _)| path.ends_with(".file"))
                    .collect();
                while missing.len() < wanted {
                    missing.extend(files.get(random.below(files.len())).map(|(_, id)| **id));
                }
            }
            Lacks::Directories => {
                let repo = format!("--repo={}", ground.dir.join("repo").display());
                let list =
                    run(Command::new("ostree").args([&repo, "ls", "-RC", &ground.seed.commit]))?;
                let mut files: BTreeMap<&str, Vec<ObjectId>> = BTreeMap::new();
                let mut directories: BTreeMap<&str, ObjectId> = BTreeMap::new();
                for line in list.lines() {
                    let Some((facts, path)) = line.split_once(" /") else {
                        continue;
                    };
                    let path = path.split_once(" -> ").map_or(path, |(path, _)| path);
                    let checksums: Vec<&str> = facts
                        .split_whitespace()
                        .filter(|word| word.len() == 64)
                        .collect();
                    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                    match (facts.starts_with('d'), checksums.first()) {
                        (true, Some(tree)) => {
                            directories.extend(id(tree, "dirtree").map(|id| (path, id)));
                        }
                        (false, Some(file)) => {
                            files.entry(parent).or_default().extend(id(file, "file"))
                        }
                        _ => {}
                    }
                }
                let mut names: Vec<&str> = files.keys().copied().collect();
                while missing.len() < wanted && !names.is_empty() {
                    let mut name = names.swap_remove(random.below(names.len()));
                    missing.extend(files.get(name).into_iter().flatten());
                    loop {
                        missing.extend(directories.get(name));
                        match name.rsplit_once('/') {
                            Some((parent, _)) => name = parent,
                            None if name.is_empty() => break,
                            None => name = "",
                        }
                    }
                }
            }
        }
        Ok(missing)
    }
}

/// Numbers as Knuth's linear congruential generator gives them.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// Writes and pushes the seed; gives where its index lies, the index, and the size of the layer.
fn make(ground: &Ground, image: &str) -> Result<(Place, Vec<u8>, u64)> {
    let path: PathBuf = ground.place("indexed-layout")?;
    let mut writer = SeedWriter::create(Layout::create(&path)?, STAMP)?;
    for (name, text) in documents(&ground.seed.commit) {
        writer.document(&name, text.as_bytes())?;
    }
    for (part, name) in [(Part::Etc, "etc"), (Part::Var, "var")] {
        writer.part(part, |out: &mut dyn Write| -> Result<(), Failed> {
            let (excludes, overlay) = (Excludes::default(), Overlay::default());
            let mut watch = ();
            let out = ArchiveWriter::new(out);
            let mut capture = Capture::new(out, excludes, overlay, STAMP, &mut watch);
            let source = ground.dir.join("capture").join(name);
            let member = MemberPath::parse(name.as_bytes()).unwrap();
            capture.tree(&source, &member)?;
            capture.finish()?;
            Ok(())
        })?;
    }
    let repository = ground.dir.join("repo");
    let commit = &ground.seed.commit;
    host::capture_repository(&mut writer, &repository, commit, STAMP, &mut ())?;
    let labels = BTreeMap::from([(label::SEED_FORMAT_VERSION.to_owned(), "4".to_owned())]);
    let reference = image.parse()?;
    let written = writer.finish(&reference, &labels, "2026-11-21T16:00:00Z", &mut ())?;
    let place = written.index.context("the seed has no index")?;
    let layout = Layout::create(&path)?;
    let mut trust = Trust::system();
    trust.add(&ground.authority())?;
    let registry = Registry::new(&reference, &AuthFile::anonymous(), &trust)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(registry.push(&layout, &written.manifest, &mut ()))?;
    let layer = path.join("blobs/sha256").join(written.layer.hex());
    let mut index = vec![0; usize::try_from(place.length)?];
    std::os::unix::fs::FileExt::read_exact_at(&fs::File::open(layer)?, &mut index, place.offset)?;
    ground.place("indexed-layout")?;
    Ok((place, index, written.size))
}

/// The same as in the stock seed.
fn documents(commit: &str) -> Vec<(String, String)> {
    let status = format!(
        r#"{{"deployments":[{{"id":"rhcos-{commit}.0","booted":true,"checksum":"{commit}","osname":"rhcos","serial":0,"origin":"seed"}}]}}"#
    );
    let info = r#"{"seed_cluster_ocp_version":"4.17.4","has_proxy":false,"has_fips":false,"additionalTrustBundle":null}"#;
    let origin = format!("ostree-{commit}.0.origin");
    [
        (seed_format::SEED_INFO, info),
        (seed_format::MACHINE_CONFIG, r#"{"spec":{}}"#),
        (seed_format::CONTAINERS_LIST, ""),
        (seed_format::ETC_DELETIONS, ""),
        (seed_format::RPM_OSTREE, &status),
        (&origin, "[origin]\nrefspec=seed\n"),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .into()
}
