//! What an origin leaves for the target's first boot, and what that first boot makes of it, file by file.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::path::Path;

use api::Stage;
use engine::{Event, StopToken};
use node::{Agent, FirstBoot};
use planner::State;
use serde_json::Value;
use sim::{Entry, Guard, Machine, Node, Request, Site};

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/contract/handed-over.txt"
);
const BY_GO: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/contract/go-export"
);
const VAR: &str = "/sysroot/ostree/deploy/rhcos_4.17.4/var";
const OPENSHIFT: &str = "/sysroot/ostree/deploy/rhcos_4.17.4/var/opt/openshift";

const HEAD: &str = "\
# What a pivot leaves in the target's stateroot: mode and path of every file, and each field of the documents (seed reference
# 3.6, 4A.5 and 5, controller reference 5.2 and 9.2). Written by UPDATE_GOLDEN=1 cargo test --workspace --test reconfiguration. What no
# two pivots have in common shows as `*`.
";

/// Members that no two pivots have in common.
const OWN: [&str; 10] = [
    "resourceVersion",
    "uid",
    "creationTimestamp",
    "generation",
    "observedGeneration",
    "lastTransitionTime",
    "startTime",
    "completionTime",
    "runId",
    "bootId",
];

/// A node in the moment before it reboots into the target.
fn handed_over() -> (Machine, Guard) {
    let mut site = Site::idle().unwrap();
    site.drive([Request::stage(Stage::Prep)]).unwrap();
    site.record();
    site.drive([Request::stage(Stage::Upgrade)]).unwrap();
    assert_eq!(site.node().violations(), Vec::<String>::new());
    let moments = site.take_moments();
    let before = |moment: &&sim::Moment| moment.machine.booted().stateroot.as_str() == "rhcos";
    let moment = moments.iter().rfind(before).unwrap();
    (moment.machine.clone(), moment.guard.clone())
}

/// Switches the machine over and lets it run until it rests.
fn boot(mut machine: Machine, mut guard: Guard) -> Site {
    machine.shut_down();
    assert!(machine.power_on());
    guard.booted(&machine);
    let mut site = Site::resumed_within(machine, guard);
    let driven = site.drive([]);
    assert_eq!(driven, Ok(()), "{:#?}", site.story());
    site
}

fn flatten(place: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                let place = format!("{place}.{name}");
                if OWN.contains(&name.as_str()) {
                    lines.push(format!("    {place} = *"));
                } else {
                    flatten(&place, value, lines);
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                flatten(&format!("{place}[{at}]"), item, lines);
            }
        }
        // A document in a text: the handover's stamp in an annotation.
        Value::String(text) if text.starts_with("{\"format\"") => {
            let inner = serde_json::from_str(text).unwrap();
            flatten(place, &inner, lines);
        }
        leaf => lines.push(format!("    {place} = {leaf}")),
    }
}

