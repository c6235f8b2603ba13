//! A seed with an index, and the layer of its image.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use api::{label, seed_format};
use host::{Layout, capture_repository};
use ostree::gio;
use ostree::prelude::*;
use seed::archive::{ArchiveWriter, Capture, CaptureError, Excludes, MemberPath, Overlay, Time};
use seed::index::Place;
use seed::layout::Layout as Images;
use seed::reader::Part;
use seed::writer::{SeedWriter, WriteError};

use crate::faulty::noise;
use crate::support::NONE;
use crate::tree::plant;

const STAMP: Time = Time {
    secs: 1_700_000_000,
    nanos: 0,
};

const INFO: &str = r#"{"seed_cluster_ocp_version":"4.17.4","has_proxy":false,"has_fips":false,"additionalTrustBundle":null}"#;

/// A seed.
pub(crate) struct Image {
    /// Its only layer.
    pub(crate) layer: Vec<u8>,
    /// Where its index lies.
    pub(crate) place: Place,
    /// Checksum of its commit.
    pub(crate) commit: String,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("write")]
    Write(#[from] WriteError),
    #[error("capture")]
    Capture(#[from] CaptureError),
}

impl Image {
    /// Makes a seed below `dir`: `short` files of up to 20 KiB, three long ones, and files of every kind in `/var` and `/etc`.
    pub(crate) fn make(dir: &Path, short: usize) -> Self {
        let layout = Layout::below(dir);
        let repository = layout.sysroot().join("ostree/repo");
        let commit = release(dir, &repository, short);
        let root = dir.join("capture");
        for name in ["var/planted", "var/log", "etc/planted"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        plant(&root.join("var/planted"));
        plant(&root.join("etc/planted"));
        fs::write(root.join("var/long"), noise(13 << 20, 11)).unwrap();
        for number in 0..60 {
            let file = root.join(format!("var/log/{number}"));
            fs::write(file, noise(100_000, 100 + number)).unwrap();
        }
        fs::write(root.join("etc/kept"), "changed").unwrap();

        let layout_dir = dir.join("layout");
        let mut writer = SeedWriter::create(Images::create(&layout_dir).unwrap(), STAMP).unwrap();
        for (name, text) in documents(&commit) {
            writer.document(&name, text.as_bytes()).unwrap();
        }
        for (part, name) in [(Part::Etc, "etc"), (Part::Var, "var")] {
            writer
                .part(part, |out| -> Result<(), Failed> {
                    let none = (Excludes::default(), Overlay::default());
                    let out = ArchiveWriter::new(out);
                    let mut watch = ();
                    let mut capture = Capture::new(out, none.0, none.1, STAMP, &mut watch);
                    let path = MemberPath::parse(name.as_bytes()).unwrap();
                    capture.tree(&root.join(name), &path)?;
                    capture.finish()?;
                    Ok(())
                })
                .unwrap();
        }
        capture_repository(&mut writer, &repository, &commit, STAMP, &mut ()).unwrap();
        let labels = [(label::SEED_FORMAT_VERSION.to_owned(), "4".to_owned())];
        let image = "registry.example/seed:1".parse().unwrap();
        let written = writer
            .finish(&image, &labels.into(), "2026-11-21T16:00:00Z", &mut ())
            .unwrap();
        let blobs = layout_dir.join("blobs/sha256");
        Self {
            layer: fs::read(blobs.join(written.layer.hex())).unwrap(),
            place: written.index.unwrap(),
            commit,
        }
    }

    /// The label of its index.
    pub(crate) fn label(&self) -> String {
        serde_json::to_string(&self.place).unwrap()
    }

    /// The label for a layer that has the index that `change` makes of this one, and that layer.
    pub(crate) fn with_index(
        &self,
        change: impl FnOnce(&mut seed::index::Index),
    ) -> (Vec<u8>, String) {
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let range = at(self.place.offset)..at(self.place.offset + self.place.length);
        let bytes = &self.layer[range.clone()];
        let size = self.layer.len() as u64;
        let mut index = seed::index::Index::decode(bytes, &self.place, size).unwrap();
        change(&mut index);
        let mut encoded = index.encode();
        // Numbers have various lengths, and the layer is not written anew.
        assert!(
            encoded.len() <= range.len(),
            "{} {}",
            encoded.len(),
            range.len()
        );
        let length = encoded.len() as u64;
        let sha256 = crate::faulty::digest(&encoded);
        encoded.resize(range.len(), 0);
        let mut layer = self.layer.clone();
        layer[range].copy_from_slice(&encoded);
        let place = Place {
            layer: crate::faulty::digest(&layer),
            offset: self.place.offset,
            length,
            sha256,
        };
        (layer, serde_json::to_string(&place).unwrap())
    }

    /// What its index says.
    pub(crate) fn index(&self) -> seed::index::Index {
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let range = at(self.place.offset)..at(self.place.offset + self.place.length);
        let size = self.layer.len() as u64;
        seed::index::Index::decode(&self.layer[range], &self.place, size).unwrap()
    }
}

fn documents(commit: &str) -> Vec<(String, String)> {
    let status = format!(
        r#"{{"deployments":[{{"id":"rhcos-{commit}.0","booted":true,"checksum":"{commit}","osname":"rhcos","serial":0}}]}}"#
    );
    [
        (seed_format::SEED_INFO, INFO.to_owned()),
        (seed_format::MACHINE_CONFIG, r#"{"spec":{}}"#.to_owned()),
        (seed_format::CONTAINERS_LIST, String::new()),
        (seed_format::RPM_OSTREE, status),
        (seed_format::ETC_DELETIONS, "/etc/gone\n".to_owned()),
        (
            &format!("ostree-{commit}.0.origin"),
            "[origin]\nrefspec=seed\n".to_owned(),
        ),
    ]
    .map(|(name, text)| (name.to_owned(), text))
    .into()
}

/// Commits a release in a new repository.
fn release(dir: &Path, repository: &Path, short: usize) -> String {
    let tree = dir.join("os");
    fs::create_dir_all(tree.join("usr/lib/modules/6.1")).unwrap();
    fs::create_dir_all(tree.join("usr/etc")).unwrap();
    let write = |name: &str, content: &[u8]| fs::write(tree.join(name), content).unwrap();
    write("usr/lib/modules/6.1/vmlinuz", &noise(9 << 20, 1));
    write("usr/lib/modules/6.1/initramfs.img", &noise(11 << 20, 2));
    write("usr/lib/library", &noise(3 << 20, 3));
    write("usr/lib/os-release", b"NAME=seed\nID=seed\n");
    write("usr/etc/kept", b"default");
    write("usr/etc/gone", b"default");
    symlink("../lib/os-release", tree.join("usr/etc/os-release")).unwrap();
    let program = tree.join("usr/lib/library");
    fs::set_permissions(program, fs::Permissions::from_mode(0o4755)).unwrap();
    for number in 0..short {
        let directory = tree.join(format!("usr/share/{}/{}", number % 7, number / 50));
        fs::create_dir_all(&directory).unwrap();
        let content = noise(number * 37 % 20_000, 1000 + number as u64);
        fs::write(directory.join(format!("file {number}")), content).unwrap();
    }
    fs::create_dir_all(repository).unwrap();
    let repo = ostree::Repo::new_for_path(repository);
    repo.create(ostree::RepoMode::Bare, NONE).unwrap();
    let transaction = repo.auto_transaction(NONE).unwrap();
    let mtree = ostree::MutableTree::new();
    let modifier = None;
    repo.write_directory_to_mtree(&gio::File::for_path(&tree), &mtree, modifier, NONE)
        .unwrap();
    let root = repo.write_mtree(&mtree, NONE).unwrap();
    let root = root.downcast_ref::<ostree::RepoFile>().unwrap();
    let metadata: Option<&ostree::glib::Variant> = None;
    let commit = repo
        .write_commit(None, Some("seed"), None, metadata, root, NONE)
        .unwrap();
    transaction.commit(NONE).unwrap();
    commit.to_string()
}
