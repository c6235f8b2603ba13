//! Archives, and what unpacking them may do.

mod ground;

use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use seed::archive::{ArchiveReader, ArchiveWriter, Decoded, Entry, Kind, MemberPath, Names};
use seed::extract::ExtractError;
use seed::reader::{Collector, Part, PartSink};
use seed::watch::Watching;

use crate::judge;
use ground::Ground;

/// Bytes of content that are looked at; a few KiB may inflate to a thousand times as much.
const ENOUGH: u64 = 4 << 20;

/// Longest path of a member (the kernel's `PATH_MAX`), and longest name in it.
const PATH: usize = 4096;
const NAME: usize = 255;

/// Reads an archive to its end or to its first fault.
pub(crate) fn read(bytes: &[u8]) {
    for archive in [Some(bytes.to_vec()), mended(bytes)].into_iter().flatten() {
        read_all(&archive);
    }
}

fn read_all(archive: &[u8]) {
    let mut reader = match ArchiveReader::decoding(archive, Names::none()) {
        Ok(reader) => reader,
        Err(error) => return drop(judge::error(&error)),
    };
    let mut position = 0;
    let mut looked_at = 0;
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                let after = reader.next_entry();
                assert!(
                    matches!(after, Ok(None)),
                    "after the end of an archive came {after:?}"
                );
                return;
            }
            Err(error) => return drop(judge::error(&error)),
        };
        plausible(&entry);
        assert!(reader.position() > position, "the reader did not advance");
        let mut content = Vec::new();
        let stored = stored(&entry);
        let read = reader
            .content()
            .take(ENOUGH - looked_at)
            .read_to_end(&mut content);
        looked_at += content.len() as u64;
        match read {
            Err(error) => return drop(judge::error(&error)),
            Ok(_) if looked_at == ENOUGH => return,
            Ok(_) => assert_eq!(content.len() as u64, stored, "{entry:?}"),
        }
        position = reader.position();
        if entry.extents.is_none() {
            round_trip(&entry, &content);
        }
    }
}

/// What every member promises.
fn plausible(entry: &Entry) {
    for path in [&entry.path].into_iter().chain(match &entry.kind {
        Kind::Hardlink(target) => Some(target),
        _ => None,
    }) {
        safe(path);
    }
    if let Kind::Symlink(target) = &entry.kind {
        assert!(!target.is_empty() && target.len() <= PATH && !target.contains(&0));
    }
    assert_eq!(entry.mode & !0o7777, 0);
    assert!(entry.mtime.nanos < 1_000_000_000);
    let mut end = 0;
    for extent in entry.extents.iter().flatten() {
        assert!(extent.len > 0 && extent.offset >= end, "{entry:?}");
        end = extent.offset + extent.len;
        assert!(end <= entry.size, "{entry:?}");
    }
    if entry.kind != Kind::File {
        assert_eq!((entry.size, &entry.extents), (0, &None));
    }
}

fn safe(path: &MemberPath) {
    judge::line(path);
    let bytes = path.as_bytes();
    assert!(bytes.len() <= PATH && !bytes.contains(&0) && !bytes.starts_with(b"/"));
    for name in path.components() {
        assert!(name != b"." && name != b".." && name.len() <= NAME && !name.is_empty());
    }
}

/// Bytes of content that the archive has for a member.
fn stored(entry: &Entry) -> u64 {
    match &entry.extents {
        Some(extents) => extents.iter().map(|extent| extent.len).sum(),
        None => entry.size,
    }
}

/// What we write of a member reads back as the same, once it went through our writer: it knows only one way to say each
/// thing.
fn round_trip(entry: &Entry, content: &[u8]) {
    let Some((first, same)) = rewritten(entry, content) else {
        return;
    };
    assert_eq!(same, content, "{entry:?}");
    assert_eq!(
        (&first.path, &first.kind, first.size),
        (&entry.path, &entry.kind, entry.size)
    );
    assert_eq!((first.mode, first.mtime), (entry.mode, entry.mtime));
    assert_eq!((first.uid, first.gid), (entry.uid, entry.gid));
    let second = rewritten(&first, content);
    assert_eq!(second, Some((first, same)));
}

/// Writes a member and reads it back; nothing where it cannot be written.
fn rewritten(entry: &Entry, content: &[u8]) -> Option<(Entry, Vec<u8>)> {
    let mut writer = ArchiveWriter::new(Vec::new());
    writer.append(entry, &mut &*content).ok()?;
    let archive = writer.finish().ok()?;
    let mut reader = ArchiveReader::new(archive.as_slice(), Names::none());
    let again = reader.next_entry();
    assert!(
        matches!(again, Ok(Some(_))),
        "{entry:?} was written, and read as {again:?}"
    );
    let again = again.ok()??;
    let mut bytes = Vec::new();
    reader.content().read_to_end(&mut bytes).ok()?;
    let end = reader.next_entry();
    assert!(matches!(end, Ok(None)), "then {end:?}");
    Some((again, bytes))
}

/// Unpacks an archive: nothing outside the destination is touched, whatever it says.
pub(crate) fn extract(bytes: &[u8]) {
    for archive in [Some(bytes.to_vec()), mended(bytes)].into_iter().flatten() {
        let Ok(archive) = Decoded::new(archive.as_slice()) else {
            return;
        };
        let mut archive = ArchiveReader::new(archive.take(ENOUGH), Names::none());
        let done = AtomicU64::new(0);
        let mut watch = Watching {
            advanced: |bytes| {
                done.fetch_add(bytes, Relaxed);
            },
            stop: || done.load(Relaxed) > ENOUGH,
        };
        let result = Ground::with(|ground| {
            ground.unpack(|destination| {
                let prefix = MemberPath::root();
                seed::extract::extract(&mut archive, &prefix, destination, &mut watch)
            })
        });
        match result {
            Ok(extracted) => {
                if let Some(first) = &extracted.first_unsupported {
                    assert!(extracted.unsupported_xattrs > 0);
                    judge::line(first);
                }
            }
            Err(ExtractError::Stopped { .. }) => {}
            Err(error) => drop(judge::error(&error)),
        }
    }
}

/// Looks for the files of a seed in a layer.
pub(crate) fn layer(bytes: &[u8]) {
    /// Reads what it gets, up to a limit.
    struct Taste;
    impl PartSink for Taste {
        fn part(&mut self, _part: Part, content: &mut dyn Read) -> io::Result<()> {
            io::copy(&mut content.take(ENOUGH), &mut io::sink()).map(drop)
        }
        fn removed(&mut self, _part: Part) {}
    }
    for archive in [Some(bytes.to_vec()), mended(bytes)].into_iter().flatten() {
        let digest = api::Digest::from_sha256(&[0; 32]);
        let mut collector = Collector::default();
        // Once more: the second one overrides the first.
        for _ in 0..2 {
            let input = Cursor::new(&archive);
            if let Err(error) = collector.layer(&digest, input, &mut Taste, &|| false) {
                judge::error(&error);
                return;
            }
        }
        match collector.documents() {
            Ok(documents) => {
                for name in documents.names() {
                    assert!(documents.get(name).is_ok());
                }
            }
            Err(error) => drop(judge::error(&error)),
        }
    }
}

/// The archive with the right checksum in everything that looks like a header: by chance nobody hits one. Nothing when
/// none was wrong.
fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    const BLOCK: usize = 512;
    let mut mended = bytes.to_vec();
    for block in mended.chunks_exact_mut(BLOCK) {
        if block.get(257..262) != Some(b"ustar") {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().copied().map(u32::from).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    (mended != bytes).then_some(mended)
}
