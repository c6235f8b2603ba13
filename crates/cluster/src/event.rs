//! Kubernetes Events about the upgrade (contract 10.4), posted behind the back of whoever tells them.

use std::time::{Duration, Instant};

use api::names;
use node::ports::{Announcement, Severity};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::kind;
use crate::upgrade;

/// How long one event is tried to be posted, and how long anybody waits for all that were told.
const DEADLINE: Duration = Duration::from_secs(2);
/// Events that wait to be posted. A run's own take seconds each; more of them wait only while the API server is away, and
/// those are lost.
const QUEUE: usize = 32;
/// The most bytes that the API server takes as a note.
const NOTE_LIMIT: usize = 1024;
/// The object's uid is asked for again after this long: it is another one when the object was made anew.
const UID_LASTS: Duration = Duration::from_secs(60);

enum Told {
    Event(Announcement),
    /// All that was told before is posted, or given up.
    Reached(oneshot::Sender<()>),
}

/// The way to the task that posts, one event after the other.
#[derive(Debug)]
pub(crate) struct Announcer(Sender<Told>);

impl Announcer {
    /// Starts the task; it ends with the last sender or the runtime.
    pub(crate) fn start(runtime: &Handle, connection: Connection, instance: String) -> Self {
        let (sender, queue) = channel(QUEUE);
        runtime.spawn(post_all(connection, instance, queue));
        Self(sender)
    }

    /// Takes an event to post; never waits.
    pub(crate) fn tell(&self, announcement: Announcement) {
        let reason = announcement.reason;
        if self.0.try_send(Told::Event(announcement)).is_err() {
            tracing::debug!(reason, "event not posted: too many wait");
        }
    }

    /// Waits until what was told before is posted, at most two seconds.
    pub(crate) async fn posted(&self) {
        let (sender, reached) = oneshot::channel();
        let all = async {
            if self.0.send(Told::Reached(sender)).await.is_ok() {
                // An error says that the task has ended: then nothing is posted any more.
                drop(reached.await);
            }
        };
        if tokio::time::timeout(DEADLINE, all).await.is_err() {
            tracing::debug!("events not posted within {} s", DEADLINE.as_secs());
        }
    }
}

async fn post_all(connection: Connection, instance: String, mut queue: Receiver<Told>) {
    let mut known: Option<(Instant, String)> = None;
    while let Some(told) = queue.recv().await {
        let announcement = match told {
            Told::Event(announcement) => announcement,
            Told::Reached(waiting) => {
                // Whoever waited may have given up.
                let _gone = waiting.send(());
                continue;
            }
        };
        let posted = tokio::time::timeout(DEADLINE, async {
            // `kubectl describe` finds events by the object's uid.
            let uid = match known.take() {
                Some((since, uid)) if since.elapsed() < UID_LASTS => Some((since, uid)),
                _ => uid(&connection).await.map(|uid| (Instant::now(), uid)),
            };
            let call = Call::new(Verb::Create, &kind::EVENT).within(names::EVENT_NAMESPACE);
            let now = jiff::Timestamp::now();
            let text = uid.as_ref().map(|(_, uid)| uid.as_str());
            let body = event(text, &instance, &announcement, now);
            connection.send(&call, Some(&body)).await.map(|_| uid)
        });
        let reason = announcement.reason;
        match posted.await {
            Ok(Ok(uid)) => known = uid,
            Ok(Err(failure)) => tracing::debug!(reason, %failure, "event not posted"),
            Err(_elapsed) => {
                tracing::debug!(reason, "event not posted within {} s", DEADLINE.as_secs());
            }
        }
    }
}

async fn uid(connection: &Connection) -> Option<String> {
    let found = upgrade::read(connection).await.ok().flatten()?;
    found.metadata.uid
}

/// As much of a note as the API server takes.
fn cut(note: &str) -> &str {
    let mut end = note.len().min(NOTE_LIMIT);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note.get(..end).unwrap_or_default()
}

fn event(
    uid: Option<&str>,
    instance: &str,
    announcement: &Announcement,
    now: jiff::Timestamp,
) -> Value {
    let Announcement {
        severity,
        reason,
        note,
    } = announcement;
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
        "type": match severity {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        },
        "reason": reason,
        "action": reason,
        "note": cut(note),
        "regarding": {
            "apiVersion": names::API_VERSION,
            "kind": names::KIND,
            "name": names::IBU,
            "uid": uid,
        },
    })
}
