//! The ostree repository in a seed: in an order from which single objects can be fetched.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use node::PortResult;
use ostree::gio;
use rustix::fs::{Mode, OFlags};
use seed::archive::{ArchiveWriter, Capture, Captured, Excludes, MemberPath, Overlay, Time};
use seed::index::ObjectId;
use seed::watch::Watch;
use seed::writer::{ChainWriter, SeedWriter};

use super::error::{PartError, permanent};
use crate::failure::Attempt;
use crate::import::commit_id;
use crate::reachable::{Reached, reached};
use crate::sysroot::roots;

/// Nobody cancels.
const NONE: Option<&gio::Cancellable> = None;

/// What is left out, or comes one by one: the objects.
const EXCLUDES: [&str; 3] = ["/tmp/*", "/.lock", "/objects/??/*"];

/// What goes into the archive.
struct Content<'a> {
    repository: &'a Path,
    commit: ObjectId,
    reached: Reached,
}

/// Captures the ostree repository at `repository`, and has the seed indexed: what is no object, the commit of the booted
/// release, the objects of its directories, its files in the order of their paths, so that what changes together lies
/// together, and then the objects that other commits have.
///
/// # Errors
/// [`node::ErrorKind::Permanent`] when the repository lacks something that the commit needs; whatever else went wrong. The
/// seed is torn then.
pub fn capture_repository(
    writer: &mut SeedWriter,
    repository: &Path,
    commit: &str,
    stamp: Time,
    watch: &mut dyn Watch,
) -> PortResult<Captured> {
    let attempt = || format!("reading commit {commit} of {}", repository.display());
    let repo = ostree::Repo::new_for_path(repository);
    repo.open(NONE).attempt(attempt)?;
    let (tree, meta) = roots(&repo, commit)?;
    let commit = commit_id(commit).attempt(attempt)?;
    let reached = reached(&repository.join("objects"), &tree, &meta).attempt(attempt)?;
    let content = Content {
        repository,
        commit,
        reached,
    };
    writer
        .repository(commit.checksum, |chain| content.write(chain, stamp, watch))
        .map_err(|error| permanent("capturing the ostree repository", error))
}

impl Content<'_> {
    fn write(
        &self,
        chain: &mut ChainWriter<'_>,
        stamp: Time,
        watch: &mut dyn Watch,
    ) -> Result<Captured, PartError> {
        let out = ArchiveWriter::dotted(chain);
        let excludes = Excludes::new(EXCLUDES);
        let mut capture = Capture::new(out, excludes, Overlay::default(), stamp, watch);
        capture.tree(self.repository, &MemberPath::root())?;
        let root = directory(self.repository).map_err(PartError::Repository)?;
        for object in self.objects() {
            let path = format!("objects/{}", object.path());
            begin(&mut capture, Some(*object))?;
            if !capture.single(root.as_fd(), &member(path.as_bytes())?)? {
                return Err(PartError::Missing(path));
            }
        }
        begin(&mut capture, None)?;
        for first in 0..=u8::MAX {
            for path in self.others(first).map_err(PartError::Repository)? {
                capture.single(root.as_fd(), &member(&path)?)?;
            }
        }
        Ok(capture.finish()?.1)
    }

    /// What the commit reaches, in order.
    fn objects(&self) -> impl Iterator<Item = &ObjectId> {
        let Reached { metadata, files } = &self.reached;
        [&self.commit].into_iter().chain(metadata).chain(files)
    }

    /// Paths of the objects that the commit does not reach and whose checksums begin with this byte.
    fn others(&self, first: u8) -> io::Result<Vec<Vec<u8>>> {
        let directory = format!("objects/{first:02x}");
        let listing = match fs::read_dir(self.repository.join(&directory)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing?,
        };
        let own = self.objects().filter(|object| object.checksum[0] == first);
        let own: HashSet<Vec<u8>> = own
            .map(|object| format!("objects/{}", object.path()).into_bytes())
            .collect();
        let mut others = Vec::new();
        for entry in listing {
            let name = entry?.file_name();
            let path = [directory.as_bytes(), b"/", name.as_bytes()].concat();
            if !own.contains(&path) {
                others.push(path);
            }
        }
        others.sort_unstable();
        Ok(others)
    }
}

fn begin(
    capture: &mut Capture<'_, &mut ChainWriter<'_>>,
    object: Option<ObjectId>,
) -> Result<(), PartError> {
    capture.output().begin(object).map_err(PartError::Chain)
}

fn directory(path: &Path) -> io::Result<rustix::fd::OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn member(path: &[u8]) -> Result<MemberPath, PartError> {
    MemberPath::parse(path).map_err(PartError::Name)
}
