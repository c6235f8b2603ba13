//! The only place that starts processes.
//!
//! A process is given an argument vector, never a line for a shell. It leads a process group of its own, which is
//! killed as a whole when the deadline passes, when a stop is asked for, and when the process has ended and left
//! something behind.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// How much of the end of standard error an error keeps, in bytes.
const STDERR_TAIL: usize = 1024;

/// Standard output longer than this many bytes is an error: nothing that we call prints so much.
const STDOUT_LIMIT: u64 = 64 << 20;

/// How often a stop is looked for.
const STOP_INTERVAL: Duration = Duration::from_secs(1);

/// A process to run.
#[derive(Debug)]
pub(crate) struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    /// Set besides our own environment.
    environment: Vec<(OsString, OsString)>,
    deadline: Duration,
}

/// Why a process did not do what was wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// It could not be started.
    #[error("starting {program}")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    /// Its output could not be read, or its end not awaited.
    #[error("attending {program}")]
    Attend {
        program: String,
        #[source]
        source: io::Error,
    },
    /// It ended with another status than 0.
    #[error("{program} ended with {status}: {stderr}")]
    Failed {
        program: String,
        status: String,
        stderr: String,
    },
    /// It was killed because it took too long.
    #[error("{program} was still running after {} s: {stderr}", deadline.as_secs())]
    Late {
        program: String,
        deadline: Duration,
        stderr: String,
    },
    /// It was killed because a stop was asked for.
    #[error("{program} was stopped")]
    Stopped { program: String },
    /// It printed more than anybody wants to keep.
    #[error("{program} printed more than {STDOUT_LIMIT} bytes")]
    Flood { program: String },
}

impl CommandError {
    /// The end of what the process wrote to standard error, if that is known.
    pub(crate) fn stderr(&self) -> &str {
        match self {
            Self::Failed { stderr, .. } | Self::Late { stderr, .. } => stderr,
            _ => "",
        }
    }
}

/// What wakes the thread that attends a process.
enum Event {
    Stdout(io::Result<Vec<u8>>),
    Stderr(io::Result<Vec<u8>>),
    /// Ended; still a zombie, so that its number belongs to nobody else.
    Ended,
}

impl Command {
    /// A process that runs `program` and has `deadline` to end.
    pub(crate) fn new(program: impl AsRef<OsStr>, deadline: Duration) -> Self {
        Self {
            program: program.as_ref().into(),
            arguments: vec![],
            environment: vec![],
            deadline,
        }
    }

    /// Sets a variable of the process's environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().into()));
        self
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().into());
        self
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments
            .into_iter()
            .fold(self, |command, argument| command.arg(argument))
    }

    /// Runs the process and returns what it wrote to standard output.
    pub(crate) fn run(&self) -> Result<Vec<u8>, CommandError> {
        self.run_until(&|| false)
    }

    /// [`Command::run`], ended early when `stop`, asked every second, says so.
    pub(crate) fn run_until(&self, stop: &dyn Fn() -> bool) -> Result<Vec<u8>, CommandError> {
        // Arguments may hold paths of secrets, never secrets; they show at debug level only.
        tracing::debug!(program = %self, arguments = ?self.arguments, "running");
        let child = self.spawn().map_err(|source| self.start_error(source))?;
        Attendance {
            command: self,
            child,
        }
        .attend(stop)
    }

    /// Starts the process and lets it run; the deadline means nothing to it. What it prints goes where our own log goes.
    pub(crate) fn serve(&self) -> Result<Service, CommandError> {
        use std::os::unix::process::CommandExt;
        let child = std::process::Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| self.start_error(source))?;
        Ok(Service {
            program: self.to_string(),
            child,
        })
    }

    fn spawn(&self) -> io::Result<Child> {
        use std::os::unix::process::CommandExt;
        std::process::Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
    }

    fn start_error(&self, source: io::Error) -> CommandError {
        CommandError::Start {
            program: self.to_string(),
            source,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.display())
    }
}

/// A process that runs until it is ended. Killed with its group when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    program: String,
    child: Child,
}

impl Service {
    /// Asks the process to end and waits until it has, at most this long.
    pub(crate) fn end(&mut self, patience: Duration) -> Result<(), CommandError> {
        let attend = |source| CommandError::Attend {
            program: self.program.clone(),
            source,
        };
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // It may have ended by itself; it is not reaped yet, so the number is still its own.
        killpg(pid, Signal::SIGTERM).ok();
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.child.try_wait().map_err(attend)?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        let (program, stderr) = (self.program.clone(), String::new());
        Err(CommandError::Late {
            program,
            deadline: patience,
            stderr,
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            killpg(
                Pid::from_raw(self.child.id().cast_signed()),
                Signal::SIGKILL,
            )
            .ok();
            self.child.wait().ok();
        }
    }
}

struct Attendance<'a> {
    command: &'a Command,
    child: Child,
}

