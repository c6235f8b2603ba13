//! A seed as the Go original makes it, with archives of GNU tar and an image of `podman build`, against one that we wrote
//! from the same trees: both install alike, to the last attribute.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test, and its figures"
)]

#[path = "../../../seed/tests/loopback/mod.rs"]
#[allow(dead_code, reason = "shared with tests that need more")]
mod loopback;
#[path = "../real/support.rs"]
#[allow(dead_code, reason = "shared with tests that need more")]
mod support;
#[path = "../../../seed/tests/tree/mod.rs"]
#[allow(dead_code, reason = "shared with tests that need more")]
mod tree;

mod content;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::{DeploymentId, StaterootName};
use host::HostSeeds;
use node::ports::{
    DeploymentSpec, FetchLimits, FetchRequest, Ostree, PullSecret, SeedContent, Seeds, Unwatched,
};
use seed::layout::Layout;
use seed::registry::Registry;

use content::Content;
use loopback::{Loopback, PASSWORD, USER};
use support::Node;
use tree::{Seen, run, seen};

/// Set where the test runs for itself once more, with the registry's authority trusted by the process.
const REGISTRY: &str = "FOREIGN_SEED_REGISTRY";

/// What lies in one node after an installation.
struct Installed {
    content: SeedContent,
    labels: [Option<String>; 2],
    trees: [(&'static str, BTreeMap<PathBuf, Seen>); 2],
}

#[test]
fn a_seed_of_tar_and_podman_installs_like_ours() {
    let Ok(images) = env::var(REGISTRY) else {
        return publish();
    };
    let secret = PullSecret(env::var("FOREIGN_SEED_SECRET").unwrap().into_bytes());
    let (ours, theirs) = images.split_once(' ').unwrap();
    let ours = install(ours, &secret);
    let theirs = install(theirs, &secret);
    assert_eq!(ours.labels, theirs.labels);
    assert_ne!(ours.content.digest, theirs.content.digest);
    let same = SeedContent {
        digest: ours.content.digest.clone(),
        ..theirs.content
    };
    assert_eq!(ours.content, same);
    for ((name, ours), (_, theirs)) in ours.trees.iter().zip(&theirs.trees) {
        println!("{name}: {} files", ours.len());
        assert!(ours.len() > 20, "{name} is nearly empty");
        for (path, file) in ours {
            let other = theirs.get(path);
            assert_eq!(Some(file), other, "{name}/{}", path.display());
        }
        assert_eq!(ours.len(), theirs.len(), "{name} of theirs has more");
    }
}

/// Makes both seeds, gives them to a registry, and lets the test go on where its authority is trusted.
fn publish() {
    let registry = Loopback::start();
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let content = Content::plant(ground.path());
    let (ours, theirs) = (registry.image("seed:ours"), registry.image("seed:theirs"));
    write(&content, &ground.path().join("layout"), &ours, &registry);
    build(&content, &ground.path().join("theirs"), &theirs, &registry);
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_seed_of_tar_and_podman_installs_like_ours"])
        .args(["--nocapture", "--test-threads=1"])
        .env(REGISTRY, format!("{ours} {theirs}"))
        .env("FOREIGN_SEED_SECRET", registry.auth_json(PASSWORD))
        .env("SSL_CERT_FILE", registry.ca())
        .status()
        .unwrap();
    assert!(status.success());
}

/// Writes the seed as we do.
fn write(content: &Content, dir: &Path, image: &str, registry: &Loopback) {
    let image = image.parse().unwrap();
    let written = content.write(Layout::create(dir).unwrap(), &image);
    let layout = Layout::create(dir).unwrap();
    let client = Registry::new(&image, &registry.auth(), &registry.trust()).unwrap();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(client.push(&layout, &written.manifest, &mut ()))
        .unwrap();
}

/// Makes the seed as the Go original does (contract S 1.3): `tar` for each archive, then `podman build` of a directory.
fn build(content: &Content, dir: &Path, image: &str, registry: &Loopback) {
    let context = dir.join("context");
    fs::create_dir_all(&context).unwrap();
    content.archive(&context);
    for (name, bytes) in content.documents() {
        fs::write(context.join(name), bytes).unwrap();
    }
    let recipe = dir.join("Containerfile");
    fs::write(&recipe, "FROM scratch\nCOPY . /\nCOPY lca-cli /lca-cli\n").unwrap();
    let storage = dir.join("storage");
    let [root, runroot] = ["root", "run"].map(|name| storage.join(name).display().to_string());
    let podman = |arguments: &[&str]| {
        let storage = [
            "--root",
            root.as_str(),
            "--runroot",
            runroot.as_str(),
            "--storage-driver=vfs",
        ];
        let others = ["--cgroup-manager=cgroupfs", "--events-backend=none"];
        run(
            "podman",
            &[&storage[..], &others[..], arguments].concat(),
            dir,
        );
    };
    let labels: Vec<String> = content
        .labels()
        .iter()
        .map(|(key, value)| format!("--label={key}={value}"))
        .collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let recipe = recipe.display().to_string();
    let build = [
        "build",
        "--quiet",
        "--isolation=chroot",
        "--tag",
        image,
        "--file",
        recipe.as_str(),
    ];
    podman(&[&build[..], &labels[..], &["context"]].concat());
    let certificates = dir.join("certificates");
    fs::create_dir(&certificates).unwrap();
    fs::copy(registry.ca(), certificates.join("ca.crt")).unwrap();
    let credentials = format!("{USER}:{PASSWORD}");
    let access = [
        "--creds",
        credentials.as_str(),
        "--cert-dir",
        certificates.to_str().unwrap(),
    ];
    podman(&[&["push", "--quiet"], &access[..], &[image]].concat());
}

/// Installs a seed on a new node.
fn install(image: &str, secret: &PullSecret) -> Installed {
    let begun = begun();
    let node = Node::new();
    let seeds = HostSeeds::new(node.layout.clone());
    let image = image.parse().unwrap();
    let pin = seeds.resolve(&image, secret, &Unwatched).unwrap();
    let stateroot: StaterootName = "rhcos_4.17.4".parse().unwrap();
    node.ostree.ensure_stateroot(&stateroot).unwrap();
    let request = FetchRequest {
        pin: pin.clone(),
        stateroot: stateroot.clone(),
        spool: true,
        limits: FetchLimits::default(),
    };
    let content = seeds.fetch(&request, secret, &Unwatched).unwrap();
    seeds
        .import_commit(&pin, &content.commit, &Unwatched)
        .unwrap();
    let id: DeploymentId = node
        .ostree
        .deploy(&DeploymentSpec {
            stateroot: stateroot.clone(),
            commit: content.commit.clone(),
            kernel_arguments: content.kernel_arguments.clone(),
            origin: content.origin.clone(),
        })
        .unwrap();
    seeds.unpack_var(&pin, &stateroot, &Unwatched).unwrap();
    seeds.unpack_etc(&pin, &id, &Unwatched).unwrap();
    let tree = |directory: &Path| {
        let mut tree = seen(directory);
        // What libostree makes, what loses a file and what takes marks have the time of the installation; all else has a
        // time from before.
        for file in tree.values_mut().filter(|file| file.mtime.0 >= begun) {
            file.mtime = (0, 0);
        }
        tree
    };
    let deployment = tree(&node.layout.deployment(&id));
    let mut var = tree(&node.layout.stateroot(&stateroot).join("var"));
    // It names the seed's digest.
    let mark = var.remove(Path::new("lib/lca/var-unpacked"));
    assert!(mark.is_some(), "nothing says that /var is complete");
    Installed {
        content,
        labels: [pin.format_version, pin.cluster_info],
        trees: [("deployment", deployment), ("var", var)],
    }
}

/// The next full second since 1970; it has begun when this returns.
fn begun() -> i64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let next = now().as_secs() + 1;
    std::thread::sleep(Duration::from_secs(next).saturating_sub(now()));
    i64::try_from(next).unwrap()
}
