//! What the seeds port does with a spooled seed that GNU tar has made, as the Go original does.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{NONE, Node};
use api::{DeploymentId, Digest, StaterootName};
use host::HostSeeds;
use node::ErrorKind;
use node::ports::{
    DeploymentSpec, FetchLimits, FetchRequest, Files, Ostree, PullSecret, SeedPin, Seeds,
    Unwatched, Watch,
};
use node::record::Record;
use ostree::gio;
use ostree::prelude::*;
use rustix::fs::XattrFlags;
use sha2::Digest as _;

/// The options of every archive in a seed.
const TAR: [&str; 4] = ["--selinux", "--xattrs", "--xattrs-include=*", "--acls"];

/// A seed's directory of files, and the commit in its repository.
struct Seed {
    files: PathBuf,
    commit: String,
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

fn tar(archive: &Path, directory: &Path, member: &str) {
    let (archive, directory) = (archive.to_str().unwrap(), directory.to_str().unwrap());
    run(
        "tar",
        &[&["czf", archive, "-C", directory, member], TAR.as_slice()].concat(),
    );
}

/// Writes what a seed consists of. `spoil` may change the repository before it is archived.
fn seed(dir: &Path, spoil: impl FnOnce(&Path)) -> Seed {
    let (files, tree, repo_path) = (dir.join("seed"), dir.join("os"), dir.join("seed-repo"));
    fs::create_dir_all(&files).unwrap();
    fs::create_dir_all(tree.join("usr/lib/modules/6.1")).unwrap();
    fs::create_dir_all(tree.join("usr/etc/dir")).unwrap();
    for (name, content) in [
        ("usr/lib/modules/6.1/vmlinuz", "kernel".repeat(500_000)),
        ("usr/lib/modules/6.1/initramfs.img", "initramfs".to_owned()),
        ("usr/lib/os-release", "NAME=seed\nID=seed\n".to_owned()),
        ("usr/lib/setuid", "program".to_owned()),
        ("usr/lib/empty", String::new()),
        ("usr/etc/kept", "default".to_owned()),
        ("usr/etc/gone", "default".to_owned()),
        ("usr/etc/dir/gone too", "default".to_owned()),
    ] {
        fs::write(tree.join(name), content).unwrap();
    }
    chown(tree.join("usr/lib/setuid"), Some(12), Some(34)).unwrap();
    fs::set_permissions(tree.join("usr/lib/setuid"), Permissions::from_mode(0o4755)).unwrap();
    for name in ["usr/lib/os-release", "usr/lib/modules"] {
        rustix::fs::setxattr(tree.join(name), "trusted.b", b"2\0", XattrFlags::empty()).unwrap();
        rustix::fs::setxattr(tree.join(name), "trusted.a", b"", XattrFlags::empty()).unwrap();
    }
    symlink("../lib/os-release", tree.join("usr/lib/link")).unwrap();
    let repo = ostree::Repo::new_for_path(&repo_path);
    repo.create(ostree::RepoMode::Bare, NONE).unwrap();
    let transaction = repo.auto_transaction(NONE).unwrap();
    let mtree = ostree::MutableTree::new();
    repo.write_directory_to_mtree(&gio::File::for_path(&tree), &mtree, None, NONE)
        .unwrap();
    let root = repo.write_mtree(&mtree, NONE).unwrap();
    let root = root.downcast_ref::<ostree::RepoFile>().unwrap();
    let commit = repo
        .write_commit(None, Some("seed"), None, None, root, NONE)
        .unwrap();
    transaction.commit(NONE).unwrap();
    spoil(&repo_path);
    tar(&files.join("ostree.tgz"), &repo_path, ".");

    let var = dir.join("capture");
    fs::create_dir_all(var.join("var/lib/etcd")).unwrap();
    fs::write(var.join("var/lib/etcd/db"), "etcd").unwrap();
    fs::set_permissions(var.join("var/lib/etcd"), Permissions::from_mode(0o700)).unwrap();
    fs::create_dir_all(var.join("etc/dir")).unwrap();
    fs::write(var.join("etc/kept"), "changed").unwrap();
    fs::write(var.join("etc/dir/new"), "new").unwrap();
    tar(&files.join("var.tgz"), &var, "var");
    tar(&files.join("etc.tgz"), &var, "etc");
    fs::write(
        files.join("etc.deletions"),
        "/etc/gone\n /etc/dir/gone too \n/etc/never\n\n",
    )
    .unwrap();
    Seed {
        files,
        commit: commit.to_string(),
    }
}

/// Puts the files into the spool of a node as the only layer of an image.
fn spool(node: &Node, seed: &Seed) -> SeedPin {
    let blobs = node.layout.shared().join("seed/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let layer = node.dir.path().join("layer.tar");
    // In the order that the build of an image gives: the repository is not first.
    let mut names: Vec<_> = fs::read_dir(&seed.files)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    let names: Vec<_> = names.iter().map(|name| name.to_str().unwrap()).collect();
    let (archive, files) = (layer.to_str().unwrap(), seed.files.to_str().unwrap());
    run(
        "tar",
        &[&["czf", archive, "-C", files], names.as_slice()].concat(),
    );
    let bytes = fs::read(&layer).unwrap();
    let digest = Digest::from_sha256(&sha2::Sha256::digest(&bytes).into());
    fs::write(blobs.join(digest.hex()), &bytes).unwrap();
    SeedPin {
        image: "registry.example/seed:1".parse().unwrap(),
        digest: digest.clone(),
        format_version: Some("4".to_owned()),
        cluster_info: None,
        architecture: None,
        node_facts: None,
        index: None,
        signature: None,
        layers: vec![(digest, bytes.len() as u64)],
        documents: 0,
    }
}

fn seeds(node: &Node) -> HostSeeds {
    HostSeeds::new(node.layout.clone())
}

fn deploy(node: &Node, commit: &str) -> DeploymentId {
    let stateroot: StaterootName = "rhcos_4.17.4".parse().unwrap();
    node.ostree.ensure_stateroot(&stateroot).unwrap();
    let origin = "[origin]\nrefspec=seed\n".to_owned();
    let commit = commit.to_owned();
    node.ostree
        .deploy(&DeploymentSpec {
            stateroot,
            commit,
            kernel_arguments: vec![],
            origin,
        })
        .unwrap()
}

#[test]
fn a_seed_becomes_a_stateroot() {
    let node = Node::new();
    let seed = seed(node.dir.path(), |_| {});
    let pin = spool(&node, &seed);
    let seeds = seeds(&node);
    assert!(!node.ostree.has_commit(&seed.commit).unwrap());
    for _ in 0..2 {
        seeds.import_commit(&pin, &seed.commit, &Unwatched).unwrap();
        assert!(node.ostree.has_commit(&seed.commit).unwrap());
    }
    let id = deploy(&node, &seed.commit);
    let root = node.layout.deployment(&id);
    for _ in 0..2 {
        seeds.unpack_var(&pin, &id.stateroot, &Unwatched).unwrap();
        seeds.unpack_etc(&pin, &id, &Unwatched).unwrap();
        assert_eq!(
            fs::read_to_string(root.join("etc/kept")).unwrap(),
            "changed"
        );
        assert_eq!(fs::read_to_string(root.join("etc/dir/new")).unwrap(), "new");
        assert!(!root.join("etc/gone").exists() && !root.join("etc/dir/gone too").exists());
    }
    let setuid = fs::metadata(root.join("usr/lib/setuid")).unwrap();
    assert_eq!(
        (setuid.mode() & 0o7777, setuid.uid(), setuid.gid()),
        (0o4755, 12, 34)
    );
    let mut value = [0; 10];
    let length =
        rustix::fs::getxattr(root.join("usr/lib/os-release"), "trusted.b", &mut value).unwrap();
    assert_eq!(&value[..length], b"2\0");
    let etcd = node.layout.stateroot(&id.stateroot).join("var/lib/etcd");
    assert_eq!(fs::metadata(&etcd).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::read_to_string(etcd.join("db")).unwrap(), "etcd");
    for _ in 0..2 {
        seeds.discard().unwrap();
        assert!(!node.layout.shared().join("seed").exists());
    }
}

#[test]
fn an_imported_commit_stays_until_it_is_pruned_on_purpose() {
    let node = Node::new();
    let seed = seed(node.dir.path(), |_| {});
    let pin = spool(&node, &seed);
    seeds(&node)
        .import_commit(&pin, &seed.commit, &Unwatched)
        .unwrap();
    let sysroot = ostree::Sysroot::new(Some(&gio::File::for_path(node.layout.sysroot())));
    sysroot.load(NONE).unwrap();
    // What rpm-ostree does behind our back.
    sysroot.cleanup(NONE).unwrap();
    assert!(node.ostree.has_commit(&seed.commit).unwrap());
    node.ostree.prune().unwrap();
    assert!(!node.ostree.has_commit(&seed.commit).unwrap());
}

/// The first object of this type.
fn object(repo: &Path, kind: &str, fits: impl Fn(&Path) -> bool) -> PathBuf {
    let directories = fs::read_dir(repo.join("objects")).unwrap();
    let mut objects = directories.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap());
    let is_wanted = |path: &PathBuf| path.extension().is_some_and(|end| end == kind) && fits(path);
    objects
        .find_map(|entry| Some(entry.unwrap().path()).filter(is_wanted))
        .unwrap()
}

#[test]
fn damage_is_refused_and_leaves_no_commit() {
    let check = |what: &str, spoil: &dyn Fn(&Path)| {
        let node = Node::new();
        let seed = seed(node.dir.path(), |repo| spoil(repo));
        let pin = spool(&node, &seed);
        let error = seeds(&node)
            .import_commit(&pin, &seed.commit, &Unwatched)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permanent, "{what}: {error}");
        assert!(!node.ostree.has_commit(&seed.commit).unwrap(), "{what}");
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let long = |path: &Path| fs::symlink_metadata(path).unwrap().len() > 1 << 20;
    let short = |path: &Path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        metadata.is_file() && metadata.len() > 0 && metadata.len() < 100
    };
    check("a long file", &|repo| flip(&object(repo, "file", long)));
    check("a short file", &|repo| flip(&object(repo, "file", short)));
    check("a directory", &|repo| {
        flip(&object(repo, "dirtree", |_| true))
    });
    check("a directory's metadata", &|repo| {
        flip(&object(repo, "dirmeta", |_| true))
    });
    check("the commit", &|repo| {
        flip(&object(repo, "commit", |_| true))
    });
    check("a mode", &|repo| {
        let path = object(repo, "file", short);
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    });
    check("a missing file", &|repo| {
        fs::remove_file(object(repo, "file", long)).unwrap()
    });
    check("the repository's mode", &|repo| {
        let text = fs::read_to_string(repo.join("config")).unwrap();
        fs::write(
            repo.join("config"),
            text.replace("mode=bare", "mode=bare-user"),
        )
        .unwrap();
    });
}

