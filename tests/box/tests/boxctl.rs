//! The command line tool, and what happens to its nodes when it is killed.
#![expect(clippy::unwrap_used, reason = "a test may end anywhere")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use boxed::{Lab, Running, process_runs, succeed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn boxctl(args: &[&str]) -> String {
    succeed(Command::new(env!("CARGO_BIN_EXE_boxctl")).args(args)).unwrap()
}

#[test]
fn a_kept_node_is_reached_by_name_and_dies_with_its_keeper() {
    let name = format!("kept{}", std::process::id());
    let up = boxctl(&["up", "--keep", "--number", "30", "--name", &name]);
    assert_eq!(up, format!("serving {name} at 192.168.127.30\n"));
    assert_eq!(boxctl(&["exec", &name, "hostname"]), format!("{name}\n"));
    let nodes = boxctl(&["kubectl", &name, "get", "nodes", "-o", "name"]);
    assert_eq!(nodes, format!("node/{name}\n"));

    let running = Running::find(&name).unwrap();
    kill(Pid::from_raw(running.keeper()), Signal::SIGKILL).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while Running::find(&name).is_ok() || process_runs(running.keeper()) {
        assert!(Instant::now() < until, "the guest outlives its keeper");
        std::thread::sleep(Duration::from_millis(10));
    }
    // The next lab removes what it left.
    let lab = Lab::new("after").unwrap();
    let labs = lab.dir().parent().unwrap();
    let left = format!("lca-{}-", running.keeper());
    for dir in [labs, Path::new("/run/netns")] {
        for entry in std::fs::read_dir(dir).unwrap() {
            let found = entry.unwrap().file_name().into_string().unwrap();
            assert!(!found.starts_with(&left), "{found}");
        }
    }
}

#[test]
fn a_node_that_goes_down_is_gone() {
    let name = format!("brief{}", std::process::id());
    boxctl(&["up", "--keep", "--number", "31", "--name", &name]);
    boxctl(&["down", &name]);
    assert!(Running::find(&name).is_err());
}
