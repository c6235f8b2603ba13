//! Archives that want out of their destination, or want to exhaust the reader.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod tree;

use std::fs;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use seed::archive::{ArchiveReader, MemberPath, Names};
use seed::extract::{ExtractError, extract};
use seed::watch::Watching;
use tar::{EntryType, Header};
use tree::seen;

/// A tar archive built block by block, as no honest program would.
#[derive(Default)]
struct Forged(Vec<u8>);

impl Forged {
    fn raw(mut self, kind: u8, name: &[u8], link: &[u8], size: u64, content: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(size);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn entry(self, kind: u8, name: &str, link: &str, content: &str) -> Self {
        let size = content.len() as u64;
        self.raw(
            kind,
            name.as_bytes(),
            link.as_bytes(),
            size,
            content.as_bytes(),
        )
    }

    fn file(self, name: &str) -> Self {
        self.entry(b'0', name, "", "written by the archive")
    }

    fn dir(self, name: &str) -> Self {
        self.entry(b'5', name, "", "")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, target, "")
    }

    fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, target, "")
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let len = (1..)
                .map(|digits| rest + digits)
                .find(|len| len.to_string().len() + rest == *len);
            data.extend_from_slice(format!("{} {key}=", len.unwrap()).as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        let size = data.len() as u64;
        self.raw(b'x', b"pax", b"", size, &data)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, data).unwrap();
    encoder.finish().unwrap()
}

/// The whole chain of an error, as a person gets to read it.
fn text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", text(source)),
        None => error.to_string(),
    }
}

/// Unpacks below the prefix `in` next to a victim and gives the chain of errors, or nothing.
/// Whatever the archive says, the victim and its directory stay as they were.
fn attack(archive: &[u8]) -> Option<String> {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = |name: &str| ground.path().join(name);
    fs::create_dir(path("outside")).unwrap();
    fs::create_dir(path("destination")).unwrap();
    fs::write(path("outside/victim"), "precious").unwrap();
    // A way out that was there before: an archive must not use that one either.
    std::os::unix::fs::symlink(path("outside"), path("destination/old")).unwrap();
    let before = seen(&path("outside"));
    let result = ArchiveReader::decoding(archive, Names::none())
        .map(|mut reader| extract(&mut reader, &root(), &path("destination"), &mut ()));
    assert_eq!(seen(&path("outside")), before, "the archive got out");
    let mut names: Vec<_> = fs::read_dir(ground.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["destination", "outside"]);
    for (path, seen) in seen(&path("destination")) {
        assert_ne!(seen.content.as_slice(), b"precious", "{}", path.display());
    }
    result.unwrap().err().map(|error| {
        let text = text(&error);
        assert!(text.len() < 800, "{text}");
        text
    })
}

fn root() -> MemberPath {
    MemberPath::root()
}

