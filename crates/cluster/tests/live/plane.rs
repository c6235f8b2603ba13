//! A control plane with our kind on it, a runtime that drives the connection, and a way to stop and start both servers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use api::ImageBasedUpgrade;
use cluster::{Access, Connection, LiveCluster};
use node::ports::Cluster as _;
use testenv::{ControlPlane, OwnedChild, Version};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub(crate) struct Plane {
    pub(crate) servers: ControlPlane,
    runtime: Runtime,
    /// Programs and arguments of etcd and kube-apiserver.
    commands: [Vec<String>; 2],
    running: [u32; 2],
    again: Vec<OwnedChild>,
    logs: tempfile::TempDir,
}

/// A runtime of one thread, as the agent's.
struct Runtime {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Runtime {
    fn start() -> Self {
        let (handle_out, handle) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            handle_out.send(runtime.handle().clone()).unwrap();
            let _ = runtime.block_on(stopped);
        });
        Self {
            handle: handle.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Plane {
    pub(crate) fn start(version: Version) -> Self {
        let servers = ControlPlane::builder().apiserver(version).start().unwrap();
        servers.apply_yaml(&api::crd::crds_yaml()).unwrap();
        servers
            .kubectl(&[
                "wait",
                "--for=condition=Established",
                "crd/imagebasedupgrades.lca.openshift.io",
                "--timeout=30s",
            ])
            .unwrap();
        let running = servers.pids();
        let plane = Self {
            commands: running.map(command),
            running,
            again: Vec::new(),
            logs: tempfile::tempdir().unwrap(),
            runtime: Runtime::start(),
            servers,
        };
        plane.await_kind();
        plane
    }

    /// Waits until our kind is served, which follows its definition by moments.
    fn await_kind(&self) {
        let port = self.port();
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = port.upgrade() {
            assert!(
                Instant::now() < deadline,
                "{error}: {:?}",
                std::error::Error::source(&error)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.runtime.handle
    }

    pub(crate) fn connection(&self) -> Connection {
        self.connection_by(&Access::Kubeconfig(self.servers.kubeconfig_path()))
    }

    pub(crate) fn connection_by(&self, access: &Access) -> Connection {
        self.handle().block_on(Connection::open(access)).unwrap()
    }

    pub(crate) fn port(&self) -> LiveCluster {
        self.port_over(self.connection())
    }

    pub(crate) fn port_over(&self, connection: Connection) -> LiveCluster {
        LiveCluster::new(
            connection,
            self.handle().clone(),
            "openshift-lifecycle-agent",
            "test",
        )
    }

    /// Deletes the object and creates it as `json` says, status included.
    pub(crate) fn place(&self, json: Option<&serde_json::Value>) {
        self.servers
            .kubectl(&["delete", "ibu", "--all", "--wait"])
            .unwrap();
        if let Some(json) = json {
            let text = json.to_string();
            self.servers
                .kubectl_with_input(&["create", "-f", "-"], &text)
                .unwrap();
            if json.get("status").is_some() {
                self.servers
                    .kubectl(&[
                        "patch",
                        "ibu",
                        "upgrade",
                        "--subresource=status",
                        "--type=merge",
                        "--patch",
                        &serde_json::json!({"status": json["status"]}).to_string(),
                    ])
                    .unwrap();
            }
        }
    }

    pub(crate) fn live(&self) -> Option<ImageBasedUpgrade> {
        self.port().upgrade().unwrap()
    }

    /// Ends the API server, and etcd after it if asked.
    pub(crate) fn stop(&mut self, signal: &str, etcd_too: bool) {
        let ends = if etcd_too { vec![1, 0] } else { vec![1] };
        for index in ends {
            end(self.running[index], signal);
        }
    }

    /// Starts what was stopped and waits until it is ready.
    pub(crate) fn restart(&mut self) {
        for index in 0..2 {
            if !ended(self.running[index]) {
                continue;
            }
            let (program, args) = self.commands[index].split_first().unwrap();
            let log = self.logs.path().join(format!("{}.log", self.again.len()));
            let child = OwnedChild::spawn(Path::new(program), args, &log).unwrap();
            self.running[index] = child.id();
            self.again.push(child);
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.port().ready() {
            let log = self.again.last().unwrap().log_tail();
            assert!(
                Instant::now() < deadline,
                "the API server is not back:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The directory of etcd's data.
    pub(crate) fn etcd_data(&self) -> PathBuf {
        let argument = self.commands[0]
            .iter()
            .find_map(|word| word.strip_prefix("--data-dir="));
        PathBuf::from(argument.unwrap())
    }
}

fn command(pid: u32) -> Vec<String> {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let words = String::from_utf8(words).unwrap();
    words.split_terminator('\0').map(str::to_owned).collect()
}

/// Whether a process has ended; it may be a zombie of ours.
fn ended(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    stat.rsplit(')')
        .next()
        .unwrap()
        .trim_start()
        .starts_with('Z')
}

fn end(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(90);
    while !ended(pid) {
        assert!(Instant::now() < deadline, "process {pid} does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}
