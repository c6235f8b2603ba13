//! What a fetch has brought for a stateroot before its deployment exists, or before the seed was verified.
//!
//! It lies in the stateroot, `incoming/`, so that it is on the same filesystem and goes with the stateroot: `var/`, the
//! tree that becomes the stateroot's; and `etc.tgz` with `etc.deletions`, as they are in the seed. Each counts only with
//! its mark, which names the seed and is written when the whole seed was verified and what it speaks of is durable.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use api::{Digest, StaterootName};
use node::PortResult;
use node::ports::SeedPin;
use node::steps::VAR_UNPACKED;
use rustix::fs::RenameFlags;
use seed::extract::Mark;
use serde::{Deserialize, Serialize};

use crate::directory::Anchor;
use crate::failure::Attempt;
use crate::layout::Layout;
use crate::notes::Notes;
use crate::tree;

/// Its name in the stateroot.
const NAME: &str = "incoming";

/// How far the archives of an indexed seed have come.
const PROGRESS: &str = "progress";
/// Longest of these in bytes: it has the names of the directories that lead to one file.
const PROGRESS_LIMIT: u64 = 64 << 10;

/// What was deleted from `/etc`, and the mark of that and its archive.
const DELETIONS: &str = "etc.deletions";
const ETC_MARK: &str = "etc-complete";

/// Where a stateroot's own marks are, below `var`.
const MARKS: &str = "lib/lca";

/// Longest mark or record that is taken over.
const MARK_LIMIT: u64 = 1 << 20;

/// How far an interrupted fetch of an indexed seed has come with `/var`; `etc.tgz` speaks for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The seed.
    pub(crate) seed: Digest,
    /// Where to go on with `/var`; `None` = from its beginning.
    pub(crate) var: Option<Mark>,
    /// All of `/var` is there.
    pub(crate) var_done: bool,
}

fn notes(directory: &File) -> Notes<'_> {
    Notes {
        directory: directory.as_fd(),
        name: PROGRESS,
        limit: PROGRESS_LIMIT,
    }
}

/// What was brought for one stateroot.
pub(crate) struct Incoming {
    stateroot: PathBuf,
}

impl Incoming {
    /// Of this stateroot, whether there is anything or not.
    pub(crate) fn of(layout: &Layout, stateroot: &StaterootName) -> Self {
        let stateroot = layout.stateroot(stateroot);
        Self { stateroot }
    }

    fn path(&self) -> PathBuf {
        self.stateroot.join(NAME)
    }

    /// The tree that becomes `/var`.
    pub(crate) fn var(&self) -> PathBuf {
        self.path().join("var")
    }

    /// The archive of `/etc`.
    pub(crate) fn etc(&self) -> PathBuf {
        self.path().join("etc.tgz")
    }

    fn etc_mark(&self) -> PathBuf {
        self.path().join(ETC_MARK)
    }

    fn deletions(&self) -> PathBuf {
        self.path().join(DELETIONS)
    }

    /// What an interrupted fetch of this indexed seed has brought; where it has brought nothing, a new beginning.
    pub(crate) fn resume(&self, seed: &Digest) -> PortResult<Progress> {
        if let Some(progress) = self.progress(seed) {
            let [latest, picked, _] = Notes::files(PROGRESS);
            if self.path().join(latest).exists() {
                self.pick_note()?;
            }
            if self.path().join(picked).exists() {
                // Whoever wrote that was killed before it did this.
                sync(&self.path()).attempt(|| format!("syncing {}", self.path().display()))?;
                self.keep_note()?;
            }
            return Ok(progress);
        }
        self.begin()?;
        let progress = Progress {
            seed: seed.clone(),
            var: None,
            var_done: false,
        };
        // It speaks of nothing that could be lost.
        self.write_note(&progress)?;
        self.pick_note()?;
        self.keep_note()?;
        Ok(progress)
    }

    /// What an interrupted fetch of this indexed seed has brought.
    pub(crate) fn progress(&self, seed: &Digest) -> Option<Progress> {
        let directory = File::open(self.path()).ok()?;
        let progress: Progress = notes(&directory).last()?;
        (progress.seed == *seed && self.var().is_dir()).then_some(progress)
    }