#[test]
fn ways_out_are_refused() {
    fn check(name: &str, archive: Forged, expect: &str) {
        let got = attack(&archive.end());
        match got {
            Some(text) => {
                assert!(
                    !expect.is_empty() && text.contains(expect),
                    "{name}: {text}"
                );
            }
            None => assert_eq!(expect, "", "{name} was unpacked"),
        }
    }
    let new = Forged::default;
    let out = "../outside";
    check(
        "parent",
        new().file("../outside/victim"),
        "\"../outside/victim\" leads out",
    );
    check(
        "inner parent",
        new().file("a/../../outside/victim"),
        "leads out",
    );
    check("parent directory", new().dir("../evil"), "leads out");
    check("absolute", new().file("/outside/victim"), "");
    check(
        "link",
        new().symlink("a", out).file("a/victim"),
        "\"a/victim\" lies below \"a\"",
    );
    check(
        "deep link",
        new().symlink("d/a", "../../outside").file("d/a/x/y"),
        "\"d/a\"",
    );
    check(
        "old link",
        new().file("old/victim"),
        "\"old/victim\" lies below \"old\"",
    );
    check("old link, removed", new().dir("old").file("old/victim"), "");
    check(
        "link to link",
        new().symlink("a", out).symlink("b", "a").file("b/victim"),
        "\"b\"",
    );
    check(
        "file through link",
        new().symlink("a", "../outside/victim").file("a"),
        "",
    );
    check(
        "link becomes directory",
        new().symlink("a", out).dir("a").file("a/victim"),
        "",
    );
    check(
        "directory becomes link",
        new().dir("a").symlink("a", out).file("a/victim"),
        "\"a\"",
    );
    check(
        "full directory becomes link",
        new().file("a/x").symlink("a", out),
        "\"a\"",
    );
    check(
        "directory below link",
        new().symlink("a", out).dir("a/b"),
        "lies below",
    );
    check(
        "pipe below link",
        new().symlink("a", out).entry(b'6', "a/b", "", ""),
        "lies below",
    );
    check(
        "hard link out",
        new().hardlink("a", "../outside/victim"),
        "leads out",
    );
    check(
        "hard link, absolute",
        new().hardlink("a", "/outside/victim"),
        "linking",
    );
    check(
        "hard link through link",
        new().symlink("a", out).hardlink("b", "a/victim"),
        "\"b\" lies below \"a\"",
    );
    check(
        "hard link through old link",
        new().hardlink("b", "old/victim"),
        "lies below \"old\"",
    );
    check(
        "write through hard link to link",
        new()
            .symlink("a", "../outside/victim")
            .hardlink("b", "a")
            .file("b"),
        "",
    );
    check(
        "hard link to directory",
        new().dir("a").hardlink("b", "a"),
        "linking",
    );
    check("root as file", new().file("."), "the destination");
    check("root as link", new().symlink(".", out), "the destination");
    check(
        "long way out",
        new().pax(&[("path", b"../../outside/victim")]).file("a"),
        "leads out",
    );
    check(
        "long link out",
        new().pax(&[("linkpath", b"../x")]).hardlink("a", "b"),
        "leads out",
    );
    check("NUL", new().pax(&[("path", b"a\0b")]).file("a"), "NUL");
    check(
        "character device",
        new().entry(b'3', "null", "", ""),
        "\"null\" is a device",
    );
    check(
        "block device",
        new().entry(b'4', "sda", "", ""),
        "\"sda\" is a device",
    );
    check(
        "long name",
        new().pax(&[("path", &[b'n'; 256])]).file("a"),
        "longer than 255",
    );
    check(
        "long path",
        new().pax(&[("path", &b"n/".repeat(9000))]).file("a"),
        "longer than 4096",
    );
    check(
        "long target",
        new().pax(&[("linkpath", &[b't'; 5000])]).symlink("a", ""),
        "4096",
    );
    check("no target", new().symlink("a", ""), "without a target");
    check(
        "unknown type",
        new().entry(b'Q', "a", "", ""),
        "unknown type 'Q'",
    );
}

