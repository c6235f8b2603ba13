//! A machine that is kept, to start others from.

use std::ffi::OsStr;
use std::path::PathBuf;

/// A disk, and the guest that was stopped on it, if one was. Machines that start from it write to disks of their own; it
/// must not change or go while one of them is there.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// The disk's image; it may itself stand on another one.
    pub disk: PathBuf,
    /// The state of memory and devices, as QEMU writes it.
    pub state: Option<PathBuf>,
    /// The memory that outlives resets.
    pub store: Option<PathBuf>,
}

impl Frozen {
    /// A disk on which nothing has run yet.
    #[must_use]
    pub fn fresh(disk: PathBuf) -> Frozen {
        Frozen {
            disk,
            state: None,
            store: None,
        }
    }

    /// What [`crate::Vm::freeze`] left in a directory.
    #[must_use]
    pub fn of(dir: &std::path::Path) -> Frozen {
        Frozen {
            disk: dir.join("disk.qcow2"),
            state: Some(dir.join("state")),
            store: Some(dir.join("store")),
        }
    }

    /// The format of the image, by its name.
    pub(crate) fn format(&self) -> &'static str {
        if self.disk.extension() == Some(OsStr::new("qcow2")) {
            "qcow2"
        } else {
            "raw"
        }
    }
}
