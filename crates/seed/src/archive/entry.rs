//! One member of an archive.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::shown;

/// Longest member path in bytes; the kernel's `PATH_MAX`.
const PATH_LIMIT: usize = 4096;

/// Longest single name in bytes; `NAME_MAX` of every Linux file system.
const NAME_LIMIT: usize = 255;

/// Path of a member, relative to wherever the archive is unpacked.
///
/// Guarantees: no leading slash, no empty, `.` or `..` component, no NUL; every component fits a
/// file system. The empty path is the root of the archive (`./`). Bytes need not be UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberPath(Vec<u8>);

/// Why a member's path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{path}\" {reason}")]
pub struct UnsafePath {
    /// The path as found, escaped and shortened.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl MemberPath {
    /// The root of the archive.
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses a path as it stands in an archive: leading `/` and `./` are dropped as GNU tar does.
    ///
    /// # Errors
    ///
    /// When the path has a `..` component or a NUL, or no file system could hold it.
    pub fn parse(raw: &[u8]) -> Result<Self, UnsafePath> {
        let refuse = |reason| {
            Err(UnsafePath {
                path: shown(raw),
                reason,
            })
        };
        if raw.len() > PATH_LIMIT {
            return refuse("is longer than 4096 bytes");
        }
        if raw.contains(&0) {
            return refuse("contains a NUL byte");
        }
        let mut path = Vec::with_capacity(raw.len());
        for component in raw.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return refuse("leads out of the archive's root (\"..\")"),
                name if name.len() > NAME_LIMIT => {
                    return refuse("has a component longer than 255 bytes");
                }
                name => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(name);
                }
            }
        }
        Ok(Self(path))
    }

    /// The path's bytes, components separated by single slashes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the archive's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, outermost first; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
    }

    /// The containing directory and the last component; `None` for the root.
    pub fn split(&self) -> Option<(MemberPath, &[u8])> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => Some((Self(self.0[..at].to_vec()), &self.0[at + 1..])),
            None => Some((Self::root(), &self.0)),
        }
    }

    /// This path below `prefix`; `None` when it is not there. `prefix` itself gives the root.
    pub fn below(&self, prefix: &MemberPath) -> Option<MemberPath> {
        if prefix.is_root() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(prefix.0.as_slice())?;
        match rest.first() {
            None => Some(Self::root()),
            Some(b'/') => Some(Self(rest[1..].to_vec())),
            Some(_) => None,
        }
    }

    /// This path with one more component, which must be a plain name.
    pub(crate) fn joined(&self, name: &[u8]) -> MemberPath {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }
}

impl fmt::Display for MemberPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            f.write_str(".")
        } else {
            f.write_str(&shown(&self.0))
        }
    }
}

impl fmt::Debug for MemberPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its content follows in the archive.
    File,
    /// A directory.
    Dir,
    /// A symbolic link with its target, any bytes but NUL.
    Symlink(Vec<u8>),
    /// Another name of a member that came earlier in the archive.
    Hardlink(MemberPath),
    /// A named pipe.
    Fifo,
    /// A character device.
    Char {
        /// Major device number.
        major: u32,
        /// Minor device number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major device number.
        major: u32,
        /// Minor device number.
        minor: u32,
    },
}

/// A point in time: seconds since 1970 UTC, before or after, and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Time {
    /// Seconds since the epoch.
    pub secs: i64,
    /// Nanoseconds, below 10^9.
    pub nanos: u32,
}

/// A run of data in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file the data goes, in bytes.
    pub offset: u64,
    /// Bytes of data.
    pub len: u64,
}

/// A member's metadata. The content is read from the archive reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it goes.
    pub path: MemberPath,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Time,
    /// Length of the file in bytes, holes included; 0 for everything but files.
    pub size: u64,
    /// Runs of data when the archive stores the file sparsely, ascending and within `size`.
    pub extents: Option<Vec<Extent>>,
    /// Extended attributes as the kernel keeps them: the SELinux label is `security.selinux` with
    /// its NUL, ACLs are the binary `system.posix_acl_access` and `system.posix_acl_default`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_paths() {
        fn check(raw: &[u8], expect: Result<&[u8], &str>) {
            let got = MemberPath::parse(raw);
            match expect {
                Ok(path) => assert_eq!(got.unwrap().as_bytes(), path, "{}", shown(raw)),
                Err(part) => {
                    let error = got.unwrap_err().to_string();
                    assert!(error.contains(part), "{error}");
                    assert!(error.len() < 300, "{error}");
                }
            }
        }
        check(b"var/lib/x", Ok(b"var/lib/x"));
        check(b"/var//lib/./x/", Ok(b"var/lib/x"));
        check(b"./", Ok(b""));
        check(b"./a b/\xff\xfe", Ok(b"a b/\xff\xfe"));
        check(b"a/..b/...", Ok(b"a/..b/..."));
        check(b"a/../b", Err("leads out"));
        check(b"..", Err("leads out"));
        check(b"/..", Err("leads out"));
        check(b"a\0b", Err("NUL"));
        check(&[b'a'; 256], Err("255"));
        check(&b"a/".repeat(3000), Err("4096"));
    }

    #[test]
    fn below_a_prefix() {
        fn check(path: &[u8], prefix: &[u8], expect: Option<&[u8]>) {
            let path = MemberPath::parse(path).unwrap();
            let below = path.below(&MemberPath::parse(prefix).unwrap());
            assert_eq!(below.as_ref().map(MemberPath::as_bytes), expect);
        }
        check(b"var/a", b"var", Some(b"a"));
        check(b"var", b"var", Some(b""));
        check(b"variable/a", b"var", None);
        check(b"etc/a", b"var", None);
        check(b"etc/a", b"", Some(b"etc/a"));
    }
}
