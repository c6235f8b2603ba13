//! The guest agent: commands in a guest without network, in the middle of anything.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// What a command in the guest left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i64>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// The way to a guest's agent.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    socket: PathBuf,
}

impl Guest {
    pub(crate) fn new(socket: &Path) -> Guest {
        Guest {
            socket: socket.to_owned(),
        }
    }

    /// Whether the agent answers within `limit`.
    pub(crate) fn answers(&self, limit: Duration) -> bool {
        self.call("guest-ping", &Value::Null, limit).is_ok()
    }

    /// Runs a program as root and waits for it.
    pub(crate) fn exec(&self, args: &[&str], limit: Duration) -> Result<Finished> {
        let (program, rest) = args.split_first().context("no program")?;
        let begun = Instant::now();
        let started = self.call(
            "guest-exec",
            &json!({
                "path": program, "arg": rest, "capture-output": true,
                "env": [
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
                    "HOME=/root",
                    "LANG=C.UTF-8",
                    format!("KUBECONFIG=/{}", boxed::KUBECONFIG),
                ],
            }),
            limit,
        )?;
        let mut pause = Duration::from_millis(20);
        loop {
            let asked = json!({"pid": started["pid"]});
            let state = self.call("guest-exec-status", &asked, limit)?;
            if state["exited"] == true {
                let text = |name: &str| -> Result<String> {
                    let bytes = STANDARD
                        .decode(state[name].as_str().unwrap_or_default())
                        .with_context(|| format!("{name} of {program}"))?;
                    Ok(String::from_utf8_lossy(&bytes).into_owned())
                };
                return Ok(Finished {
                    status: state["exitcode"].as_i64(),
                    stdout: text("out-data")?,
                    stderr: text("err-data")?,
                });
            }
            ensure!(
                begun.elapsed() < limit,
                "{program} in the guest took more than {} s",
                limit.as_secs()
            );
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Calls the agent. Each call has a connection and a number of its own: what a call before it left unread, perhaps
    /// in another boot, is not taken for its answer.
    fn call(&self, command: &str, arguments: &Value, limit: Duration) -> Result<Value> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let ask = || -> Result<Value> {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(limit))?;
            let mut reader = BufReader::new(stream.try_clone()?);
            let sync = json!({"execute": "guest-sync-delimited", "arguments": {"id": number}});
            stream.write_all(b"\xff")?;
            writeln!(stream, "{sync}")?;
            let begun = Instant::now();
            loop {
                ensure!(begun.elapsed() < limit, "no answer");
                let answer = read(&mut reader)?;
                if answer["return"] == number {
                    break;
                }
            }
            let mut request = json!({"execute": command});
            if !arguments.is_null() {
                request["arguments"] = arguments.clone();
            }
            writeln!(stream, "{request}")?;
            let mut answer = read(&mut reader)?;
            if let Some(error) = answer["error"]["desc"].as_str() {
                bail!("{error}");
            }
            Ok(answer["return"].take())
        };
        ask().with_context(|| format!("the guest agent's command {command}"))
    }
}

/// A line of JSON; anything else is what a broken connection left.
fn read(reader: &mut BufReader<UnixStream>) -> Result<Value> {
    let mut line = Vec::new();
    let length = reader.read_until(b'\n', &mut line)?;
    ensure!(length > 0, "the connection ended");
    let from = line.iter().rposition(|byte| *byte == 0xff);
    let line = &line[from.map_or(0, |at| at + 1)..];
    Ok(serde_json::from_slice(line).unwrap_or(Value::Null))
}