#[test]
fn work_stops_when_told() {
    struct Stop;
    impl Watch for Stop {
        fn progress(&self, _done: u64, _total: Option<u64>, _object: &str) -> bool {
            false
        }
    }
    let node = Node::new();
    let seed = seed(node.dir.path(), |_| {});
    let pin = spool(&node, &seed);
    let seeds = seeds(&node);
    let error = seeds.import_commit(&pin, &seed.commit, &Stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error:?}");
    seeds.import_commit(&pin, &seed.commit, &Unwatched).unwrap();
    let id = deploy(&node, &seed.commit);
    let error = seeds.unpack_var(&pin, &id.stateroot, &Stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error:?}");
    let error = seeds.unpack_etc(&pin, &id, &Stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error:?}");
}

/// Adds the documents that a fetch reads, and what makes the spooled layer an image: no registry is asked for it then.
fn spool_whole(node: &Node, seed: &Seed) -> SeedPin {
    let commit = &seed.commit;
    let write = |name: &str, text: String| fs::write(seed.files.join(name), text).unwrap();
    let info = r#"{"seed_cluster_ocp_version":"4.17.4","has_proxy":false,"has_fips":false,"additionalTrustBundle":null}"#;
    write("manifest.json", info.to_owned());
    write("mco-currentconfig.json", r#"{"spec":{}}"#.to_owned());
    write("containers.list", String::new());
    write(
        &format!("ostree-{commit}.0.origin"),
        "[origin]\nrefspec=seed\n".to_owned(),
    );
    let status = format!(
        r#"{{"deployments":[{{"id":"rhcos-{commit}.0","booted":true,"checksum":"{commit}","osname":"rhcos","serial":0}}]}}"#
    );
    write("rpm-ostree.json", status);
    let pin = spool(node, seed);
    let (layer, size) = &pin.layers[0];
    let blobs = node.layout.shared().join("seed/blobs/sha256");
    let store = |bytes: &[u8]| {
        let digest = Digest::from_sha256(&sha2::Sha256::digest(bytes).into());
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest
    };
    let config = br#"{"architecture":"amd64","os":"linux","config":{"Labels":{}}}"#;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{layer}","size":{size}}}]}}"#,
        store(config),
        config.len()
    );
    SeedPin {
        digest: store(manifest.as_bytes()),
        ..pin
    }
}

