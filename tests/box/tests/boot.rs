//! A node boots, serves, comes back from a reboot and from a power failure, and leaves nothing.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may end anywhere, and says what it measured"
)]

use std::time::{Duration, Instant};

use boxed::{BASE_DOMAIN, CLUSTER_NAME, Ended, Lab, NodeConfig, Release, process_runs};

/// How long a reboot may take, shutdown included.
const REBOOT_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_node_serves_reboots_and_survives_a_power_failure() {
    let started = Instant::now();
    let lab = Lab::new("boot").unwrap();
    let node = lab
        .install(&NodeConfig::new("origin", Release::V4_16_9, 10))
        .unwrap();
    let installed = Instant::now();
    node.boot().unwrap();
    node.wait_api().unwrap();
    let serving = Instant::now();
    println!(
        "install {:.2} s, boot to API {:.2} s",
        (installed - started).as_secs_f64(),
        (serving - installed).as_secs_f64()
    );

    // Its Node is the hostname, its release the one that was asked for.
    let names = node.kubectl(&["get", "nodes", "-o", "name"]).unwrap();
    assert_eq!(names, "node/origin\n");
    let path = "jsonpath={.status.desired.version}";
    let version = node
        .kubectl(&["get", "clusterversion", "version", "-o", path])
        .unwrap();
    assert_eq!(version, "4.16.9");
    let path = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
    assert_eq!(
        node.kubectl(&["get", "nodes", "-o", path]).unwrap(),
        "192.168.127.10"
    );

    // Nothing failed, and what has to be read-only is.
    node.wait_ready().unwrap();
    let failed = node
        .run(&["systemctl", "--failed", "--no-legend", "--plain"])
        .unwrap();
    assert_eq!(failed, "");
    for dir in ["/sysroot", "/boot", "/usr"] {
        let refused = node.exec(&["touch", &format!("{dir}/x")]).unwrap();
        assert!(!refused.status.success(), "{dir} is writable");
    }
    assert_eq!(
        node.run(&["systemctl", "is-active", "var-lib-containers.mount"])
            .unwrap(),
        "active\n"
    );
    let target = node
        .run(&["systemctl", "cat", "var-lib-containers.mount"])
        .unwrap();
    assert!(target.contains("What=/dev/disk/by-partlabel/var-lib-containers\n"));

    // ostree knows what is booted, and may write although nobody else can.
    let status = node.run(&["ostree", "admin", "status"]).unwrap();
    assert!(status.starts_with("* rhcos "), "{status}");
    assert_eq!(node.booted().unwrap().stateroot, "rhcos");
    node.run(&["ostree", "admin", "os-init", "rhcos_4.17.4"])
        .unwrap();
    assert!(node.sysroot().var("rhcos_4.17.4").is_dir());

    // Name resolution by the node's own dnsmasq, as the agent's clients need it.
    let api = format!("https://api-int.{CLUSTER_NAME}.{BASE_DOMAIN}:6443/readyz");
    assert_eq!(node.run(&["curl", "-sk", &api]).unwrap(), "ok");

    // What post-pivot will call is there, and was called as on a real node.
    for (name, call) in [
        ("chronyd", "chronyd start\n"),
        ("nodeip-configuration", "nodeip-configuration hint=\n"),
        ("update-ca-trust", "update-ca-trust extract\n"),
    ] {
        let said = node
            .run(&["cat", &format!("/var/log/recorders/{name}")])
            .unwrap();
        assert!(said.ends_with(call), "{said}");
    }
    let dropin = "/etc/systemd/system/kubelet.service.d/20-nodenet.conf";
    for (path, part) in [
        ("/run/nodeip-configuration/primary-ip", "192.168.127.10"),
        (dropin, "\"KUBELET_NODE_IP=192.168.127.10\""),
        ("/etc/machine-config-daemon/currentconfig", "\"fips\":false"),
        ("/home/core/.ssh/authorized_keys.d/ignition", "ssh-ed25519 "),
        ("/var/lib/kubelet/config.json", "registry.lab:5000"),
        (
            "/etc/NetworkManager/system-connections/enp1s0.nmconnection",
            "address1=192.168.127.10/24",
        ),
        ("/usr/lib/os-release", "OPENSHIFT_VERSION=\"4.16\"\n"),
    ] {
        let text = node.run(&["cat", path]).unwrap();
        assert!(text.contains(part), "{path}: {text}");
    }
    for name in ["client", "server"] {
        // Nine years and eleven months ahead.
        let path = format!("/var/lib/kubelet/pki/kubelet-{name}-current.pem");
        node.run(&[
            "openssl",
            "x509",
            "-noout",
            "-checkend",
            "312000000",
            "-in",
            &path,
        ])
        .unwrap();
    }
    for (namespace, object) in [
        ("kube-system", "configmap/cluster-config-v1"),
        ("kube-system", "secret/kubeadmin"),
        ("openshift-config", "secret/pull-secret"),
        ("openshift-config", "configmap/admin-kubeconfig-client-ca"),
        (
            "openshift-kube-apiserver-operator",
            "secret/loadbalancer-serving-signer",
        ),
        (
            "openshift-kube-apiserver-operator",
            "secret/localhost-serving-signer",
        ),
        (
            "openshift-kube-apiserver-operator",
            "secret/service-network-serving-signer",
        ),
        ("openshift-ingress-operator", "secret/router-ca"),
        (
            "openshift-cluster-version",
            "deployment/cluster-version-operator",
        ),
        (
            "openshift-lifecycle-agent",
            "operatorgroup/openshift-lifecycle-agent",
        ),
    ] {
        node.kubectl(&["get", "-n", namespace, object]).unwrap();
    }

    // A new hostname means a new Node, as kubelet and cluster would have it.
    node.run(&["hostnamectl", "set-hostname", "renamed"])
        .unwrap();
    let stopping = Instant::now();
    node.run(&["systemctl", "stop", "kubelet"]).unwrap();
    println!("stop of kubelet {:.2} s", stopping.elapsed().as_secs_f64());
    node.run(&["systemctl", "start", "kubelet"]).unwrap();
    let names = node.kubectl(&["get", "nodes", "-o", "name"]).unwrap();
    assert_eq!(names, "node/renamed\n");

    // A reboot comes back by itself, into the default deployment.
    let boot_id = node
        .run(&["cat", "/proc/sys/kernel/random/boot_id"])
        .unwrap();
    let rebooted = Instant::now();
    node.run(&["systemctl", "reboot"]).unwrap();
    node.wait_boot(2, REBOOT_LIMIT).unwrap();
    node.wait_api().unwrap();
    println!("reboot to API {:.2} s", rebooted.elapsed().as_secs_f64());
    assert_eq!(node.boots(), 2);
    assert_ne!(
        node.run(&["cat", "/proc/sys/kernel/random/boot_id"])
            .unwrap(),
        boot_id
    );

    // What etcd had acknowledged is there after a power failure.
    node.kubectl(&["create", "configmap", "kept", "-n", "default"])
        .unwrap();
    let leader = node.leader().unwrap();
    node.power_off_hard();
    assert!(!process_runs(leader));
    assert!(node.booted().is_none());
    node.boot().unwrap();
    node.wait_api().unwrap();
    assert_eq!(node.boots(), 3);
    node.kubectl(&["get", "configmap", "kept", "-n", "default"])
        .unwrap();

    node.power_off().unwrap();
    assert_eq!(node.wait_off().unwrap(), Ended::PoweredOff);
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    let lab = Lab::new("leftovers").unwrap();
    let dir = lab.dir().to_owned();
    let registry = lab.start_registry(None).unwrap();
    let node = lab
        .install(&NodeConfig::new("origin", Release::V4_16_9, 10))
        .unwrap();
    node.boot().unwrap();
    let leader = node.leader().unwrap();
    let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
    let prefix = name.strip_suffix("-leftovers").unwrap();
    assert!(namespaces(prefix) == 2, "of lab and node");

    drop(node);
    drop(registry);
    drop(lab);
    assert!(!process_runs(leader));
    assert!(!dir.exists());
    assert_eq!(namespaces(prefix), 0);
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&name), "{mounts}");
    assert!(!process_mentions(&name));
}

fn namespaces(prefix: &str) -> usize {
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return 0;
    };
    entries
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            let name = name.to_string_lossy();
            name == prefix || name.starts_with(&format!("{prefix}-"))
        })
        .count()
}

/// Whether a running process names the lab in its command line.
fn process_mentions(name: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().any(|entry| {
        let path = entry.unwrap().path();
        std::fs::read(path.join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(name))
    })
}

#[test]
fn ten_power_failures_at_any_moment_of_a_boot_do_no_harm() {
    let lab = Lab::new("failures").unwrap();
    let node = lab
        .install(&NodeConfig::new("origin", Release::V4_16_9, 10))
        .unwrap();
    for failure in 0..10 {
        node.boot().unwrap();
        // From the first instant of systemd to a serving API.
        std::thread::sleep(Duration::from_millis(failure * 200));
        node.power_off_hard();
    }
    node.boot().unwrap();
    node.wait_api().unwrap();
    assert_eq!(node.boots(), 11);
}
