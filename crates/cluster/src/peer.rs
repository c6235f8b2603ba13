//! The other flow that works on the node's deployments: its object, and that it has changed.

use std::pin::pin;

use api::ip_config::{self, IpConfig};
use futures::StreamExt;
use kube::core::WatchEvent;
use node::PortResult;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::kind;
use crate::watch::{FIRST_BACKOFF, LONGEST_BACKOFF};

/// The object as it is now; `None` also where the cluster has no such kind.
pub(crate) async fn read(connection: &Connection) -> PortResult<Option<IpConfig>> {
    let call = Call::get(&kind::IP_CONFIG, ip_config::NAME);
    match connection.ask(&call, None).await {
        Ok(found) => Ok(Some(found)),
        Err(Failure::NotFound(_) | Failure::NotServed) => Ok(None),
        Err(failure) => Err(failure.during(&call)),
    }
}

/// Says whenever `IPConfig/ipconfig` may have changed, until the receiver is dropped: at first, with each change, and each time
/// that the server is connected to anew (at most every 5 s). What it is like now has to be asked then. Must be called within a
/// tokio runtime.
pub fn watch_peer(connection: Connection) -> mpsc::Receiver<()> {
    // Several changes that nobody has looked at yet are one.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            () = closed.closed() => {}
            () = run(&connection, &sender) => {}
        }
    });
    receiver
}

async fn run(connection: &Connection, sender: &mpsc::Sender<()>) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let started = Instant::now();
        follow(connection, sender).await;
        // Its kind may be gone, and with it what is waited for.
        tell(sender);
        if started.elapsed() > LONGEST_BACKOFF {
            backoff = FIRST_BACKOFF;
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// Watches as long as the server lets us. Why that ended makes no difference: it is begun again.
async fn follow(connection: &Connection, sender: &mpsc::Sender<()>) {
    let call = Call::new(Verb::Watch, &kind::IP_CONFIG)
        .asking("watch=true&fieldSelector=metadata.name%3Dipconfig");
    let Ok(stream) = connection.follow::<Value>(&call).await else {
        return;
    };
    let mut stream = pin!(stream);
    while let Some(Ok(event)) = stream.next().await {
        match event {
            WatchEvent::Error(_) => return,
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) => tell(sender),
        }
    }
}

/// One that waits to be looked at says it already.
fn tell(sender: &mpsc::Sender<()>) {
    let _told = sender.try_send(());
}
