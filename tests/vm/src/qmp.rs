//! QEMU's control socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Executes one command of the QEMU machine protocol.
///
/// # Errors
/// When QEMU does not answer, or refuses.
pub(crate) fn execute(socket: &Path, command: &str, arguments: &Value) -> Result<Value> {
    let ask = || -> Result<Value> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        lines.next().context("no greeting")??;
        let mut call = |command: &str, arguments: &Value| -> Result<Value> {
            let mut request = json!({"execute": command});
            if !arguments.is_null() {
                request["arguments"] = arguments.clone();
            }
            writeln!(stream, "{request}")?;
            loop {
                let line = lines.next().context("no answer")??;
                let mut answer: Value = serde_json::from_str(&line)?;
                if !answer["return"].is_null() {
                    return Ok(answer["return"].take());
                }
                if let Some(error) = answer["error"]["desc"].as_str() {
                    bail!("{error}");
                }
                // Anything else is an event.
            }
        };
        call("qmp_capabilities", &Value::Null)?;
        call(command, arguments)
    };
    ask().with_context(|| format!("QEMU's command {command}"))
}
