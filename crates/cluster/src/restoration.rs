//! Making the live object equal to a saved one, after a pivot to another etcd.
//!
//! Updating in place keeps the object in existence all the time: between a deletion and a creation there would be no
//! object, and none of its rules would bind users (contract 12.1, row 3). The rules on transitions compare with the
//! live status, which is another node's or another boot's, so it is taken away first: the rules let everything pass
//! that comes from an object without status.

use std::time::Duration;

use api::{ImageBasedUpgrade, names};
use node::{ErrorKind, PortError, PortResult};
use serde_json::{Value, json};

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::kind;
use crate::upgrade::{self, call, status_body, storable, stripped};

/// How often somebody else may write in between before the caller shall try again later.
const ATTEMPTS: u32 = 8;
/// How long a deleted object may take to be gone; finalizers of others may hold it.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Makes spec, labels, annotations and status of the live object those of `saved`. Can be repeated at any point.
pub(crate) async fn restore(connection: &Connection, saved: &ImageBasedUpgrade) -> PortResult<()> {
    let mut wanted = saved.clone();
    wanted.status = saved.status.as_ref().map(storable);
    for _ in 0..ATTEMPTS {
        match attempt(connection, &wanted).await {
            Err(Refused::Changed) => {}
            Err(Refused::Invalid(error) | Refused::Failed(error)) => {
                return Err(error.within("restoring the saved CR"));
            }
            Ok(()) => return Ok(()),
        }
    }
    Err(PortError::plain(
        ErrorKind::Transient,
        format!(
            "restoring the saved CR: ImageBasedUpgrade {} kept changing",
            names::IBU
        ),
    ))
}

/// Why one attempt did not succeed.
enum Refused {
    /// Somebody else wrote first.
    Changed,
    /// The schema or a rule objects.
    Invalid(PortError),
    /// Anything else.
    Failed(PortError),
}

impl Refused {
    fn during(call: Call<'_>, failure: Failure) -> Self {
        match failure {
            Failure::Conflict(_) | Failure::NotFound(_) => Self::Changed,
            Failure::Invalid(_) => Self::Invalid(failure.during(&call)),
            other => Self::Failed(other.during(&call)),
        }
    }
}

type Attempt<T> = Result<T, Refused>;

async fn ask(
    connection: &Connection,
    call: Call<'static>,
    body: &Value,
) -> Attempt<ImageBasedUpgrade> {
    let stored = connection.ask(&call, Some(body)).await.map(stripped);
    stored.map_err(|failure| Refused::during(call, failure))
}

async fn attempt(connection: &Connection, wanted: &ImageBasedUpgrade) -> Attempt<()> {
    let live = upgrade::read(connection).await.map_err(Refused::Failed)?;
    let stored = match live {
        None => create(connection, wanted).await?,
        Some(live) => match update(connection, live, wanted).await {
            // A rule of the installed definition stands in the way even without a status.
            Err(Refused::Invalid(_)) => recreate(connection, wanted).await?,
            other => other?,
        },
    };
    put_status(connection, stored, wanted).await.map(drop)
}

/// Spec, labels and annotations in place.
async fn update(
    connection: &Connection,
    live: ImageBasedUpgrade,
    wanted: &ImageBasedUpgrade,
) -> Attempt<ImageBasedUpgrade> {
    let same = live.spec == wanted.spec
        && live.metadata.labels == wanted.metadata.labels
        && live.metadata.annotations == wanted.metadata.annotations;
    if same {
        return Ok(live);
    }
    let live = if live.status.is_some() {
        ask(
            connection,
            call(Verb::Update).status(),
            &status_body(&live, None),
        )
        .await?
    } else {
        live
    };
    let mut metadata = live.metadata;
    metadata.labels.clone_from(&wanted.metadata.labels);
    metadata
        .annotations
        .clone_from(&wanted.metadata.annotations);
    let body = json!({
        "apiVersion": names::API_VERSION,
        "kind": names::KIND,
        "metadata": metadata,
        "spec": wanted.spec,
    });
    ask(connection, call(Verb::Update), &body).await
}

fn fresh(wanted: &ImageBasedUpgrade) -> Value {
    json!({
        "apiVersion": names::API_VERSION,
        "kind": names::KIND,
        "metadata": {
            "name": names::IBU,
            "labels": wanted.metadata.labels,
            "annotations": wanted.metadata.annotations,
        },
        "spec": wanted.spec,
    })
}

async fn create(connection: &Connection, wanted: &ImageBasedUpgrade) -> Attempt<ImageBasedUpgrade> {
    ask(
        connection,
        Call::new(Verb::Create, &kind::UPGRADE),
        &fresh(wanted),
    )
    .await
}

/// The way of last resort. Nothing is deleted before the server has said that it would take the new object: a trial of
/// the creation must fail because there is one already, not because the saved one is invalid.
async fn recreate(
    connection: &Connection,
    wanted: &ImageBasedUpgrade,
) -> Attempt<ImageBasedUpgrade> {
    let trial = Call::new(Verb::Create, &kind::UPGRADE).asking("dryRun=All");
    match ask(connection, trial, &fresh(wanted)).await {
        Ok(_) | Err(Refused::Changed) => {}
        Err(refused) => return Err(refused),
    }
    let delete = call(Verb::Delete);
    match connection.send(&delete, None).await {
        Ok(_) | Err(Failure::NotFound(_)) => {}
        Err(failure) => return Err(Refused::during(delete, failure)),
    }
    let gone = async {
        let mut wait = Duration::from_millis(10);
        while upgrade::read(connection)
            .await
            .map_err(Refused::Failed)?
            .is_some()
        {
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Ok(())
    };
    tokio::time::timeout(GONE_WITHIN, gone)
        .await
        .unwrap_or_else(|_elapsed| {
            let held =
                Failure::Unready("the deleted object stays; a finalizer holds it".to_owned());
            Err(Refused::during(delete, held))
        })?;
    create(connection, wanted).await
}

async fn put_status(
    connection: &Connection,
    stored: ImageBasedUpgrade,
    wanted: &ImageBasedUpgrade,
) -> Attempt<ImageBasedUpgrade> {
    if stored.status == wanted.status {
        return Ok(stored);
    }
    let body = status_body(&stored, wanted.status.as_ref());
    ask(connection, call(Verb::Update).status(), &body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_object_carries_nothing_of_the_server() {
        let saved: ImageBasedUpgrade = serde_json::from_value(json!({
            "metadata": {
                "name": "upgrade", "uid": "u", "resourceVersion": "7", "generation": 3,
                "creationTimestamp": null, "managedFields": [{}], "annotations": {"a": "b"},
            },
            "spec": {"stage": "Upgrade", "seedImageRef": {}},
        }))
        .unwrap();
        assert_eq!(
            fresh(&saved),
            json!({
                "apiVersion": "lca.openshift.io/v1",
                "kind": "ImageBasedUpgrade",
                "metadata": {"name": "upgrade", "labels": {}, "annotations": {"a": "b"}},
                "spec": {"stage": "Upgrade", "seedImageRef": {}},
            })
        );
    }
}
