//! From the errors of libraries to the errors of ports: the one place that chooses kinds by error number.

use std::io;

use node::{ErrorKind, PortError, PortResult};
use ostree::{gio, glib};
use rustix::io::Errno;

use crate::tree::RemoveError;

/// What kind of failure an input/output error is. A full disk stays full until somebody frees space, so it is
/// permanent; what is worth another try are resources that come back.
pub(crate) fn io_kind(error: &io::Error) -> ErrorKind {
    // Descriptors come back when somebody closes some; they have no kind of their own.
    let descriptors = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    if descriptors.contains(&error.raw_os_error()) {
        return ErrorKind::Transient;
    }
    match error.kind() {
        io::ErrorKind::ResourceBusy | io::ErrorKind::WouldBlock => ErrorKind::Busy,
        io::ErrorKind::Interrupted
        | io::ErrorKind::TimedOut
        | io::ErrorKind::OutOfMemory
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => ErrorKind::Transient,
        _ => ErrorKind::Permanent,
    }
}

/// What kind of failure an error of GLib or libostree is.
pub(crate) fn glib_kind(error: &glib::Error) -> ErrorKind {
    match error.kind::<gio::IOErrorEnum>() {
        Some(gio::IOErrorEnum::Busy | gio::IOErrorEnum::WouldBlock) => ErrorKind::Busy,
        Some(gio::IOErrorEnum::TimedOut) => ErrorKind::Transient,
        Some(gio::IOErrorEnum::Cancelled) => ErrorKind::Interrupted,
        _ => ErrorKind::Permanent,
    }
}

/// Adds what was attempted to an error of a library.
pub(crate) trait Attempt<T> {
    /// `context` names what was attempted and the object.
    fn attempt(self, context: impl FnOnce() -> String) -> PortResult<T>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, context: impl FnOnce() -> String) -> PortResult<T> {
        self.map_err(|error| PortError::new(io_kind(&error), context(), error))
    }
}

impl<T> Attempt<T> for Result<T, RemoveError> {
    fn attempt(self, context: impl FnOnce() -> String) -> PortResult<T> {
        match self {
            Ok(removed) => Ok(removed),
            Err(RemoveError::Stopped) => Err(PortError::stopped(context())),
            Err(RemoveError::Io(error)) => Err(error).attempt(context),
        }
    }
}

impl<T> Attempt<T> for Result<T, Errno> {
    fn attempt(self, context: impl FnOnce() -> String) -> PortResult<T> {
        self.map_err(io::Error::from).attempt(context)
    }
}

impl<T> Attempt<T> for Result<T, glib::Error> {
    fn attempt(self, context: impl FnOnce() -> String) -> PortResult<T> {
        self.map_err(|error| PortError::new(glib_kind(&error), context(), error))
    }
}
