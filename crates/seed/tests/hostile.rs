//! Archives that want out of their destination, or want to exhaust the reader.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod forged;
mod tree;

use std::path::Path;

use forged::{Forged, attack, gzip};
use seed::archive::{ArchiveReader, MemberPath, Names};
use seed::extract::{ExtractError, extract};
use seed::watch::Watching;
use tree::seen;

fn root() -> MemberPath {
    MemberPath::root()
}

#[test]
fn ways_out_are_refused() {
    fn check(name: &str, archive: Forged, expect: &str) {
        let got = attack(name, archive.end().as_slice(), "");
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
        let text = attack(name, archive, "").unwrap_or_else(|| format!("{name} was unpacked"));
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
        &new().raw(b'0', b"a", b"", (1 << 20) - 1, b"").end(),
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
fn an_archive_that_is_cut_anywhere_is_refused() {
    let archive = Forged::default()
        .dir("d")
        .pax(&[("path", b"d/a name"), ("SCHILY.xattr.user.x", &[b'x'; 700])])
        .entry(b'0', "x", "", &"content ".repeat(200))
        .entry(b'L', "x", "", &format!("{}n", "n/".repeat(300)))
        .entry(b'0', "x", "", "content")
        .symlink("s", "d")
        .hardlink("h", "s")
        .entry(b'6', "p", "", "")
        .end();
    let marker = archive.len() - 512;
    for cut in (0..archive.len()).step_by(512) {
        let text = attack(&format!("cut after {cut}"), &archive[..cut], "");
        let refused = text.is_some_and(|text| {
            text.contains("the archive is cut short") || text.contains("the archive ends inside")
        });
        // Of the end marker's two blocks one is enough.
        assert_eq!(refused, cut < marker, "cut after {cut}");
    }
}

#[test]
fn names_of_attributes_are_shown_without_their_line_ends() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let archive = Forged::default()
        .pax(&[("SCHILY.xattr.odd\nname", b"x")])
        .file("a")
        .end();
    let mut reader = ArchiveReader::decoding(archive.as_slice(), Names::none()).unwrap();
    let extracted = extract(&mut reader, &root(), ground.path(), &mut ()).unwrap();
    let text = extracted.first_unsupported.unwrap();
    assert_eq!(text, "odd\\nname on \"a\"");
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
