//! That something has changed which is waited for; what it is like now has to be asked then.

use std::pin::pin;

use futures::StreamExt;
use kube::core::WatchEvent;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::kind::{self, Kind};
use crate::watch::{FIRST_BACKOFF, LONGEST_BACKOFF};

/// What can be waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Awaited {
    /// The other flow that works on the node's deployments: `IPConfig/ipconfig`.
    Peer,
    /// A healthy cluster: ClusterOperators, MachineConfigPools and Nodes. What else belongs to it is of kinds that come and go
    /// with operators, and is asked for now and then.
    Health,
}

impl Awaited {
    fn watches(self) -> &'static [(&'static Kind<'static>, &'static str)] {
        match self {
            Self::Peer => &[(
                &kind::IP_CONFIG,
                "watch=true&fieldSelector=metadata.name%3Dipconfig",
            )],
            Self::Health => &[
                (&kind::CLUSTER_OPERATOR, "watch=true"),
                (&kind::MACHINE_CONFIG_POOL, "watch=true"),
                (&kind::NODE, "watch=true"),
            ],
        }
    }
}

/// Says whenever it may have changed, until the receiver is dropped: at first, with each change, and each time that the server
/// is connected to anew (at most every 5 s). Must be called within a tokio runtime.
pub fn watch_changes(connection: &Connection, awaited: Awaited) -> mpsc::Receiver<()> {
    // Several changes that nobody has looked at yet are one.
    let (sender, receiver) = mpsc::channel(1);
    for (kind, query) in awaited.watches() {
        let (connection, sender) = (connection.clone(), sender.clone());
        tokio::spawn(async move {
            let closed = sender.clone();
            tokio::select! {
                () = closed.closed() => {}
                () = run(&connection, kind, query, &sender) => {}
            }
        });
    }
    receiver
}

async fn run(
    connection: &Connection,
    kind: &'static Kind<'static>,
    query: &'static str,
    sender: &mpsc::Sender<()>,
) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let started = Instant::now();
        follow(connection, kind, query, sender).await;
        // Its kind may be gone, and with it what is waited for.
        tell(sender);
        if started.elapsed() > LONGEST_BACKOFF {
            backoff = FIRST_BACKOFF;
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// What is read of an object: nothing.
#[derive(Clone, Debug, Deserialize)]
struct Anything {}

/// Watches as long as the server lets us. Why that ended makes no difference: it is begun again.
async fn follow(
    connection: &Connection,
    kind: &'static Kind<'static>,
    query: &'static str,
    sender: &mpsc::Sender<()>,
) {
    let call = Call::new(Verb::Watch, kind).asking(query);
    let Ok(stream) = connection.follow::<Anything>(&call).await else {
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