    /// As [`Self::progress`], of whichever stateroot.
    pub(crate) fn find(layout: &Layout, seed: &Digest) -> Option<(Self, Progress)> {
        let entries = fs::read_dir(layout.stateroots()).into_iter().flatten();
        let mut found = entries.flatten().filter_map(|entry| {
            let stateroot = entry.path();
            let incoming = Self { stateroot };
            let progress = incoming.progress(seed)?;
            Some((incoming, progress))
        });
        found.next()
    }

    /// Adds a note, which counts in this boot, and in later ones if a sync begins behind it: [`Self::pick_note`], the sync,
    /// [`Self::keep_note`]. Otherwise nothing of `/var` might count after a power cut.
    pub(crate) fn write_note(&self, progress: &Progress) -> PortResult<()> {
        self.noting(|notes| notes.write(progress))
    }

    /// Picks what was noted so far; more may follow while the disk is waited for.
    pub(crate) fn pick_note(&self) -> PortResult<()> {
        self.noting(|notes| notes.pick())
    }

    /// Lets what was picked count in later boots: it is durable, and so is what it says.
    pub(crate) fn keep_note(&self) -> PortResult<()> {
        self.noting(|notes| notes.keep())
    }

    fn noting(&self, act: impl FnOnce(&Notes<'_>) -> io::Result<()>) -> PortResult<()> {
        File::open(self.path())
            .and_then(|directory| act(&notes(&directory)))
            .attempt(|| format!("noting what is in {}", self.path().display()))
    }

    /// Forgets how far a fetch has come: what it speaks of goes.
    fn forget(&self) -> io::Result<()> {
        for name in Notes::files(PROGRESS) {
            absent_is_none(fs::remove_file(self.path().join(name)))?;
        }
        Ok(())
    }

    /// Removes what is there and begins anew. Nobody else may look into it: the seed's `/etc` has the secrets of its host.
    pub(crate) fn begin(&self) -> PortResult<()> {
        self.remove()?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(self.path())
            .and_then(|()| fs::create_dir(self.var()))
            .attempt(|| format!("making {}", self.path().display()))
    }

    /// Removes all of it.
    pub(crate) fn remove(&self) -> PortResult<()> {
        let attempt = || format!("removing {}", self.path().display());
        let anchor = Anchor::open(&self.stateroot).attempt(attempt)?;
        let place = anchor.map(|anchor| anchor.place(NAME)).transpose();
        let Some(place) = place.attempt(attempt)?.flatten() else {
            return Ok(());
        };
        tree::remove(&place, &mut |_| true).attempt(attempt)
    }

    /// Removes what fetches have left for any stateroot.
    pub(crate) fn remove_all(layout: &Layout) -> PortResult<()> {
        let attempt = || format!("listing {}", layout.stateroots().display());
        let Some(entries) = absent_is_none(fs::read_dir(layout.stateroots())).attempt(attempt)?
        else {
            return Ok(());
        };
        for entry in entries {
            let stateroot = entry.attempt(attempt)?.path();
            Self { stateroot }.remove()?;
        }
        Ok(())
    }

    /// Marks what is complete; its content is durable already.
    pub(crate) fn mark(&self, pin: &SeedPin, var: bool, etc: Option<&[u8]>) -> PortResult<()> {
        let attempt = || format!("marking {}", self.path().display());
        let write = || -> io::Result<()> {
            if var {
                self.copy_marks()?;
                write_mark(&self.var(), &pin.digest)?;
            }
            if let Some(deletions) = etc {
                let Some(anchor) = Anchor::open(&self.path())? else {
                    return Err(io::ErrorKind::NotFound.into());
                };
                // One after the other is durable: the mark is never there without what it speaks of.
                for (name, content) in [
                    (DELETIONS, deletions),
                    (ETC_MARK, pin.digest.as_str().as_bytes()),
                ] {
                    let place = anchor.ensure_place(name)?;
                    place.replace(|file| io::Write::write_all(file, content))?;
                }
            }
            sync(&self.path())
        };
        write().attempt(attempt)
    }

    /// Puts the tree in the place of the stateroot's `/var` if it is complete and of this seed. It is the stateroot's
    /// from one moment to the next, mark and all.
    pub(crate) fn take_var(&self, pin: &SeedPin) -> PortResult<bool> {
        let attempt = || format!("putting {} in place", self.var().display());
        let swap = || -> io::Result<bool> {
            if read_mark(&self.var())?.as_deref() != Some(pin.digest.as_str()) {
                return Ok(false);
            }
            // What was written there since.
            self.copy_marks()?;
            write_mark(&self.var(), &pin.digest)?;
            self.forget()?;
            sync(&self.path())?;
            let (from, to) = (File::open(self.path())?, File::open(&self.stateroot)?);
            rustix::fs::renameat_with(
                from.as_fd(),
                "var",
                to.as_fd(),
                "var",
                RenameFlags::EXCHANGE,
            )?;
            sync(&self.stateroot)?;
            Ok(true)
        };
        let swapped = swap().attempt(attempt)?;
        if swapped {
            self.remove_var()?;
        }
        Ok(swapped)
    }

    /// The archive of `/etc` and what was deleted from there, if they are complete and of this seed.
    pub(crate) fn take_etc(&self, pin: &SeedPin) -> PortResult<Option<(File, String)>> {
        let attempt = || format!("reading {}", self.etc().display());
        let mark = absent_is_none(fs::read_to_string(self.etc_mark())).attempt(attempt)?;
        if mark.as_deref() != Some(pin.digest.as_str()) {
            return Ok(None);
        }
        let deletions = fs::read(self.deletions()).attempt(attempt)?;
        let deletions = String::from_utf8_lossy(&deletions).into_owned();
        let archive = File::open(self.etc()).attempt(attempt)?;
        Ok(Some((archive, deletions)))
    }

    /// Removes the tree that was to become `/var`, or what `/var` was before.
    pub(crate) fn remove_var(&self) -> PortResult<()> {
        let attempt = || format!("removing {}", self.var().display());
        self.forget().attempt(attempt)?;
        let anchor = Anchor::open(&self.path()).attempt(attempt)?;
        let place = anchor.map(|anchor| anchor.place("var")).transpose();
        let Some(place) = place.attempt(attempt)?.flatten() else {
            return Ok(());
        };
        tree::remove(&place, &mut |_| true).attempt(attempt)
    }

    /// Takes over the marks that the stateroot's `/var` has: whose it is must be known at every moment.
    fn copy_marks(&self) -> io::Result<()> {
        let Some(old) = Anchor::open(&self.stateroot.join("var"))? else {
            return Ok(());
        };
        let Some(new) = Anchor::open(&self.var())? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let Some(marks) = old.directory(MARKS)? else {
            return Ok(());
        };
        for name in crate::directory::names(&marks)? {
            let Some(name) = name.to_str() else { continue };
            let rel = format!("{MARKS}/{name}");
            let Some(content) = read_file(&old, &rel)? else {
                continue;
            };
            new.ensure_place(&rel)?
                .replace(|file| io::Write::write_all(file, &content))?;
        }
        Ok(())
    }
}

/// Where the mark of a complete `/var` is, below `var`.
fn var_mark() -> &'static str {
    VAR_UNPACKED.trim_start_matches("/var/")
}

