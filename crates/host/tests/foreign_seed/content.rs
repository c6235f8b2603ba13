//! What a seed consists of, before anybody makes archives of it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use api::{ImageRef, label, seed_format};
use host::capture_repository;
use rustix::fs::XattrFlags;
use seed::archive::{ArchiveWriter, Capture, CaptureError, Excludes, MemberPath, Overlay, Time};
use seed::layout::Layout;
use seed::reader::Part;
use seed::writer::{SeedWriter, WriteError, Written};

use crate::support::{NONE, commit};
use crate::tree::{plant, run};

/// Written into times that nothing else tells.
const STAMP: Time = Time {
    secs: 1_700_000_000,
    nanos: 0,
};

const INFO: &str = r#"{"seed_cluster_ocp_version":"4.17.4","has_proxy":false,"has_fips":false,
    "additionalTrustBundle":null}"#;

/// The options of every archive that the Go original makes (contract S 0.1).
const TAR: [&str; 4] = ["--selinux", "--xattrs", "--xattrs-include=*", "--acls"];

/// Trees and documents.
pub(crate) struct Content {
    repository: PathBuf,
    /// The directory that holds `var` and `etc`.
    root: PathBuf,
    commit: String,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("write")]
    Write(#[from] WriteError),
    #[error("capture")]
    Capture(#[from] CaptureError),
}

impl Content {
    /// Makes the trees below `dir`: a repository with one commit, and files of every kind in `/var` and `/etc`.
    pub(crate) fn plant(dir: &Path) -> Self {
        let (repository, root) = (dir.join("repository"), dir.join("root"));
        let extra = dir.join("tree-seed/usr/lib/extra");
        fs::create_dir_all(extra.join("with space")).unwrap();
        fs::write(extra.join("program"), "#!").unwrap();
        chown(extra.join("program"), Some(12), Some(34)).unwrap();
        fs::set_permissions(extra.join("program"), Permissions::from_mode(0o4755)).unwrap();
        fs::write(extra.join("with space/large"), "0123456789".repeat(100_000)).unwrap();
        fs::write(extra.join("empty"), "").unwrap();
        symlink("../os-release", extra.join("link")).unwrap();
        let label = b"system_u:object_r:bin_t:s0\0";
        for (name, key, value) in [
            ("program", "security.selinux", &label[..]),
            ("large directory", "trusted.mark", b"1"),
            ("with space", "security.selinux", label),
        ] {
            fs::create_dir_all(extra.join("large directory")).unwrap();
            rustix::fs::setxattr(extra.join(name), key, value, XattrFlags::empty()).unwrap();
        }
        for name in ["gone", "kept"] {
            fs::create_dir_all(dir.join("tree-seed/usr/etc")).unwrap();
            fs::write(dir.join("tree-seed/usr/etc").join(name), "default").unwrap();
        }
        let repo = ostree::Repo::new_for_path(&repository);
        repo.create(ostree::RepoMode::Bare, NONE).unwrap();
        let commit = commit(&repo, dir, "seed");
        for name in ["var", "etc/planted"] {
            fs::create_dir_all(root.join(name)).unwrap();
            plant(&root.join(name));
        }
        fs::write(root.join("etc/kept"), "changed").unwrap();
        Self {
            repository,
            root,
            commit,
        }
    }

    /// The small files of the seed.
    pub(crate) fn documents(&self) -> Vec<(String, Vec<u8>)> {
        let commit = &self.commit;
        let status = format!(
            r#"{{"deployments":[{{"booted":true,"id":"rhcos-{commit}.0","osname":"rhcos",
            "serial":0,"checksum":"{commit}","version":"417.94"}}]}}"#
        );
        let config = r#"{"spec":{"kernelArguments":["a=\"b c\"","x"],"fips":true,
            "config":{"storage":{"files":[{"path":"/etc/x"}]}}}}"#;
        let origin = format!("ostree-{commit}.0.origin");
        [
            (seed_format::CONTAINERS_LIST, "quay.io/a/b:1\nquay.io/c@x\n"),
            (seed_format::SEED_INFO, INFO),
            (seed_format::RPM_OSTREE, &status),
            (seed_format::MACHINE_CONFIG, config),
            (seed_format::ETC_DELETIONS, "/etc/gone\n/etc/never\n"),
            (origin.as_str(), "[origin]\nrefspec=seed\n"),
            (seed_format::LCA_CLI, "#!"),
        ]
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .into()
    }

    /// The labels of the image.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let info = INFO.replace(['\n', ' '], "");
        [
            (label::SEED_FORMAT_VERSION, "4".to_owned()),
            (label::SEED_CLUSTER_INFO, info),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// The directory that an archive is made of, and the member that it begins with.
    fn source(&self, part: Part) -> (&Path, &'static str) {
        match part {
            Part::Ostree => (&self.repository, "."),
            Part::Var => (&self.root, "var"),
            Part::Etc => (&self.root, "etc"),
        }
    }

    /// Makes the archives with GNU tar.
    pub(crate) fn archive(&self, into: &Path) {
        for part in Part::ALL {
            let (directory, member) = self.source(part);
            let archive = into.join(part.file_name()).display().to_string();
            let command = [&["czf", archive.as_str()][..], &TAR[..], &[member][..]].concat();
            run("tar", &command, directory);
        }
    }

    /// Writes the seed as `seed create` does.
    pub(crate) fn write(&self, layout: Layout, image: &ImageRef) -> Written {
        let mut writer = SeedWriter::create(layout, STAMP).unwrap();
        for (name, bytes) in self.documents() {
            if name == seed_format::LCA_CLI {
                let program = self.root.join("program");
                fs::write(&program, &bytes).unwrap();
                writer.file(&name, &program, 0o755).unwrap();
            } else {
                writer.document(&name, &bytes).unwrap();
            }
        }
        for part in [Part::Etc, Part::Var] {
            let (directory, member) = self.source(part);
            let produce = |out: &mut dyn Write| -> Result<(), Failed> {
                let (out, watch) = (ArchiveWriter::new(out), &mut ());
                let none = (Excludes::default(), Overlay::default());
                let mut capture = Capture::new(out, none.0, none.1, STAMP, watch);
                let path = MemberPath::parse(member.as_bytes()).unwrap();
                capture.tree(&directory.join(member), &path)?;
                capture.finish()?;
                Ok(())
            };
            writer.part(part, produce).unwrap();
        }
        let (repository, commit) = (&self.repository, &self.commit);
        capture_repository(&mut writer, repository, commit, STAMP, &mut ()).unwrap();
        writer
            .finish(image, &self.labels(), "2026-11-21T16:00:00Z", &mut ())
            .unwrap()
    }
}
