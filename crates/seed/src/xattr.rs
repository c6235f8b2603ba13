//! Extended attributes of a name in an open directory, never through a symlink.
//!
//! `/proc/self/fd/<dir>/<name>` is used for every kind of file: symlinks and pipes cannot be
//! reached through a descriptor of their own.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io::Errno;

/// Largest list of names and largest value (`linux/limits.h`).
const LIMIT: usize = 65_536;

/// All extended attributes of `name`. Empty when the file system has none.
///
/// # Errors
///
/// When the file cannot be reached. An attribute that vanishes meanwhile is left out.
pub(crate) fn read(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let path = path(dir, name);
    let mut names = vec![0; LIMIT];
    let len = match llistxattr(&path[..], &mut names[..]) {
        Ok(len) => len,
        Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = BTreeMap::new();
    let mut value = Vec::new();
    for name in names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        value.resize(LIMIT, 0);
        match lgetxattr(&path[..], name, &mut value[..]) {
            Ok(len) => drop(xattrs.insert(name.to_vec(), value[..len].to_vec())),
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(xattrs)
}

/// Sets one attribute.
pub(crate) fn set(dir: BorrowedFd<'_>, name: &[u8], key: &[u8], value: &[u8]) -> Result<(), Errno> {
    lsetxattr(&path(dir, name)[..], key, value, XattrFlags::empty())
}

/// Removes one attribute.
pub(crate) fn remove(dir: BorrowedFd<'_>, name: &[u8], key: &[u8]) -> Result<(), Errno> {
    lremovexattr(&path(dir, name)[..], key)
}

fn path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}
