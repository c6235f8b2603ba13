//! What the files port promises, in a directory.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use host::{HostFiles, Layout};
use node::ErrorKind;
use node::ports::{Attributes, FileKind, Files, NodePath, Root};
use rustix::fs::XattrFlags;
use tempfile::TempDir;

struct Place {
    _dir: TempDir,
    root: PathBuf,
    files: HostFiles,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let files = HostFiles::new(Layout::below(dir.path()));
    Place {
        _dir: dir,
        root,
        files,
    }
}

fn path(absolute: &str) -> NodePath {
    NodePath::booted(absolute)
}

fn mode(path: PathBuf) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn replacing_is_whole_and_leaves_nothing_beside() {
    let Place { _dir, root, files } = place();
    let file = path("/var/lib/lca/ibu.json");
    assert_eq!(files.read(&file, 10).unwrap(), None);
    for (content, bits) in [("one", 0o600), ("", 0o644), ("three", 0o4755)] {
        files.replace(&file, content.as_bytes(), bits).unwrap();
        assert_eq!(files.read(&file, 10).unwrap().unwrap(), content.as_bytes());
        assert_eq!(mode(root.join("var/lib/lca/ibu.json")), bits);
    }
    assert_eq!(mode(root.join("var/lib/lca")), 0o700);
    assert_eq!(fs::read_dir(root.join("var/lib/lca")).unwrap().count(), 1);
}

#[test]
fn replacing_takes_over_what_a_killed_replacement_left() {
    let Place { _dir, root, files } = place();
    let file = path("/dir/file");
    files.replace(&file, b"old", 0o600).unwrap();
    let hash = b"file"
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    fs::write(root.join(format!("dir/.lca-new-{hash:016x}")), "torn").unwrap();
    assert_eq!(files.list(&path("/dir")).unwrap(), ["file"]);
    files.replace(&file, b"new", 0o600).unwrap();
    assert_eq!(files.read(&file, 10).unwrap().unwrap(), b"new");
    assert_eq!(fs::read_dir(root.join("dir")).unwrap().count(), 1);
}