impl Attendance<'_> {
    fn attend(mut self, stop: &dyn Fn() -> bool) -> Result<Vec<u8>, CommandError> {
        let (events, happened) = mpsc::channel();
        self.watch(&events);
        drop(events);
        let deadline = Instant::now() + self.command.deadline;
        let (mut stdout, mut stderr) = (None, None);
        let mut outcome = Ok(());
        let program = || self.command.to_string();
        // Ends when the process has ended and both its outputs are closed: killing the group closes them.
        loop {
            match happened.recv_timeout(STOP_INTERVAL) {
                Ok(Event::Stdout(read)) => stdout = Some(read),
                Ok(Event::Stderr(read)) => stderr = Some(read),
                Ok(Event::Ended) => self.kill_group(),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if outcome.is_err() {
                continue;
            }
            if matches!(&stdout, Some(Ok(bytes)) if bytes.len() as u64 > STDOUT_LIMIT) {
                outcome = Err(CommandError::Flood { program: program() });
            } else if stop() {
                outcome = Err(CommandError::Stopped { program: program() });
            } else if Instant::now() >= deadline {
                let deadline = self.command.deadline;
                outcome = Err(CommandError::Late {
                    program: program(),
                    deadline,
                    stderr: String::new(),
                });
            }
            if outcome.is_err() {
                self.kill_group();
            }
        }
        let status = self.child.wait();
        let attend = |source| CommandError::Attend {
            program: program(),
            source,
        };
        let tail = tail(&stderr.unwrap_or(Ok(vec![])).map_err(attend)?);
        match outcome {
            Ok(()) => {}
            Err(CommandError::Late {
                program, deadline, ..
            }) => {
                return Err(CommandError::Late {
                    program,
                    deadline,
                    stderr: tail,
                });
            }
            Err(error) => return Err(error),
        }
        let status = status.map_err(attend)?;
        if !status.success() {
            let status = status.to_string();
            return Err(CommandError::Failed {
                program: program(),
                status,
                stderr: tail,
            });
        }
        stdout.unwrap_or(Ok(vec![])).map_err(attend)
    }

    /// Starts a thread for each thing that can happen.
    fn watch(&mut self, events: &mpsc::Sender<Event>) {
        // Sending fails only when nobody waits any more.
        if let Some(pipe) = self.child.stdout.take() {
            let events = events.clone();
            thread::spawn(move || events.send(Event::Stdout(read_head(pipe))).ok());
        }
        if let Some(pipe) = self.child.stderr.take() {
            let events = events.clone();
            thread::spawn(move || events.send(Event::Stderr(read_tail(pipe))).ok());
        }
        let (events, pid) = (events.clone(), self.pid());
        thread::spawn(move || {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while waitid(Id::Pid(pid), flags) == Err(nix::Error::EINTR) {}
            events.send(Event::Ended).ok()
        });
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn kill_group(&self) {
        // The group may be gone already. The child itself is not reaped yet, so the number is still its own.
        killpg(self.pid(), Signal::SIGKILL).ok();
    }
}

/// Reads all, but no more than one byte over the limit.
fn read_head(pipe: impl Read) -> io::Result<Vec<u8>> {
    let mut head = vec![];
    pipe.take(STDOUT_LIMIT + 1).read_to_end(&mut head)?;
    Ok(head)
}

/// Reads all and keeps the end.
fn read_tail(mut pipe: impl Read) -> io::Result<Vec<u8>> {
    let mut tail = vec![];
    let mut chunk = [0; 4096];
    loop {
        match pipe.read(&mut chunk) {
            Ok(0) => return Ok(tail),
            Ok(length) => tail.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        tail.drain(..tail.len().saturating_sub(STDERR_TAIL));
    }
}

/// One line that may stand in a condition: control characters become spaces.
fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn sh(script: &str) -> Command {
        Command::new("/bin/sh", LONG).args(["-c", script])
    }

    #[test]
    fn output_and_errors_are_kept_apart() {
        let out = sh("echo out; echo err >&2").run().unwrap();
        assert_eq!(out, b"out\n");
        let error = sh("echo out; printf 'one\ntwo\n' >&2; exit 3")
            .run()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "/bin/sh ended with exit status: 3: one two"
        );
        assert_eq!(error.stderr(), "one two");
        let error = Command::new("/no/such", LONG).run().unwrap_err();
        assert_eq!(error.to_string(), "starting /no/such");
    }

    #[test]
    fn only_the_end_of_a_long_complaint_is_kept() {
        let error = sh("head -c 100000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1")
            .run()
            .unwrap_err();
        assert_eq!(error.stderr().len(), STDERR_TAIL - 1);
        assert!(error.stderr().ends_with("xend"));
    }

    #[test]
    fn late_and_stopped_processes_die_with_all_they_started() {
        let begin = Instant::now();
        let slow = "sleep 1000 & sleep 1000";
        let late = Command {
            deadline: Duration::ZERO,
            ..sh(slow)
        };
        assert!(matches!(late.run().unwrap_err(), CommandError::Late { .. }));
        let stopped = sh(slow).run_until(&|| true).unwrap_err();
        assert!(matches!(stopped, CommandError::Stopped { .. }));
        // What a process leaves behind holds its standard output open, and ends with it.
        assert_eq!(sh("sleep 1000 & echo $0").run().unwrap(), b"/bin/sh\n");
        assert!(begin.elapsed() < LONG);
    }
}
