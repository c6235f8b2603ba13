//! A sysroot in a temporary directory.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use host::{HostFiles, HostOstree, Layout};
use ostree::gio::{self, Cancellable};
use ostree::glib;
use ostree::prelude::*;
use rustix::fs::IFlags;
use tempfile::TempDir;

pub(crate) const NONE: Option<&Cancellable> = Cancellable::NONE;

/// A node in a directory. Two commits are in its repository; nothing is deployed.
pub(crate) struct Node {
    pub(crate) dir: TempDir,
    pub(crate) layout: Layout,
    pub(crate) ostree: HostOstree,
    pub(crate) files: HostFiles,
    pub(crate) commits: [String; 2],
}

impl Node {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        fs::create_dir_all(dir.path().join("root")).unwrap();
        fs::create_dir_all(layout.sysroot()).unwrap();
        let sysroot = ostree::Sysroot::new(Some(&gio::File::for_path(layout.sysroot())));
        sysroot.ensure_initialized(NONE).unwrap();
        sysroot.load(NONE).unwrap();
        let repo = sysroot.repo();
        let config = repo.config();
        config.set_string("sysroot", "bootloader", "none");
        repo.write_config(&config).unwrap();
        repo.reload_config(NONE).unwrap();
        let commits = ["one", "two"].map(|release| commit(&repo, dir.path(), release));
        let ostree = HostOstree::new(layout.clone());
        let files = HostFiles::new(layout.clone());
        Self {
            dir,
            layout,
            ostree,
            files,
            commits,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Deployments are immutable directories.
        let stateroots = fs::read_dir(self.layout.stateroots())
            .into_iter()
            .flatten()
            .flatten();
        let deployments = stateroots.flat_map(|entry| fs::read_dir(entry.path().join("deploy")));
        for deployment in deployments.flatten().flatten() {
            if let Ok(directory) = fs::File::open(deployment.path()) {
                rustix::fs::ioctl_setflags(directory.as_fd(), IFlags::empty()).ok();
            }
        }
    }
}

/// Commits a tree that libostree takes for a bootable operating system.
pub(crate) fn commit(repo: &ostree::Repo, dir: &Path, release: &str) -> String {
    let tree = dir.join(format!("tree-{release}"));
    let modules = tree.join("usr/lib/modules/6.0");
    fs::create_dir_all(&modules).unwrap();
    fs::create_dir_all(tree.join("usr/etc")).unwrap();
    fs::write(modules.join("vmlinuz"), release).unwrap();
    fs::write(modules.join("initramfs.img"), release).unwrap();
    fs::write(tree.join("usr/etc/release"), release).unwrap();
    fs::write(
        tree.join("usr/lib/os-release"),
        format!("NAME={release}\nID=test\n"),
    )
    .unwrap();
    std::os::unix::fs::symlink("release", tree.join("usr/etc/link")).unwrap();
    let transaction = repo.auto_transaction(NONE).unwrap();
    let tree_files = ostree::MutableTree::new();
    repo.write_directory_to_mtree(&gio::File::for_path(&tree), &tree_files, None, NONE)
        .unwrap();
    let root = repo.write_mtree(&tree_files, NONE).unwrap();
    let root = root.downcast_ref::<ostree::RepoFile>().unwrap();
    let metadata: Option<&glib::Variant> = None;
    let checksum = repo
        .write_commit(None, Some(release), None, metadata, root, NONE)
        .unwrap();
    transaction.commit(NONE).unwrap();
    checksum.to_string()
}
