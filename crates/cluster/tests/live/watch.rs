use std::process::Command;
use std::time::{Duration, Instant};

use cluster::Sighting;
use node::ports::Cluster as _;
use testenv::Version;
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

use crate::plane::Plane;

/// Longer than any wait of the watch itself.
const PATIENCE: Duration = Duration::from_secs(30);

struct Watched<'a> {
    plane: &'a Plane,
    sightings: Receiver<Sighting>,
}

impl Watched<'_> {
    fn next(&mut self) -> Sighting {
        let next = async { tokio::time::timeout(PATIENCE, self.sightings.recv()).await };
        match self.plane.handle().block_on(next) {
            Ok(Some(sighting)) => sighting,
            Ok(None) => panic!("the watch has ended"),
            Err(_elapsed) => panic!("nothing seen within {PATIENCE:?}"),
        }
    }

    /// The annotation `n` of the object in the next sighting.
    fn next_n(&mut self) -> Option<String> {
        match self.next() {
            Sighting::Upgrade(Some(seen)) => {
                assert!(!seen.metadata.rest.contains_key("managedFields"));
                seen.metadata.annotations.get("n").cloned()
            }
            other => panic!("{other:?}"),
        }
    }

    fn silent(&mut self) -> bool {
        matches!(self.sightings.try_recv(), Err(TryRecvError::Empty))
    }
}

fn watched(plane: &Plane) -> Watched<'_> {
    let connection = plane.connection();
    let sightings = plane
        .handle()
        .block_on(async { cluster::watch(connection) });
    Watched { plane, sightings }
}

#[test]
fn changes_are_seen_in_order_and_at_once() {
    let plane = Plane::start(Version::Pinned);
    let port = plane.port();
    let mut watched = watched(&plane);
    assert_eq!(watched.next(), Sighting::Upgrade(None));

    port.ensure_upgrade().unwrap();
    assert_eq!(watched.next_n(), None);

    let mut latencies = Vec::new();
    for n in 0..200 {
        let n = n.to_string();
        port.annotate("n", Some(&n)).unwrap();
        let answered = Instant::now();
        assert_eq!(watched.next_n(), Some(n));
        latencies.push(answered.elapsed());
    }
    latencies.sort_unstable();
    println!(
        "from the answer to the sighting: median {:?}, p99 {:?}",
        latencies[100], latencies[197]
    );
    assert!(latencies[100] < Duration::from_millis(100), "{latencies:?}");

    // A burst is seen change by change too.
    for n in 0..50 {
        port.annotate("n", Some(&n.to_string())).unwrap();
    }
    for n in 0..50 {
        assert_eq!(watched.next_n(), Some(n.to_string()));
    }

    plane.place(None);
    assert_eq!(watched.next(), Sighting::Upgrade(None));
    assert!(watched.silent());
}

#[test]
fn an_api_server_that_restarts_is_missed_once_and_found_again() {
    let mut plane = Plane::start(Version::Pinned);
    let connection = plane.connection();
    plane.port().ensure_upgrade().unwrap();
    plane.port().annotate("n", Some("before")).unwrap();
    let mut sightings = plane
        .handle()
        .block_on(async { cluster::watch(connection) });
    // Not in good order: with a watch open the server takes a minute for that.
    for outage in 1..=2 {
        let mut watched = Watched {
            plane: &plane,
            sightings,
        };
        assert_eq!(watched.next_n().as_deref(), Some("before"), "{outage}");
        sightings = watched.sightings;
        plane.stop("KILL", false);
        let mut watched = Watched {
            plane: &plane,
            sightings,
        };
        let Sighting::Unreachable { reason, .. } = watched.next() else {
            panic!("outage {outage} is not missed")
        };
        assert!(reason.starts_with("the API server "), "{reason}");
        sightings = watched.sightings;
        plane.restart();
    }
    let mut watched = Watched {
        plane: &plane,
        sightings,
    };
    assert_eq!(watched.next_n().as_deref(), Some("before"));
    plane.port().annotate("n", Some("after")).unwrap();
    assert_eq!(watched.next_n().as_deref(), Some("after"));
    assert!(watched.silent());
}

#[test]
fn an_older_etcd_is_seen_as_it_is() {
    let mut plane = Plane::start(Version::Pinned);
    let connection = plane.connection();
    plane.port().ensure_upgrade().unwrap();
    plane.port().annotate("n", Some("old")).unwrap();

    // Keep a copy of the data, then go on.
    let kept = tempfile::tempdir().unwrap();
    plane.stop("TERM", true);
    copy(&plane.etcd_data(), &kept.path().join("data"));
    plane.restart();
    for n in 0..30 {
        plane.port().annotate("n", Some(&n.to_string())).unwrap();
    }
    let version = |plane: &Plane| -> u64 {
        plane
            .live()
            .unwrap()
            .metadata
            .resource_version
            .unwrap()
            .parse()
            .unwrap()
    };
    let newest = version(&plane);
    let sightings = plane
        .handle()
        .block_on(async { cluster::watch(connection) });
    let mut watched = Watched {
        plane: &plane,
        sightings,
    };
    assert_eq!(watched.next_n().as_deref(), Some("29"));
    let sightings = watched.sightings;

    plane.stop("KILL", true);
    let data = plane.etcd_data();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&kept.path().join("data"), &data);
    plane.restart();

    let mut watched = Watched {
        plane: &plane,
        sightings,
    };
    let Sighting::Unreachable { .. } = watched.next() else {
        panic!("not missed")
    };
    assert_eq!(watched.next_n().as_deref(), Some("old"));
    assert!(version(&plane) < newest);
    // Changes below the version seen before are seen as well.
    plane.port().annotate("n", Some("new")).unwrap();
    assert!(version(&plane) < newest);
    assert_eq!(watched.next_n().as_deref(), Some("new"));
}

#[test]
fn a_server_that_is_not_there_is_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kubeconfig");
    let text = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "users": [{"name": "a", "user": {}}]}"#;
    std::fs::write(&path, text).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let access = cluster::Access::Kubeconfig(path);
        let mut sightings = cluster::watch(cluster::Connection::open(&access).await.unwrap());
        let Some(Sighting::Unreachable { reason, .. }) = sightings.recv().await else {
            panic!()
        };
        assert!(reason.contains("Connection refused"), "{reason}");
        let again = tokio::time::timeout(Duration::from_secs(2), sightings.recv()).await;
        assert!(again.is_err(), "{again:?}");
    });
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .unwrap();
    assert!(status.success());
}
