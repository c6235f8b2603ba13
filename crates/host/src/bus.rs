//! D-Bus: one connection to the system bus per piece of work.
//!
//! A connection of our own each time outlives no restart of the bus and needs no thread in between; opening one costs
//! about a millisecond. Everything runs on the calling thread.

use std::time::Duration;

use node::{ErrorKind, PortError, PortResult};
use serde::de::DeserializeOwned;
use zbus::Connection;
use zbus::DBusError;
use zbus::OwnedVariant;
use zbus::zvariant::{DynamicType, Type};

/// The longest that a call may take: systemd answers at once, activated services may have to start first. The same
/// 25 s as the default of the reference implementation of D-Bus.
const CALL_DEADLINE: Duration = Duration::from_secs(25);

/// Connects to the system bus and runs `work`; `attempted` names it in errors. `deadline` bounds all of it.
pub(crate) fn on_bus<T>(
    attempted: &str,
    deadline: Duration,
    work: impl AsyncFnOnce(Bus) -> Result<T, zbus::Error>,
) -> PortResult<T> {
    let failed = |kind, error: Box<dyn std::error::Error + Send + Sync>| {
        PortError::new(kind, attempted.to_owned(), error)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(ErrorKind::Transient, error.into()))?;
    runtime.block_on(async {
        let connect_and_work = async {
            let builder = zbus::connection::Builder::system().method_timeout(CALL_DEADLINE);
            work(Bus(builder.build().await?)).await
        };
        match tokio::time::timeout(deadline, connect_and_work).await {
            Ok(result) => result.map_err(|error| failed(kind(&error), error.into())),
            Err(elapsed) => Err(failed(ErrorKind::Transient, elapsed.into())),
        }
    })
}

/// [`on_bus`] for work that is a few calls.
pub(crate) fn call_on_bus<T>(
    attempted: &str,
    work: impl AsyncFnOnce(Bus) -> Result<T, zbus::Error>,
) -> PortResult<T> {
    on_bus(attempted, CALL_DEADLINE, work)
}

/// An object of a service: bus name and path.
#[derive(Clone, Copy)]
pub(crate) struct Object<'a> {
    pub(crate) service: &'a str,
    pub(crate) path: &'a str,
}

/// A connection.
pub(crate) struct Bus(pub(crate) Connection);

impl Bus {
    /// Calls a method.
    pub(crate) async fn call<A, R>(
        &self,
        object: Object<'_>,
        interface: &str,
        method: &str,
        arguments: &A,
    ) -> Result<R, zbus::Error>
    where
        A: serde::Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let Object { service, path } = object;
        let reply = self
            .0
            .call_method(Some(service), path, Some(interface), method, arguments)
            .await?;
        reply.body().deserialize()
    }

    /// Reads a property.
    pub(crate) async fn property<R>(
        &self,
        object: Object<'_>,
        interface: &str,
        property: &str,
    ) -> Result<R, zbus::Error>
    where
        R: TryFrom<OwnedVariant>,
        zbus::Error: From<R::Error>,
    {
        let arguments = (interface, property);
        let value: OwnedVariant = self
            .call(object, "org.freedesktop.DBus.Properties", "Get", &arguments)
            .await?;
        Ok(R::try_from(value)?)
    }
}

/// The D-Bus error that a service answered with, such as `org.freedesktop.systemd1.NoSuchUnit`; empty for a failure
/// of another kind.
pub(crate) fn name(error: &zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(name, _, _) => name.to_string(),
        zbus::Error::FDO(error) => match &**error {
            zbus::fdo::Error::ZBus(error) => name(error),
            error => error.name().to_string(),
        },
        _ => String::new(),
    }
}

/// Services that are away come back; what a service refuses it will refuse again.
fn kind(error: &zbus::Error) -> ErrorKind {
    const AWAY: [&str; 8] = [
        "org.freedesktop.DBus.Error.ServiceUnknown",
        "org.freedesktop.DBus.Error.NameHasNoOwner",
        "org.freedesktop.DBus.Error.NoReply",
        "org.freedesktop.DBus.Error.Timeout",
        "org.freedesktop.DBus.Error.TimedOut",
        "org.freedesktop.DBus.Error.Disconnected",
        "org.freedesktop.systemd1.ShuttingDown",
        // Somebody's reboot is queued, and may not be pushed aside.
        "org.freedesktop.systemd1.TransactionIsDestructive",
    ];
    let name = name(error);
    if name.is_empty() || AWAY.contains(&name.as_str()) {
        ErrorKind::Transient
    } else {
        ErrorKind::Permanent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_are_away_come_back() {
        let check = |error: zbus::fdo::Error, expect| {
            assert_eq!(kind(&zbus::Error::FDO(Box::new(error))), expect);
        };
        let text = || String::from("x");
        check(
            zbus::fdo::Error::ServiceUnknown(text()),
            ErrorKind::Transient,
        );
        check(zbus::fdo::Error::NoReply(text()), ErrorKind::Transient);
        check(zbus::fdo::Error::FileNotFound(text()), ErrorKind::Permanent);
        check(zbus::fdo::Error::AccessDenied(text()), ErrorKind::Permanent);
        let broken =
            zbus::Error::InputOutput(std::sync::Arc::new(std::io::ErrorKind::BrokenPipe.into()));
        assert_eq!(kind(&broken), ErrorKind::Transient);
    }
}
