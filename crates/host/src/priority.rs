//! How much of the machine our long work takes from others: what is left over.

use nix::libc;

/// `IOPRIO_WHO_PROCESS`, which with 0 means the calling thread, and `IOPRIO_CLASS_IDLE` in its place (`linux/ioprio.h`).
const WHO_PROCESS: libc::c_int = 1;
const IDLE: libc::c_int = 3 << 13;

/// A tenth of the CPU weight of an ordinary thread (sched(7)): low, and enough to get on beside a busy control plane.
const NICE: i32 = 10;

/// Puts the calling thread, and the threads that it starts from now on, behind everybody else: idle I/O class and a low CPU
/// weight. To be called on a thread that ends with the work. Where the system refuses, the work is done all the same.
pub(crate) fn step_back() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the CPU weight stays as it is");
    }
    // SAFETY: the call takes three integers and touches no memory of ours.
    #[expect(unsafe_code, reason = "no library that we use has this call")]
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, IDLE) };
    if result != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "the I/O class stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::command::Command;

    #[test]
    fn threads_inherit_it_and_others_keep_theirs() {
        let classes = || {
            let task = fs::read_link("/proc/thread-self").unwrap();
            let id = task.file_name().unwrap().to_str().unwrap().to_owned();
            let ionice = Command::new("ionice", Duration::from_secs(10));
            let class = ionice.args(["-p", &id]).run().unwrap();
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
            let (_, fields) = stat.rsplit_once(')').unwrap();
            let nice: i32 = fields.split_whitespace().nth(16).unwrap().parse().unwrap();
            (String::from_utf8(class).unwrap().trim().to_owned(), nice)
        };
        let before = classes();
        let inside = std::thread::spawn(move || {
            step_back();
            std::thread::spawn(classes).join().unwrap()
        });
        assert_eq!(inside.join().unwrap(), ("idle".to_owned(), NICE));
        assert_eq!(classes(), before);
    }
}
