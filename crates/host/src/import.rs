//! Importing the ostree objects of a seed.
//!
//! The seed carries a whole repository as files. Only its objects are taken, each with its checksum verified; and of the
//! commits only the one that is asked for: another one could be there without its content.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use api::Digest;
use node::{ErrorKind, PortError, PortResult};
use ostree::{Repo, gio};
use seed::archive::{ArchiveError, ArchiveReader, Entry, Extent, Kind};
use seed::index::{Checksum, ObjectId, ObjectKind};

use crate::failure::Attempt;
use crate::objects::{FileMetadata, ObjectStore, Payload, Refusal};
use crate::sysroot::{import_ref, is_present};

/// Largest metadata object in bytes: a directory of 150,000 files. libostree's own limit for what it fetches,
/// `OSTREE_MAX_METADATA_SIZE`, was 10 MiB for long and is 128 MiB now; none is kept in memory here before it is verified.
const METADATA_LIMIT: u64 = 16 << 20;

/// Longest repository configuration in bytes; they have a few lines.
const CONFIG_LIMIT: u64 = 64 << 10;

/// Most bytes that all commit objects of a seed may have together: they are kept in memory until it is known which one
/// is wanted.
const COMMITS_LIMIT: usize = 4 << 20;

/// Longer files are written while they are read, and longer metadata by the reader; the others are given to the writers.
const SHORT: u64 = 256 << 10;

/// Threads that write short objects: creating files is what takes longest.
const WRITERS: usize = 2;

/// Objects that wait for a writer, at most: 8 MiB of the longest.
const WAITING: usize = 32;

const NONE: Option<&gio::Cancellable> = gio::Cancellable::NONE;

/// The commit objects of a seed, by checksum. Their own checksums are not verified yet.
pub(crate) type Commits = BTreeMap<Checksum, Vec<u8>>;

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
    let id = commit_id(commit).attempt(attempt)?;
    if let Some(bytes) = commits.get(&id.checksum) {
        store
            .put(&id, &Payload::Metadata(bytes.clone()))
            .map_err(|error| PortError::new(error.kind(), attempt(), error))?;
    }
    // Until all of it was seen to be there; but nothing new is said of a commit that the node has already.
    if !repo
        .has_object(ostree::ObjectType::Commit, commit, NONE)
        .attempt(attempt)?
    {
        repo.mark_commit_partial(commit, true).attempt(attempt)?;
    }
    store.adopt().attempt(attempt)?;
    if !is_present(repo, commit)? {
        return Err(match store.lost().attempt(attempt)? {
            true => {
                let text = "objects were pruned while the seed's were imported; it is tried again";
                PortError::plain(ErrorKind::Transient, text)
            }
            false => {
                let text = format!("the seed's repository lacks objects of its commit {commit}");
                PortError::plain(ErrorKind::Permanent, text)
            }
        });
    }
    // An earlier pull of somebody else may have left its mark, too.
    repo.mark_commit_partial(commit, false).attempt(attempt)?;
    protect(repo, commit)
}

/// Keeps a commit from being pruned while no deployment does.
pub(crate) fn protect(repo: &Repo, commit: &str) -> PortResult<()> {
    repo.set_ref_immediate(None, &import_ref(commit), Some(commit), NONE)
        .attempt(|| format!("protecting commit {commit}"))
}

