//! Kubernetes Events about the upgrade (contract 10.4).

use std::time::Duration;

use api::names;
use serde_json::{Value, json};

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::kind;
use crate::upgrade;

/// An announcement must not hold up the reboot that it announces.
const DEADLINE: Duration = Duration::from_secs(2);
/// The most characters that the API server takes as a note.
const NOTE_LIMIT: usize = 1024;

/// Posts an event about the upgrade; tries for at most two seconds.
pub(crate) async fn announce(connection: &Connection, instance: &str, reason: &str, note: &str) {
    let posted = tokio::time::timeout(DEADLINE, async {
        // `kubectl describe` finds events by the object's uid.
        let uid = upgrade::read(connection)
            .await
            .ok()
            .flatten()
            .and_then(|found| found.metadata.uid);
        let call = Call::new(Verb::Create, &kind::EVENT).within(names::EVENT_NAMESPACE);
        let body = event(uid, instance, reason, note, jiff::Timestamp::now());
        connection.send(&call, Some(&body)).await
    });
    match posted.await {
        Ok(Ok(_)) => {}
        Ok(Err(failure)) => tracing::warn!(reason, %failure, "event not posted"),
        Err(_elapsed) => tracing::warn!(reason, "event not posted within {} s", DEADLINE.as_secs()),
    }
}

fn event(
    uid: Option<String>,
    instance: &str,
    reason: &str,
    note: &str,
    now: jiff::Timestamp,
) -> Value {
    let note: String = note.chars().take(NOTE_LIMIT).collect();
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{}.{:x}", names::IBU, now.as_nanosecond()),
            "namespace": names::EVENT_NAMESPACE,
        },
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        "reportingController": names::EVENT_CONTROLLER,
        "reportingInstance": instance,
        "type": "Normal",
        "reason": reason,
        "action": reason,
        "note": note,
        "regarding": {
            "apiVersion": names::API_VERSION,
            "kind": names::KIND,
            "name": names::IBU,
            "uid": uid,
        },
    })
}
