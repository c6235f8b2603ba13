//! Starting, alone on the machine: cargo runs this file's tests while no other file's run.

#![expect(
    clippy::print_stdout,
    reason = "the time it took belongs to the test output"
)]

use std::time::{Duration, Instant};

use testenv::{ControlPlane, Program, Version};

#[test]
fn every_version_is_ready_within_ten_seconds_and_reports_itself() {
    for version in Version::under_test() {
        // Building a program on first use is not starting it.
        Program::Etcd.path().unwrap();
        Program::Kubectl.path().unwrap();
        Program::KubeApiserver(version).path().unwrap();
        let begun = Instant::now();
        let plane = ControlPlane::builder().apiserver(version).start().unwrap();
        let took = begun.elapsed();
        println!("{version:?} ready after {} ms", took.as_millis());
        assert!(took < Duration::from_secs(10), "{version:?} took {took:?}");

        let minor = plane.kubectl(&["get", "--raw", "/version"]).unwrap();
        match version {
            Version::Pinned => assert!(minor.contains("\"gitVersion\": \"v1.30.14\""), "{minor}"),
            Version::Newest => assert!(!minor.contains("v0.0.0"), "{minor}"),
        }
    }
}
