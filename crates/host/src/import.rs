//! Importing the ostree objects of a seed.
//!
//! The seed carries a whole repository as files. Only its objects are taken, each through libostree, which computes the
//! checksum of what it is given and refuses what does not match; and of the commits only the one that is asked for:
//! another one could be there without its content.

use std::io::{self, Read};

use node::{ErrorKind, PortError, PortResult};
use ostree::gio::{self, prelude::*};
use ostree::glib::{Bytes, Variant, VariantTy};
use ostree::{ObjectType, Repo};
use seed::archive::{ArchiveError, ArchiveReader, Entry, Extent, Kind};

use crate::failure::{Attempt, glib_kind, io_kind};
use crate::sysroot::{import_ref, is_complete};
use crate::transfer::Transfer;

/// Largest metadata object in bytes (libostree's `OSTREE_MAX_METADATA_SIZE`).
const METADATA_LIMIT: u64 = 128 << 20;

/// Longest repository configuration in bytes; they have a few lines.
const CONFIG_LIMIT: u64 = 64 << 10;

/// Contents are written in pieces of this many bytes; a stop is looked for between them.
const CHUNK: usize = 1 << 20;

/// File type of a regular file in `st_mode`.
const S_IFREG: u32 = 0o100_000;

const NONE: Option<&gio::Cancellable> = gio::Cancellable::NONE;

/// Makes `commit` complete in `repo` from the repository in `archive` and protects it with a ref. Objects that are
/// present are not read. All become visible at once, durably, at the end; what an interrupted import wrote is found
/// again by libostree's next transaction of the same boot.
pub(crate) fn import<R: Read>(
    repo: &Repo,
    commit: &str,
    archive: &mut ArchiveReader<R>,
    transfer: &Transfer<'_>,
) -> PortResult<()> {
    let attempt = || format!("importing commit {commit} from the seed");
    let transaction = repo.auto_transaction(NONE).attempt(attempt)?;
    let mut import = Import {
        repo,
        commit,
        transfer,
    };
    while let Some(entry) = archive
        .next_entry()
        .map_err(|error| archive_error(error).within(attempt()))?
    {
        if !transfer.go_on() {
            return Err(PortError::stopped(attempt()));
        }
        import
            .member(&entry, archive.content())
            .map_err(|error| error.within(attempt()))?;
    }
    transaction.commit(NONE).attempt(attempt)?;
    // An earlier pull of somebody else may have left its mark.
    repo.mark_commit_partial(commit, false).attempt(attempt)?;
    if !is_complete(repo, commit)? {
        let text = format!("the seed's repository lacks objects of its commit {commit}");
        return Err(PortError::plain(ErrorKind::Permanent, text));
    }
    protect(repo, commit)
}

/// Keeps a commit from being pruned while no deployment does.
pub(crate) fn protect(repo: &Repo, commit: &str) -> PortResult<()> {
    repo.set_ref_immediate(None, &import_ref(commit), Some(commit), NONE)
        .attempt(|| format!("protecting commit {commit}"))
}

fn archive_error(error: ArchiveError) -> PortError {
    PortError::new(ErrorKind::Permanent, "reading the seed's repository", error)
}

/// An object's name in a repository: `objects/<2 digits>/<62 digits>.<type>`.
struct ObjectName {
    checksum: String,
    kind: String,
}

impl ObjectName {
    fn of(entry: &Entry) -> Option<Self> {
        let path = str::from_utf8(entry.path.as_bytes()).ok()?;
        let (directory, name) = path.strip_prefix("objects/")?.split_once('/')?;
        let (rest, kind) = name.split_once('.')?;
        let checksum = format!("{directory}{rest}");
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (checksum.len() == 64 && directory.len() == 2 && checksum.bytes().all(hex)).then(|| Self {
            checksum,
            kind: kind.to_owned(),
        })
    }
}

struct Import<'a> {
    repo: &'a Repo,
    commit: &'a str,
    transfer: &'a Transfer<'a>,
}