/// Writes objects until there are no more, or one fails.
fn write(waiting: &Mutex<Receiver<(ObjectId, Payload)>>, store: &ObjectStore) -> PortResult<()> {
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

/// Why an object was not taken.
pub(crate) fn refused(id: &ObjectId, error: Refusal) -> PortError {
    let checksum = Digest::from_sha256(&id.checksum);
    let attempted = format!("importing object {} ({:?})", checksum.hex(), id.kind);
    PortError::new(error.kind(), attempted, error)
}

/// The object of a commit.
pub(crate) fn commit_id(commit: &str) -> io::Result<ObjectId> {
    let checksum = checksum(commit).ok_or_else(|| {
        let text = format!("\"{}\" is no checksum", commit.escape_debug());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    let kind = ObjectKind::Commit;
    Ok(ObjectId { checksum, kind })
}

/// The bytes of a checksum of 64 lower-case hexadecimal digits.
fn checksum(text: &str) -> Option<Checksum> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes.filter(|_| rest.is_empty())?.try_into().ok()
}

/// An object's name in a repository: `objects/<2 digits>/<62 digits>.<type>`. `None` for what is no object, or of a type
/// that no commit consists of.
pub(crate) fn object(entry: &Entry) -> Result<Option<ObjectId>, Refusal> {
    let parse = || {
        let path = str::from_utf8(entry.path.as_bytes()).ok()?;
        let (directory, name) = path.strip_prefix("objects/")?.split_once('/')?;
        let (rest, kind) = name.split_once('.')?;
        let checksum = checksum(&format!("{directory}{rest}"));
        checksum.filter(|_| directory.len() == 2).zip(Some(kind))
    };
    let Some((checksum, kind)) = parse() else {
        return Ok(None);
    };
    let kind = match kind {
        "commit" => ObjectKind::Commit,
        "dirtree" => ObjectKind::DirTree,
        "dirmeta" => ObjectKind::DirMeta,
        "file" => ObjectKind::File,
        "filez" => {
            return Err(Refusal::Format(
                "is of a repository of mode archive, not bare",
            ));
        }
        _ => return Ok(None),
    };
    Ok(Some(ObjectId { checksum, kind }))
}

struct Staging<'a> {
    store: &'a ObjectStore,
    jobs: SyncSender<(ObjectId, Payload)>,
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
        let id = object(entry).map_err(|error| {
            let attempted = format!("importing {}", entry.path);
            PortError::new(error.kind(), attempted, error)
        })?;
        let Some(name) = id else {
            return Ok(());
        };
        let present = self.store.has(&name).map_err(Refusal::from);
        let present = present.map_err(|error| refused(&name, error))?;
        if present && name.kind != ObjectKind::Commit {
            return Ok(());
        }
        self.object(&name, entry, content)
            .map_err(|error| refused(&name, error))
    }

    fn object(
        &mut self,
        name: &ObjectId,
        entry: &Entry,
        content: impl Read,
    ) -> Result<(), Refusal> {
        let payload = match name.kind {
            ObjectKind::Commit => {
                let bytes = metadata(content)?;
                self.commits.insert(name.checksum, bytes);
                let total: usize = self.commits.values().map(Vec::len).sum();
                return match total > COMMITS_LIMIT {
                    true => Err(Refusal::Format("makes all commits larger than 4 MiB")),
                    false => Ok(()),
                };
            }
            ObjectKind::DirTree | ObjectKind::DirMeta => Payload::Metadata(metadata(content)?),
            ObjectKind::File => match file(self.store, name, entry, content, self.go_on)? {
                Some(payload) => payload,
                None => return Ok(()),
            },
        };
        if matches!(&payload, Payload::Metadata(bytes) if bytes.len() as u64 > SHORT) {
            return self.store.put(name, &payload);
        }
        // Nobody takes it: a writer has failed, and its error is what is told.
        self.jobs
            .send((*name, payload))
            .map_err(|_| Refusal::Stopped)
    }
}

/// Verifies an object and stages it.
pub(crate) fn put(
    store: &ObjectStore,
    id: &ObjectId,
    entry: &Entry,
    content: impl Read,
    go_on: &dyn Fn() -> bool,
) -> Result<(), Refusal> {
    let payload = match id.kind {
        ObjectKind::File => file(store, id, entry, content, go_on)?,
        _ => Some(Payload::Metadata(metadata(content)?)),
    };
    payload.map_or(Ok(()), |payload| store.put(id, &payload))
}

/// What a file's entry says of it.
pub(crate) fn file_metadata(entry: &Entry) -> Result<FileMetadata, Refusal> {
    if entry.xattrs.contains_key(b"user.ostreemeta".as_slice()) {
        return Err(Refusal::Format(
            "is of a repository of mode bare-user, not bare",
        ));
    }
    Ok(FileMetadata {
        uid: entry.uid,
        gid: entry.gid,
        mode: entry.mode,
        xattrs: entry.xattrs.clone(),
    })
}

