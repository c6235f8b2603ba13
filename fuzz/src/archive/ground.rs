//! Where archives are unpacked, next to something that none of them may touch.

use std::cell::OnceCell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

thread_local! {
    static GROUND: OnceCell<Ground> = const { OnceCell::new() };
}

/// A directory with a victim outside the destination: `../outside/victim`, seen from there.
pub(crate) struct Ground(TempDir);

/// What changes when anybody changes anything about a file.
type Trace = (PathBuf, u64, u64, i64, i64);

impl Ground {
    /// Runs with the ground of this thread.
    pub(crate) fn with<T>(run: impl FnOnce(&Ground) -> T) -> T {
        GROUND.with(|ground| run(ground.get_or_init(Ground::new)))
    }

    #[expect(
        clippy::expect_used,
        reason = "a test without its directory cannot go on"
    )]
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("outside"))
            .and_then(|()| fs::write(dir.path().join("outside/victim"), "precious"))
            .expect("a victim");
        Ground(dir)
    }

    /// Runs `unpack` in an empty destination that has a symlink to the outside, and checks that nothing outside was
    /// touched.
    #[expect(
        clippy::expect_used,
        reason = "a test without its directory cannot go on"
    )]
    pub(crate) fn unpack<T>(&self, unpack: impl FnOnce(&Path) -> T) -> T {
        let destination = self.0.path().join("destination");
        fs::create_dir(&destination)
            .and_then(|()| std::os::unix::fs::symlink("../outside", destination.join("old")))
            .expect("a destination");
        let before = self.traces();
        let result = unpack(&destination);
        assert_eq!(self.traces(), before, "the archive got out");
        fs::remove_dir_all(&destination).expect("removing what was unpacked");
        result
    }

    /// The ground but for the destination.
    fn traces(&self) -> Vec<Trace> {
        let mut traces = Vec::new();
        for directory in ["", "outside"] {
            let entries = fs::read_dir(self.0.path().join(directory));
            for entry in entries.into_iter().flatten().flatten() {
                if entry.file_name() == "destination" {
                    continue;
                }
                if let Ok(meta) = entry.metadata() {
                    let changed = (meta.ctime(), meta.ctime_nsec());
                    let trace = (entry.path(), meta.ino(), meta.nlink(), changed.0, changed.1);
                    traces.push(trace);
                }
            }
        }
        traces.sort();
        traces
    }
}
