//! What a node's installation leaves in `/etc` and `/var`: made once for each identity and copied.
//!
//! The API objects are created by a real etcd and kube-apiserver, which run just long enough.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testenv::{OwnedChild, Program, Version};

use crate::cache;
use crate::cluster::{BASE_DOMAIN, CLUSTER_NAME, Identity, SSH_KEY};
use crate::command::succeed;
use crate::image::{Release, source_dir};
use crate::network::{INTERFACE, LAB_ADDRESS, Namespace};
use crate::pki::{ClusterPki, write};
use crate::registry::{REGISTRY_ADDRESS, authority_pem, pull_secret};

/// How long etcd and kube-apiserver may take to serve.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The sources of what a template holds: when one changes, templates are made anew.
const SOURCES: [&str; 3] = [
    include_str!("template.rs"),
    include_str!("cluster.rs"),
    include_str!("pki.rs"),
];

/// The directory with `etc` and `var` of a node called `hostname` at `address`.
pub(crate) fn ensure(release: Release, hostname: &str, address: Ipv4Addr) -> Result<PathBuf> {
    let mut parts: Vec<Vec<u8>> = SOURCES.map(|source| source.as_bytes().to_vec()).into();
    for path in inputs()? {
        parts.push(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    for program in [Program::Etcd, Program::KubeApiserver(Version::Pinned)] {
        parts.push(program.path()?.into_os_string().into_encoded_bytes());
    }
    parts.push(authority_pem()?.into_bytes());
    parts.push(format!("{} {hostname} {address}", release.version()).into_bytes());
    let name = format!("node-{}", cache::key(parts.iter().map(Vec::as_slice)));
    cache::entry(&name, |dir| {
        let identity = Identity::random(release, hostname)?;
        let pki = ClusterPki::create(&identity, address.into())?;
        pki.write(dir)?;
        files(dir, &identity, address)?;
        fill_etcd(dir, &identity, &pki)
    })
}

/// The files of the tree that go into the API objects.
fn inputs() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for dir in [source_dir().join("cluster"), our_crds()] {
        // The product's own kinds may not be there yet.
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let path = entry
                .with_context(|| format!("reading {}", dir.display()))?
                .path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn our_crds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/crds")
}

/// Everything that installer and MachineConfigs of a real node write, as far as anybody looks.
fn files(dir: &Path, identity: &Identity, address: Ipv4Addr) -> Result<()> {
    let etc = dir.join("etc");
    let var = dir.join("var");
    let hostname = &identity.hostname;
    let machine_id = fs::read_to_string("/proc/sys/kernel/random/uuid")
        .context("a random machine id")?
        .replace('-', "");
    let config = identity.machine_config("master").to_string();
    let connection = format!(
        "[connection]\nid={INTERFACE}\nuuid=6f1a2b3c-0000-4000-8000-0000000000{last:02x}\n\
         type=ethernet\ninterface-name={INTERFACE}\nautoconnect=true\n\n\
         [ipv4]\nmethod=manual\naddress1={address}/24,{LAB_ADDRESS}\ndns=127.0.0.1;\n\
         may-fail=false\n\n[ipv6]\nmethod=disabled\n",
        last = address.octets()[3],
    );
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost\n{LAB_ADDRESS} {}\n",
        REGISTRY_ADDRESS.split(':').next().unwrap_or_default()
    );
    for (path, mode, text) in [
        (
            etc.join("hostname"),
            0o644,
            format!("{hostname}\n").as_str(),
        ),
        (etc.join("machine-id"), 0o444, &machine_id),
        (etc.join("hosts"), 0o644, &hosts),
        (
            etc.join(format!(
                "NetworkManager/system-connections/{INTERFACE}.nmconnection"
            )),
            0o600,
            &connection,
        ),
        (
            etc.join("mini-sno/cluster"),
            0o644,
            &format!("CLUSTER_NAME={CLUSTER_NAME}\nBASE_DOMAIN={BASE_DOMAIN}\n"),
        ),
        (
            etc.join("chrony.conf"),
            0o644,
            &format!(
                "# {hostname}\nserver {LAB_ADDRESS} iburst\ndriftfile /var/lib/chrony/drift\n"
            ),
        ),
        (
            etc.join("machine-config-daemon/currentconfig"),
            0o600,
            &config,
        ),
        (
            etc.join("pki/ca-trust/source/anchors/lab-registry.crt"),
            0o644,
            &authority_pem()?,
        ),
        (
            etc.join("systemd/system/var-lib-containers.mount"),
            0o644,
            "[Unit]\nDescription=Container storage, shared by all stateroots\n\
             Before=local-fs.target\n\n[Mount]\nWhat=/dev/disk/by-partlabel/var-lib-containers\n\
             Where=/var/lib/containers\nType=xfs\nOptions=defaults,prjquota\n\n\
             [Install]\nRequiredBy=local-fs.target\n",
        ),
        (var.join("lib/kubelet/config.json"), 0o600, &pull_secret()),
        (
            var.join("home/core/.ssh/authorized_keys.d/ignition"),
            0o600,
            &format!("{SSH_KEY}\n"),
        ),
    ] {
        write(&path, mode, text)?;
    }
    for (unit, target) in [
        ("kubelet.service", "multi-user.target.wants"),
        ("var-lib-containers.mount", "local-fs.target.requires"),
    ] {
        let wants = etc.join("systemd/system").join(target);
        fs::create_dir_all(&wants).with_context(|| format!("creating {}", wants.display()))?;
        let source = if unit.ends_with(".mount") {
            "/etc"
        } else {
            "/usr/lib"
        };
        symlink(format!("{source}/systemd/system/{unit}"), wants.join(unit))
            .with_context(|| format!("enabling {unit}"))?;
    }
    fs::create_dir_all(etc.join("ssh")).context("creating etc/ssh")?;
    succeed(Command::new("ssh-keygen").args(["-q", "-A", "-f"]).arg(dir))?;
    succeed(
        Command::new("chown")
            .args(["-R", "1000:1000"])
            .arg(var.join("home/core")),
    )?;
    succeed(Command::new("chmod").arg("0700").arg(var.join("home/core")))?;
    Ok(())
}

/// Runs the control plane on `dir`'s certificates until every object is in `var/lib/etcd`.
fn fill_etcd(dir: &Path, identity: &Identity, pki: &ClusterPki) -> Result<()> {
    let work = tempfile::tempdir().context("creating a directory")?;
    // Tests that run at once may make templates of several identities at once.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("lca-{}-template{number}", std::process::id());
    let namespace = Namespace::create(&name)?;
    let certs = dir.join("etc/kubernetes/static-pod-resources/kube-apiserver-certs");
    let secrets = certs.join("secrets");
    let data = dir.join("var/lib/etcd");
    let spawn = |program: Program, args: &[String], log: &str| {
        let mut all = namespace.enter(&program.path()?).to_vec();
        all.extend_from_slice(args);
        OwnedChild::spawn(Path::new("nsenter"), &all, &work.path().join(log))
    };
    let flag = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
    let etcd_args = [
        "--name=sno".to_owned(),
        flag("data-dir", data),
        "--unsafe-no-fsync".to_owned(),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--initial-cluster=sno=http://127.0.0.1:2380".to_owned(),
    ];
    let etcd = spawn(Program::Etcd, &etcd_args, "etcd.log")?;
    let signing = secrets.join("bound-service-account-signing-key");
    let serving = secrets.join("localhost-serving-cert-certkey");
    let apiserver_args = [
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--secure-port=6443".to_owned(),
        "--service-cluster-ip-range=172.30.0.0/16".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        flag(
            "client-ca-file",
            certs.join("configmaps/client-ca/ca-bundle.crt"),
        ),
        flag("tls-cert-file", serving.join("tls.crt")),
        flag("tls-private-key-file", serving.join("tls.key")),
        flag(
            "service-account-key-file",
            signing.join("service-account.pub"),
        ),
        flag(
            "service-account-signing-key-file",
            signing.join("service-account.key"),
        ),
    ];
    let mut apiserver = spawn(
        Program::KubeApiserver(Version::Pinned),
        &apiserver_args,
        "kube-apiserver.log",
    )?;
    let kubectl_program = Program::Kubectl.path()?;
    let kubeconfig = secrets.join("node-kubeconfigs/localhost.kubeconfig");
    let kubectl = |args: &[&str]| {
        succeed(
            namespace
                .command(&kubectl_program)
                .arg(flag("kubeconfig", kubeconfig.clone()))
                .arg(flag("cache-dir", work.path().join("cache")))
                .args(args),
        )
    };
    let started = Instant::now();
    while let Err(error) = kubectl(&["get", "--raw", "/readyz"]) {
        ensure!(
            started.elapsed() < START_LIMIT && apiserver.ended()?.is_none(),
            "{error:#}; kube-apiserver: {}",
            apiserver.log_tail()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let documents = identity.documents(pki)?;
    let file = |name: &str, text: &str| {
        let path = work.path().join(name);
        write(&path, 0o600, text)?;
        Ok::<_, anyhow::Error>(path.display().to_string())
    };
    let crds = file("crds.yaml", &documents.crds)?;
    kubectl(&["create", "-f", &crds])?;
    let ours = our_crds();
    if ours.is_dir() {
        kubectl(&["create", "-f", &ours.display().to_string()])?;
    }
    kubectl(&[
        "wait",
        "--for=condition=established",
        "--timeout=30s",
        "crd",
        "--all",
    ])?;
    let objects = file("objects.yaml", &documents.objects)?;
    kubectl(&["create", "--validate=false", "-f", &objects])?;
    let openshift = file("openshift.yaml", &documents.openshift)?;
    kubectl(&["create", "--validate=false", "-f", &openshift])?;
    kubectl(&[
        "replace",
        "--validate=false",
        "--subresource=status",
        "-f",
        &openshift,
    ])?;
    drop(apiserver);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(etcd.id()).context("pid of etcd")?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).context("stopping etcd")?;
    let stopping = Instant::now();
    let mut etcd = etcd;
    while etcd.ended()?.is_none() {
        ensure!(
            stopping.elapsed() < START_LIMIT,
            "etcd does not stop: {}",
            etcd.log_tail()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    // A segment that etcd made in advance; the next start makes another.
    for entry in fs::read_dir(dir.join("var/lib/etcd/member/wal")).context("reading the log")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}
