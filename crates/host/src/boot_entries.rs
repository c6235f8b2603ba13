//! Names of boot entries: libostree writes the entry of every deployment anew with each change of the list, and names it by
//! its place.

use std::fs;
use std::io;
use std::path::Path;

use node::{ErrorKind, PortError, PortResult};

use crate::failure::Attempt;

/// Where entries lie, below `/boot`.
const ENTRIES: &str = "loader/entries";
/// How their files end; the boot loader's ids are the names without it (Boot Loader Specification, type 1).
const SUFFIX: &str = ".conf";
/// How libostree's begin.
const PREFIX: &str = "ostree-";

/// How a libostree names entries. The numbers count down to 1 from the default's, so that the default's is the highest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Naming {
    /// `ostree-<number>` (libostree 2024 and later).
    Number,
    /// `ostree-<number>-<stateroot>` (before).
    NumberAndStateroot,
}

impl Naming {
    fn id(self, number: usize, stateroot: &str) -> String {
        match self {
            Naming::Number => format!("{PREFIX}{number}"),
            Naming::NumberAndStateroot => format!("{PREFIX}{number}-{stateroot}"),
        }
    }

    /// The ids of a list of deployments, given by their stateroots.
    fn ids(self, stateroots: &[&str]) -> Vec<String> {
        let numbers = (1..=stateroots.len()).rev();
        let named = numbers.zip(stateroots);
        named.map(|(number, name)| self.id(number, name)).collect()
    }
}

/// The boot loader's ids of a list of deployments that is to be written, given by their stateroots in boot order: named as
/// the entries are that lie below `boot` for `current`.
///
/// # Errors
/// `Permanent` when those are named in no way that is known: then nobody can say how the next ones will be.
pub(crate) fn ids(boot: &Path, current: &[&str], wanted: &[&str]) -> PortResult<Vec<String>> {
    let directory = boot.join(ENTRIES);
    let found = listed(&directory).attempt(|| format!("listing {}", directory.display()))?;
    let explains = |naming: &Naming| {
        let mut expected = naming.ids(current);
        expected.sort_unstable();
        !expected.is_empty() && expected == found
    };
    let mut namings = [Naming::Number, Naming::NumberAndStateroot].into_iter();
    let naming = namings.find(explains).ok_or_else(|| {
        let text = format!(
            "the entries in {} are not named as those of {} deployments: {}",
            directory.display(),
            current.len(),
            found.join(", ")
        );
        PortError::plain(ErrorKind::Permanent, text)
    })?;
    Ok(naming.ids(wanted))
}

/// Ids of libostree's entries, sorted. Others, of a system beside it, are none of its business.
fn listed(directory: &Path) -> io::Result<Vec<String>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        ids.extend(id.filter(|id| id.starts_with(PREFIX)).map(str::to_owned));
    }
    ids.sort_unstable();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_naming_is_the_one_that_explains_what_is_there() {
        let check = |files: &[&str], current: &[&str], expect: Option<[&str; 3]>| {
            let boot = tempfile::tempdir().unwrap();
            let entries = boot.path().join(ENTRIES);
            fs::create_dir_all(&entries).unwrap();
            for file in files {
                fs::write(entries.join(file), "").unwrap();
            }
            let ids = ids(boot.path(), current, &["new", "a", "b"]);
            match expect {
                Some(expect) => assert_eq!(ids.unwrap(), expect, "{files:?}"),
                None => assert_eq!(ids.unwrap_err().kind(), ErrorKind::Permanent, "{files:?}"),
            }
        };
        let plain = Some(["ostree-3", "ostree-2", "ostree-1"]);
        let named = Some(["ostree-3-new", "ostree-2-a", "ostree-1-b"]);
        check(&["ostree-1.conf"], &["a"], plain);
        check(
            &["ostree-1.conf", "ostree-2.conf", "memtest.conf", "x"],
            &["a", "b"],
            plain,
        );
        check(&["ostree-1-a.conf"], &["a"], named);
        check(&["ostree-2-a.conf", "ostree-1-b.conf"], &["a", "b"], named);
        // Ten and more: names are compared, not numbers.
        let many: Vec<String> = (1..=11)
            .map(|number| format!("ostree-{number}.conf"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many, &["a"; 11], plain);
        check(&["ostree-1-b.conf", "ostree-2-a.conf"], &["b", "a"], None);
        check(&["ostree-1.conf"], &["a", "b"], None);
        check(&["ostree-1+3.conf"], &["a"], None);
        check(&[], &[], None);
        let nowhere = tempfile::tempdir().unwrap();
        assert!(super::ids(nowhere.path(), &["a"], &["a"]).is_err());
    }
}