#[test]
fn only_one_of_many_creates() {
    let Place {
        _dir,
        root: _,
        files,
    } = place();
    let file = path("/var/lib/lca/verdict");
    let created: Vec<bool> = std::thread::scope(|scope| {
        let create = |number: u8| {
            let (files, file) = (&files, &file);
            scope.spawn(move || files.create_exclusively(file, &[number; 9], 0o600).unwrap())
        };
        let threads: Vec<_> = (0..8).map(create).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(created.iter().filter(|created| **created).count(), 1);
    let winner = created.iter().position(|created| *created).unwrap();
    assert_eq!(
        files.read(&file, 9).unwrap().unwrap(),
        [u8::try_from(winner).unwrap(); 9]
    );
    assert_eq!(files.list(&path("/var/lib/lca")).unwrap(), ["verdict"]);
}

#[test]
fn appending_adds_at_the_end() {
    let Place { _dir, root, files } = place();
    let file = path("/journal");
    files.append(&file, b"a\n").unwrap();
    files.append(&file, b"b\n").unwrap();
    assert_eq!(files.read(&file, 4).unwrap().unwrap(), b"a\nb\n");
    assert_eq!(mode(root.join("journal")), 0o600);
}

#[test]
fn reading_is_bounded_and_only_of_files() {
    let Place { _dir, root, files } = place();
    fs::write(root.join("file"), "12345").unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    assert_eq!(files.read(&path("file"), 5).unwrap().unwrap(), b"12345");
    for (name, limit) in [("file", 4), ("dir", 4)] {
        let error = files.read(&path(name), limit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
    }
    // Nothing can be below a file.
    assert_eq!(files.read(&path("file/below"), 5).unwrap(), None);
    assert_eq!(files.kind(&path("file")).unwrap(), Some(FileKind::File(5)));
    assert_eq!(files.kind(&path("dir")).unwrap(), Some(FileKind::Directory));
    assert_eq!(files.kind(&path("none")).unwrap(), None);
    assert_eq!(files.list(&path("none")).unwrap(), [""; 0]);
    for bad in ["", "..", "a/../b", "a//b", "a/", "./a"] {
        assert!(
            files
                .read(
                    &NodePath {
                        root: Root::Booted,
                        rel: bad.into()
                    },
                    5
                )
                .is_err(),
            "{bad}"
        );
    }
}

#[test]
fn links_never_lead_out() {
    let Place { _dir, root, files } = place();
    let outside = root.parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir_all(root.join("var/opt")).unwrap();
    symlink("/var/opt", root.join("opt")).unwrap();
    symlink("../../../../outside", root.join("relative")).unwrap();
    symlink(&outside, root.join("absolute")).unwrap();
    files
        .replace(&path("/opt/openshift/x"), b"x", 0o600)
        .unwrap();
    assert_eq!(fs::read(root.join("var/opt/openshift/x")).unwrap(), b"x");
    for name in ["relative/x", "absolute/x"] {
        assert!(files.replace(&path(name), b"x", 0o600).is_err(), "{name}");
        assert_eq!(files.read(&path(name), 9).unwrap(), None);
    }
    // A link in the place of the file is replaced, not followed.
    symlink(outside.join("victim"), root.join("link")).unwrap();
    assert!(files.append(&path("link"), b"x").is_err());
    assert_eq!(files.kind(&path("link")).unwrap(), Some(FileKind::Other));
    files.replace(&path("link"), b"x", 0o600).unwrap();
    assert_eq!(files.kind(&path("link")).unwrap(), Some(FileKind::File(1)));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn removal_spares_what_links_lead_to() {
    let Place { _dir, root, files } = place();
    let outside = root.parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "").unwrap();
    fs::create_dir_all(root.join("tree/a/b")).unwrap();
    fs::write(root.join("tree/a/file"), "").unwrap();
    fs::set_permissions(root.join("tree/a"), Permissions::from_mode(0o000)).unwrap();
    symlink(&outside, root.join("tree/link")).unwrap();
    let immutable = fs::File::open(root.join("tree/a/b")).unwrap();
    rustix::fs::ioctl_setflags(immutable, rustix::fs::IFlags::IMMUTABLE).unwrap();
    for _ in 0..2 {
        files.remove(&path("tree")).unwrap();
        assert!(!root.join("tree").exists());
    }
    assert!(outside.join("kept").exists());
}

#[test]
fn a_file_is_owned_like_another() {
    let Place { _dir, root, files } = place();
    fs::create_dir_all(root.join("var/home/core")).unwrap();
    std::os::unix::fs::chown(root.join("var/home/core"), Some(7), Some(8)).unwrap();
    symlink("var/home", root.join("home")).unwrap();
    let (home, key) = (path("/home/core"), path("/home/core/keys/early"));
    let attributes = |like| Attributes {
        mode: 0o600,
        owned_like: like,
        label: None,
    };
    let facts = || {
        let found = fs::metadata(root.join("var/home/core/keys/early")).unwrap();
        (found.mode() & 0o7777, found.uid(), found.gid())
    };
    files
        .replace_with(&key, b"key", &attributes(Some(&home)))
        .unwrap();
    assert_eq!(facts(), (0o600, 7, 8));
    files.replace_with(&key, b"key", &attributes(None)).unwrap();
    assert_eq!(facts(), (0o600, 0, 0));
}

#[test]
fn a_copied_tree_is_equal() {
    let Place { _dir, root, files } = place();
    let from = root.join("etc/NetworkManager/system-connections");
    fs::create_dir_all(from.join("sub")).unwrap();
    fs::write(from.join("eth0"), "secret").unwrap();
    fs::write(from.join("sub/set"), "").unwrap();
    fs::set_permissions(from.join("eth0"), Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(from.join("sub/set"), Permissions::from_mode(0o4711)).unwrap();
    std::os::unix::fs::chown(from.join("sub"), Some(1), Some(2)).unwrap();
    symlink("eth0", from.join("link")).unwrap();
    let (name, value) = ("trusted.test", b"v\0w");
    rustix::fs::setxattr(from.join("eth0"), name, value, XattrFlags::empty()).unwrap();
    let to = path("/var/copy");
    files.replace(&to.join("kept"), b"", 0o600).unwrap();
    files.ensure_directory(&to.join("link"), 0o755).unwrap();
    let source = path("/etc/NetworkManager/system-connections");
    for _ in 0..2 {
        assert!(files.copy_tree(&source, &to).unwrap());
        assert_eq!(files.list(&to).unwrap(), ["eth0", "kept", "link", "sub"]);
        for name in ["", "eth0", "link", "sub", "sub/set"] {
            let [a, b] = [&from, &root.join("var/copy")]
                .map(|dir| fs::symlink_metadata(dir.join(name)).unwrap());
            let facts = |m: &fs::Metadata| (m.mode(), m.uid(), m.gid(), m.mtime_nsec());
            assert_eq!(facts(&a), facts(&b), "{name}");
        }
        let copy = root.join("var/copy");
        assert_eq!(
            fs::read_link(copy.join("link")).unwrap(),
            PathBuf::from("eth0")
        );
        assert_eq!(fs::read(copy.join("eth0")).unwrap(), b"secret");
        let mut buffer = [0; 10];
        let length = rustix::fs::getxattr(copy.join("eth0"), name, &mut buffer).unwrap();
        assert_eq!(&buffer[..length], value);
    }
    assert!(!files.copy_tree(&path("/none"), &to).unwrap());
}

#[test]
fn the_shared_directory_is_made_when_needed() {
    let Place { _dir, root, files } = place();
    files
        .replace(&NodePath::shared("a/b"), b"x", 0o600)
        .unwrap();
    let shared = root.parent().unwrap().join("shared");
    assert_eq!(mode(shared.clone()), 0o700);
    assert_eq!(fs::read(shared.join("a/b")).unwrap(), b"x");
    files.sync(&Root::Shared).unwrap();
    files
        .ensure_directory(&NodePath::shared("a"), 0o751)
        .unwrap();
    assert_eq!(mode(shared.join("a")), 0o751);
}
