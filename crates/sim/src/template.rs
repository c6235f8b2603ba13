//! A node as it is before any upgrade, and the seeds that its registry has.

use std::collections::BTreeMap;

use api::seed_info::SeedClusterInfo;
use api::{DeploymentId, seed_format};
use planner::{SeedContent, SeedPin};

use crate::machine::{
    BootEntry, CONTAINERS, GRUB_CONFIGURATION, GRUB_VARIABLES, Machine, deployment_directory,
};
use crate::ports::stored;
use crate::seed_image::{Commit, SeedImage, digest, hex};
use crate::tree::Tree;

/// The release that the node runs.
pub const ORIGIN: &str = "4.16.9";
/// The release of the seed.
pub const TARGET: &str = "4.17.4";
/// Where the seed is.
pub const SEED: &str = "registry.site:5000/seeds/sno:4.17.4";
/// Another seed of the same release.
pub const OTHER_SEED: &str = "registry.site:5000/seeds/sno:4.17.4-other";

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect()
}

fn commit(version: &str) -> Commit {
    let files = [
        ("usr/lib/os-release", format!("VERSION={version}")),
        ("usr/bin/kubelet", format!("kubelet of {version}")),
        (
            "usr/lib/modules/vmlinuz",
            "a kernel that both releases share".to_owned(),
        ),
        ("usr/etc/hosts", "127.0.0.1 localhost".to_owned()),
        ("usr/etc/old.conf", format!("defaults of {version}")),
    ];
    let files = files.into_iter();
    Commit {
        files: files.map(|(path, text)| (path.to_owned(), text)).collect(),
    }
}

/// The node's kubeconfig, below `/etc`.
const KUBECONFIG: &str = "kubernetes/static-pod-resources/kube-apiserver-certs/secrets/node-kubeconfigs/lb-ext.kubeconfig";

/// CRI-O's configuration, as every release brings some.
const CRIO: (&str, &str) = ("crio/crio.conf.d/00-default", "[crio.image]\n");

/// An image that a container of the running release is made of; the seed wants it too.
pub(crate) const RUNNING: &str = IMAGES[0];
/// An image that a Pod names; the seed wants it too.
pub(crate) const NAMED: &str = IMAGES[1];
/// An image that nobody needs.
pub(crate) const STALE: &str =
    "quay.io/release@sha256:4444444444444444444444444444444444444444444444444444444444444444";

/// Images that the seed wants to be present; all but the last are.
const IMAGES: [&str; 3] = [
    "quay.io/release@sha256:1111111111111111111111111111111111111111111111111111111111111111",
    "quay.io/release@sha256:2222222222222222222222222222222222222222222222222222222222222222",
    "quay.io/release@sha256:3333333333333333333333333333333333333333333333333333333333333333",
];

fn seed(reference: &str) -> Option<SeedImage> {
    let info = SeedClusterInfo {
        seed_cluster_ocp_version: TARGET.to_owned(),
        release_registry: "quay.io".to_owned(),
        sno_hostname: "seed-node".to_owned(),
        ..SeedClusterInfo::default()
    };
    let layers = ["lower", "upper"].map(|layer| (digest(&format!("{reference} {layer}")), 64));
    let manifest = digest(reference);
    Some(SeedImage {
        pin: SeedPin {
            image: reference.parse().ok()?,
            digest: manifest.clone(),
            format_version: Some(seed_format::VERSION.to_owned()),
            cluster_info: serde_json::to_string(&info).ok(),
            node_facts: None,
            index: None,
            architecture: Some("amd64".to_owned()),
            layers: layers.to_vec(),
            documents: 0,
            signature: None,
        },
        signature: None,
        content: SeedContent {
            digest: manifest,
            info,
            commit: hex(TARGET),
            kernel_arguments: vec!["systemd.unified_cgroup_hierarchy=1".to_owned()],
            files: Vec::new(),
            file_marks: BTreeMap::new(),
            origin: "[origin]\nrefspec=seed\n".to_owned(),
            images: IMAGES.map(str::to_owned).to_vec(),
        },
        var: texts(&[
            ("seed_data/manifest.json", "{}"),
            ("usrlocal/bin/lca-cli", "the agent"),
            ("usrlocal/bin/lifecycle-agent", "the agent"),
            ("lib/etcd/cluster-id", "id-of-the-seed"),
            ("lib/etcd/version", TARGET),
            ("lib/etcd/revision", "50"),
            (
                "lib/etcd/manifests/mirror-of-the-seed",
                "mirrors of the seed",
            ),
            ("lib/etcd/pull-secret", "{}"),
            ("lib/kubelet/config.json", "{}"),
            ("lib/made-by", reference),
            ("log/", ""),
        ]),
        etc: texts(&[
            ("systemd/system/installation-configuration.service", "unit"),
            (
                "systemd/system/multi-user.target.wants/installation-configuration.service",
                "link",
            ),
            ("systemd/system/lca-init-monitor.service", "unit"),
            (
                "systemd/system/multi-user.target.wants/lca-init-monitor.service",
                "link",
            ),
            ("systemd/system/kubelet.service", "unit"),
            (KUBECONFIG, "the way to the API server"),
            ("ssh/ssh_host_ed25519_key", "a key of the seed"),
            ("ssh/ssh_host_rsa_key", "another key of the seed"),
            ("hostname", "seed-node\n"),
            CRIO,
            ("hosts", "127.0.0.1 localhost seed"),
        ]),
        deleted: vec!["old.conf".to_owned()],
    })
}

