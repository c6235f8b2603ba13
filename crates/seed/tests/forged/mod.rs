//! Archives that no honest program would write, and unpacking them next to a victim.

#![allow(
    dead_code,
    clippy::print_stdout,
    reason = "not every test forges everything; each prints what came of it"
)]

use std::fs;
use std::io::Read;

use flate2::Compression;
use flate2::write::GzEncoder;
use seed::archive::{ArchiveReader, MemberPath, Names};
use seed::extract::extract;
use tar::{EntryType, Header};

use crate::tree::seen;

/// A tar archive built block by block, as no honest program would.
#[derive(Default)]
pub(crate) struct Forged(pub(crate) Vec<u8>);

impl Forged {
    pub(crate) fn raw(
        mut self,
        kind: u8,
        name: &[u8],
        link: &[u8],
        size: u64,
        content: &[u8],
    ) -> Self {
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

    pub(crate) fn entry(self, kind: u8, name: &str, link: &str, content: &str) -> Self {
        let size = content.len() as u64;
        self.raw(
            kind,
            name.as_bytes(),
            link.as_bytes(),
            size,
            content.as_bytes(),
        )
    }

    pub(crate) fn file(self, name: &str) -> Self {
        self.entry(b'0', name, "", "written by the archive")
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.entry(b'5', name, "", "")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, target, "")
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, target, "")
    }

    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
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

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
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

/// Unpacks the members below `prefix` next to a victim and gives the chain of errors, or nothing. Whatever the archive
/// says, the victim and its directory stay as they were.
pub(crate) fn attack(name: &str, archive: impl Read, prefix: &str) -> Option<String> {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = |name: &str| ground.path().join(name);
    fs::create_dir(path("outside")).unwrap();
    fs::create_dir(path("destination")).unwrap();
    fs::write(path("outside/victim"), "precious").unwrap();
    // A way out that was there before: an archive must not use that one either.
    std::os::unix::fs::symlink(path("outside"), path("destination/old")).unwrap();
    let before = seen(&path("outside"));
    let result = ArchiveReader::decoding(archive, Names::none()).map(|mut reader| {
        let prefix = MemberPath::parse(prefix.as_bytes()).unwrap();
        extract(&mut reader, &prefix, &path("destination"), &mut ())
    });
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
    let text = result.unwrap().err().map(|error| {
        let text = text(&error);
        assert!(
            text.len() < 1500 && !text.contains(char::is_control),
            "{text:?}"
        );
        text
    });
    println!("{name}: {}", text.as_deref().unwrap_or("unpacked"));
    text
}