#[test]
fn bad_archives_are_refused() {
    fn check(name: &str, archive: &[u8], expect: &str) {
        let text = attack(archive).unwrap_or_else(|| format!("{name} was unpacked"));
        assert!(text.contains(expect), "{name}: {text}");
    }
    let new = Forged::default;
    let good = new().file("a").file("b").end();
    check(
        "no end marker",
        &good[..2048],
        "cut short after member \"b\"",
    );
    check(
        "cut in a header",
        &good[..1100],
        "cut short after member \"a\"",
    );
    check(
        "cut in content",
        &good[..520],
        "reading the content of \"a\"",
    );
    check("cut gzip", &gzip(&good)[..60], "a");
    let mut damaged = gzip(&good);
    let at = damaged.len() - 8;
    damaged[at] ^= 1;
    check("wrong check sum in gzip", &damaged, "reading the archive");
    check(
        "not an archive",
        &b"hello world, ".repeat(100),
        "no tar header at its start",
    );
    check("empty", b"", "cut short at its start");
    let mut wrong = good.clone();
    wrong[0] ^= 1;
    check("checksum", &wrong, "its checksum is wrong");
    check(
        "PAX without length",
        &new().raw(b'x', b"p", b"", 4, b"a=b\n").end(),
        "malformed",
    );
    check(
        "endless PAX",
        &new().raw(b'x', b"p", b"", 1 << 40, b"").end(),
        "1 MiB",
    );
    check(
        "endless name",
        &new().raw(b'L', b"p", b"", 1 << 40, b"").end(),
        "1 MiB",
    );
    check(
        "endless global",
        &new().raw(b'g', b"p", b"", 1 << 40, b"").end(),
        "1 MiB",
    );
    let name = vec![b'n'; 900_000];
    let many = (0..2).fold(new(), |archive, _| {
        archive.raw(b'L', b"p", b"", 900_000, &name)
    });
    check("many names", &many.end(), "1 MiB");
    let huge = u64::MAX.to_string();
    check(
        "huge size",
        &new().pax(&[("size", huge.as_bytes())]).file("a").end(),
        "longer than any",
    );
    check(
        "huge owner",
        &new().pax(&[("uid", huge.as_bytes())]).file("a").end(),
        "above 2^32",
    );
    check(
        "size in words",
        &new().pax(&[("size", b"x")]).file("a").end(),
        "without number",
    );
    check(
        "size of nothing",
        &new().raw(b'0', b"a", b"", 1 << 50, b"").end(),
        "content of \"a\"",
    );
    let sparse = |map: &[u8], size: &[u8]| {
        let records: [(&str, &[u8]); 2] = [("GNU.sparse.map", map), ("GNU.sparse.size", size)];
        new().pax(&records).file("a").end()
    };
    check(
        "sparse and huge",
        &sparse(b"0,22", b"9223372036854775807"),
        "\"a\"",
    );
    check(
        "sparse map past the end",
        &sparse(b"0,22", b"10"),
        "sparse map",
    );
    check(
        "sparse map that goes back",
        &sparse(b"10,11,0,11", b"100"),
        "sparse map",
    );
    check(
        "sparse map of other length",
        &sparse(b"0,21", b"100"),
        "sparse map",
    );
    check("odd sparse map", &sparse(b"0,22,1", b"100"), "sparse map");
    let acl: [(&str, &[u8]); 1] = [("SCHILY.acl.access", b"user:nobody-we-know:rwx")];
    check(
        "unknown name in an ACL",
        &new().pax(&acl).file("a").end(),
        "nobody-we-know",
    );
}

#[test]
fn a_stop_is_heeded_inside_a_large_file() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let content = "x".repeat(8 << 20);
    let archive = Forged::default().entry(b'0', "large", "", &content).end();
    let done = std::sync::atomic::AtomicU64::new(0);
    let mut watch = Watching {
        advanced: |bytes| {
            done.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        },
        stop: || done.load(std::sync::atomic::Ordering::Relaxed) >= 1 << 20,
    };
    let mut reader = ArchiveReader::decoding(archive.as_slice(), Names::none()).unwrap();
    let result = extract(&mut reader, &root(), ground.path(), &mut watch);
    assert!(
        matches!(result, Err(ExtractError::Stopped { .. })),
        "{result:?}"
    );
    let done = done.into_inner();
    assert!(done < 3 << 20, "{done}");
}

#[test]
fn only_what_is_below_the_prefix_is_placed() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let place = |archive: Forged| {
        let archive = archive.end();
        let mut reader = ArchiveReader::decoding(archive.as_slice(), Names::none()).unwrap();
        let prefix = MemberPath::parse(b"var").unwrap();
        extract(&mut reader, &prefix, ground.path(), &mut ())
    };
    let new = Forged::default;
    let extracted = place(
        new()
            .dir("var/")
            .file("var/lib/x")
            .file("variable")
            .file("etc/y"),
    );
    let extracted = extracted.unwrap();
    assert_eq!((extracted.members, extracted.skipped), (2, 2));
    let names: Vec<_> = seen(ground.path()).into_keys().collect();
    assert_eq!(
        names,
        ["", "lib", "lib/x"].map(|name| Path::new(name).to_owned())
    );
    let error = place(new().file("etc/y").hardlink("var/z", "etc/y")).unwrap_err();
    assert!(
        matches!(error, ExtractError::LinkOutside { .. }),
        "{error:?}"
    );
}
