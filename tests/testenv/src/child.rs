//! Child processes that end with us, however we end.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;

use anyhow::{Context, Result};

/// How much of a child's log an error shows.
const TAIL_BYTES: usize = 2048;

/// A process that is killed when this value is dropped, and by the kernel when our process ends in
/// any other way.
#[derive(Debug)]
pub struct OwnedChild {
    name: String,
    child: Child,
    log: PathBuf,
}

impl OwnedChild {
    /// Starts `program args...`, in a process group of its own so that Ctrl-C reaches us and not it,
    /// with both outputs in the file `log`.
    ///
    /// `setpriv --pdeathsig KILL` starts it: setting the parent-death signal takes a call between
    /// fork and exec, which Rust offers only as unsafe code.
    ///
    /// # Errors
    /// When the log cannot be created or the process not be started.
    pub fn spawn(program: &Path, args: &[String], log: &Path) -> Result<OwnedChild> {
        let name = program
            .file_name()
            .unwrap_or(program.as_os_str())
            .to_string_lossy()
            .into_owned();
        let out = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let err = out
            .try_clone()
            .with_context(|| format!("opening {} twice", log.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args);
        command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0);
        let child = spawn_from_lasting_thread(command)
            .with_context(|| format!("starting {} by setpriv", program.display()))?;
        Ok(OwnedChild {
            name,
            child,
            log: log.to_owned(),
        })
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, or `None` while it runs.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("asking whether {} runs", self.name))
    }

    /// The last 2 KiB that the process wrote, for error messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(TAIL_BYTES);
        String::from_utf8_lossy(&text[start..]).into_owned()
    }
}

impl Drop for OwnedChild {
    fn drop(&mut self) {
        // It fails only when the process has ended already, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Request = (Command, mpsc::Sender<std::io::Result<Child>>);

/// The kernel sends the parent-death signal when the *thread* that started the child ends. A test
/// that shares one control plane between its functions starts it on the thread of the first one,
/// so children are started from a thread that lasts as long as the process.
fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    static REQUESTS: LazyLock<mpsc::Sender<Request>> = LazyLock::new(|| {
        let (sender, receiver) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in receiver {
                // Nobody listens only when the asking thread is gone; then its child goes too.
                if let Err(mpsc::SendError(Ok(mut child))) = answer.send(command.spawn()) {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        });
        sender
    });
    let (answer, child) = mpsc::channel();
    REQUESTS
        .send((command, answer))
        .context("thread that starts processes")?;
    Ok(child.recv().context("thread that starts processes")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path) -> OwnedChild {
        OwnedChild::spawn(Path::new("/bin/sleep"), &["600".into()], &dir.join("log")).unwrap()
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let child = sleeper(dir.path());
        let proc_dir = PathBuf::from(format!("/proc/{}", child.id()));
        assert!(proc_dir.exists());
        drop(child);
        assert!(!proc_dir.exists());
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let mut first = thread::spawn(move || sleeper(&path)).join().unwrap();
        // The signal would arrive while a second child starts, if the thread's end sent it.
        let second = sleeper(dir.path());
        assert_eq!(first.ended().unwrap(), None);
        drop(second);
    }

    #[test]
    fn what_a_child_said_last_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let script = "yes x | head -c 5000; echo the end >&2; exit 3";
        let args = ["-c".to_owned(), script.to_owned()];
        let mut child = OwnedChild::spawn(Path::new("/bin/sh"), &args, &log).unwrap();
        let status = child.child.wait().unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(child.log_tail().ends_with("the end\n"));
        assert_eq!(child.log_tail().len(), TAIL_BYTES);
    }
}