/// A node that runs [`ORIGIN`], switched off, with [`SEED`] and [`OTHER_SEED`] in its registry.
pub fn machine() -> Machine {
    let id = DeploymentId {
        stateroot: "rhcos"
            .parse()
            .unwrap_or_else(|_| unreachable!("a literal name")),
        checksum: hex(ORIGIN),
        serial: 0,
    };
    let commits: BTreeMap<String, Commit> = [ORIGIN, TARGET]
        .map(|version| (hex(version), commit(version)))
        .into();
    let mut disk = Tree::default();
    deploy(&mut disk, &id, &commits);
    let var = [
        ("lib/kubelet/config.json", "{\"auths\":{\"the\":\"site\"}}"),
        ("lib/etcd/cluster-id", "id-of-the-site"),
        ("lib/etcd/version", ORIGIN),
        ("lib/etcd/revision", "1000"),
        ("lib/application/data", "the site's own"),
        (
            "home/core/.ssh/authorized_keys.d/ignition",
            "ssh-ed25519 AAAA core",
        ),
        ("log/journal/install", "installed"),
    ];
    for (path, text) in var {
        let path = format!("/sysroot/ostree/deploy/rhcos/var/{path}");
        disk.write(&path, 0o600, text.as_bytes());
    }
    for image in [RUNNING, NAMED, STALE] {
        disk.write(&stored(image), 0o600, image.as_bytes());
    }
    disk.write(GRUB_CONFIGURATION, 0o600, *b"load_env; source custom.cfg");
    disk.write(GRUB_VARIABLES, 0o600, *b"");
    let registry = [SEED, OTHER_SEED].into_iter();
    let registry = registry.filter_map(|name| Some((name.to_owned(), seed(name)?)));
    let mut machine = Machine::new(disk, id.clone(), registry.collect(), commits);
    machine
        .cache
        .make_directory(&format!("{CONTAINERS}/lca"), 0o700);
    machine
        .disk
        .make_directory(&format!("{CONTAINERS}/lca"), 0o700);
    machine.write_entries(&[BootEntry {
        id,
        kernel_arguments: vec!["root=UUID=1".to_owned()],
    }]);
    machine
}

fn deploy(disk: &mut Tree, id: &DeploymentId, commits: &BTreeMap<String, Commit>) {
    let directory = deployment_directory(id);
    if let Some(commit) = commits.get(&id.checksum) {
        for (path, text) in &commit.files {
            disk.write(&format!("{directory}/{path}"), 0o644, text.as_bytes());
            if let Some(etc) = path.strip_prefix("usr/etc/") {
                disk.write(&format!("{directory}/etc/{etc}"), 0o644, text.as_bytes());
            }
        }
        for (name, text) in commit.objects(&id.checksum) {
            let object = format!("/sysroot/ostree/repo/objects/{name}");
            disk.write(&object, 0o644, text.as_bytes());
        }
    }
    disk.write(&format!("{directory}.origin"), 0o644, *b"[origin]\n");
    for (path, text) in [
        ("hostname", "site-node\n"),
        CRIO,
        ("ssh/ssh_host_ed25519_key", "a key of the site"),
        ("chrony.conf", "a time server of the site"),
        ("lvm/devices/system.devices", "a disk of the site"),
        (
            "NetworkManager/system-connections/eno1.nmconnection",
            "the site's address",
        ),
        ("systemd/system/kubelet.service", "unit"),
        (
            "systemd/system/multi-user.target.wants/kubelet.service",
            "link",
        ),
    ] {
        disk.write(&format!("{directory}/etc/{path}"), 0o600, text.as_bytes());
    }
}
