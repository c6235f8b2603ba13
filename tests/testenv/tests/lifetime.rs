//! The control plane ends with the process that started it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code outside test functions"
)]

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testenv::ControlPlane;

/// How long the kernel may take to end a killed process.
const DEADLINE: Duration = Duration::from_secs(10);

/// Connects, so that the end of the server can be awaited.
fn connect(url: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(url.rsplit('/').next().unwrap())?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Waits until the server at the other end is gone. A dying process closes its connections and its
/// listening socket one after the other, so a new connection may still be accepted, and then ends.
#[track_caller]
fn check_gone(url: &str, mut stream: TcpStream) {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        match stream.read(&mut [0; 64]) {
            Ok(0) => {}
            Ok(_) => panic!("{url} answered"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{url} is there"),
        }
        match connect(url) {
            Ok(another) => stream = another,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{url}");
                return;
            }
        }
    }
    panic!("{url} is still there");
}

#[test]
fn a_dropped_control_plane_is_gone_with_its_files() {
    let plane = ControlPlane::start().unwrap();
    let kubeconfig = plane.kubeconfig_path();
    assert!(kubeconfig.exists());
    let urls = [plane.url().to_owned(), plane.etcd_url().to_owned()];
    let streams = urls.clone().map(|url| connect(&url).unwrap());
    drop(plane);
    for (url, stream) in urls.iter().zip(streams) {
        check_gone(url, stream);
    }
    assert!(!kubeconfig.parent().unwrap().exists());
}

#[test]
fn a_killed_parent_takes_the_control_plane_along() {
    let mut parent = Command::new(env!("CARGO_BIN_EXE_testenv"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let kubeconfig = lines.next().unwrap().unwrap();
    let servers = lines.next().unwrap().unwrap();
    let urls: Vec<&str> = servers
        .split(' ')
        .filter(|word| word.contains("://"))
        .collect();
    assert_eq!(urls.len(), 2, "{servers}");
    let streams: Vec<TcpStream> = urls.iter().map(|url| connect(url).unwrap()).collect();

    parent.kill().unwrap();
    parent.wait().unwrap();
    for (url, stream) in urls.iter().zip(streams) {
        check_gone(url, stream);
    }
    // What a killed parent cannot remove.
    let kubeconfig = kubeconfig.strip_prefix("export KUBECONFIG=").unwrap();
    let dir = std::path::Path::new(kubeconfig).parent().unwrap();
    assert!(dir.starts_with(std::env::temp_dir()));
    std::fs::remove_dir_all(dir).unwrap();
}
