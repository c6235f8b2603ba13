//! How the agent comes to run on a node, and what a user is told who gets something wrong: entry from the pod, a second
//! agent, and credentials and images that are no good.

#![expect(
    clippy::print_stdout,
    reason = "what users are told is part of the result"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boxed::site::{agent_binary, conditions, seed_image};
use boxed::{Lab, Node, NodeConfig, REGISTRY_ADDRESS, REGISTRY_USER, Release, Site, UpgradeObject};
use serde_json::{Value, json};

const NAMESPACE: &str = "openshift-lifecycle-agent";
const ACCOUNT: &str = "lifecycle-agent-controller-manager";

/// The root filesystem of the pod's container, on the node.
const POD: &str = "/var/tmp/pod";
/// All that is in the pod's image.
const IMAGE: [&str; 5] = [
    "lib/x86_64-linux-gnu/libc.so.6",
    "lib/x86_64-linux-gnu/libgcc_s.so.1",
    "lib64/ld-linux-x86-64.so.2",
    "usr/local/bin/manager",
    "usr/local/libexec/lifecycle-agent",
];
/// Where the certificate of the metrics is mounted.
const CERTIFICATES: &str = "etc/tls/private";
/// What Kubernetes mounts into the pod.
const SERVICE_ACCOUNT: &str = "var/run/secrets/kubernetes.io/serviceaccount";

/// Makes the pod's root filesystem the root of a mount namespace in which nothing of the node is left. The node's own
/// loader starts its umount: the new root has no programs.
const PIVOT: &str = "set -e; mount --bind $0 $0; mount -t proc proc $0/proc; cd $0; pivot_root . old; \
    /old/lib64/ld-linux-x86-64.so.2 --library-path /old/lib/x86_64-linux-gnu /old/bin/umount --lazy /old; \
    \"$@\"; exit $?";

fn node(lab: &Lab, name: &str, agent: bool) -> Result<Node> {
    let mut config = NodeConfig::new(name, Release::V4_16_9, 10);
    if agent {
        config = config.with_agent(&agent_binary()?);
    }
    let node = lab.install(&config)?;
    node.boot()?;
    node.wait_api()?;
    Ok(node)
}

fn wait_upgrade(node: &Node, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
    let limit = Duration::from_secs(60);
    let object = UpgradeObject {
        kubectl: &|args| node.kubectl(args),
        stage_limit: limit,
        pause: Duration::from_millis(100),
    };
    let seen = object.wait(limit, wanted);
    seen.map(drop).with_context(|| format!("no {what}"))
}

/// Exit status, standard output and standard error of a program on the node.
fn outcome(node: &Node, args: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = node.exec(args)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    ))
}

/// The files of a directory, sorted.
fn files(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path.strip_prefix(root)?.display().to_string());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The pod's root filesystem; gives its place on this machine.
fn make_image(node: &Node) -> Result<PathBuf> {
    let root = node.path_in_stateroot("rhcos", POD)?;
    let programs = [
        (PathBuf::from(env!("CARGO_BIN_EXE_manager")), IMAGE[3]),
        (agent_binary()?, IMAGE[4]),
    ];
    for (from, to) in programs {
        let to = root.join(to);
        fs::create_dir_all(to.parent().context("a directory")?)?;
        fs::copy(&from, to).with_context(|| format!("copying {}", from.display()))?;
    }
    for directory in ["proc", "old", SERVICE_ACCOUNT] {
        fs::create_dir_all(root.join(directory))?;
    }
    // The directories may be links on the node and must not be in the image.
    for library in &IMAGE[..3] {
        let to = format!("{POD}/{library}");
        node.run(&["install", "-D", &format!("/{library}"), &to])?;
    }
    assert_eq!(files(&root)?, IMAGE);
    Ok(root)
}

/// The real account with the rights that the manifests give, and its token.
fn make_account(node: &Node, root: &Path) -> Result<()> {
    for name in ["02_service_account.yaml", "03_rbac.yaml"] {
        let path = format!("{}/manifests/{name}", env!("CARGO_MANIFEST_DIR"));
        node.kubectl(&["apply", "-f", &path])?;
    }
    let token = node.kubectl(&["create", "token", ACCOUNT, "-n", NAMESPACE])?;
    let authority = node.kubectl(&[
        "get",
        "configmap/kube-apiserver-server-ca",
        "-n",
        "openshift-config-managed",
        "-o",
        "jsonpath={.data.ca-bundle\\.crt}",
    ])?;
    let directory = root.join(SERVICE_ACCOUNT);
    fs::write(directory.join("token"), token.trim())?;
    fs::write(directory.join("ca.crt"), authority)?;
    fs::write(directory.join("namespace"), NAMESPACE)?;
    Ok(())
}

