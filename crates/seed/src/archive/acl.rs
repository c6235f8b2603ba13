//! POSIX ACLs: the text form of archives and the binary form of the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Version of the binary form (`linux/posix_acl_xattr.h`).
const VERSION: u32 = 2;

/// The id of an entry that names nobody.
const NOBODY: u32 = u32::MAX;

/// Entry tags, in the order in which the kernel wants them.
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Most entries in one ACL; ext4 and xfs hold fewer.
const ENTRY_LIMIT: usize = 8192;

/// User and group names of a system, for ACLs that name them: GNU tar writes names, not numbers.
#[derive(Debug, Clone, Default)]
pub struct Names {
    users: BTreeMap<Vec<u8>, u32>,
    groups: BTreeMap<Vec<u8>, u32>,
}

impl Names {
    /// No names at all: only numeric ids are understood.
    pub fn none() -> Self {
        Self::default()
    }

    /// The names in the `passwd` and `group` files below `root`: those of `/etc` first, then those
    /// that an ostree system keeps in `/usr/lib`. Files that do not exist name nobody.
    ///
    /// # Errors
    ///
    /// When a file exists and cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut names = Self::default();
        for dir in ["usr/lib", "etc"] {
            collect(&root.join(dir).join("passwd"), &mut names.users)?;
            collect(&root.join(dir).join("group"), &mut names.groups)?;
        }
        Ok(names)
    }

    fn id(&self, tag: u16, name: &[u8]) -> Option<u32> {
        let table = if tag == USER {
            &self.users
        } else {
            &self.groups
        };
        table.get(name).copied()
    }
}

/// Adds `name:password:id:...` lines to a table.
fn collect(file: &Path, table: &mut BTreeMap<Vec<u8>, u32>) -> io::Result<()> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if let Some(id) = super::pax::number(id).and_then(|id| u32::try_from(id).ok()) {
            table.insert(name.to_vec(), id);
        }
    }
    Ok(())
}

/// One entry, ordered as the kernel wants them: by tag, then id.
type AclEntry = (u16, u32, u16);

/// The kernel's form of an ACL text such as `user::rw-,user:daemon:r--,mask::rw-` (entries may be
/// separated by line ends too; a fourth field is a numeric id that outranks the name, as star
/// writes it).
///
/// # Errors
///
/// A sentence about the first entry that cannot be understood.
pub(crate) fn to_binary(text: &[u8], names: &Names) -> Result<Vec<u8>, String> {
    let mut entries = Vec::new();
    for line in text.split(|byte| matches!(byte, b'\n' | b',')) {
        let line = line
            .split(|byte| *byte == b'#')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        if line.is_empty() {
            continue;
        }
        if entries.len() == ENTRY_LIMIT {
            return Err(format!("it has more than {ENTRY_LIMIT} entries"));
        }
        entries.push(parse(line, names)?);
    }
    entries.sort_unstable();
    let mut binary = Vec::with_capacity(4 + 8 * entries.len());
    binary.extend_from_slice(&VERSION.to_le_bytes());
    for (tag, id, perm) in entries {
        binary.extend_from_slice(&tag.to_le_bytes());
        binary.extend_from_slice(&perm.to_le_bytes());
        binary.extend_from_slice(&id.to_le_bytes());
    }
    Ok(binary)
}

fn parse(line: &[u8], names: &Names) -> Result<AclEntry, String> {
    let wrong = |what: &str| format!("entry \"{}\" {what}", super::shown(line));
    let mut fields = line.split(|byte| *byte == b':').map(<[u8]>::trim_ascii);
    let (Some(tag), Some(who), Some(perm)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(wrong("has fewer than three fields"));
    };
    let tag = match (tag, who) {
        (b"user" | b"u", b"") => USER_OBJ,
        (b"user" | b"u", _) => USER,
        (b"group" | b"g", b"") => GROUP_OBJ,
        (b"group" | b"g", _) => GROUP,
        (b"mask" | b"m", b"") => MASK,
        (b"other" | b"o", b"") => OTHER,
        _ => return Err(wrong("is of no known kind")),
    };
    let mut bits = 0;
    for letter in perm {
        bits |= match letter {
            b'r' => 4,
            b'w' => 2,
            b'x' => 1,
            b'-' => 0,
            _ => return Err(wrong("has permissions that are not of the form rwx")),
        };
    }
    if !matches!(tag, USER | GROUP) {
        return Ok((tag, NOBODY, bits));
    }
    let numeric = |field: &[u8]| super::pax::number(field).and_then(|id| u32::try_from(id).ok());
    let id = fields
        .next()
        .and_then(numeric)
        .or_else(|| numeric(who))
        .or_else(|| names.id(tag, who))
        .ok_or_else(|| wrong("names somebody who is unknown here"))?;
    Ok((tag, id, bits))
}

