//! What the agent's pod starts: enters the host's mount namespace and becomes the agent there.
//!
//! The pod's image holds two programs. The agent is linked with libostree and talks to the host's systemd and podman,
//! so it runs on the host's files alone. This one needs nothing but a C library. It keeps open what only the pod has
//! (the agent's program, the service account, the certificate of its metrics), enters the mount namespace of the host's
//! first process, puts a copy of the agent there and replaces itself by it. All that happens on the process's only
//! thread: the kernel lets nobody else change the namespace.

mod entry;

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use entry::{Entry, Error};

/// The agent in the pod's image.
const PROGRAM: &str = "/usr/local/libexec/lifecycle-agent";

/// Names another program instead; tests use it.
const ENV_PROGRAM: &str = "LCA_PROGRAM";

/// What the agent is told when the pod names no command.
const DEFAULT_ARGUMENT: &str = "controller";

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = env::args_os().skip(1).collect();
    // As the Go original's, whose container is given flags and no command.
    let begins_with_flag = |first: &OsString| first.as_encoded_bytes().starts_with(b"-");
    if arguments.first().is_none_or(begins_with_flag) {
        arguments.insert(0, DEFAULT_ARGUMENT.into());
    }
    let program = env::var_os(ENV_PROGRAM).map_or_else(|| PROGRAM.into(), PathBuf::from);
    let error = match enter_and_become(&program, arguments) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let mut text = format!("manager: {error}");
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    // Standard error is all that is left; if that is gone too, the status tells.
    writeln!(std::io::stderr(), "{text}").ok();
    ExitCode::FAILURE
}

fn enter_and_become(
    program: &std::path::Path,
    arguments: Vec<OsString>,
) -> Result<std::convert::Infallible, Error> {
    let entry = Entry::prepare(program, entry::certificates(&arguments))?;
    let host = entry.enter()?;
    host.become_agent(arguments)
}
