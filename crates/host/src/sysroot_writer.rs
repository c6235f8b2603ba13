//! Work below `/sysroot` and `/boot`, which are mounted read-only for everybody else.
//!
//! Each piece of work runs on a thread of its own that has a private mount namespace in which both are writable:
//! a thread may leave the mount namespace of its process (it then no longer shares the current directory with it),
//! the other threads and the rest of the node see no change, and the namespace ends with the thread, however it ends.
//! libostree's objects are bound to their thread, so calls of it that change something run here as well.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use node::ports::{Unwatched, Watch};
use node::{ErrorKind, PortError, PortResult};

use crate::failure::Attempt;
use crate::layout::Layout;

/// Mounts that work may write to. `/boot` may be missing.
const WRITABLE: [&str; 2] = ["/sysroot", "/boot"];

/// Runs `work` where `/sysroot` and `/boot` are writable, and returns what it returns.
pub(crate) fn writing<T: Send>(
    layout: &Layout,
    work: impl FnOnce() -> PortResult<T> + Send,
) -> PortResult<T> {
    writing_watched(layout, &Unwatched, |_| work())
}

/// [`writing`] for long work: what it tells its watch reaches `watch` on the calling thread.
pub(crate) fn writing_watched<T: Send>(
    layout: &Layout,
    watch: &dyn Watch,
    work: impl FnOnce(&Relay) -> PortResult<T> + Send,
) -> PortResult<T> {
    relayed(watch, |relay| {
        if layout.is_running() {
            unlock_mounts()?;
        }
        work(relay)
    })
}

/// Runs `work` on a thread of its own, with a watch that may be used from any thread and tells `watch` on this one.
/// Whatever work fails of after `watch` has said stop, it is `Interrupted`.
pub(crate) fn relayed<T: Send>(
    watch: &dyn Watch,
    work: impl FnOnce(&Relay) -> PortResult<T> + Send,
) -> PortResult<T> {
    let (reports, heard) = mpsc::channel::<Report>();
    thread::scope(|scope| {
        let worker = scope.spawn(move || work(&Relay { reports }));
        let mut stopped = false;
        // Ends when the worker drops its end of the channel.
        for report in heard {
            let go_on = watch.progress(report.done, report.total, &report.object);
            stopped |= !go_on;
            // The worker waits for this answer; when it is gone there is nobody to tell.
            report.answer.send(go_on).ok();
        }
        let result = worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.map_err(|error| match error.kind() {
            kind if stopped && kind != ErrorKind::Interrupted => {
                PortError::new(ErrorKind::Interrupted, "stopping as asked", error)
            }
            _ => error,
        })
    })
}

/// Moves the calling thread into a mount namespace of its own: nobody else sees what it mounts, or what a process that it starts
/// does.
pub(crate) fn private_mounts() -> PortResult<()> {
    let errno = |error: nix::Error| std::io::Error::from(error);
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(errno)
        .attempt(|| "entering a private mount namespace".to_owned())?;
    // "Slave": mounts of the node still come and go here, ours never show there.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&str>,
    )
    .map_err(errno)
    .attempt(|| "detaching the private mount namespace".to_owned())
}

/// Makes the mounts writable in a mount namespace of the calling thread's own.
fn unlock_mounts() -> PortResult<()> {
    private_mounts()?;
    for target in WRITABLE {
        remount_writable(Path::new(target))
            .attempt(|| format!("remounting {target} read-write in a private mount namespace"))?;
    }
    Ok(())
}

fn remount_writable(target: &Path) -> std::io::Result<()> {
    let read_only = || match statvfs(target) {
        Ok(stat) => Ok(stat.flags().contains(FsFlags::ST_RDONLY)),
        Err(nix::Error::ENOENT) => Ok(false),
        Err(error) => Err(error),
    };
    // First only this mount's own flag; a second time, if that was not enough, the filesystem's too, as libostree does.
    for flags in [MsFlags::MS_REMOUNT | MsFlags::MS_BIND, MsFlags::MS_REMOUNT] {
        if !read_only()? {
            return Ok(());
        }
        match mount(None::<&str>, target, None::<&str>, flags, None::<&str>) {
            // Not a mount point, but a directory of a filesystem that is read-only as a whole.
            Ok(()) | Err(nix::Error::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if read_only()? {
        Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
    } else {
        Ok(())
    }
}

struct Report {
    done: u64,
    total: Option<u64>,
    object: String,
    answer: mpsc::SyncSender<bool>,
}

/// The watch that work sees: passes reports to the thread that asked for the work.
pub(crate) struct Relay {
    reports: mpsc::Sender<Report>,
}

impl Watch for Relay {
    fn progress(&self, done: u64, total: Option<u64>, object: &str) -> bool {
        let (answer, answered) = mpsc::sync_channel(1);
        let report = Report {
            done,
            total,
            object: object.to_owned(),
            answer,
        };
        // Nobody listens any more only when the asking thread panicked: then the work ends too.
        self.reports.send(report).is_ok() && answered.recv().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    struct Stopper(RefCell<Vec<u64>>, u64);

    impl Watch for Stopper {
        fn progress(&self, done: u64, _total: Option<u64>, object: &str) -> bool {
            assert_eq!(object, "x");
            self.0.borrow_mut().push(done);
            done < self.1
        }
    }

    #[test]
    fn reports_and_answers_cross_the_thread() {
        let watch = Stopper(RefCell::new(vec![]), 3);
        let layout = Layout::below(Path::new("/nowhere"));
        let stopped_at = writing_watched(&layout, &watch, |watch| {
            Ok((1..10).find(|done| !watch.progress(*done, None, "x")))
        });
        assert_eq!(stopped_at.unwrap(), Some(3));
        assert_eq!(*watch.0.borrow(), [1, 2, 3]);
    }

    #[test]
    fn a_private_namespace_leaves_the_process_where_it_was() {
        let before = std::fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        let inside = thread::spawn(|| {
            unlock_mounts().unwrap();
            std::fs::read_link("/proc/thread-self/ns/mnt").unwrap()
        })
        .join()
        .unwrap();
        assert_ne!(before, inside);
        assert_eq!(
            before,
            std::fs::read_link("/proc/thread-self/ns/mnt").unwrap()
        );
    }
}
