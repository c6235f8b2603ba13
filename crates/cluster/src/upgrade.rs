//! The one `ImageBasedUpgrade`: reading it live, its status, its annotations.

use api::condition::bounded_message;
use api::{ImageBasedUpgrade, ImageBasedUpgradeStatus, names};
use node::PortResult;
use node::ports::Published;
use serde_json::{Value, json};

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::kind;

/// A call about the object.
pub(crate) const fn call(verb: Verb) -> Call<'static> {
    Call::new(verb, &kind::UPGRADE).named(names::IBU)
}

/// The object without the bookkeeping of the server, which is larger than the rest and which nobody here reads.
pub(crate) fn stripped(mut object: ImageBasedUpgrade) -> ImageBasedUpgrade {
    object.metadata.rest.remove("managedFields");
    object
}

/// The object as it is now.
pub(crate) async fn read(connection: &Connection) -> PortResult<Option<ImageBasedUpgrade>> {
    Ok(connection.look_for(call(Verb::Get)).await?.map(stripped))
}

/// The status as it may be stored: no message longer than the schema allows.
pub(crate) fn storable(status: &ImageBasedUpgradeStatus) -> ImageBasedUpgradeStatus {
    let mut status = status.clone();
    for condition in &mut status.conditions {
        condition.message = bounded_message(&condition.message);
    }
    status
}

/// The body of a status update: the object at the version that the writer has seen.
pub(crate) fn status_body(
    seen: &ImageBasedUpgrade,
    status: Option<&ImageBasedUpgradeStatus>,
) -> Value {
    let mut body = json!({
        "apiVersion": names::API_VERSION,
        "kind": names::KIND,
        "metadata": {
            "name": names::IBU,
            "resourceVersion": seen.metadata.resource_version,
        },
        "spec": seen.spec,
    });
    if let Some(status) = status {
        body["status"] = json!(status);
    }
    body
}

/// Replaces the status of the object that the caller has seen. An object that is gone or was created anew counts as a
/// conflict: the caller has to read again either way.
pub(crate) async fn publish(
    connection: &Connection,
    seen: &ImageBasedUpgrade,
    status: &ImageBasedUpgradeStatus,
) -> PortResult<Published> {
    let call = call(Verb::Update).status();
    let body = status_body(seen, Some(&storable(status)));
    match connection.ask(&call, Some(&body)).await {
        Ok(stored) => Ok(Published::Stored(Box::new(stripped(stored)))),
        Err(Failure::Conflict(_) | Failure::NotFound(_)) => Ok(Published::Conflict),
        Err(failure) => Err(failure.during(&call)),
    }
}

/// Creates the initial object, unless there is one.
pub(crate) async fn ensure(connection: &Connection) -> PortResult<()> {
    if read(connection).await?.is_some() {
        return Ok(());
    }
    let create = Call::new(Verb::Create, &kind::UPGRADE);
    match connection
        .send(&create, Some(&json!(ImageBasedUpgrade::initial())))
        .await
    {
        Ok(_) | Err(Failure::Conflict(_)) => Ok(()),
        Err(failure) => Err(failure.during(&create)),
    }
}

/// Sets or removes one annotation. Removing one from an object that is gone has nothing left to do.
pub(crate) async fn annotate(
    connection: &Connection,
    key: &str,
    value: Option<&str>,
) -> PortResult<()> {
    let call = call(Verb::Patch);
    let body = json!({ "metadata": { "annotations": { key: value } } });
    match connection.send(&call, Some(&body)).await {
        Ok(_) => Ok(()),
        Err(Failure::NotFound(_)) if value.is_none() => Ok(()),
        Err(failure) => Err(failure.during(&call)),
    }
}