/// A privileged container with `hostPID: true`: the node's processes, a root filesystem of its own.
fn in_pod<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let head = [
        "env",
        "-i",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        "KUBERNETES_SERVICE_HOST=api-int.sno.lab.example.com",
        "KUBERNETES_SERVICE_PORT=6443",
        "unshare",
        "--mount",
        "sh",
        "-c",
        PIVOT,
        POD,
    ];
    head.iter().chain(args).copied().collect()
}

#[test]
fn the_pod_enters_the_host() -> Result<()> {
    let lab = Lab::new("entry")?;
    let node = node(&lab, "entry", false)?;
    let root = make_image(&node)?;
    make_account(&node, &root)?;
    let (manager, agent) = (
        "/usr/local/bin/manager",
        "/usr/local/libexec/lifecycle-agent",
    );

    // There the agent itself cannot even start, and nothing on the node leads to the account.
    let (status, _, error) = outcome(&node, &in_pod(&[agent, "--version"]))?;
    assert_eq!(status, Some(127), "{error}");
    assert!(
        error.contains("libostree-1.so.1") && error.contains("cannot open shared object"),
        "{error}"
    );
    assert_eq!(
        node.exec(&["test", "-e", "/var/run/secrets"])?
            .status
            .code(),
        Some(1)
    );

    // As the Deployment has it: flags and no command.
    let certificates = root.join(CERTIFICATES);
    fs::create_dir_all(&certificates)?;
    fs::write(certificates.join("tls.crt"), "a certificate")?;
    let mut start = vec!["systemd-run", "--quiet", "--unit=pod"];
    start.extend(in_pod(&[
        manager,
        "--metrics-bind-address=:6444",
        "--metrics-tls-cert-dir=/etc/tls/private",
    ]));
    node.run(&start)?;
    let idle = |ibu: &Value| conditions(ibu) == [("Idle", "True")];
    if let Err(error) = wait_upgrade(&node, "Idle", idle) {
        let journal = node.run(&["journalctl", "--unit=pod", "--no-pager", "--lines=20"])?;
        return Err(error.context(journal));
    }
    // What runs is the copy, in the namespace of process 1, with the account's directory open.
    let pid = node.run(&["cat", "/run/lifecycle-agent.lock"])?;
    let pid = pid.trim();
    let link = |path: &str| node.run(&["readlink", path]);
    assert_eq!(
        link(&format!("/proc/{pid}/ns/mnt"))?,
        link("/proc/1/ns/mnt")?
    );
    let program = link(&format!("/proc/{pid}/exe"))?;
    assert!(
        program.starts_with("/run/lifecycle-agent/lifecycle-agent-"),
        "{program}"
    );
    let environment = node.run(&["cat", &format!("/proc/{pid}/environ")])?;
    let kept = |variable: &str, file: &str| -> Result<String> {
        let descriptor = environment
            .split('\0')
            .find_map(|entry| entry.strip_prefix(variable)?.strip_prefix('='))
            .with_context(|| format!("no {variable} in the agent's environment"))?;
        node.run(&["cat", &format!("/proc/{pid}/fd/{descriptor}/{file}")])
    };
    assert_eq!(
        kept("LCA_SERVICE_ACCOUNT_FD", "token")?,
        fs::read_to_string(root.join(SERVICE_ACCOUNT).join("token"))?
    );
    assert_eq!(
        kept("LCA_METRICS_CERTIFICATES_FD", "tls.crt")?,
        "a certificate"
    );
    for probe in ["healthz", "readyz"] {
        let ask = format!(
            "exec 3<>/dev/tcp/127.0.0.1/8081; printf 'GET /{probe} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n' >&3; cat <&3"
        );
        let answer = node.run(&["bash", "-c", &ask])?;
        assert!(answer.starts_with("HTTP/1.1 200"), "{probe}: {answer}");
    }

    // The host's libostree, and the API by the account's token, for a second program beside it.
    let status = node.run(&in_pod(&[manager, "status", "-o", "json"]))?;
    let status: Value = serde_json::from_str(&status)?;
    let booted = node.booted().context("the node is on")?;
    let directory = booted.dir.file_name().unwrap_or_default();
    let id = format!("{}-{}", booted.stateroot, directory.to_string_lossy());
    assert_eq!(status["deployments"][0]["id"], id, "{status}");
    assert_eq!(status["deployments"][0]["booted"], true, "{status}");
    assert_eq!(status["upgrade"]["metadata"]["name"], "upgrade", "{status}");

    // Told to end, it ends in good order.
    node.run(&["systemctl", "stop", "pod"])?;
    let left = node.exec(&["test", "-e", &format!("/proc/{pid}")])?;
    assert_eq!(left.status.code(), Some(1), "the agent outlives its pod");
    Ok(())
}

