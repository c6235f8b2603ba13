//! Two nodes of a lab share its registry: what one pushes, the other pulls.

#![expect(clippy::unwrap_used, reason = "a test may end anywhere")]

use boxed::{Lab, Node, NodeConfig, REGISTRY_ADDRESS, Release};

const AUTHFILE: &str = "--authfile=/var/lib/kubelet/config.json";

#[test]
fn what_one_node_pushes_the_other_pulls() {
    let lab = Lab::new("registry").unwrap();
    let registry = lab.start_registry(None).unwrap();
    let nodes = [
        NodeConfig::new("seed", Release::V4_17_4, 20),
        NodeConfig::new("target", Release::V4_16_9, 10),
    ]
    .map(|config| lab.install(&config).unwrap());
    for node in &nodes {
        node.boot().unwrap();
    }
    let [seed, target] = &nodes;
    for node in &nodes {
        node.wait_api().unwrap();
    }
    let image = format!("{REGISTRY_ADDRESS}/test/image:1");

    // Without the password nothing goes in.
    build(seed, &image);
    let refused = seed
        .exec(&["podman", "push", "-q", "--authfile=/dev/null", &image])
        .unwrap();
    assert!(!refused.status.success());
    seed.run(&["podman", "push", "-q", AUTHFILE, &image])
        .unwrap();
    assert!(
        registry
            .storage()
            .join("docker/registry/v2/repositories/test/image/_manifests")
            .is_dir()
    );

    target
        .run(&["podman", "pull", "-q", AUTHFILE, &image])
        .unwrap();
    let mounted = target.run(&["podman", "image", "mount", &image]).unwrap();
    let said = target
        .run(&["cat", &format!("{}/words", mounted.trim())])
        .unwrap();
    assert_eq!(said, "from the seed\n");
    let driver = target
        .run(&["podman", "info", "--format", "{{.Store.GraphDriverName}}"])
        .unwrap();
    assert_eq!(driver, "overlay\n");
    // Storage is the shared mount, outside of any stateroot.
    assert!(target.containers().join("storage/overlay").is_dir());

    // They are two clusters.
    let id = |node: &Node| {
        node.kubectl(&[
            "get",
            "clusterversion",
            "version",
            "-o",
            "jsonpath={.spec.clusterID}",
        ])
        .unwrap()
    };
    assert_ne!(id(seed), id(target));
    let key = |node: &Node| {
        node.run(&["cat", "/etc/ssh/ssh_host_ed25519_key.pub"])
            .unwrap()
    };
    assert_ne!(key(seed), key(target));
}

fn build(node: &Node, image: &str) {
    let script = format!(
        "cd $(mktemp -d) && echo from the seed >words && \
         printf 'FROM scratch\\nCOPY words /words\\n' >Containerfile && podman build -q -t {image} ."
    );
    node.run(&["sh", "-c", &script]).unwrap();
}