#[test]
fn a_pivot_leaves_these_files_with_these_fields() {
    let (machine, _) = handed_over();
    let mut text = HEAD.to_owned();
    for (path, entry) in machine.disk().below(VAR) {
        let Some(rel) = path.strip_prefix(VAR) else {
            continue;
        };
        if !(rel.starts_with("/opt/") || rel.starts_with("/lib/lca/")) {
            continue;
        }
        match entry {
            Entry::Directory(mode) => text.push_str(&format!("\n{mode:04o} {rel}/\n")),
            Entry::File(mode, content) => {
                text.push_str(&format!("\n{mode:04o} {rel}\n"));
                let mut lines = Vec::new();
                match serde_json::from_slice::<Value>(content) {
                    Ok(document) => flatten("", &document, &mut lines),
                    Err(_) => lines.push(format!("    {}", String::from_utf8_lossy(content))),
                }
                for line in lines {
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(GOLDEN).unwrap());
}

/// Content and mode of a file of the running system.
fn file(machine: &Machine, path: &str) -> Option<(u32, String)> {
    match machine.disk().get(&machine.path(path))? {
        Entry::File(mode, content) => Some((*mode, String::from_utf8(content.to_vec()).unwrap())),
        Entry::Directory(_) => None,
    }
}

fn holds(machine: &Machine, path: &str, mode: u32, content: &str) {
    assert_eq!(
        file(machine, path),
        Some((mode, content.to_owned())),
        "{path}"
    );
}

const OVERRIDES: &str = "SNO_CLUSTER_NAME_OVERRIDE=site\nSNO_BASE_DOMAIN_OVERRIDE=example.com\nSNO_DNSMASQ_IP_OVERRIDE=192.0.2.10";

/// What every first boot leaves, whoever exported its documents.
fn is_reconfigured(site: &Site) {
    assert_eq!(site.state(), State::UpgradeCompleted, "{:#?}", site.story());
    let machine = site.machine();
    holds(&machine, "/etc/hostname", 0o644, "site-node\n");
    holds(
        &machine,
        "/etc/default/nodeip-configuration",
        0o600,
        "KUBELET_NODEIP_HINT=192.0.2.0",
    );
    holds(
        &machine,
        "/etc/default/sno_dnsmasq_configuration_overrides",
        0o600,
        OVERRIDES,
    );
    // The seed's other key is gone.
    assert_eq!(file(&machine, "/etc/ssh/ssh_host_rsa_key"), None);
    for gone in ["/var/opt/openshift", "/var/seed_data"] {
        assert!(machine.disk().get(&machine.path(gone)).is_none(), "{gone}");
    }
    let wanted = machine.path("/etc/systemd/system/multi-user.target.wants");
    assert_eq!(machine.disk().names(&wanted), ["kubelet.service"]);
}

#[test]
fn a_first_boot_puts_everything_in_its_place() {
    let (machine, guard) = handed_over();
    let site = boot(machine, guard);
    is_reconfigured(&site);
    let machine = site.machine();
    let check = |path: &str, mode: u32, content: &str| holds(&machine, path, mode, content);
    check(
        "/home/core/.ssh/authorized_keys.d/ib-early-access",
        0o600,
        "ssh-ed25519 AAAA core",
    );
    let pull_secret = "{\"auths\":{\"the\":\"site\"}}";
    check("/var/lib/kubelet/config.json", 0o600, pull_secret);
    check(
        "/etc/NetworkManager/system-connections/eno1.nmconnection",
        0o600,
        "the site's address",
    );
    check(
        "/etc/pki/ca-trust/source/anchors/openshift-config-user-ca-bundle.crt",
        0o644,
        "an authority of the site",
    );
    check(
        "/etc/pki/ca-trust/extracted/bundle",
        0o444,
        "an authority of the site",
    );
    check("/etc/chrony.conf", 0o644, "a time server of the site");
    check("/etc/ssh/ssh_host_ed25519_key", 0o600, "a key of the site");
    check(
        "/etc/lvm/devices/system.devices",
        0o600,
        "a disk of the site",
    );
    // What etcd has.
    check("/var/lib/etcd/cluster-id", 0o600, "id-of-the-site");
    check("/var/lib/etcd/pull-secret", 0o600, pull_secret);
    check(
        "/var/lib/etcd/release-registry",
        0o600,
        "registry.site:5000",
    );
    check("/var/lib/etcd/nodes/site-node/zone", 0o600, "the site's");
    let manifests = machine.path("/var/lib/etcd/manifests");
    assert_eq!(
        machine.disk().names(&manifests),
        [
            "99-master-ssh.json",
            "99-worker-ssh.json",
            "image-digest-mirror-set.json"
        ]
    );
}

/// What the Go original left, by path.
fn by_go() -> BTreeMap<String, Vec<u8>> {
    fn collect(directory: &Path, at: &str, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let at = format!("{at}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), &format!("{at}/"), files);
            } else {
                files.insert(at, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    collect(Path::new(BY_GO), "", &mut files);
    files
}

/// Takes away what is below a directory.
fn clear(machine: &mut Machine, directory: &str) {
    let below = machine.disk().below(directory);
    let there: Vec<String> = below.map(|(path, _)| path.to_string()).collect();
    for path in there.iter().rev() {
        machine.erase(path);
    }
}

/// Changes the annotations of the object that the origin saved.
fn change_annotations(machine: &mut Machine, change: impl FnOnce(&mut Value)) {
    let saved = format!("{VAR}/lib/lca/ibu.json");
    let mut ibu: Value = serde_json::from_slice(machine.disk().content(&saved).unwrap()).unwrap();
    change(&mut ibu["metadata"]["annotations"]);
    machine.tamper(&saved, ibu.to_string().as_bytes());
}

#[test]
fn a_first_boot_runs_from_what_the_go_original_exported() {
    let (mut machine, guard) = handed_over();
    clear(&mut machine, OPENSHIFT);
    for (path, content) in by_go() {
        machine.tamper(&format!("{OPENSHIFT}/{path}"), &content);
    }
    // Its saved CR has no stamp.
    change_annotations(&mut machine, |annotations| {
        annotations
            .as_object_mut()
            .unwrap()
            .remove(api::annotation::HANDOVER);
    });
    let site = boot(machine, guard);
    is_reconfigured(&site);
    let machine = site.machine();
    let check = |path: &str, mode: u32, content: &str| holds(&machine, path, mode, content);
    check(
        "/home/core/.ssh/authorized_keys.d/ib-early-access",
        0o600,
        "ssh-ed25519 AAAA core&co@go\nssh-rsa BBBB second@go\n",
    );
    check(
        "/var/lib/kubelet/config.json",
        0o600,
        "{\"auths\":{\"registry.example.com\":{\"auth\":\"dTpw=\"}}}",
    );
    check(
        "/etc/ssh/ssh_host_ed25519_key",
        0o600,
        "a key that Go exported",
    );
    check(
        "/etc/ssh/ssh_host_ed25519_key.pub",
        0o644,
        "ssh-ed25519 CCCC root@site",
    );
    check("/etc/chrony.conf", 0o644, "server ntp.example.com iburst\n");
    check(
        "/var/lib/etcd/cluster-id",
        0o600,
        "7f2d1b1e-5d0f-4b5e-8f3a-2b1c0d9e8f7a",
    );
    check(
        "/var/lib/etcd/nodes/site-node/topology.kubernetes.io/zone",
        0o600,
        "north",
    );
    let kept = machine.path("/var/lib/etcd/nodes/site-node/kubernetes.io/hostname");
    assert!(machine.disk().get(&kept).is_none());
    let (_, applied) = file(&machine, "/var/lib/etcd/manifests/99-worker-ssh.json").unwrap();
    let applied: Value = serde_json::from_str(&applied).unwrap();
    assert_eq!(
        applied["spec"]["config"]["passwd"]["users"][0]["sshAuthorizedKeys"][0],
        "ssh-ed25519 AAAA core&co@go\nssh-rsa BBBB second@go\n"
    );
    assert!(file(&machine, "/etc/lvm/devices/system.devices").is_some());
}

/// Nothing depends on kubelet being disabled in the seed.
#[test]
fn a_seed_with_kubelet_enabled_is_reconfigured_all_the_same() {
    let (mut machine, guard) = handed_over();
    let etc = machine
        .disk()
        .entries()
        .map(|(path, _)| path.to_string())
        .find(|path| {
            path.ends_with("/etc/systemd/system/kubelet.service") && path.contains("rhcos_4.17.4")
        })
        .unwrap();
    let wants = etc.replace(
        "/kubelet.service",
        "/multi-user.target.wants/kubelet.service",
    );
    machine.tamper(&wants, b"link");
    is_reconfigured(&boot(machine, guard));
}

/// A document that can never work leads back, and says why; nothing of it is carried out.
#[test]
fn a_document_that_cannot_work_leads_back_before_anything_is_changed() {
    leads_back(
        |machine, path| {
            let mut document: Value =
                serde_json::from_slice(machine.disk().content(path).unwrap()).unwrap();
            document["machine_networks"] = serde_json::json!(["2001:db8::/64"]);
            machine.tamper(path, document.to_string().as_bytes());
        },
        "planning the reconfiguration of this node: machine_networks of this site are IPv6 and its node_ips IPv4",
    );
}

/// It would go on as the node that the seed was made from.
#[test]
fn a_document_that_is_lost_leads_back() {
    leads_back(
        |machine, path| machine.erase(path),
        "manifest.json is not there: this node cannot be told who it is",
    );
}

fn leads_back(change: impl FnOnce(&mut Machine, &str), why: &str) {
    let (mut machine, guard) = handed_over();
    change(
        &mut machine,
        &format!("{OPENSHIFT}/cluster-configuration/manifest.json"),
    );
    let site = boot(machine, guard);
    let machine = site.machine();
    assert_eq!(
        (machine.booted().stateroot.as_str(), site.state()),
        ("rhcos", State::UpgradeFailed)
    );
    let (_, saved) = file(&machine, "/var/lib/etcd/upgrade").unwrap();
    assert!(saved.contains(why), "{saved}");
    let of_target = machine.disk().entries().find_map(|(path, entry)| {
        let here = path.contains("rhcos_4.17.4") && path.ends_with("/etc/hostname");
        here.then_some(entry)
    });
    let hostname = match of_target {
        Some(Entry::File(_, hostname)) => Some(hostname.to_vec()),
        _ => None,
    };
    assert_eq!(hostname.as_deref(), Some(&b"seed-node\n"[..]));
}

/// The Go original hands a stamp of ours on with its own later upgrades: it says nothing of them.
#[test]
fn a_stamp_of_an_earlier_upgrade_counts_as_none() {
    let (mut machine, guard) = handed_over();
    change_annotations(&mut machine, |annotations| {
        let stamp = &mut annotations[api::annotation::HANDOVER];
        let earlier = stamp
            .as_str()
            .unwrap()
            .replace("rhcos_4.17.4-", "rhcos_4.15.9-");
        assert_ne!(stamp.as_str().unwrap(), earlier);
        *stamp = earlier.into();
    });
    is_reconfigured(&boot(machine, guard));
}

/// An image-based installation: no upgrade led here, and the configuration comes on a volume, at some time.
#[test]
fn a_first_boot_takes_its_configuration_from_a_volume() {
    let (mut machine, mut guard) = handed_over();
    machine.shut_down();
    assert!(machine.power_on());
    guard.booted(&machine);
    clear(&mut machine, OPENSHIFT);
    clear(&mut machine, &format!("{VAR}/lib/lca"));
    let mut volume = by_go();
    let document = volume
        .get_mut("cluster-configuration/manifest.json")
        .unwrap();
    let mut changed: Value = serde_json::from_slice(document).unwrap();
    changed["raw_nm_state_config"] = "interfaces: []".into();
    *document = changed.to_string().into_bytes();
    volume.insert(
        "extra-manifests/50-own.yaml".to_owned(),
        b"kind: Own".to_vec(),
    );
    machine.attach_configuration(volume);
    let node = Node::new(machine, guard);
    let agent = Agent::new(node.ports(), "test");
    let ended = node::first_boot(&agent, &StopToken::new(), &mut |_: &Event| {});
    assert_eq!(ended.unwrap(), FirstBoot::Done);
    assert_eq!(node.violations(), Vec::<String>::new());
    let machine = node.machine();
    holds(&machine, "/etc/hostname", 0o644, "site-node\n");
    holds(
        &machine,
        "/etc/NetworkManager/system-connections/by-nmstate.nmconnection",
        0o600,
        "interfaces: []",
    );
    let manifests = machine.path("/var/lib/etcd/manifests");
    assert_eq!(
        machine.disk().names(&manifests),
        [
            "50-own.yaml",
            "99-master-ssh.json",
            "99-worker-ssh.json",
            "image-digest-mirror-set.json"
        ]
    );
    // Done once.
    let again = node::first_boot(&agent, &StopToken::new(), &mut |_: &Event| {});
    assert_eq!(again.unwrap(), FirstBoot::NothingToDo);
}
