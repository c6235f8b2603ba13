//! The ports of the simulated node keep the contract that the real ones keep.
#![expect(clippy::unwrap_used, reason = "a test")]

use node::contract;
use node::ports::{Files, NodePath, Ostree};
use sim::{Loss, Site};

fn directories() -> Vec<NodePath> {
    let stateroot = "rhcos".parse().unwrap();
    let site = Site::idle().unwrap();
    vec![
        NodePath::booted("/var/lib/lca/contract"),
        NodePath::in_stateroot(&stateroot, "/var/lib/contract"),
        NodePath::in_deployment(site.machine().booted(), "etc/contract"),
        NodePath::shared("contract"),
    ]
}

#[test]
fn files_keep_the_contract_below_every_root() {
    for directory in directories() {
        let site = Site::idle().unwrap();
        contract::files(site.node(), &directory);
    }
}

#[test]
fn what_a_file_call_promised_survives_a_power_cut() {
    for directory in directories() {
        let site = Site::idle().unwrap();
        let files = site.node();
        files
            .replace(&directory.join("a/file"), b"text", 0o600)
            .unwrap();
        files.append(&directory.join("b/file"), b"line\n").unwrap();
        files
            .create_exclusively(&directory.join("c/file"), b"first", 0o600)
            .unwrap();
        let second = files.create_exclusively(&directory.join("c/file"), b"second", 0o600);
        assert!(!second.unwrap());
        files.ensure_directory(&directory.join("d"), 0o755).unwrap();
        files
            .copy_tree(&directory.join("a"), &directory.join("e"))
            .unwrap();
        files.remove(&directory.join("b")).unwrap();
        let before = site.machine();
        let mut machine = before.clone();
        machine.lose_power(Loss::Everything);
        assert_eq!(
            machine.disk().fingerprint(),
            before.cache().fingerprint(),
            "{directory}"
        );
    }
}

#[test]
fn the_boot_loader_keeps_the_contract() {
    contract::boot_fallback(Site::idle().unwrap().node());
}

#[test]
fn ostree_keeps_the_contract() {
    let site = Site::idle().unwrap();
    let commit = site.machine().booted().checksum.clone();
    let ostree: &dyn Ostree = site.node();
    contract::ostree(ostree, &"contract".parse().unwrap(), &commit);
}
