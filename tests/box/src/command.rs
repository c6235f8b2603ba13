//! Running programs of the host.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// How much of what a failed program said its error shows.
const TAIL_BYTES: usize = 2048;

/// Runs `command` to its end, without input, and returns what it wrote to standard output.
///
/// # Errors
/// When it cannot be started or does not exit with 0; the error ends with what it said last.
pub fn succeed(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        let said = if output.stderr.is_empty() {
            &output.stdout
        } else {
            &output.stderr
        };
        let tail = &said[said.len().saturating_sub(TAIL_BYTES)..];
        bail!(
            "{} ended with {}: {}",
            line(command),
            output.status,
            String::from_utf8_lossy(tail).trim_end()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of {}", line(command)))
}

/// Runs `command` to its end, without input, whatever its exit status.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", line(command)))
}

/// A command of `program` and `args`.
pub(crate) fn command<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

fn line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}
