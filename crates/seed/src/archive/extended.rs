//! What extended headers say about one member.

use std::collections::BTreeMap;

use super::acl::{self, Names};
use super::entry::Time;
use super::pax::{self, Records};
use super::sparse::PaxSparse;
use super::{XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT, XATTR_SELINUX};

/// The keys that are understood, of all the headers before a member; later ones override.
#[derive(Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) sparse: Option<PaxSparse>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    selinux: Option<Vec<u8>>,
    acl_access: Option<Vec<u8>>,
    acl_default: Option<Vec<u8>>,
}

impl Extended {
    /// Takes the records of one PAX header. Unknown keys say nothing.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<(), &'static str> {
        for record in Records(data) {
            let (key, value) = record.ok_or("has a malformed extended header")?;
            let number = || pax::number(value).ok_or("has an extended header without number");
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number()?),
                b"uid" => self.uid = Some(number()?),
                b"gid" => self.gid = Some(number()?),
                b"mtime" => self.mtime = Some(time(value).ok_or("has a malformed time")?),
                b"RHT.security.selinux" => self.selinux = Some(value.to_vec()),
                b"SCHILY.acl.access" => self.acl_access = Some(value.to_vec()),
                b"SCHILY.acl.default" => self.acl_default = Some(value.to_vec()),
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.insert(pax::decode_xattr(name), value.to_vec());
                    } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                        self.sparse.get_or_insert_default().take(name, value)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Extended attributes in the kernel's form. A binary attribute outranks the text that GNU tar
    /// writes beside it: it needs no names.
    pub(super) fn take_xattrs(
        &mut self,
        names: &Names,
        is_dir: bool,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
        let mut xattrs = std::mem::take(&mut self.xattrs);
        if let Some(mut label) = self.selinux.take()
            && !xattrs.contains_key(XATTR_SELINUX)
        {
            if label.last() != Some(&0) {
                label.push(0);
            }
            xattrs.insert(XATTR_SELINUX.to_vec(), label);
        }
        // Three entries of an access ACL say no more than the mode does; the kernel keeps no such
        // attribute. Files have no default ACL.
        let access = (XATTR_ACL_ACCESS, self.acl_access.take(), 4);
        let default = (
            XATTR_ACL_DEFAULT,
            self.acl_default.take().filter(|_| is_dir),
            1,
        );
        for (name, text, least) in [access, default] {
            let Some(text) = text else { continue };
            if xattrs.contains_key(name) {
                continue;
            }
            let binary = acl::to_binary(&text, names)
                .map_err(|reason| format!("has an ACL that cannot be read: {reason}"))?;
            if binary.len() >= 4 + least * 8 {
                xattrs.insert(name.to_vec(), binary);
            }
        }
        Ok(xattrs)
    }
}

/// A PAX time: seconds with an optional sign and fraction. Digits beyond nanoseconds are dropped.
fn time(value: &[u8]) -> Option<Time> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let secs = i64::try_from(pax::number(parts.next()?)?).ok()?;
    let mut nanos = 0;
    if let Some(fraction) = parts.next() {
        let mut digits = fraction.to_vec();
        digits.resize(9.max(fraction.len()), b'0');
        nanos = u32::try_from(pax::number(digits.get(..9)?)?).ok()?;
    }
    Some(match (negative, nanos) {
        (false, _) => Time { secs, nanos },
        (true, 0) => Time { secs: -secs, nanos },
        (true, _) => Time {
            secs: -secs - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}