/// A short file or a link; a long file is written at once.
fn file(
    store: &ObjectStore,
    id: &ObjectId,
    entry: &Entry,
    content: impl Read,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Payload>, Refusal> {
    let meta = file_metadata(entry)?;
    match &entry.kind {
        Kind::Symlink(target) => {
            let target = str::from_utf8(target)
                .map_err(|_| Refusal::Format("is a link whose target is no UTF-8"))?;
            Ok(Some(Payload::Symlink(meta, target.to_owned())))
        }
        Kind::File => {
            let mut content = Expanded::new(entry, content);
            if entry.size > SHORT {
                store.stream(id, &meta, &mut content, go_on)?;
                return Ok(None);
            }
            let mut bytes = Vec::with_capacity(entry.size as usize);
            content.read_to_end(&mut bytes).map_err(Refusal::Content)?;
            Ok(Some(Payload::File(meta, bytes)))
        }
        _ => Err(Refusal::Format("is neither a file nor a link")),
    }
}

fn metadata(content: impl Read) -> Result<Vec<u8>, Refusal> {
    let mut bytes = vec![];
    content
        .take(METADATA_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(Refusal::Content)?;
    if bytes.len() as u64 > METADATA_LIMIT {
        return Err(Refusal::Format("is larger than 16 MiB"));
    }
    Ok(bytes)
}

pub(crate) fn archive_error(error: ArchiveError) -> PortError {
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

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use ostree::prelude::*;
    use seed::archive::{MemberPath, Time};

    use super::*;
    use crate::layout::Layout;
    use crate::sysroot::is_complete;

    fn repository(dir: &Path) -> (Layout, Repo, ObjectStore) {
        let layout = Layout::below(dir);
        let path = layout.sysroot().join("ostree/repo");
        std::fs::create_dir_all(&path).unwrap();
        let repo = Repo::new_for_path(&path);
        repo.create(ostree::RepoMode::Bare, NONE).unwrap();
        let store = ObjectStore::open(&layout, &repo).unwrap();
        (layout, repo, store)
    }

    fn entry() -> Entry {
        Entry {
            path: MemberPath::parse(b"objects/x").unwrap(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            size: 0,
            extents: None,
            xattrs: BTreeMap::new(),
        }
    }

    /// Commits a file and gives the commit's checksum.
    fn commit(dir: &Path, repo: &Repo) -> String {
        let tree = dir.join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("file"), "content").unwrap();
        let transaction = repo.auto_transaction(NONE).unwrap();
        let files = ostree::MutableTree::new();
        repo.write_directory_to_mtree(&gio::File::for_path(&tree), &files, None, NONE)
            .unwrap();
        let root = repo.write_mtree(&files, NONE).unwrap();
        let root = root.downcast_ref::<ostree::RepoFile>().unwrap();
        let commit = repo.write_commit(None, Some("seed"), None, None, root, NONE);
        transaction.commit(NONE).unwrap();
        commit.unwrap().to_string()
    }

    /// The objects of this kind, with their names.
    fn objects(layout: &Layout, kind: ObjectKind, suffix: &str) -> Vec<(ObjectId, PathBuf)> {
        let directories = layout.sysroot().join("ostree/repo/objects").read_dir();
        let files = directories.unwrap().flat_map(|dir| {
            let dir = dir.unwrap().path();
            dir.read_dir().unwrap().map(|file| file.unwrap().path())
        });
        let named = files.filter(|file| file.extension().is_some_and(|end| end == suffix));
        let name = |file: PathBuf| {
            let text = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
            let checksum = text(file.parent().unwrap()) + &text(&file);
            let checksum = super::checksum(&checksum).unwrap();
            (ObjectId { checksum, kind }, file)
        };
        named.map(name).collect()
    }

    #[test]
    fn what_is_pruned_meanwhile_is_imported_again() {
        let check = |seen: bool, pruned: bool, expect: Result<(), ErrorKind>| {
            let dir = tempfile::tempdir().unwrap();
            let (layout, repo, store) = repository(dir.path());
            let commit = commit(dir.path(), &repo);
            let (_, path) = &objects(&layout, ObjectKind::Commit, "commit")[0];
            let commits = Commits::from([(
                super::checksum(&commit).unwrap(),
                std::fs::read(path).unwrap(),
            )]);
            std::fs::remove_file(path).unwrap();
            let (name, path) = &objects(&layout, ObjectKind::File, "file")[0];
            if seen {
                assert!(store.has(name).unwrap());
            }
            if pruned {
                std::fs::remove_file(path).unwrap();
            }
            let adopted = adopt(&repo, &store, &commit, &commits);
            let what = format!("seen: {seen}, pruned: {pruned}: {adopted:?}");
            assert_eq!(adopted.map_err(|error| error.kind()), expect, "{what}");
            assert_eq!(is_complete(&repo, &commit).unwrap(), !pruned, "{what}");
            let (_, state) = repo.load_commit(&commit).unwrap();
            let partial = ostree::RepoCommitState::PARTIAL;
            assert_eq!(state.contains(partial), pruned, "{what}");
        };
        check(true, false, Ok(()));
        check(true, true, Err(ErrorKind::Transient));
        check(false, true, Err(ErrorKind::Permanent));
    }

    #[test]
    fn few_bytes_wait_unverified() {
        let dir = tempfile::tempdir().unwrap();
        let (_, _, store) = repository(dir.path());
        let name = ObjectId {
            checksum: [0xab; 32],
            kind: ObjectKind::DirTree,
        };
        let check = |size: u64, expect: &str| {
            // Nobody takes what is queued.
            let (jobs, _) = sync_channel(WAITING);
            let mut staging = Staging {
                store: &store,
                jobs,
                go_on: &|| true,
                commits: Commits::new(),
            };
            let staged = staging.object(&name, &entry(), io::repeat(0).take(size));
            assert_eq!(staged.unwrap_err().to_string(), expect, "{size} bytes");
        };
        check(SHORT, "the work was stopped");
        let text = "the object has another checksum than its name says";
        check(SHORT + 1, text);
        check(METADATA_LIMIT, text);
        check(METADATA_LIMIT + 1, "the object is larger than 16 MiB");
        check(u64::MAX, "the object is larger than 16 MiB");
    }
}