/// A pod that lacks a right says which one.
#[test]
fn a_pod_without_rights_says_what_it_needs() -> Result<()> {
    let lab = Lab::new("rights")?;
    let node = lab.install(&NodeConfig::new("rights", Release::V4_16_9, 10))?;
    node.boot()?;
    make_image(&node)?;
    // In a chroot, as what takes rights away is none of the pod's programs.
    node.run(&["mount", "-t", "proc", "proc", &format!("{POD}/proc")])?;
    let manager = "/usr/local/bin/manager";
    let rows: [(&[&str], &str); 5] = [
        (
            &[
                "unshare",
                "--pid",
                "--fork",
                "--mount-proc=/var/tmp/pod/proc",
                "chroot",
                POD,
                manager,
            ],
            "manager: the host's processes cannot be seen; the pod needs \"hostPID: true\"",
        ),
        (
            &[
                "unshare",
                "--pid",
                "--fork",
                "--mount-proc",
                "sh",
                "-c",
                "mount -t proc proc $0/proc; chroot $0 $1; exit $?",
                POD,
                manager,
            ],
            "manager: process 1 is not the systemd of a node (/run/systemd/system does not exist in its mount namespace); \
             the pod needs \"hostPID: true\"",
        ),
        (
            &["chroot", "--userspec=1000:1000", POD, manager],
            "manager: opening the mount namespace of process 1; the pod needs \"hostPID: true\" and its container \
             \"privileged: true\": Permission denied (os error 13)",
        ),
        (
            &[
                "unshare",
                "--mount",
                "setpriv",
                "--bounding-set=-sys_admin",
                "chroot",
                POD,
                manager,
            ],
            "manager: entering the mount namespace of process 1; the container needs \"privileged: true\": \
             Operation not permitted (os error 1)",
        ),
        (
            &["env", "LCA_PROGRAM=/nowhere", "chroot", POD, manager],
            "manager: opening the agent /nowhere: No such file or directory (os error 2)",
        ),
    ];
    for (args, expect) in rows {
        let (status, output, error) = outcome(&node, args)?;
        assert_eq!(
            (status, output.as_str(), error.trim_end()),
            (Some(1), "", expect),
            "{args:?}"
        );
        println!("{expect}");
    }
    Ok(())
}

#[test]
fn a_second_agent_is_told_who_runs() -> Result<()> {
    let lab = Lab::new("second")?;
    let node = node(&lab, "second", true)?;
    wait_upgrade(&node, "Idle", |ibu| conditions(ibu) == [("Idle", "True")])?;
    let unit = |property: &str| {
        let property = format!("--property={property}");
        node.run(&["systemctl", "show", "--value", &property, "lifecycle-agent"])
    };
    let first = unit("MainPID")?;
    let started = Instant::now();
    let (status, output, error) =
        outcome(&node, &["timeout", "30", "lifecycle-agent", "controller"])?;
    ensure!(
        started.elapsed() < Duration::from_secs(5),
        "took {:?}",
        started.elapsed()
    );
    assert_eq!((status, output.as_str()), (Some(1), ""), "{error}");
    for text in [
        "becoming this node's only agent",
        &format!("already runs on this node (process {},", first.trim()),
        "leave the work to it, or stop it and start again",
    ] {
        assert!(error.contains(text), "{error:?} lacks {text:?}");
    }
    println!("{}", error.trim());

    // The first one goes on: it answers a request, here with a failure and the way out of it.
    let patch = |spec: Value| {
        let patch = json!({ "spec": spec }).to_string();
        node.kubectl(&["patch", "ibu", "upgrade", "--type=merge", "-p", &patch])
    };
    patch(json!({"stage": "Prep", "seedImageRef": {"version": "4.17.4"}}))?;
    wait_upgrade(&node, "failure", |ibu| {
        told(ibu).contains("spec.seedImageRef.image is not set")
    })?;
    patch(json!({"stage": "Idle", "seedImageRef": null}))?;
    wait_upgrade(&node, "Idle", |ibu| conditions(ibu) == [("Idle", "True")])?;
    assert!(
        node.run(&["lifecycle-agent", "status"])?
            .contains("* rhcos")
    );
    assert_eq!((unit("MainPID")?, unit("NRestarts")?.trim()), (first, "0"));
    Ok(())
}

