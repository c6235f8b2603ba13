//! Importing the ostree objects of a seed.
//!
//! The seed carries a whole repository as files. Only its objects are taken, each with its checksum verified; and of the
//! commits only the one that is asked for: another one could be there without its content.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use node::{ErrorKind, PortError, PortResult};
use ostree::{Repo, gio};
use seed::archive::{ArchiveError, ArchiveReader, Entry, Extent, Kind};

use crate::failure::Attempt;
use crate::objects::{FileMetadata, ObjectKind, ObjectName, ObjectStore, Payload, Refusal};
use crate::sysroot::{import_ref, is_complete};

/// Largest metadata object in bytes (libostree's `OSTREE_MAX_METADATA_SIZE`).
const METADATA_LIMIT: u64 = 128 << 20;

/// Longest repository configuration in bytes; they have a few lines.
const CONFIG_LIMIT: u64 = 64 << 10;

/// Most bytes that all commit objects of a seed may have together: they are kept in memory until it is known which one
/// is wanted.
const COMMITS_LIMIT: usize = 4 << 20;

/// Longer files are written while they are read; the others are given to the writers.
const SHORT: u64 = 256 << 10;

/// Threads that write short objects: creating files is what takes longest.
const WRITERS: usize = 2;

/// Objects that wait for a writer, at most: 8 MiB of the longest.
const WAITING: usize = 32;

const NONE: Option<&gio::Cancellable> = gio::Cancellable::NONE;

/// The commit objects of a seed, by checksum. Their own checksums are not verified yet.
pub(crate) type Commits = BTreeMap<String, Vec<u8>>;

/// Stages all objects of the seed's repository that the node's lacks, and gives the commits, which are not staged.
/// `go_on` is asked after every chunk.
pub(crate) fn stage<R: Read>(
    archive: &mut ArchiveReader<R>,
    store: &ObjectStore,
    go_on: &(dyn Fn() -> bool + Sync),
) -> PortResult<Commits> {
    let attempt = || "importing the seed's repository".to_owned();
    let (jobs, waiting) = sync_channel(WAITING);
    let waiting = &Mutex::new(waiting);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                thread::Builder::new()
                    .name("objects".to_owned())
                    .spawn_scoped(scope, move || write(waiting, store))
            })
            .collect::<io::Result<_>>()
            .attempt(attempt)?;
        let mut staging = Staging {
            store,
            jobs,
            go_on,
            commits: Commits::new(),
        };
        let read = staging.read(archive);
        let Staging { jobs, commits, .. } = staging;
        drop(jobs);
        for writer in writers {
            let written = writer
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            written.map_err(|error| error.within(attempt()))?;
        }
        read.map_err(|error| error.within(attempt()))?;
        Ok(commits)
    })
}

/// Makes `commit` complete in `repo` with what is staged, and protects it with a ref.
pub(crate) fn adopt(
    repo: &Repo,
    store: &ObjectStore,
    commit: &str,
    commits: &Commits,
) -> PortResult<()> {
    let attempt = || format!("importing commit {commit} from the seed");
    if let Some(bytes) = commits.get(commit) {
        let name = ObjectName {
            checksum: commit.to_owned(),
            kind: ObjectKind::Commit,
        };
        store
            .put(&name, &Payload::Metadata(bytes.clone()))
            .map_err(|error| PortError::new(error.kind(), attempt(), error))?;
    }
    store.adopt().attempt(attempt)?;
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

/// Writes objects until there are no more, or one fails.
fn write(waiting: &Mutex<Receiver<(ObjectName, Payload)>>, store: &ObjectStore) -> PortResult<()> {
    loop {
        let next = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok((name, payload)) = next else {
            return Ok(());
        };
        if let Err(error) = store.put(&name, &payload) {
            // Whoever waits for room among the jobs learns that nobody takes them any more.
            let (_, nobody) = sync_channel(0);
            *waiting.lock().unwrap_or_else(PoisonError::into_inner) = nobody;
            return Err(refused(&name, error));
        }
    }
}

fn refused(name: &ObjectName, error: Refusal) -> PortError {
    let ObjectName { checksum, kind } = name;
    let attempted = format!("importing object {checksum} ({kind:?})");
    PortError::new(error.kind(), attempted, error)
}

/// An object's name in a repository: `objects/<2 digits>/<62 digits>.<type>`.
fn object(entry: &Entry) -> Option<(String, String)> {
    let path = str::from_utf8(entry.path.as_bytes()).ok()?;
    let (directory, name) = path.strip_prefix("objects/")?.split_once('/')?;
    let (rest, kind) = name.split_once('.')?;
    let checksum = format!("{directory}{rest}");
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let valid = checksum.len() == 64 && directory.len() == 2 && checksum.bytes().all(hex);
    valid.then(|| (checksum, kind.to_owned()))
}

struct Staging<'a> {
    store: &'a ObjectStore,
    jobs: SyncSender<(ObjectName, Payload)>,
    go_on: &'a (dyn Fn() -> bool + Sync),
    commits: Commits,
}

