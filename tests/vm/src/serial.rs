//! A guest's serial console: every line with the moment at which it came.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A line of the console.
#[derive(Clone, Debug)]
pub struct Line {
    /// When its end came.
    pub at: Instant,
    /// Its text, without colours.
    pub text: String,
}

/// A place between two lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

/// The console of one VM over all its boots, shared with the thread that reads it.
#[derive(Clone, Debug)]
pub struct Serial {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    log: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    /// QEMU processes whose console is read: a thread may see the end of one after the next one has begun.
    connected: usize,
}

impl Serial {
    /// An empty console that is also written to the file `log`.
    pub(crate) fn new(log: &Path) -> Serial {
        Serial {
            shared: Arc::new(Shared {
                begun: Instant::now(),
                log: log.to_owned(),
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
        }
    }

    /// Reads the console from `stream` until QEMU ends.
    pub(crate) fn read_from(&self, mut stream: UnixStream) -> Result<()> {
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.shared.log)
            .with_context(|| format!("opening {}", self.shared.log.display()))?;
        let shared = Arc::clone(&self.shared);
        shared.lock().connected += 1;
        std::thread::spawn(move || {
            let mut rest = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                rest.extend_from_slice(&buffer[..length]);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let text = plain(&String::from_utf8_lossy(&rest[..end]));
                    rest.drain(..=end);
                    let at = Instant::now();
                    let seconds = (at - shared.begun).as_secs_f64();
                    // The log is for people; the tests read the lines.
                    let _ = writeln!(log, "[{seconds:8.2}] {text}");
                    shared.lock().lines.push(Line { at, text });
                    shared.changed.notify_all();
                }
            }
            shared.lock().connected -= 1;
            shared.changed.notify_all();
        });
        Ok(())
    }

    /// The place behind the last line.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.lines(Mark(0)).len())
    }

    /// The lines behind `from`.
    #[must_use]
    pub fn lines(&self, from: Mark) -> Vec<Line> {
        let state = self.shared.lock();
        state.lines[from.0.min(state.lines.len())..].to_vec()
    }

    /// Waits for a line behind `from` that contains `text`, and says what it is and the place behind it.
    ///
    /// # Errors
    /// When there is none within `limit`, or QEMU ends; the error shows the last lines.
    pub fn wait(&self, from: Mark, text: &str, limit: Duration) -> Result<(Line, Mark)> {
        let until = Instant::now() + limit;
        let mut state = self.shared.lock();
        let mut next = from.0;
        loop {
            while let Some(line) = state.lines.get(next) {
                next += 1;
                if line.text.contains(text) {
                    return Ok((line.clone(), Mark(next)));
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.connected == 0 {
                let why = if state.connected > 0 {
                    format!("within {} s", limit.as_secs())
                } else {
                    "before QEMU ended".to_owned()
                };
                let last = state.lines[state.lines.len().saturating_sub(8)..].iter();
                let last: Vec<&str> = last.map(|line| line.text.as_str()).collect();
                bail!(
                    "no {text:?} on the console {why} (all of it: {}); it ends with:\n{}",
                    self.shared.log.display(),
                    last.join("\n")
                );
            }
            (state, _) = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Text without carriage returns and the sequences with which terminals are driven.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => {
                if chars.next() == Some('[') {
                    // Parameters, then one letter.
                    for char in chars.by_ref() {
                        if char.is_ascii_alphabetic() {
                            break;
                        }
                    }
                }
            }
            '\r' => {}
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_cursor_movements_are_not_text() {
        assert_eq!(
            plain("\u{1b}c\u{1b}[?7l\u{1b}[2J\u{1b}[0;1;32mOK\u{1b}[0m x\r"),
            "OK x"
        );
    }

    #[test]
    fn a_line_is_found_behind_a_mark_only() {
        let dir = tempfile::tempdir().unwrap();
        let serial = Serial::new(&dir.path().join("log"));
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        serial.read_from(theirs).unwrap();
        ours.write_all(b"one\r\ntwo\none").unwrap();
        let limit = Duration::from_secs(10);
        let (_, behind) = serial.wait(Mark::default(), "one", limit).unwrap();
        let none = serial.wait(behind, "one", Duration::from_millis(50));
        assert!(format!("{:#}", none.unwrap_err()).ends_with("one\ntwo"));
        ours.write_all(b"\n").unwrap();
        serial.wait(behind, "one", limit).unwrap();
        assert_eq!(serial.lines(behind).len(), 2);
    }
}
