//! Trees through archives and back: ours, and those of GNU tar.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod tree;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use seed::archive::{
    ArchiveReader, ArchiveWriter, Capture, Captured, Excludes, MemberPath, Names, Node, Overlay,
    Time,
};
use seed::extract::{Extracted, extract};
use seed::watch::Watching;
use tree::{plant, run, seen};

/// What the contract says for every archive.
const TAR_OPTIONS: [&str; 4] = ["--selinux", "--xattrs", "--xattrs-include=*", "--acls"];

const STAMP: Time = Time {
    secs: 1_234_567_890,
    nanos: 0,
};

fn member(path: &str) -> MemberPath {
    MemberPath::parse(path.as_bytes()).unwrap()
}

fn pack(source: &Path, name: &str, archive: &Path) -> Captured {
    let out = GzEncoder::new(File::create(archive).unwrap(), Compression::fast());
    let watch = &mut ();
    let writer = ArchiveWriter::new(out);
    let mut capture = Capture::new(
        writer,
        Excludes::default(),
        Overlay::default(),
        STAMP,
        watch,
    );
    capture.tree(source, &member(name)).unwrap();
    let (out, captured) = capture.finish().unwrap();
    out.finish().unwrap();
    captured
}

fn unpack(archive: &Path, prefix: &str, destination: &Path) -> Extracted {
    let names = Names::read(Path::new("/")).unwrap();
    let mut reader = ArchiveReader::decoding(File::open(archive).unwrap(), names).unwrap();
    extract(&mut reader, &member(prefix), destination, &mut ()).unwrap()
}

/// A planted tree, an empty destination and a place for archives.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        for name in ["source", "copy"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        plant(&dir.path().join("source"));
        Self { dir }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn check_copy(&self) {
        let (source, copy) = (seen(&self.path("source")), seen(&self.path("copy")));
        assert!(source.len() > 30, "{}", source.len());
        for (path, expect) in &source {
            assert_eq!(copy.get(path), Some(expect), "{}", path.display());
        }
        assert_eq!(
            copy.keys().collect::<Vec<_>>(),
            source.keys().collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_tree_comes_back_as_it_was_and_again() {
    let ground = Ground::new();
    let archive = ground.path("a.tgz");
    let captured = pack(&ground.path("source"), "var", &archive);
    assert_eq!(captured.warnings, Vec::<String>::new());
    assert_eq!(
        captured.members as usize,
        seen(&ground.path("source")).len()
    );
    for _ in 0..2 {
        let extracted = unpack(&archive, "var", &ground.path("copy"));
        assert_eq!(extracted.members, captured.members);
        assert_eq!(extracted.unsupported_xattrs, 0);
        ground.check_copy();
    }
}

#[test]
fn what_gnu_tar_packs_we_unpack() {
    let ground = Ground::new();
    for (format, prefix) in [("gzip", "."), ("zstd", "."), ("cat", ".")] {
        let archive = ground.path(format);
        let program = format!("--use-compress-program={format}");
        let name = archive.to_str().unwrap();
        let mut args = vec![program.as_str(), "-cf", name];
        args.extend(TAR_OPTIONS);
        args.push(prefix);
        run("tar", &args, &ground.path("source"));
        unpack(&archive, "", &ground.path("copy"));
        ground.check_copy();
    }
}

#[test]
fn what_we_pack_gnu_tar_unpacks() {
    let ground = Ground::new();
    let archive = ground.path("a.tgz");
    pack(&ground.path("source"), "", &archive);
    let mut args = vec!["xzf", archive.to_str().unwrap()];
    args.extend(TAR_OPTIONS);
    run("tar", &args, &ground.path("copy"));
    ground.check_copy();
}

#[test]
fn old_and_sparse_formats_are_read() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = |name: &str| dir.path().join(name);
    let source = path("source");
    let deep = source.join("d".repeat(90)).join("e".repeat(90));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("leaf"), "x").unwrap();
    std::os::unix::fs::symlink("t".repeat(200), source.join("link")).unwrap();
    let file = File::create(source.join("holes")).unwrap();
    for extent in 0..100 {
        std::os::unix::fs::FileExt::write_all_at(&file, b"data", extent * 65_536).unwrap();
    }
    file.set_len(10 << 20).unwrap();
    let expect = seen(&source);
    let check = |name: &str, options: &[&str], sparse: bool| {
        let (archive, copy) = (path(&format!("{name}.tar")), path(name));
        fs::create_dir(&copy).unwrap();
        let mut args = vec!["-cf", archive.to_str().unwrap()];
        args.extend(options);
        args.push(".");
        run("tar", &args, &source);
        unpack(&archive, "", &copy);
        let mut got = seen(&copy);
        if !options.contains(&"--format=posix") {
            // The other formats have whole seconds only.
            for (path, seen) in &mut got {
                seen.mtime = expect[path].mtime;
            }
        }
        assert_eq!(got, expect, "{name}");
        let blocks = fs::metadata(copy.join("holes")).unwrap().blocks();
        assert_eq!(blocks < 2000, sparse, "{name}: {blocks} blocks");
    };
    check("gnu", &["--format=gnu"], false);
    check("posix", &["--format=posix"], false);
    check("gnu-sparse", &["--format=gnu", "-S"], true);
    check(
        "sparse-0.0",
        &["--format=posix", "-S", "--sparse-version=0.0"],
        true,
    );
    check(
        "sparse-0.1",
        &["--format=posix", "-S", "--sparse-version=0.1"],
        true,
    );
    check(
        "sparse-1.0",
        &["--format=posix", "-S", "--sparse-version=1.0"],
        true,
    );
}

