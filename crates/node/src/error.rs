//! The error of every port.

use std::fmt;

use planner::ErrorKind;

/// Why a port could not do what it was asked. The text says what was attempted, names the object and stays on this
/// level; the cause hangs below it ([`std::error::Error::source`]).
#[derive(Debug)]
pub struct PortError {
    kind: ErrorKind,
    context: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of a port's call.
pub type PortResult<T> = Result<T, PortError>;

impl PortError {
    /// An error with a cause below it.
    pub fn new(
        kind: ErrorKind,
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            context: context.into(),
            source: Some(source.into()),
        }
    }

    /// An error that is its own cause.
    pub fn plain(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            source: None,
        }
    }

    /// The caller asked the work to stop.
    pub fn stopped(context: impl Into<String>) -> Self {
        Self::plain(ErrorKind::Interrupted, context)
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same error one level up: `context` names what the caller attempted.
    pub fn within(self, context: impl Into<String>) -> Self {
        Self {
            kind: self.kind,
            context: context.into(),
            source: Some(Box::new(self)),
        }
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl std::error::Error for PortError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
