//! Archives that want to exhaust the reader: its memory, its time, or the disk.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test, and its table"
)]

mod forged;
mod tree;

use std::fs;
use std::io::{self, Cursor, Read};
use std::time::Instant;

use forged::{Forged, attack, gzip};

/// Bytes of memory that reading any archive may take.
const MEMORY: u64 = 64 << 20;

/// The same bytes again and again, so many times.
struct Repeated {
    bytes: Cursor<Vec<u8>>,
    times: u64,
}

impl Read for Repeated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.position() == self.bytes.get_ref().len() as u64 && self.times > 0 {
            self.times -= 1;
            self.bytes.set_position(0);
        }
        self.bytes.read(buffer)
    }
}

fn repeated(bytes: Vec<u8>, times: u64) -> Repeated {
    Repeated {
        bytes: Cursor::new(bytes),
        times: times - 1,
    }
}

/// Most memory that this process had so far, in bytes, since the last call of [`forget`].
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib << 10
}

fn forget() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// One test, as memory is a matter of the whole process.
#[test]
fn archives_exhaust_nobody() {
    fn check(name: &str, archive: impl Read, prefix: &str, expect: &str) {
        forget();
        let (before, begun) = (peak(), Instant::now());
        let text = attack(name, archive, prefix).unwrap_or_else(|| format!("{name} was unpacked"));
        let memory = peak().saturating_sub(before);
        println!(
            "    {} KiB, {} ms",
            memory >> 10,
            begun.elapsed().as_millis()
        );
        assert!(text.contains(expect), "{name}: {text}");
        assert!(memory < MEMORY, "{name}: {memory} bytes");
    }
    let new = Forged::default;
    let zeros = vec![0; 64 << 20];
    let gibibytes: u64 = 10;
    let bomb = |member: &str| {
        new()
            .raw(b'0', member.as_bytes(), b"", gibibytes << 30, b"")
            .0
    };
    let times = (gibibytes << 30) / zeros.len() as u64;
    // Both formats are streams of any number of members.
    let mebibytes = gzip(&zeros);
    check(
        "10 GiB of zeros, gzip",
        Cursor::new(gzip(&bomb("x"))).chain(repeated(mebibytes, times)),
        "none",
        "it inflates to more than 100 times its size",
    );
    let zstd = |bytes: &[u8]| zstd::stream::encode_all(bytes, 1).unwrap();
    check(
        "10 GiB of zeros, zstd",
        Cursor::new(zstd(&bomb("x"))).chain(repeated(zstd(&zeros), times)),
        "none",
        "it inflates to more than 100 times its size",
    );
    drop(zeros);
    check(
        "1 PiB that nobody has room for",
        Cursor::new(new().raw(b'0', b"x", b"", 1 << 50, b"").0).chain(io::repeat(0)),
        "",
        "making room for \"x\": it has 1125899906842624 bytes, and the file system has",
    );
    check(
        "10^7 members",
        repeated(new().dir("other/x").0, 10_000_000),
        "none",
        "more than a million members",
    );
    check(
        "10^7 members of one name",
        repeated(new().entry(b'2', "x", "y", "").0, 10_000_000),
        "none",
        "more than a million members",
    );
    check(
        "10^7 extended headers",
        repeated(new().raw(b'x', b"p", b"", 0, b"").0, 10_000_000),
        "",
        "more than 64 extended headers",
    );
    check(
        "10^7 global headers",
        repeated(new().raw(b'g', b"p", b"", 0, b"").0, 10_000_000),
        "",
        "more than 64 extended headers",
    );
    let mut sparse = tar::Header::new_gnu();
    sparse.set_entry_type(tar::EntryType::new(b'S'));
    sparse.set_path("x").unwrap();
    sparse.set_size(0);
    sparse.set_mode(0);
    sparse.set_mtime(0);
    sparse.set_uid(0);
    sparse.set_gid(0);
    sparse.as_gnu_mut().unwrap().isextended = [1];
    sparse.set_cksum();
    let mut continued = vec![0; 512];
    continued[504] = 1;
    check(
        "10^7 empty sparse maps",
        Cursor::new(sparse.as_bytes().to_vec()).chain(repeated(continued, 10_000_000)),
        "",
        "\"x\" has a sparse map",
    );
    let map = "0,0,".repeat(250_000);
    let records: [(&str, &[u8]); 2] = [
        ("GNU.sparse.map", map.trim_end_matches(',').as_bytes()),
        ("GNU.sparse.size", b"1"),
    ];
    check(
        "250,000 sparse extents of nothing",
        Cursor::new(new().pax(&records).file("x").end()),
        "",
        "\"x\" has a sparse map",
    );
    let long = vec![b'x'; 1_000_000];
    check(
        "label of 1 MB",
        Cursor::new(
            new()
                .pax(&[("RHT.security.selinux", &long)])
                .file("x")
                .end(),
        ),
        "",
        "setting security.selinux on \"x\": no file system keeps one so long",
    );
    check(
        "attribute of 1 MB",
        Cursor::new(new().pax(&[("SCHILY.xattr.user.x", &long)]).file("x").end()),
        "",
        "setting user.x on \"x\": no file system keeps one so long",
    );
    let name = format!("SCHILY.xattr.user.{}", "x".repeat(500_000));
    check(
        "attribute with a name of 500 kB",
        Cursor::new(new().pax(&[(&name, b"x")]).file("x").end()),
        "",
        "setting user.xxx",
    );
    let names: Vec<String> = (0..20_000)
        .map(|at| format!("SCHILY.xattr.user.{at}"))
        .collect();
    let many: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), &b"value"[..]))
        .collect();
    check(
        "20,000 attributes",
        Cursor::new(new().pax(&many).file("x").end()),
        "",
        "no room for attributes",
    );
    let acl = "user:1:rwx,".repeat(80_000);
    check(
        "access list of 80,000 entries",
        Cursor::new(
            new()
                .pax(&[("SCHILY.acl.access", acl.as_bytes())])
                .file("x")
                .end(),
        ),
        "",
        "more than 8192 entries",
    );
}