impl Import<'_> {
    fn member(&mut self, entry: &Entry, content: impl Read) -> PortResult<()> {
        if entry.path.as_bytes() == b"config" {
            return check_mode(content);
        }
        let Some(name) = ObjectName::of(entry) else {
            return Ok(());
        };
        let kind = match name.kind.as_str() {
            "commit" if name.checksum == self.commit => ObjectType::Commit,
            "dirtree" => ObjectType::DirTree,
            "dirmeta" => ObjectType::DirMeta,
            "file" => ObjectType::File,
            "filez" => return Err(unknown_mode("archive")),
            _ => return Ok(()),
        };
        let attempt = || format!("importing object {}.{}", name.checksum, name.kind);
        if self
            .repo
            .has_object(kind, &name.checksum, NONE)
            .attempt(attempt)?
        {
            return Ok(());
        }
        match kind {
            ObjectType::File => self.file(&name.checksum, entry, content),
            kind => self.metadata(kind, &name.checksum, content),
        }
        .map_err(|error| PortError::new(error.kind(), attempt(), error))
    }

    fn metadata(
        &self,
        kind: ObjectType,
        checksum: &str,
        content: impl Read,
    ) -> Result<(), Refusal> {
        let mut bytes = vec![];
        content.take(METADATA_LIMIT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > METADATA_LIMIT {
            return Err(Refusal::Format("is larger than 128 MiB"));
        }
        // The types of libostree's repository format.
        let signature = match kind {
            ObjectType::Commit => "(a{sv}aya(say)sstayay)",
            ObjectType::DirTree => "(a(say)a(sayay))",
            _ => "(uuua(ayay))",
        };
        let kind_of_variant = VariantTy::new(signature)
            .map_err(|_| Refusal::Format("is of a type without a signature"))?;
        let variant = Variant::from_bytes_with_type(&Bytes::from_owned(bytes), kind_of_variant);
        let written = self
            .repo
            .write_metadata(kind, Some(checksum), &variant, NONE)?;
        verify(&written.to_hex(), checksum)
    }

    fn file(&self, checksum: &str, entry: &Entry, content: impl Read) -> Result<(), Refusal> {
        if entry.xattrs.contains_key(b"user.ostreemeta".as_slice()) {
            return Err(Refusal::Format(
                "is of a repository of mode bare-user, not bare",
            ));
        }
        let xattrs = xattrs(entry);
        let xattrs = Some(&xattrs);
        let Entry { uid, gid, .. } = *entry;
        let written = match &entry.kind {
            Kind::Symlink(target) => {
                let target = str::from_utf8(target)
                    .map_err(|_| Refusal::Format("is a link whose target is no UTF-8"))?;
                self.repo
                    .write_symlink(Some(checksum), uid, gid, xattrs, target, NONE)?
            }
            Kind::File => {
                let mode = S_IFREG | entry.mode;
                let mut content = Expanded::new(entry, content);
                if entry.size <= CHUNK as u64 {
                    let mut bytes = vec![];
                    content.read_to_end(&mut bytes)?;
                    self.repo.write_regfile_inline(
                        Some(checksum),
                        uid,
                        gid,
                        mode,
                        xattrs,
                        &bytes,
                        NONE,
                    )?
                } else {
                    let size = entry.size;
                    let writer =
                        self.repo
                            .write_regfile(Some(checksum), uid, gid, mode, size, xattrs)?;
                    self.stream(&mut content, &writer)?;
                    writer.finish(NONE)?
                }
            }
            _ => return Err(Refusal::Format("is neither a file nor a link")),
        };
        verify(&written, checksum)
    }

    fn stream(
        &self,
        content: &mut impl Read,
        writer: &ostree::ContentWriter,
    ) -> Result<(), Refusal> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = content.read(&mut chunk)?;
            if length == 0 {
                return Ok(());
            }
            let (_, error) = writer.write_all(chunk.get(..length).unwrap_or_default(), NONE)?;
            if let Some(error) = error {
                return Err(error.into());
            }
            if !self.transfer.go_on() {
                return Err(Refusal::Stopped);
            }
        }
    }
}

/// libostree compares by itself; not relying on that costs nothing.
fn verify(written: &str, expected: &str) -> Result<(), Refusal> {
    if written == expected {
        Ok(())
    } else {
        Err(Refusal::Format("has another checksum than its name says"))
    }
}

/// The attributes in libostree's form: names end with NUL and are sorted.
fn xattrs(entry: &Entry) -> Variant {
    let pairs = entry.xattrs.iter().map(|(name, value)| {
        let mut name = name.clone();
        name.push(0);
        (name, value.clone())
    });
    pairs.collect::<Vec<(Vec<u8>, Vec<u8>)>>().to_variant()
}

/// Why an object was not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the object {0}")]
    Format(&'static str),
    #[error("the work was stopped")]
    Stopped,
    #[error("the archive or the repository failed")]
    Io(#[from] io::Error),
    #[error("libostree refused the object")]
    Ostree(#[from] ostree::glib::Error),
}

impl Refusal {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Format(_) => ErrorKind::Permanent,
            Self::Stopped => ErrorKind::Interrupted,
            Self::Io(error) => io_kind(error),
            Self::Ostree(error) => glib_kind(error),
        }
    }
}

fn check_mode(content: impl Read) -> PortResult<()> {
    let mut text = String::new();
    content
        .take(CONFIG_LIMIT)
        .read_to_string(&mut text)
        .attempt(|| "reading the configuration of the seed's repository".to_owned())?;
    let mode = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("mode="));
    match mode.map(str::trim) {
        Some("bare") => Ok(()),
        other => Err(unknown_mode(other.unwrap_or("unknown"))),
    }
}

fn unknown_mode(mode: &str) -> PortError {
    let mode: String = mode.chars().filter(|c| !c.is_control()).take(40).collect();
    let text = format!("the seed's repository is of mode {mode}; only bare can be imported");
    PortError::plain(ErrorKind::Permanent, text)
}

/// The content of a member with its holes.
struct Expanded<R> {
    content: R,
    extents: std::vec::IntoIter<Extent>,
    current: Option<Extent>,
    at: u64,
    size: u64,
}

impl<R: Read> Expanded<R> {
    fn new(entry: &Entry, content: R) -> Self {
        let whole = || {
            vec![Extent {
                offset: 0,
                len: entry.size,
            }]
        };
        let mut extents = entry.extents.clone().unwrap_or_else(whole).into_iter();
        let current = extents.next();
        Self {
            content,
            extents,
            current,
            at: 0,
            size: entry.size,
        }
    }
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self
            .current
            .is_some_and(|extent| self.at >= extent.offset + extent.len)
        {
            self.current = self.extents.next();
        }
        let (end, is_data) = match self.current {
            Some(extent) if self.at >= extent.offset => (extent.offset + extent.len, true),
            Some(extent) => (extent.offset, false),
            None => (self.size, false),
        };
        let room = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = room.min(buffer.len());
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        let length = if is_data {
            self.content.read(buffer)?
        } else {
            buffer.fill(0);
            length
        };
        self.at += length as u64;
        Ok(length)
    }
}