/// What the conditions of Prep say.
fn told(ibu: &Value) -> String {
    let list = ibu["status"]["conditions"].as_array();
    let found = list
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "PrepInProgress");
    found
        .and_then(|found| found["message"].as_str())
        .unwrap_or_default()
        .to_owned()
}

fn make_secret(site: &Site, name: &str, key: &str, text: &str) -> Result<()> {
    let literal = format!("--from-literal={key}={text}");
    site.node
        .kubectl(&[
            "create", "secret", "generic", name, "-n", NAMESPACE, &literal,
        ])
        .map(drop)
}

fn leave(site: &Site) -> Result<()> {
    site.patch(&json!({"spec": {"stage": "Idle", "seedImageRef": null}}))?;
    let ibu = site.wait_stage("Idle")?;
    assert_eq!(conditions(&ibu), [("Idle", "True")]);
    Ok(())
}

/// Each ends in a condition that names object, reason and next action, without a word of the secret; Idle leads out.
#[test]
fn bad_credentials_and_unreachable_registry() -> Result<()> {
    const KEY: &str = ".dockerconfigjson";
    const NEXT: &str = "request stage Idle, correct it and request Prep again";
    let site = Site::boot("credentials")?;
    let wrong =
        json!({"auths": {REGISTRY_ADDRESS: {"username": REGISTRY_USER, "password": "hunter2"}}});
    make_secret(&site, "wrong", KEY, &wrong.to_string())?;
    make_secret(&site, "keyless", "config", &wrong.to_string())?;
    make_secret(&site, "garbled", KEY, "hunter2")?;
    let seed = seed_image(Release::V4_17_4);
    let secret =
        |name: &str| json!({"image": seed, "version": "4.17.4", "pullSecretRef": {"name": name}});
    let rows: [(Value, &[&str]); 5] = [
        (
            secret("wrong"),
            &[
                "failed to validate seed image info: failed to get seed image labels: ",
                &format!("the registry refuses access to image {seed}"),
                "check the pull secret's entry for its registry",
                NEXT,
            ],
        ),
        (
            secret("absent"),
            &[
                "failed to retrieve pull-secret from secret absent, err: ",
                "Secret openshift-lifecycle-agent/absent",
                "not found",
                NEXT,
            ],
        ),
        (
            secret("keyless"),
            &[
                "did not find key .dockerconfigjson in Secret keyless/openshift-lifecycle-agent",
                NEXT,
            ],
        ),
        (
            secret("garbled"),
            &[&seed, "the auth file is not a JSON document", NEXT],
        ),
        (
            json!({"image": format!("{REGISTRY_ADDRESS}/workload/recert:v0"), "version": "4.17.4"}),
            &[
                "failed to validate seed image info: checking seed image compatibility: seed image is missing the \
                 com.openshift.lifecycle-agent.seed_format_version label, please build a new image using the latest \
                 version of the lca-cli",
            ],
        ),
    ];
    for (reference, texts) in rows {
        site.patch(&json!({"spec": {"stage": "Prep", "seedImageRef": reference}}))?;
        let ibu = site.wait(Duration::from_secs(60), |ibu| {
            conditions(ibu).contains(&("PrepCompleted", "False"))
        })?;
        let message = told(&ibu);
        for text in texts {
            assert!(message.contains(text), "{message:?} lacks {text:?}");
        }
        assert!(!ibu["status"].to_string().contains("hunter2"), "{ibu}");
        println!("{reference}: {message}");
        leave(&site)?;
    }

    let image = "127.0.0.1:9/seed:4.17.4";
    let reference = json!({"image": image, "version": "4.17.4"});
    site.patch(&json!({"spec": {"stage": "Prep", "seedImageRef": reference}}))?;
    let ibu = site.wait(Duration::from_secs(60), |ibu| {
        told(ibu).contains("attempt 3 failed, trying again: ")
    })?;
    assert_eq!(
        conditions(&ibu),
        [("Idle", "False"), ("PrepInProgress", "True")]
    );
    let message = told(&ibu);
    for text in [image, "cannot be reached", "refused"] {
        assert!(message.contains(text), "{message:?} lacks {text:?}");
    }
    println!("{reference}: {message}");
    leave(&site)?;
    let journal = site
        .node
        .run(&["journalctl", "--unit=lifecycle-agent", "--no-pager"])?;
    assert!(
        journal.contains(image),
        "not the agent's journal: {journal}"
    );
    assert!(!journal.contains("hunter2"), "the journal shows the secret");
    Ok(())
}