impl Staging<'_> {
    fn read<R: Read>(&mut self, archive: &mut ArchiveReader<R>) -> PortResult<()> {
        while let Some(entry) = archive.next_entry().map_err(archive_error)? {
            if !(self.go_on)() {
                return Err(PortError::stopped("importing objects".to_owned()));
            }
            self.member(&entry, archive.content())?;
        }
        Ok(())
    }

    fn member(&mut self, entry: &Entry, content: impl Read) -> PortResult<()> {
        if entry.path.as_bytes() == b"config" {
            return check_mode(content);
        }
        let Some((checksum, kind)) = object(entry) else {
            return Ok(());
        };
        let kind = match kind.as_str() {
            "commit" => ObjectKind::Commit,
            "dirtree" => ObjectKind::DirTree,
            "dirmeta" => ObjectKind::DirMeta,
            "file" => ObjectKind::File,
            "filez" => return Err(unknown_mode("archive")),
            _ => return Ok(()),
        };
        let name = ObjectName { checksum, kind };
        let present = self.store.has(&name).map_err(Refusal::from);
        let present = present.map_err(|error| refused(&name, error))?;
        if present && kind != ObjectKind::Commit {
            return Ok(());
        }
        self.object(&name, entry, content)
            .map_err(|error| refused(&name, error))
    }

    fn object(
        &mut self,
        name: &ObjectName,
        entry: &Entry,
        content: impl Read,
    ) -> Result<(), Refusal> {
        let payload = match name.kind {
            ObjectKind::Commit => {
                let bytes = metadata(content)?;
                self.commits.insert(name.checksum.clone(), bytes);
                let total: usize = self.commits.values().map(Vec::len).sum();
                return match total > COMMITS_LIMIT {
                    true => Err(Refusal::Format("makes all commits larger than 4 MiB")),
                    false => Ok(()),
                };
            }
            ObjectKind::DirTree | ObjectKind::DirMeta => Payload::Metadata(metadata(content)?),
            ObjectKind::File => match self.file(name, entry, content)? {
                Some(payload) => payload,
                None => return Ok(()),
            },
        };
        // Nobody takes it: a writer has failed, and its error is what is told.
        self.jobs
            .send((name.clone(), payload))
            .map_err(|_| Refusal::Stopped)
    }

    /// A short file or a link; a long file is written at once.
    fn file(
        &self,
        name: &ObjectName,
        entry: &Entry,
        content: impl Read,
    ) -> Result<Option<Payload>, Refusal> {
        if entry.xattrs.contains_key(b"user.ostreemeta".as_slice()) {
            return Err(Refusal::Format(
                "is of a repository of mode bare-user, not bare",
            ));
        }
        let meta = FileMetadata {
            uid: entry.uid,
            gid: entry.gid,
            mode: entry.mode,
            xattrs: entry.xattrs.clone(),
        };
        match &entry.kind {
            Kind::Symlink(target) => {
                let target = str::from_utf8(target)
                    .map_err(|_| Refusal::Format("is a link whose target is no UTF-8"))?;
                Ok(Some(Payload::Symlink(meta, target.to_owned())))
            }
            Kind::File => {
                let mut content = Expanded::new(entry, content);
                if entry.size > SHORT {
                    self.store.stream(name, &meta, &mut content, self.go_on)?;
                    return Ok(None);
                }
                let mut bytes = Vec::with_capacity(entry.size as usize);
                content.read_to_end(&mut bytes).map_err(Refusal::Content)?;
                Ok(Some(Payload::File(meta, bytes)))
            }
            _ => Err(Refusal::Format("is neither a file nor a link")),
        }
    }
}

fn metadata(content: impl Read) -> Result<Vec<u8>, Refusal> {
    let mut bytes = vec![];
    content
        .take(METADATA_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(Refusal::Content)?;
    if bytes.len() as u64 > METADATA_LIMIT {
        return Err(Refusal::Format("is larger than 128 MiB"));
    }
    Ok(bytes)
}

fn archive_error(error: ArchiveError) -> PortError {
    PortError::new(ErrorKind::Permanent, "reading the seed's repository", error)
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