/// The text form of a binary ACL, with numeric ids, one entry per line as GNU tar writes it; `None`
/// when it is not a version 2 ACL.
pub(crate) fn to_text(binary: &[u8]) -> Option<Vec<u8>> {
    let (version, entries) = binary.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
        return None;
    }
    let mut text = Vec::new();
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let perm = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let who = match tag {
            USER_OBJ => "user:".to_owned(),
            USER => format!("user:{id}"),
            GROUP_OBJ => "group:".to_owned(),
            GROUP => format!("group:{id}"),
            MASK => "mask:".to_owned(),
            OTHER => "other:".to_owned(),
            _ => return None,
        };
        let bit = |mask, letter| if perm & mask != 0 { letter } else { '-' };
        let line = format!("{who}:{}{}{}\n", bit(4, 'r'), bit(2, 'w'), bit(1, 'x'));
        text.extend_from_slice(line.as_bytes());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::none();
        names.users.insert(b"daemon".to_vec(), 2);
        names.groups.insert(b"video".to_vec(), 44);
        names
    }

    #[test]
    fn texts() {
        fn check(text: &str, expect: Result<&str, &str>) {
            match (to_binary(text.as_bytes(), &names()), expect) {
                (Ok(binary), Ok(expect)) => {
                    assert_eq!(to_text(&binary).unwrap(), expect.as_bytes(), "{text}");
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
        let full = "user::rwx\nuser:2:r--\ngroup::r-x\ngroup:44:rw-\nmask::rwx\nother::---\n";
        check(full, Ok(full));
        check(
            "other::---\nmask::rwx\ngroup:video:rw-\ngroup::r-x\nuser:daemon:r--\nuser::rwx",
            Ok(full),
        );
        check(
            "u::rwx,u:2:r,g::rx,g:44:rw #effective:rw-,m::rwx,o::-",
            Ok(full),
        );
        check(
            "user::rwx,user:ghost:r--:1234",
            Ok("user::rwx\nuser:1234:r--\n"),
        );
        check("user:ghost:r--", Err("unknown here"));
        check("user:ghost", Err("three fields"));
        check("owner::rwx", Err("no known kind"));
        check("mask:2:rwx", Err("no known kind"));
        check("user::rwz", Err("permissions"));
    }

    #[test]
    fn binaries_that_are_none() {
        fn check(binary: &[u8]) {
            assert_eq!(to_text(binary), None);
        }
        check(b"");
        check(&[1, 0, 0, 0]);
        check(&[2, 0, 0, 0, 1]);
        check(&[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn names_of_a_system() {
        let root = tempfile::tempdir().unwrap();
        for dir in ["etc", "usr/lib"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        fs::write(
            root.path().join("usr/lib/passwd"),
            "core:x:1:1::/:/bin/sh\nold:x:7:7",
        )
        .unwrap();
        fs::write(
            root.path().join("etc/passwd"),
            "core:x:1000:1000::/:/bin/sh\nbad\n:\n",
        )
        .unwrap();
        fs::write(root.path().join("etc/group"), "wheel:x:10:core\n").unwrap();
        let names = Names::read(root.path()).unwrap();
        assert_eq!(names.id(USER, b"core"), Some(1000));
        assert_eq!(names.id(USER, b"old"), Some(7));
        assert_eq!(names.id(GROUP, b"wheel"), Some(10));
        assert_eq!(names.id(GROUP, b"core"), None);
    }
}