#[test]
fn captures_leave_out_replace_and_add() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in [
        "live/log/old/journal",
        "live/lib/lca/state",
        "live/lib/kept/secret",
        "live/lib/etcd/db",
        "live/lib/kubelet/config.json",
        "live/home/.bash_history",
        "copy-of-etcd/db",
    ] {
        fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        fs::write(path(name), name).unwrap();
    }
    std::os::unix::fs::chown(path("live/lib/kubelet/config.json"), Some(3), Some(4)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("live/socket")).unwrap();
    let before = seen(&path("live"));

    let mut overlay = Overlay::default();
    let node = |content: &str| Node::File {
        content: content.as_bytes().to_vec(),
        mode: 0o600,
    };
    overlay.insert(member("var/lib/etcd"), Node::Source(path("copy-of-etcd")));
    overlay.insert(member("var/lib/kubelet/config.json"), node("{}"));
    overlay.insert(member("var/seed_data/manifest.json"), node("info"));
    overlay.insert(member("var/lib/kept"), Node::Keep);
    overlay.insert(member("var/lib/lca/new"), Node::Symlink(b"target".to_vec()));
    overlay.insert(member("var/home"), Node::Absent);
    overlay.insert(member("var/fresh"), Node::Dir { mode: 0o1777 });
    let excludes = Excludes::new([
        "*/.bash_history",
        "/var/log/*",
        "/var/lib/lca",
        "/var/lib/kept",
    ]);
    let watch = &mut ();
    let out = ArchiveWriter::dotted(Vec::new());
    let mut capture = Capture::new(out, excludes, overlay, STAMP, watch);
    capture.tree(&path("live"), &member("var")).unwrap();
    let (archive, captured) = capture.finish().unwrap();

    let mut reader = ArchiveReader::new(archive.as_slice(), Names::none());
    let mut got = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = String::new();
        std::io::Read::read_to_string(&mut reader.content(), &mut content).unwrap();
        got.push(format!(
            "{} {:o} {}:{} {content}",
            entry.path, entry.mode, entry.uid, entry.gid
        ));
    }
    let expect = [
        "var 755 0:0 ",
        "var/fresh 1777 0:0 ",
        "var/lib 755 0:0 ",
        "var/lib/etcd 755 0:0 ",
        "var/lib/etcd/db 644 0:0 copy-of-etcd/db",
        "var/lib/kept 755 0:0 ",
        "var/lib/kept/secret 644 0:0 live/lib/kept/secret",
        "var/lib/kubelet 755 0:0 ",
        "var/lib/kubelet/config.json 600 3:4 {}",
        "var/lib/lca 755 0:0 ",
        "var/lib/lca/new 777 0:0 ",
        "var/log 755 0:0 ",
        "var/seed_data 755 0:0 ",
        "var/seed_data/manifest.json 600 0:0 info",
    ];
    assert_eq!(got, expect);
    assert_eq!(captured.warnings, Vec::<String>::new());
    assert!(archive.windows(7).any(|name| name == b"./var/\0"));
    assert_eq!(seen(&path("live")), before, "the live tree was changed");
}

#[test]
fn captures_of_listed_paths() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in [
        "etc/a dir/x",
        "etc/a dir/y",
        "etc/systemd/system/kubelet.service",
        "etc/b",
    ] {
        fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        fs::write(path(name), "").unwrap();
    }
    let mut overlay = Overlay::default();
    overlay.insert(member("etc/b"), Node::Absent);
    overlay.insert(
        member("etc/systemd/system/a.service"),
        Node::Dir { mode: 0o700 },
    );
    let watch = &mut ();
    let out = ArchiveWriter::new(Vec::new());
    let excludes = Excludes::new(["/etc/hostname"]);
    let mut capture = Capture::new(out, excludes, overlay, STAMP, watch);
    let listed = [
        "etc/b",
        "etc/a dir/x",
        "etc/a dir",
        "etc/gone",
        "etc/hostname",
    ];
    capture.paths(dir.path(), listed.map(member)).unwrap();
    let (archive, captured) = capture.finish().unwrap();
    let mut reader = ArchiveReader::new(archive.as_slice(), Names::none());
    let mut got = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        got.push(entry.path.to_string());
    }
    assert_eq!(
        got,
        [
            "etc/a dir",
            "etc/a dir/x",
            "etc/a dir/y",
            "etc/systemd/system/a.service"
        ]
    );
    assert_eq!(
        captured.warnings,
        ["\"etc/gone\" does not exist or vanished"]
    );
}

#[test]
fn a_file_that_changes_while_it_is_read_is_whole_by_its_header() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let file = dir.path().join("growing");
    for (name, change) in [("grows", 200_000), ("shrinks", 10)] {
        fs::write(&file, vec![b'x'; 100_000]).unwrap();
        let changing = file.clone();
        let mut watch = Watching {
            advanced: move |_| {
                let file = File::options().write(true).open(&changing).unwrap();
                file.set_len(change).unwrap();
            },
            stop: || false,
        };
        let out = ArchiveWriter::new(Vec::new());
        let mut capture = Capture::new(
            out,
            Excludes::default(),
            Overlay::default(),
            STAMP,
            &mut watch,
        );
        capture.tree(dir.path(), &member("var")).unwrap();
        let (archive, captured) = capture.finish().unwrap();
        assert_eq!(
            captured.warnings,
            ["\"var/growing\" changed while it was read"],
            "{name}"
        );
        let mut reader = ArchiveReader::new(archive.as_slice(), Names::none());
        assert_eq!(reader.next_entry().unwrap().unwrap().path, member("var"));
        assert_eq!(reader.next_entry().unwrap().unwrap().size, 100_000);
        assert_eq!(reader.next_entry().unwrap(), None);
    }
}
