//! Bringing a filesystem's journal home: boot loaders read `/boot` and replay no journal.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::libc;

/// `EXT4_IOC_CHECKPOINT` of `linux/ext4.h`, since Linux 5.14: writes everything in ext4's journal where it belongs.
const EXT4_CHECKPOINT: libc::c_ulong = 0x4004_662b;
/// `FIFREEZE` and `FITHAW` of `linux/fs.h`: the first does the same in any journaling filesystem, and then lets nobody write
/// until the second.
const FREEZE: libc::c_ulong = 0xc004_5877;
const THAW: libc::c_ulong = 0xc004_5878;

/// Makes what was synced to the filesystem of this directory visible to a reader that knows no journal. A filesystem that has
/// neither way, such as FAT or one that lies over another, has no journal either. Busy while somebody else has it frozen.
pub(crate) fn flush(directory: &Path) -> io::Result<()> {
    // Two of our own threads would find it frozen by each other.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let file = File::open(directory)?;
    rustix::fs::syncfs(&file)?;
    match call(&file, EXT4_CHECKPOINT) {
        // An ext4 without a journal.
        Ok(()) | Err(Errno::ENODEV) => return Ok(()),
        Err(Errno::EINVAL | Errno::ENOTTY | Errno::EOPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    // Only where there is no other way: a process that is killed while it is frozen leaves it so.
    match call(&file, FREEZE) {
        Err(Errno::EINVAL | Errno::ENOTTY | Errno::EOPNOTSUPP) => return Ok(()),
        frozen => frozen?,
    }
    Ok(call(&file, THAW)?)
}

fn call(file: &File, request: libc::c_ulong) -> Result<(), Errno> {
    let mut argument: u32 = 0;
    // SAFETY: the first request reads, and the others ignore, one integer, which lives until the call returns.
    #[expect(unsafe_code, reason = "no library that we use has these calls")]
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut argument) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_is_flushed_and_can_be_written_to_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        for text in ["one", "two"] {
            std::fs::write(&file, text).unwrap();
            flush(directory.path()).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
    }

    #[test]
    fn what_has_no_journal_is_no_failure() {
        flush(Path::new("/proc")).unwrap();
        flush(Path::new("/dev/shm")).unwrap();
    }
}
