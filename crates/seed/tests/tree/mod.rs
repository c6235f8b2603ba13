//! Directory trees with every kind of metadata, and what they look like.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lgetxattr, llistxattr,
    lsetxattr, mknodat, utimensat,
};

/// All that can be seen of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    kind: char,
    mode: u32,
    owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, i64),
    /// Of a file its bytes, of a symlink its target.
    pub(crate) content: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path with the same inode.
    same_as: Option<PathBuf>,
}

/// Everything below `dir`, itself included, by path.
pub(crate) fn seen(dir: &Path) -> BTreeMap<PathBuf, Seen> {
    let (mut all, mut inodes) = (BTreeMap::new(), BTreeMap::new());
    look(dir, dir, &mut all, &mut inodes);
    all
}

fn look(
    root: &Path,
    path: &Path,
    all: &mut BTreeMap<PathBuf, Seen>,
    inodes: &mut BTreeMap<u64, PathBuf>,
) {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let relative = path.strip_prefix(root).unwrap().to_owned();
    let (kind, content) = if kind.is_dir() {
        ('d', Vec::new())
    } else if kind.is_symlink() {
        (
            'l',
            fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec(),
        )
    } else if kind.is_file() {
        ('f', fs::read(path).unwrap())
    } else if kind.is_fifo() {
        ('p', Vec::new())
    } else {
        ('?', Vec::new())
    };
    let same_as = match kind {
        'd' => None,
        _ => Some(
            inodes
                .entry(meta.ino())
                .or_insert_with(|| relative.clone())
                .clone(),
        ),
    };
    let seen = Seen {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        content,
        xattrs: xattrs(path),
        same_as,
    };
    all.insert(relative, seen);
    if kind == 'd' {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        for name in names {
            look(root, &name, all, inodes);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let len = llistxattr(path, &mut names[..]).unwrap();
    names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65_536];
            let len = lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..len].to_vec())
        })
        .collect()
}

/// Makes a tree in `dir` with every kind of file and metadata that a node has.
#[allow(dead_code, reason = "hostile archives need no planted tree")]
pub(crate) fn plant(dir: &Path) {
    assert_eq!(
        fs::metadata("/proc/self").unwrap().uid(),
        0,
        "run this as root: it changes owners"
    );
    let at = |name: &[u8]| dir.join(OsStr::from_bytes(name));
    let write = |name: &[u8], content: &[u8], mode: u32| {
        fs::write(at(name), content).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for sub in [
        "plain",
        "sticky",
        "shared",
        "acl",
        "with space",
        "empty",
        "links",
    ] {
        fs::create_dir(dir.join(sub)).unwrap();
    }
    write(b"plain/file", b"content\n", 0o644);
    write(b"plain/none", b"", 0o600);
    write(b"plain/block", &[7; 512], 0o640);
    write(b"plain/large", &b"0123456789abcdef".repeat(40_000), 0o755);
    write(b"plain/setuid", b"#!", 0o4755);
    write(b"plain/setgid", b"#!", 0o2711);
    write(b"plain/locked", b"no", 0o000);
    write(b"with space/a file ", b"x", 0o644);
    write(b"with space/new\nline", b"x", 0o644);
    write(b"with space/\xff\xfe\xc3", b"not UTF-8", 0o644);
    write(b"with space/-rf", b"x", 0o644);
    write(b"with space/back\\slash*?[", b"x", 0o644);
    let long = vec![b'n'; 255];
    write(&[b"plain/", &long[..]].concat(), b"long name", 0o644);
    let deep = dir
        .join("d".repeat(90))
        .join("e".repeat(90))
        .join("f".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("leaf"), "deep").unwrap();
    fs::hard_link(deep.join("leaf"), dir.join("links/deep leaf")).unwrap();
    let mut sparse = File::create(dir.join("sparse")).unwrap();
    for (offset, byte) in [(1 << 16, b'a'), (1 << 20, b'b'), (3 << 20, b'c')] {
        sparse.seek(SeekFrom::Start(offset)).unwrap();
        sparse.write_all(&vec![byte; 5000]).unwrap();
    }
    sparse.set_len(5 << 20).unwrap();
    symlink("../plain/file", dir.join("links/relative")).unwrap();
    symlink("/does/not/exist", dir.join("links/dangling")).unwrap();
    symlink("t".repeat(1000), dir.join("links/long target")).unwrap();
    fs::hard_link(dir.join("plain/file"), dir.join("links/hard")).unwrap();
    fs::hard_link(dir.join("links/relative"), dir.join("links/hard symlink")).unwrap();
    mknodat(
        CWD,
        dir.join("pipe"),
        FileType::Fifo,
        Mode::from_raw_mode(0o622),
        0,
    )
    .unwrap();

    chown(dir.join("plain/none"), Some(1000), Some(4_000_000_000)).unwrap();
    chown(dir.join("pipe"), Some(7), Some(7)).unwrap();
    chown(dir.join("empty"), Some(2_097_152), Some(65_534)).unwrap();
    lchown(dir.join("links/dangling"), Some(1000), Some(1000)).unwrap();
    for (name, mode) in [("sticky", 0o1777), ("shared", 0o2770), ("empty", 0o555)] {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    run(
        "setfacl",
        &["-m", "u:daemon:r,u:12345:rwx,g:44:rw", "plain/block"],
        dir,
    );
    run("setfacl", &["-m", "u:daemon:rx", "acl"], dir);
    run("setfacl", &["-d", "-m", "u:99:rwx,g:daemon:r", "acl"], dir);
    run("setfacl", &["-d", "-m", "o::-", "shared"], dir);

    let set = |name: &str, key: &str, value: &[u8]| {
        lsetxattr(dir.join(name), key, value, XattrFlags::empty()).unwrap();
    };
    set(
        "plain/file",
        "security.selinux",
        b"system_u:object_r:etc_t:s0\0",
    );
    set(
        "links/dangling",
        "security.selinux",
        b"system_u:object_r:bin_t:s0\0",
    );
    set("pipe", "security.selinux", b"system_u:object_r:fifo_t:s0\0");
    set(
        "empty",
        "security.selinux",
        b"system_u:object_r:var_t:s0:c1,c2\0",
    );
    set("plain/file", "user.lines", b"one\ntwo\n");
    set("plain/file", "user.binary", &[0, 0xff, b'\n', b'=', 0]);
    set("plain/file", "user.empty", b"");
    set("plain/file", "user.a=b%c", b"odd key");
    set("plain/large", "user.long", &vec![b'v'; 3000]);
    set("empty", "trusted.mark", b"1");
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set("plain/large", "security.capability", &capability);

    let touch = |name: &str, secs: i64, nanos: i64| {
        let last_modification = Timespec {
            tv_sec: secs,
            tv_nsec: nanos,
        };
        let times = Timestamps {
            last_access: last_modification,
            last_modification,
        };
        utimensat(CWD, dir.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    touch("plain/file", 1_600_000_000, 123_456_789);
    touch("plain/none", 0, 0);
    touch("plain/block", -86_400, 500_000_000);
    touch("plain/setuid", -1, 0);
    touch("links/dangling", 1_500_000_000, 1);
    for name in [
        "pipe",
        "plain",
        "links",
        "empty",
        "sticky",
        "acl",
        "with space",
        "shared",
    ] {
        touch(name, 1_700_000_000, 42);
    }
    touch("", 1_650_000_000, 7);
}

/// Runs a program in `dir`; it must succeed.
#[allow(dead_code, reason = "hostile archives need no programs")]
pub(crate) fn run(program: &str, args: &[&str], dir: &Path) -> Vec<u8> {
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    output.stdout
}