fn fetch(node: &Node, pin: &SeedPin) -> node::PortResult<node::ports::SeedContent> {
    let request = FetchRequest {
        pin: pin.clone(),
        stateroot: "rhcos_4.17.4".parse().unwrap(),
        spool: true,
        limits: FetchLimits::default(),
    };
    let secret = PullSecret(br#"{"auths":{}}"#.to_vec());
    node.ostree.ensure_stateroot(&request.stateroot).unwrap();
    seeds(node).fetch(&request, &secret, &Unwatched)
}

#[test]
fn a_seed_is_installed_while_it_arrives() {
    let node = Node::new();
    let seed = seed(node.dir.path(), |_| {});
    let pin = spool_whole(&node, &seed);
    let stateroot: StaterootName = "rhcos_4.17.4".parse().unwrap();
    let claim = node.layout.stateroot(&stateroot).join("var/lib/lca/claim");
    node.ostree.ensure_stateroot(&stateroot).unwrap();
    fs::create_dir_all(claim.parent().unwrap()).unwrap();
    fs::write(&claim, "ours").unwrap();
    for _ in 0..2 {
        assert_eq!(fetch(&node, &pin).unwrap().commit, seed.commit);
        assert!(node.ostree.is_imported(&seed.commit).unwrap());
    }
    let etcd = node.layout.stateroot(&stateroot).join("var/lib/etcd/db");
    assert!(!etcd.exists(), "nothing is in place before it is asked for");
    // From here on nothing is read from the spool.
    fs::remove_dir_all(node.layout.shared().join("seed")).unwrap();
    let id = deploy(&node, &seed.commit);
    seeds(&node)
        .unpack_var(&pin, &stateroot, &Unwatched)
        .unwrap();
    assert_eq!(fs::read_to_string(&etcd).unwrap(), "etcd");
    assert_eq!(
        fs::metadata(etcd.parent().unwrap()).unwrap().mode() & 0o7777,
        0o700
    );
    assert_eq!(fs::read_to_string(&claim).unwrap(), "ours");
    let etc = node.layout.deployment(&id).join("etc");
    // Twice: a kill may come before it is noted that it was done.
    for _ in 0..2 {
        seeds(&node).unpack_etc(&pin, &id, &Unwatched).unwrap();
        assert_eq!(fs::read_to_string(etc.join("kept")).unwrap(), "changed");
        assert!(!etc.join("gone").exists() && !etc.join("dir/gone too").exists());
        fs::write(etc.join("gone"), "half done").unwrap();
    }
    let incoming = node.layout.stateroot(&stateroot).join("incoming");
    assert!(incoming.exists() && !incoming.join("var").exists());
    // What was taken is not taken again, and there is nothing else: the seed counts as not fetched.
    let record = Record::SeedContent.path();
    node.files.replace(&record, b"content", 0o600).unwrap();
    let error = seeds(&node)
        .unpack_var(&pin, &stateroot, &Unwatched)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert!(node.files.kind(&record).unwrap().is_none());
    seeds(&node).discard().unwrap();
    assert!(!incoming.exists());
}

#[test]
fn a_seed_that_was_not_kept_is_fetched_again() {
    let node = Node::new();
    let seed = seed(node.dir.path(), |_| {});
    let pin = spool_whole(&node, &seed);
    let stateroot: StaterootName = "rhcos_4.17.4".parse().unwrap();
    let record = Record::SeedContent.path();
    fetch(&node, &pin).unwrap();
    let id = deploy(&node, &seed.commit);
    seeds(&node).discard().unwrap();
    let check = |what: &str, work: &dyn Fn(HostSeeds) -> node::PortResult<()>| {
        node.files.replace(&record, b"content", 0o600).unwrap();
        let error = work(seeds(&node)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient, "{what}: {error}");
        assert!(node.files.kind(&record).unwrap().is_none(), "{what}");
    };
    check("import", &|seeds| {
        seeds.import_commit(&pin, &"ab".repeat(32), &Unwatched)
    });
    check("var", &|seeds| {
        seeds.unpack_var(&pin, &stateroot, &Unwatched)
    });
    check("etc", &|seeds| seeds.unpack_etc(&pin, &id, &Unwatched));
}

#[test]
fn a_prune_in_the_middle_costs_time_only() {
    let node = Node::new();
    let seed = seed(node.dir.path(), |_| {});
    let pin = spool_whole(&node, &seed);
    fetch(&node, &pin).unwrap();
    let repo = node.layout.sysroot().join("ostree/repo");
    let whole = |path: &Path| fs::symlink_metadata(path).unwrap().len() > 1 << 20;
    fs::remove_file(object(&repo, "file", whole)).unwrap();
    let spec = DeploymentSpec {
        stateroot: "rhcos_4.17.4".parse().unwrap(),
        commit: seed.commit.clone(),
        kernel_arguments: vec![],
        origin: "[origin]\nrefspec=seed\n".to_owned(),
    };
    let error = node.ostree.deploy(&spec).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert!(!node.ostree.is_imported(&seed.commit).unwrap());
    seeds(&node)
        .import_commit(&pin, &seed.commit, &Unwatched)
        .unwrap();
    assert!(node.ostree.is_imported(&seed.commit).unwrap());
    node.ostree.deploy(&spec).unwrap();
}

#[test]
fn a_seed_that_arrives_damaged_is_not_used() {
    let node = Node::new();
    let seed = seed(node.dir.path(), |_| {});
    let pin = spool_whole(&node, &seed);
    let blob = node
        .layout
        .shared()
        .join("seed/blobs/sha256")
        .join(pin.layers[0].0.hex());
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, bytes).unwrap();
    // The registry of the reference does not exist.
    fetch(&node, &pin).unwrap_err();
    assert!(!blob.exists());
    assert!(!node.ostree.has_commit(&seed.commit).unwrap());
    assert!(!node.ostree.is_imported(&seed.commit).unwrap());
}
