//! One watch on one named object.
//!
//! Every connection begins with the object as it is now and never with a resource version of ours: after a pivot, and
//! after a rollback, the server's versions go backwards, and a server asked to go on from a version that it has not
//! reached yet stays silent. For one object a fresh start costs no more than a resumption.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use api::{ImageBasedUpgrade, Timestamp};
use futures::StreamExt;
use kube::core::WatchEvent;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::kind;
use crate::upgrade;

/// The first wait before connecting again.
pub(crate) const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest wait. A node comes back from a pivot with minutes to spare, not quarters of an hour, and on a single
/// node nobody else crowds the server.
pub(crate) const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// How many sightings may wait for a slow reader before the watch stops reading.
const PENDING: usize = 16;

/// What the watch saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Sighting {
    /// The object as it is now, or that there is none. Also the sign that the server is back.
    Upgrade(Option<Box<ImageBasedUpgrade>>),
    /// The server cannot be watched. Reported once, until the next [`Sighting::Upgrade`].
    Unreachable {
        /// When it was noticed.
        since: Timestamp,
        /// Why, with all causes.
        reason: String,
    },
}

/// Watches `ImageBasedUpgrade/upgrade` until the receiver is dropped. Must be called within a tokio runtime.
///
/// Guarantees: sightings come in the order of the server's changes; the last one is the object's present state as far
/// as the server can be reached; `managedFields` are gone. Changes that follow each other while the server is away may
/// be seen as one. While nothing changes, the watch causes no wake-up. After a failure it connects again, with waits
/// of at most 5 s.
pub fn watch(connection: Connection) -> mpsc::Receiver<Sighting> {
    let (sender, receiver) = mpsc::channel(PENDING);
    tokio::spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            () = closed.closed() => {}
            () = run(&connection, &sender) => {}
        }
    });
    receiver
}

/// Nobody wants to know any more.
struct Closed;

async fn run(connection: &Connection, sender: &mpsc::Sender<Sighting>) {
    let mut backoff = FIRST_BACKOFF;
    let mut reported = false;
    loop {
        let started = Instant::now();
        let mut seen = false;
        let failure = match follow(connection, sender, &mut seen).await {
            Err(Closed) => return,
            Ok(end) => end,
        };
        if seen {
            reported = false;
        }
        if seen && started.elapsed() > LONGEST_BACKOFF {
            backoff = FIRST_BACKOFF;
        }
        // A server ends watches now and then; only one that cannot be watched again is worth a word.
        if let Some(failure) = failure
            && !reported
        {
            let since = Timestamp::from_system_time(std::time::SystemTime::now());
            let reason = chain(&failure);
            if sender
                .send(Sighting::Unreachable { since, reason })
                .await
                .is_err()
            {
                return;
            }
            reported = true;
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// Watches as long as the server lets us. Gives why that ended, or `None` when the server or the network ended a watch
/// that had begun. `seen` becomes true with the first sighting.
async fn follow(
    connection: &Connection,
    sender: &mpsc::Sender<Sighting>,
    seen: &mut bool,
) -> Result<Option<Failure>, Closed> {
    // Without a resource version the server sends the object first, if there is one.
    let call = Call::new(Verb::Watch, &kind::UPGRADE)
        .asking("watch=true&fieldSelector=metadata.name%3Dupgrade");
    let stream = match connection.follow::<ImageBasedUpgrade>(&call).await {
        Ok(stream) => stream,
        Err(failure) => return Ok(Some(failure)),
    };
    let mut stream = pin!(stream);
    // It says nothing if there is none, so ask, now that no change can be missed any more. The watch's word counts
    // when there is one; the question is only for the case that there is not.
    let absence = upgrade::read(connection);
    let mut absence = pin!(absence);
    let mut asking = true;
    loop {
        let event = tokio::select! {
            biased;
            event = stream.next() => event,
            answer = &mut absence, if asking && !*seen => {
                asking = false;
                match answer {
                    Ok(None) => {
                        report(sender, None, seen).await?;
                        continue;
                    }
                    Ok(Some(_)) => continue,
                    Err(error) => return Ok(Some(Failure::Unready(chain(&error)))),
                }
            }
        };
        match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                report(sender, Some(upgrade::stripped(object)), seen).await?;
            }
            Some(Ok(WatchEvent::Deleted(_))) => report(sender, None, seen).await?,
            Some(Ok(WatchEvent::Bookmark(_))) => {}
            // 410 Gone and its like: start over.
            Some(Ok(WatchEvent::Error(status))) => {
                return Ok((!*seen).then(|| Failure::from_status(&call, &status)));
            }
            None => return Ok(None),
            // The server went away in the middle; whether it can be reached the next attempt tells.
            Some(Err(error)) => return Ok((!*seen).then(|| Failure::from_client(&call, error))),
        }
    }
}

async fn report(
    sender: &mpsc::Sender<Sighting>,
    object: Option<ImageBasedUpgrade>,
    seen: &mut bool,
) -> Result<(), Closed> {
    *seen = true;
    sender
        .send(Sighting::Upgrade(object.map(Box::new)))
        .await
        .map_err(|_| Closed)
}

/// An error with all its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    struct Chain<'a>(&'a dyn std::error::Error);
    impl fmt::Display for Chain<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)?;
            let mut cause = self.0.source();
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
            Ok(())
        }
    }
    Chain(error).to_string()
}
