//! Writing an archive as a stream.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::entry::{Entry, Kind, MemberPath, Time};
use super::{BLOCK, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT, XATTR_SELINUX, acl, pax};

/// Longest name in a ustar header.
const NAME: usize = 100;

/// Largest id in a ustar header (7 octal digits).
const ID: u64 = 0o7777777;

/// Largest size and time in a ustar header (11 octal digits).
const NUMBER: u64 = 0o77777777777;

/// Writes members one after the other: ustar headers, with a PAX header where the member has more
/// to say. The keys are those of GNU tar with `--selinux --xattrs --acls`; ACLs name ids, not names.
pub struct ArchiveWriter<W: Write> {
    out: W,
    dotted: bool,
}

impl<W: Write> ArchiveWriter<W> {
    /// Members are named `a/b`, the root `./`.
    pub fn new(out: W) -> Self {
        Self { out, dotted: false }
    }

    /// Members are named `./a/b`, as in `ostree.tgz` (contract S 1.2).
    pub fn dotted(out: W) -> Self {
        Self { out, dotted: true }
    }

    /// Where the archive goes.
    pub fn output(&mut self) -> &mut W {
        &mut self.out
    }

    /// Appends one member. Exactly `entry.size` bytes of a file are written: `content` is cut, or
    /// filled up with zeros. Extents are not written; content is the whole file.
    ///
    /// Gives the number of bytes that were filled up.
    ///
    /// # Errors
    ///
    /// When content cannot be read or the archive not written; the archive is torn then.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<u64> {
        let name = self.name(&entry.path, entry.kind == Kind::Dir);
        let size = if entry.kind == Kind::File {
            entry.size
        } else {
            0
        };
        let link = match &entry.kind {
            Kind::Symlink(target) => target.clone(),
            Kind::Hardlink(target) => self.name(target, false),
            _ => Vec::new(),
        };
        let records = records(entry, &name, &link, size);
        if !records.is_empty() {
            let len = records.len() as u64;
            let mut header = header(EntryType::XHeader, b"PaxHeaders", b"", len);
            header.set_mode(0o644);
            self.block(header)?;
            self.out.write_all(&records)?;
            self.pad(len)?;
        }
        let kind = match entry.kind {
            Kind::File => EntryType::Regular,
            Kind::Dir => EntryType::Directory,
            Kind::Symlink(_) => EntryType::Symlink,
            Kind::Hardlink(_) => EntryType::Link,
            Kind::Fifo => EntryType::Fifo,
            Kind::Char { .. } => EntryType::Char,
            Kind::Block { .. } => EntryType::Block,
        };
        let mut header = header(kind, &name, &link, size.min(NUMBER));
        header.set_mode(entry.mode & 0o7777);
        header.set_uid(u64::from(entry.uid).min(ID));
        header.set_gid(u64::from(entry.gid).min(ID));
        header.set_mtime(u64::try_from(entry.mtime.secs).unwrap_or(0).min(NUMBER));
        if let Kind::Char { major, minor } | Kind::Block { major, minor } = entry.kind {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        self.block(header)?;
        let written = io::copy(&mut content.take(size), &mut self.out)?;
        let missing = size - written;
        io::copy(&mut io::repeat(0).take(missing), &mut self.out)?;
        self.pad(size)?;
        Ok(missing)
    }

    /// Writes the end marker and gives the output back, unflushed.
    ///
    /// # Errors
    ///
    /// When the output cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn name(&self, path: &MemberPath, dir: bool) -> Vec<u8> {
        let mut name = Vec::new();
        if self.dotted || path.is_root() {
            name.extend_from_slice(b"./");
        }
        name.extend_from_slice(path.as_bytes());
        if path.is_root() && !dir {
            // A slash at the end says that it is a directory.
            return b".".to_vec();
        }
        if dir && !name.ends_with(b"/") {
            name.push(b'/');
        }
        name
    }

    fn block(&mut self, mut header: Header) -> io::Result<()> {
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = (size.wrapping_neg() % BLOCK as u64) as usize;
        self.out.write_all(&[0; BLOCK][..rest])
    }
}

/// A header whose names are cut where they do not fit; the PAX header has them whole then.
fn header(kind: EntryType, name: &[u8], link: &[u8], size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let old = header.as_old_mut();
    let len = name.len().min(NAME);
    old.name[..len].copy_from_slice(&name[..len]);
    let len = link.len().min(NAME);
    old.linkname[..len].copy_from_slice(&link[..len]);
    header
}

/// The PAX records for what the ustar header cannot say.
fn records(entry: &Entry, name: &[u8], link: &[u8], size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut text = |key: &[u8], value: &[u8]| pax::append(&mut out, key, value);
    if name.len() > NAME {
        text(b"path", name);
    }
    if link.len() > NAME {
        text(b"linkpath", link);
    }
    for (key, value, limit) in [
        (&b"size"[..], size, NUMBER),
        (b"uid", u64::from(entry.uid), ID),
        (b"gid", u64::from(entry.gid), ID),
    ] {
        if value > limit {
            text(key, value.to_string().as_bytes());
        }
    }
    let Time { secs, nanos } = entry.mtime;
    if nanos != 0 || u64::try_from(secs).is_ok_and(|secs| secs > NUMBER) || secs < 0 {
        text(b"mtime", time(entry.mtime).as_bytes());
    }
    for (xattr, value) in &entry.xattrs {
        match xattr.as_slice() {
            XATTR_SELINUX => {
                text(
                    b"RHT.security.selinux",
                    value.strip_suffix(&[0]).unwrap_or(value),
                );
            }
            XATTR_ACL_ACCESS => {
                if let Some(acl) = acl::to_text(value) {
                    text(b"SCHILY.acl.access", &acl);
                }
            }
            XATTR_ACL_DEFAULT => {
                if let Some(acl) = acl::to_text(value) {
                    text(b"SCHILY.acl.default", &acl);
                }
            }
            _ => {}
        }
        let key = [b"SCHILY.xattr.", pax::encode_xattr(xattr).as_slice()].concat();
        text(&key, value);
    }
    out
}

/// A PAX time with nine digits of fraction, or none.
fn time(Time { secs, nanos }: Time) -> String {
    match (secs, nanos) {
        (_, 0) => secs.to_string(),
        (0.., _) => format!("{secs}.{nanos:09}"),
        // The sign covers the fraction too.
        (..0, _) => format!("-{}.{:09}", -(secs + 1), 1_000_000_000 - nanos),
    }
}
