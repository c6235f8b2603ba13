//! Memory that work needed and rest does not, given back when the work is over.

use std::ffi::c_void;
use std::fs;
use std::io;

use rustix::mm::{Advice, madvise};

/// Takes the text of the program and of its libraries out of this process's memory; what is needed next is mapped again from
/// the page cache, in microseconds.
///
/// The kernel maps sixteen pages around each one that is touched, and starting up touches a little of everything: the
/// relocations of sixty libraries, their constructors, the command line. Without this an agent at rest has twice the
/// resident set that it uses. Text only: it is never written, so nothing is lost with its pages.
///
/// # Errors
///
/// When the list of mappings cannot be read. A mapping that cannot be given back is kept.
pub fn release_text() -> io::Result<()> {
    for (start, length) in fs::read_to_string("/proc/self/maps")?
        .lines()
        .filter_map(text)
    {
        forget(start, length);
    }
    Ok(())
}

#[expect(unsafe_code, reason = "advice on memory is a promise about its use")]
fn forget(start: usize, length: usize) {
    // SAFETY: the range was a mapping of a file that can be executed and not written, so dropping its pages changes no byte
    // of it: the next access reads the same from the file. Nothing in this process unloads libraries, so it still is one.
    let advised = unsafe { madvise(start as *mut c_void, length, Advice::LinuxDontNeed) };
    if let Err(error) = advised {
        tracing::debug!(%error, "text stays mapped");
    }
}

/// Start and length of a mapping of program text, from a line of `/proc/<pid>/maps` (proc(5)).
fn text(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    // Offset, device and inode come before the path; what has none is no file.
    let path = fields.nth(3)?;
    if permissions != "r-xp" || !path.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_of_files_is_given_back() {
        let check = |line: &str, expect: Option<(usize, usize)>| {
            assert_eq!(text(line), expect, "{line}");
        };
        let file = "08:02 173521                     /usr/bin/dbus-daemon";
        check(
            &format!("00400000-00452000 r-xp 00000000 {file}"),
            Some((0x40_0000, 0x5_2000)),
        );
        check(&format!("00400000-00452000 r--p 00000000 {file}"), None);
        check(&format!("00400000-00452000 rw-p 00000000 {file}"), None);
        check(&format!("00400000-00452000 rwxp 00000000 {file}"), None);
        check(&format!("00452000-00400000 r-xp 00000000 {file}"), None);
        check("7ffd0000-7ffd2000 r-xp 00000000 00:00 0    [vdso]", None);
        check("7f000000-7f001000 r-xp 00000000 00:00 0", None);
        check("", None);
    }

    #[test]
    fn the_resident_set_shrinks_and_the_program_goes_on() {
        let resident = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("RssFile:"));
            let kib: u64 = line
                .unwrap()
                .trim()
                .trim_end_matches(" kB")
                .parse()
                .unwrap();
            kib
        };
        // What other tests touch meanwhile is little beside what is given back.
        let before = resident();
        release_text().unwrap();
        let after = resident();
        assert!(after < before, "{before} KiB before, {after} KiB after");
    }
}