fn read_mark(var: &Path) -> io::Result<Option<String>> {
    let Some(anchor) = Anchor::open(var)? else {
        return Ok(None);
    };
    let content = read_file(&anchor, var_mark())?;
    Ok(content.map(|content| String::from_utf8_lossy(&content).trim_end().to_owned()))
}

fn write_mark(var: &Path, seed: &Digest) -> io::Result<()> {
    let Some(anchor) = Anchor::open(var)? else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let place = anchor.ensure_place(var_mark())?;
    place.replace(|file| io::Write::write_all(file, seed.as_str().as_bytes()))
}

/// A short regular file; `None` for anything else.
fn read_file(anchor: &Anchor, rel: &str) -> io::Result<Option<Vec<u8>>> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let Some(file) = anchor.open_below(rel, flags)? else {
        return Ok(None);
    };
    let file = File::from(file);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > MARK_LIMIT {
        return Ok(None);
    }
    let mut content = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, MARK_LIMIT), &mut content)?;
    Ok(Some(content))
}

fn sync(directory: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(directory)?)?)
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn pin(content: &[u8]) -> SeedPin {
        let digest = <sha2::Sha256 as sha2::Digest>::digest(content);
        SeedPin {
            image: "registry.example/seed:1".parse().unwrap(),
            digest: Digest::from_sha256(&digest.into()),
            format_version: None,
            cluster_info: None,
            architecture: None,
            node_facts: None,
            index: None,
            signature: None,
            layers: vec![],
            documents: 0,
        }
    }

    fn incoming(dir: &Path) -> Incoming {
        let incoming = Incoming {
            stateroot: dir.to_owned(),
        };
        incoming.begin().unwrap();
        fs::write(incoming.etc(), "archive").unwrap();
        incoming
    }

    #[test]
    fn the_mark_of_etc_is_put_in_one_piece() {
        let dir = tempfile::tempdir().unwrap();
        let (incoming, first, second) = (incoming(dir.path()), pin(b"1"), pin(b"2"));
        assert!(incoming.take_etc(&first).unwrap().is_none());
        incoming.mark(&first, false, Some(b"/etc/one\n")).unwrap();
        let mut before =
            [incoming.etc_mark(), incoming.deletions()].map(|path| File::open(path).unwrap());
        incoming.mark(&second, false, Some(b"/etc/two\n")).unwrap();
        // Files that are written anew are emptied first: that can be what a power cut leaves.
        let old = before.each_mut().map(|file| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!(old, [first.digest.as_str(), "/etc/one\n"]);
        assert!(incoming.take_etc(&first).unwrap().is_none());
        let (mut archive, deletions) = incoming.take_etc(&second).unwrap().unwrap();
        let mut text = String::new();
        archive.read_to_string(&mut text).unwrap();
        assert_eq!(
            (text.as_str(), deletions.as_str()),
            ("archive", "/etc/two\n")
        );
    }

    #[test]
    fn nobody_else_looks_into_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let incoming = incoming(dir.path());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&incoming.path()), 0o700);
        // It becomes the stateroot's, which everybody may enter.
        assert_eq!(mode(&incoming.var()) & 0o005, 0o005);
    }

    #[test]
    fn a_note_counts_when_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (incoming, seed) = (incoming(dir.path()), pin(b"1").digest);
        let first = incoming.resume(&seed).unwrap();
        assert_eq!(incoming.progress(&seed), Some(first.clone()));
        let later = Progress {
            var_done: true,
            ..first.clone()
        };
        incoming.write_note(&later).unwrap();
        // In this boot; a later one reads the other.
        assert_eq!(incoming.progress(&seed), Some(later.clone()));
        let [last, ..] = Notes::files(PROGRESS).map(|name| incoming.path().join(name));
        let aside = incoming.path().join("of-another-boot");
        fs::rename(&last, &aside).unwrap();
        assert_eq!(incoming.progress(&seed), Some(first));
        fs::rename(&aside, &last).unwrap();
        incoming.pick_note().unwrap();
        assert_eq!(incoming.progress(&seed), Some(later.clone()));
        // Written while the disk is waited for: that one counts with the next sync.
        let latest = Progress {
            var_done: false,
            ..later.clone()
        };
        incoming.write_note(&latest).unwrap();
        incoming.keep_note().unwrap();
        assert_eq!(incoming.progress(&seed), Some(latest));
        fs::rename(&last, &aside).unwrap();
        assert_eq!(incoming.progress(&seed), Some(later));
    }

    #[test]
    fn without_the_deletions_there_is_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        let (incoming, pin) = (incoming(dir.path()), pin(b"1"));
        fs::create_dir(incoming.deletions()).unwrap();
        incoming.mark(&pin, false, Some(b"/etc/one\n")).unwrap_err();
        assert!(incoming.take_etc(&pin).unwrap().is_none());
    }
}
