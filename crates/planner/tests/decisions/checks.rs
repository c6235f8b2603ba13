//! Every row of the table of checks: passes, fails with its text, and says what is missing where nobody knows. And what Prep
//! makes of the rows.

use std::collections::BTreeMap;

use api::configuration::SignaturePolicy;
use api::seed_info::{SeedClusterInfo, TrustBundleState};
use api::seed_node::{Cpu, InstalledSize, SeedNodeFacts};
use planner::check::{CHECKS, Moment, Severity, Subject, Verdict, answers, needs, warnings};
use planner::{
    Act, ClusterFacts, ClusterKnowledge, ErrorKind, Facts, Filesystem, NodeFacts, NodeKnowledge,
    RunFact, SeedPin, SeedSignature, Side, State, Told, Why, explain_checks,
};

use crate::reachable::plain;
use crate::sample::{self, decided, pin, spec};

const MIB: u64 = 1 << 20;

/// What a seed of this program says of itself, fitting to the samples.
fn info() -> SeedClusterInfo {
    SeedClusterInfo {
        seed_cluster_ocp_version: "4.17.4".to_owned(),
        node_ips: vec!["198.51.100.7".to_owned()],
        machine_networks: vec!["198.51.100.0/24".to_owned()],
        additional_trust_bundle: Some(TrustBundleState::default()),
        container_storage_mountpoint_target: "/dev/disk/by-partlabel/containers".to_owned(),
        ..SeedClusterInfo::default()
    }
}

fn seed_node() -> SeedNodeFacts {
    SeedNodeFacts {
        architecture: "amd64".to_owned(),
        cpu: Some(sample::node().cpu),
        reserved_cpus: Some("0-1".to_owned()),
        machine_configs: Some(BTreeMap::new()),
        kernel_arguments: Some(sample::cluster().kernel_arguments),
        operators: Some(["ptp-operator".to_owned()].into()),
        installed: Some(InstalledSize {
            sysroot: 1000 * MIB,
            boot: 100 * MIB,
        }),
    }
}

/// Everything that the rows look at; each case changes some of it.
struct Case {
    facts: Facts,
    cluster: ClusterFacts,
    node: NodeFacts,
    info: SeedClusterInfo,
    seed_node: SeedNodeFacts,
    version: String,
    image: String,
    resolved: bool,
}

impl Case {
    fn new() -> Self {
        let mut cluster = sample::cluster();
        cluster.operators = Told::Known(["ptp-operator".to_owned()].into());
        Self {
            facts: sample::facts(Side::Origin),
            cluster,
            node: sample::node(),
            info: info(),
            seed_node: seed_node(),
            version: "4.17.4".to_owned(),
            image: sample::IMAGE.to_owned(),
            resolved: true,
        }
    }

    /// A seed of the Go original: no label about its node, and none about itself.
    fn silent(&mut self) {
        self.seed_node = SeedNodeFacts::default();
        self.info = SeedClusterInfo {
            seed_cluster_ocp_version: "4.17.4".to_owned(),
            ..SeedClusterInfo::default()
        };
    }

    fn with<T>(&self, look: impl FnOnce(&Subject<'_>) -> T) -> T {
        let mut facts = self.facts.clone();
        if facts.cluster != ClusterKnowledge::NotAsked {
            facts.cluster = ClusterKnowledge::Known(Box::new(self.cluster.clone()));
        }
        if facts.node != NodeKnowledge::NotLooked {
            facts.node = NodeKnowledge::Known(Box::new(self.node.clone()));
        }
        if self.resolved && facts.pin.is_none() {
            let mut pin = pin();
            pin.cluster_info = serde_json::to_string(&self.info).ok();
            pin.node_facts = serde_json::to_string(&self.seed_node).ok();
            pin.layers[0].1 = 400 * MIB;
            facts.pin = Some(pin);
        }
        let mut spec = spec(Some("Prep"));
        let seed = spec.seed_image_ref.as_mut().unwrap();
        (seed.version, seed.image) = (self.version.clone(), self.image.clone());
        look(&Subject::of(&spec, &facts))
    }
}

fn verdict(name: &str, change: impl FnOnce(&mut Case)) -> Verdict {
    let mut case = Case::new();
    change(&mut case);
    let check = CHECKS.iter().find(|check| check.name == name);
    let check = check.unwrap_or_else(|| panic!("no row is called {name}"));
    case.with(|subject| check.verdict(subject))
}

fn passed(text: &str) -> Verdict {
    Verdict::Passed(text.to_owned())
}

fn failed(text: &str) -> Verdict {
    Verdict::Failed(text.to_owned())
}

fn unknown(text: &str) -> Verdict {
    Verdict::Unknown(text.to_owned())
}

#[test]
fn every_row_passes_for_a_fitting_seed() {
    let mut case = Case::new();
    case.facts.content = Some(sample::content());
    case.facts.content.as_mut().unwrap().info = info();
    let answers = case.with(answers);
    assert_eq!(answers.len(), CHECKS.len());
    for answer in answers {
        let name = answer.check.name;
        assert!(
            matches!(answer.verdict, Verdict::Passed(_)),
            "{name}: {:?}",
            answer.verdict
        );
        assert_eq!(answer.severity(), None);
    }
    assert_eq!(case.with(warnings), []);
}

#[test]
fn names_are_unique_and_in_the_order_of_moments() {
    let mut names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
    assert!(CHECKS.iter().is_sorted_by_key(|check| check.moment));
    let kebab = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    assert!(names.iter().all(kebab), "{names:?}");
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    // Ignorance never counts for more than failure.
    assert!(CHECKS.iter().all(|check| check.unknown <= check.failed));
}

#[test]
fn the_cluster_and_the_request() {
    let check = |name: &str, change: fn(&mut Case), expect: Verdict| {
        assert_eq!(verdict(name, change), expect, "{name}");
    };
    check(
        "cluster-operators",
        |case| case.cluster.health.operators = vec!["dns".to_owned(), "etcd".to_owned()],
        failed("one or more ClusterOperators not yet ready: dns, etcd"),
    );
    check(
        "cluster-operators",
        |case| case.facts.cluster = ClusterKnowledge::NotAsked,
        unknown("the cluster could not be asked: the API server has not answered yet"),
    );
    check(
        "machine-config-pools",
        |case| case.cluster.health.pools = vec!["master".to_owned()],
        failed("one or more MachineConfigPools not yet ready: master"),
    );
    check(
        "node-ready",
        |case| {
            case.cluster.health.node =
                vec!["node is not yet ready: a".to_owned(), "and more".to_owned()];
        },
        failed("node is not yet ready: a\n  - and more"),
    );
    check(
        "sriov",
        |case| {
            // Told to people whatever else is wrong.
            case.cluster.health.operators = vec!["dns".to_owned()];
            case.cluster.health.sriov = vec!["sriovNetworkNodeState not ready".to_owned()];
        },
        failed("sriovNetworkNodeState not ready"),
    );
    check(
        "backups",
        |case| case.cluster.health.backups = vec!["a".to_owned(), "b".to_owned()],
        failed("a\n  - b"),
    );
    check(
        "cluster-service-versions",
        |case| case.cluster.health.service_versions = vec!["a.v1".to_owned(), "b.v2".to_owned()],
        failed("one or more ClusterServiceVersions not yet ready: a.v1, b.v2"),
    );
    check(
        "signing-requests",
        |case| case.cluster.health.signing_requests = vec!["csr-a".to_owned()],
        failed("certificateSigningRequest (csr) csr-a not yet approved"),
    );
    check(
        "container-storage",
        |case| case.node.containers_mounted = false,
        failed("container storage mountpoint target not found"),
    );
    check(
        "container-storage",
        |case| case.facts.node = NodeKnowledge::NotLooked,
        unknown("the node could not be examined: nobody has looked at the node yet"),
    );
    check("single-node", |_| {}, passed("node"));
    check(
        "single-node",
        |case| case.cluster.nodes.push("second".to_owned()),
        failed("expected exactly one node, got 2: node, second"),
    );
    check(
        "booted-deployment",
        |case| case.facts.booted = Err("two are".to_owned()),
        unknown("which deployment is booted is not known: two are"),
    );
    check(
        "default-switch",
        |case| case.node.default_switch = Told::Known(false),
        failed(
            "another deployment cannot be made the default: /boot/loader is no link of libostree's",
        ),
    );
    check(
        "default-switch",
        |case| case.node.default_switch = Told::Unknown("denied".to_owned()),
        unknown("whether the default deployment can be switched could not be read: denied"),
    );
    check("seed-image", |_| {}, passed(sample::IMAGE));
    check(
        "seed-image",
        |case| case.image.clear(),
        failed(
            "spec.seedImageRef.image is not set: request stage Idle, correct it and request Prep again",
        ),
    );
    check("version-higher", |_| {}, passed("4.16.9 -> 4.17.4"));
    check(
        "version-higher",
        |case| case.version = "4.15.0".to_owned(),
        failed(
            "failed to validate seed image OCP version: seed OCP version (4.15.0) must be higher than \
             current OCP version (4.16.9)",
        ),
    );
    check(
        "target-stateroot",
        |case| case.version = "4.16.9".to_owned(),
        failed(
            "stateroot rhcos_4.16.9 of version 4.16.9 is the running one: request stage Idle, correct it \
             and request Prep again",
        ),
    );
    check("local-storage", |_| {}, passed("none"));
    check(
        "local-storage",
        |case| case.cluster.operators = Told::Known(["lvms-operator".to_owned()].into()),
        passed("lvms-operator"),
    );
    check(
        "local-storage",
        |case| {
            let both = ["lvms-operator", "local-storage-operator"].map(str::to_owned);
            case.cluster.operators = Told::Known(both.into());
        },
        failed(
            "local-storage-operator and lvms-operator are both installed: an upgrade carries the volumes \
             of one of them over",
        ),
    );
    check(
        "local-storage",
        |case| case.cluster.operators = Told::Unknown("forbidden".to_owned()),
        unknown("this cluster's operators could not be read: forbidden"),
    );
    check(
        "rollback-certificates",
        |_| {},
        passed("until 2023-12-14T21:43:20Z, 29 days"),
    );
    check(
        "rollback-certificates",
        |case| {
            let soon = case.facts.now.unix() + 4 * 3600 + 30 * 60 - 1;
            case.node.certificates_until = Told::Known(soon);
        },
        failed(
            "a rollback is possible until 2023-11-15T02:13:19Z only, when the running release's \
             certificates expire: let them be renewed first",
        ),
    );
    check(
        "rollback-certificates",
        |case| case.node.certificates_until = Told::Unknown("no file".to_owned()),
        unknown("when the running release's certificates expire could not be read: no file"),
    );
}

#[test]
fn the_seed() {
    let check = |name: &str, change: fn(&mut Case), expect: Verdict| {
        assert_eq!(verdict(name, change), expect, "{name}");
    };
    check(
        "seed-format",
        |case| case.resolved = false,
        unknown("the seed image is not known: the image is not resolved yet"),
    );
    check(
        "seed-resolved",
        |_| {},
        passed(sample::digest("1").as_str()),
    );
    check(
        "seed-resolved",
        |case| case.resolved = false,
        unknown("the seed image is not known: the image is not resolved yet"),
    );
    check("proxy", |_| {}, passed("neither"));
    check(
        "proxy",
        |case| case.cluster.has_proxy = true,
        failed(
            "seed image does not have a proxy but the cluster being upgraded does, this combination is not supported",
        ),
    );
    check(
        "fips",
        |case| case.info.has_fips = true,
        failed(
            "seed image has FIPS enabled but the cluster being upgraded does not, this combination is not supported",
        ),
    );
    for name in ["user-ca-bundle", "proxy-configmap"] {
        check(
            name,
            Case::silent,
            unknown("the seed does not say which CA bundles it trusts"),
        );
    }
    check(
        "user-ca-bundle",
        |case| case.cluster.has_user_ca_bundle = true,
        failed(
            "seed image does not have an openshift-config/user-ca-bundle configmap but the cluster being \
             upgraded does, this combination is not supported",
        ),
    );
    check(
        "proxy-configmap",
        |case| case.cluster.proxy_config_map = "own-ca".to_owned(),
        failed(
            "seed image's Proxy trustedCA configmap name \"\" (oc get proxy -oyaml) mismatches cluster's \
             name \"own-ca\", this combination is not supported",
        ),
    );
    check(
        "container-storage-target",
        |case| case.node.storage_target = Told::Known("/dev/sdb".to_owned()),
        failed(
            "container storage mountpoint target mismatch: seed=/dev/disk/by-partlabel/containers, \
             cluster=/dev/sdb",
        ),
    );
    check(
        "container-storage-target",
        Case::silent,
        unknown("the seed does not say what its container storage is"),
    );
    check(
        "seed-version",
        |case| case.info.seed_cluster_ocp_version = "4.17.5".to_owned(),
        failed("version specified in seed image (4.17.5) differs from version in spec (4.17.4)"),
    );
    check(
        "seed-version",
        |case| case.info.seed_cluster_ocp_version.clear(),
        unknown("the seed's version is known once the seed is fetched"),
    );
}

#[test]
fn the_fit() {
    let check = |name: &str, change: fn(&mut Case), expect: Verdict| {
        assert_eq!(verdict(name, change), expect, "{name}");
    };
    check("architecture", |_| {}, passed("amd64"));
    check(
        "architecture",
        |case| case.node.architecture = "arm64".to_owned(),
        failed("the seed is for amd64 and this node is arm64"),
    );
    check(
        "architecture",
        |case| {
            case.silent();
            let mut pin = pin();
            pin.architecture = None;
            case.facts.pin = Some(pin);
        },
        unknown("the seed does not say its architecture"),
    );
    // The image's own word, where there is no label.
    check("architecture", Case::silent, passed("amd64"));
    check(
        "ip-families",
        |case| case.cluster.node_ips.push("2001:db8::1".to_owned()),
        failed("IP families of the seed: IPv4; of this node: IPv4, IPv6"),
    );
    check(
        "ip-families",
        |case| {
            case.info.node_ips = vec!["2001:db8::7".to_owned(), "198.51.100.7".to_owned()];
            case.cluster.node_ips = vec!["192.0.2.1".to_owned(), "2001:db8::1".to_owned()];
        },
        failed("IP families of the seed: IPv6, IPv4; of this node: IPv4, IPv6"),
    );
    check(
        "ip-families",
        Case::silent,
        unknown("the seed does not say its node's addresses"),
    );
    check(
        "machine-networks",
        |case| case.cluster.machine_networks = Told::Known(vec!["2001:db8::/64".to_owned()]),
        failed("families of machine networks of the seed: IPv4; of this node: IPv6"),
    );
    check(
        "machine-networks",
        |case| case.cluster.machine_networks = Told::Unknown("no install-config".to_owned()),
        unknown("this cluster's machine networks could not be read: no install-config"),
    );
    check("cpus-present", |_| {}, passed("8 CPUs"));
    check(
        "cpus-present",
        |case| case.seed_node.reserved_cpus = Some("0-1,8".to_owned()),
        failed(
            "the seed's reservedSystemCPUs names CPU 8 (0-1,8) and this node's are numbered below 8",
        ),
    );
    check(
        "cpus-present",
        |case| {
            let arguments = ["isolcpus=managed_irq,2-15", "x=99"].map(str::to_owned);
            case.seed_node.kernel_arguments = Some(arguments.to_vec());
        },
        failed(
            "the seed's isolcpus names CPU 15 (managed_irq,2-15) and this node's are numbered below 8",
        ),
    );
    // Offline CPUs leave gaps in the numbers of the others.
    check(
        "cpus-present",
        |case| {
            case.seed_node.reserved_cpus = Some("0-1,15".to_owned());
            case.node.cpu_numbers = 16;
        },
        passed("8 CPUs online, numbered below 16"),
    );
    check(
        "cpus-present",
        Case::silent,
        unknown("the seed's kernel arguments are known once it is fetched"),
    );
    check(
        "cpu-model",
        |case| case.node.cpu.model = "Other".to_owned(),
        failed("CPU model of the seed: Example 9000; of this node: Other"),
    );
    check(
        "cpu-model",
        Case::silent,
        unknown("the seed does not say its CPU model"),
    );
    check(
        "cpu-topology",
        |case| {
            case.node.cpu = Cpu {
                sockets: 2,
                ..case.node.cpu.clone()
            };
        },
        failed(
            "CPU topology of the seed: 1 sockets, 4 cores, 8 threads; of this node: 2 sockets, 4 cores, \
             8 threads",
        ),
    );
    check(
        "reserved-cpus",
        |case| case.node.reserved_cpus = Told::Known(String::new()),
        failed("reserved CPUs of the seed: 0-1; of this node: none"),
    );
    check(
        "reserved-cpus",
        Case::silent,
        unknown("the seed does not say which CPUs it reserves"),
    );
    check("operators", |_| {}, passed("1, the same"));
    check(
        "operators",
        |case| case.cluster.operators = Told::Known(["sriov-network-operator".to_owned()].into()),
        failed("day-2 operators only in the seed: ptp-operator; only here: sriov-network-operator"),
    );
    check(
        "operators",
        Case::silent,
        unknown("the seed does not say its day-2 operators"),
    );
    check("mirrors", |_| {}, passed("neither"));
    check(
        "mirrors",
        |case| case.info.mirror_registry_configured = true,
        failed(
            "the seed has mirrors configured and this cluster has none: its images are pulled from \
             registry.example:5000",
        ),
    );
    check(
        "mirrors",
        |case| case.cluster.mirror_sources.push("quay.io".to_owned()),
        failed(
            "this cluster has mirrors configured and the seed has none: what it starts before the mirrors \
             are there is pulled from the images' own registries",
        ),
    );
    check(
        "kernel-arguments",
        |case| case.cluster.kernel_arguments = vec!["quiet".to_owned(), "nosmt".to_owned()],
        failed("kernel arguments only in the seed: systemd.unified=1; only here: nosmt"),
    );
    check(
        "machine-configs",
        |case| {
            let map = |pairs: &[(&str, &str)]| {
                let pairs = pairs
                    .iter()
                    .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
                pairs.collect::<BTreeMap<_, _>>()
            };
            case.seed_node.machine_configs = Some(map(&[("50-a", "1"), ("50-b", "1")]));
            case.cluster.machine_configs = Told::Known(map(&[("50-a", "2"), ("50-c", "1")]));
        },
        failed(
            "MachineConfigs only in the seed: 50-b; only here: 50-c; MachineConfigs that differ: 50-a",
        ),
    );
    check(
        "machine-configs",
        Case::silent,
        unknown("the seed's MachineConfigs are known once it is fetched"),
    );
    check(
        "machine-configs",
        |case| {
            case.silent();
            case.facts.pin = Some(pin());
            case.facts.content = Some(sample::content());
            case.cluster.files = vec!["/etc/other".to_owned()];
        },
        failed(
            "files of the MachineConfig only in the seed: /etc/chrony.conf; only here: /etc/other",
        ),
    );
}

#[test]
fn the_space() {
    let check = |name: &str, change: fn(&mut Case), expect: Verdict| {
        assert_eq!(verdict(name, change), expect, "{name}");
    };
    fn available(case: &mut Case, wanted: Filesystem, bytes: u64) {
        for space in &mut case.node.spaces {
            if space.filesystem == wanted {
                space.available = bytes;
            }
        }
    }
    let sysroot = "needs 1064 MiB (with 64 MiB kept for the way back), ";
    check(
        "space-sysroot",
        |case| available(case, Filesystem::Sysroot, 1064 * MIB),
        passed(&format!("{sysroot}1064 MiB are free")),
    );
    check(
        "space-sysroot",
        |case| available(case, Filesystem::Sysroot, 1063 * MIB),
        failed(&format!(
            "/sysroot is too full: the seed {sysroot}1063 MiB are free, 1 MiB are missing"
        )),
    );
    // Not one byte less.
    check(
        "space-sysroot",
        |case| available(case, Filesystem::Sysroot, 1064 * MIB - 1),
        failed(&format!(
            "/sysroot is too full: the seed {sysroot}1063 MiB are free, 1 MiB are missing"
        )),
    );
    check(
        "space-sysroot",
        |case| {
            case.silent();
            available(case, Filesystem::Sysroot, 2 * MIB);
        },
        failed(
            "/sysroot is too full: the seed needs 1064 MiB (estimated as 2.5 times its compressed size of \
             400 MiB, with 64 MiB kept for the way back), 2 MiB are free, 1062 MiB are missing",
        ),
    );
    check(
        "space-boot",
        |case| {
            case.silent();
            available(case, Filesystem::Boot, MIB);
        },
        failed(
            "/boot is too full: the seed needs 101 MiB (estimated as what the running release has there, \
             with 1 MiB kept for the way back), 1 MiB are free, 100 MiB are missing",
        ),
    );
    check(
        "space-containers",
        |case| {
            case.node.spooled = 100 * MIB;
            available(case, Filesystem::Containers, 299 * MIB);
        },
        failed(
            "/var/lib/containers is too full: the seed needs 300 MiB (the compressed seed without 100 MiB \
             that are there), 299 MiB are free, 1 MiB are missing: resuming is off, the seed is installed \
             while it arrives and an interruption begins anew",
        ),
    );
    let mut case = Case::new();
    available(&mut case, Filesystem::Containers, 399 * MIB);
    let row = CHECKS.iter().find(|row| row.name == "space-containers");
    let indexed = case.with(|subject| {
        let pin = SeedPin {
            index: Some("{}".to_owned()),
            ..subject.pin.unwrap().clone()
        };
        row.unwrap().verdict(&Subject {
            pin: Ok(&pin),
            ..*subject
        })
    });
    assert_eq!(
        indexed,
        failed(
            "/var/lib/containers is too full: the seed needs 400 MiB (the compressed seed, should its index \
             not be usable), 399 MiB are free, 1 MiB are missing: should the seed's index not be usable, it \
             is installed while it arrives and an interruption begins anew"
        )
    );
    // Images are the last to come: what they need decides nothing about the spool.
    let with_images = |free: u64, bytes: u64| {
        let mut case = Case::new();
        available(&mut case, Filesystem::Containers, free);
        let row = CHECKS.iter().find(|row| row.name == "space-containers");
        case.with(|subject| {
            row.unwrap().verdict(&Subject {
                images: Some(bytes),
                ..*subject
            })
        })
    };
    let images = "needs 500 MiB (the compressed seed, and 100 MiB for images to pull, estimated as 2.5 times \
                  their compressed size of 40 MiB), ";
    assert_eq!(
        with_images(500 * MIB, 40 * MIB),
        passed(&format!("{images}500 MiB are free"))
    );
    assert_eq!(
        with_images(450 * MIB, 40 * MIB),
        failed(&format!(
            "/var/lib/containers is too full: the seed {images}450 MiB are free, 50 MiB are missing: \
             precaching may fail unless the clean-up of images makes room"
        ))
    );
    assert_eq!(
        with_images(500 * MIB, 0),
        passed("needs 400 MiB (the compressed seed), 500 MiB are free")
    );
    assert_eq!(
        with_images(399 * MIB, 40 * MIB),
        failed(
            "/var/lib/containers is too full: the seed needs 400 MiB (the compressed seed), 399 MiB are free, \
             1 MiB are missing: resuming is off, the seed is installed while it arrives and an interruption \
             begins anew"
        )
    );
    // One filesystem for two of the paths: what both need has to fit.
    check(
        "space-boot",
        |case| {
            for space in &mut case.node.spaces {
                space.device = 1;
                space.available = 1164 * MIB;
            }
        },
        failed(
            "/boot is too full: the seed needs 1165 MiB (with 1 MiB kept for the way back, together with \
             /sysroot on the same filesystem), 1164 MiB are free, 1 MiB are missing",
        ),
    );
    check(
        "space-boot",
        |case| case.node.spaces.clear(),
        unknown("nobody knows how full /boot is"),
    );
    check(
        "space-boot",
        |case| {
            case.facts.reserved = true;
            case.node.spaces.clear();
        },
        passed("the installation has begun"),
    );
    let case = Case::new();
    let found = case.with(needs).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|need| (need.filesystem, need.bytes / MIB, need.estimated))
        .collect();
    assert_eq!(
        found,
        [
            (Filesystem::Sysroot, 1064, false),
            (Filesystem::Boot, 101, false),
            (Filesystem::Containers, 400, false),
        ]
    );
}

/// What Prep says and does.
fn prep(change: impl FnOnce(&mut Facts)) -> (State, Act, String) {
    let status = plain(State::PrepInProgress);
    let mut facts = sample::facts(Side::Origin);
    change(&mut facts);
    let decision = decided(&spec(Some("Prep")), &status.conditions, &facts);
    (decision.state, decision.act, decision.said.message)
}

fn unhealthy(facts: &mut Facts) {
    let mut cluster = sample::cluster();
    cluster.health.operators = vec!["dns".to_owned()];
    cluster.health.node = vec!["node is not yet ready: node".to_owned()];
    facts.cluster = ClusterKnowledge::Known(Box::new(cluster));
}

const KEY: &str = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
const OTHER_KEY: &str = "-----BEGIN PUBLIC KEY-----\nBBBB\n-----END PUBLIC KEY-----\n";

fn configuration(policy: &str, keys: &[&str]) -> BTreeMap<String, String> {
    let data = [
        ("signaturePolicy", policy.to_owned()),
        ("signatureKeys", keys.concat()),
    ];
    let data = data.into_iter().filter(|(_, value)| !value.is_empty());
    data.map(|(key, value)| (key.to_owned(), value)).collect()
}

fn signature(key: &str) -> SeedSignature {
    let policy = SignaturePolicy::parse(&configuration("required", &[key]));
    let Ok(SignaturePolicy::Required(keys)) = policy else {
        panic!("{policy:?}");
    };
    SeedSignature {
        key: keys[0].clone(),
        fingerprint: sample::digest("f"),
        reference: Some("quay.io/org/seed".to_owned()),
        claims: [("team".to_owned(), "edge".to_owned())].into(),
    }
}

#[test]
fn signatures() {
    let policy = |policy: &str, keys: &[&str], expect: Verdict| {
        let data = configuration(policy, keys);
        assert_eq!(
            verdict("signature-policy", |case| case.cluster.configuration = data),
            expect
        );
    };
    policy("", &[], passed("off"));
    policy("off", &[KEY], passed("off"));
    policy("required", &[KEY], passed("required, 1 key"));
    policy("required", &[KEY, OTHER_KEY], passed("required, 2 keys"));
    policy(
        "on",
        &[KEY],
        failed(
            "ConfigMap lifecycle-agent-config: signaturePolicy is \"on\"; it must be required or off: \
             request stage Idle, correct it and request Prep again",
        ),
    );

    let signed = |data: BTreeMap<String, String>, found, fault, expect: Verdict| {
        let mut case = Case::new();
        case.cluster.configuration = data;
        case.facts.pin = Some(SeedPin {
            signature: found,
            ..pin()
        });
        let check = CHECKS
            .iter()
            .find(|check| check.name == "signature")
            .unwrap();
        let found = case.with(|subject| {
            check.verdict(&Subject {
                signature_fault: fault,
                cluster: subject.cluster,
                node: subject.node,
                ..Subject::of(&spec(None), &case.facts)
            })
        });
        assert_eq!(found, expect);
    };
    let required = || configuration("required", &[KEY]);
    let off = || configuration("off", &[KEY]);
    let own = || Some(signature(KEY));
    let good = format!(
        "with key sha256:{}, as quay.io/org/seed, team=edge",
        "f".repeat(64)
    );
    let refused = Some((ErrorKind::Permanent, "not signed"));
    let away = Some((ErrorKind::Transient, "no answer"));
    signed(off(), None, None, passed("not asked for"));
    signed(off(), None, refused, passed("not asked for"));
    signed(required(), own(), None, passed(&good));
    signed(required(), None, refused, failed("not signed"));
    signed(required(), None, away, unknown("no answer"));
    let unlooked = unknown("no signature of the image has been looked for yet");
    signed(required(), None, None, unlooked.clone());
    signed(required(), Some(signature(OTHER_KEY)), None, unlooked);
    let garbled = configuration("on", &[KEY]);
    signed(
        garbled,
        own(),
        None,
        unknown("what is asked of signatures is not known"),
    );
}

#[test]
fn nothing_is_fetched_before_the_signature_that_is_required() {
    let check = |policy: &str, keys: &[&str], found: Option<&str>, expect: Result<&str, &str>| {
        let (state, act, text) = prep(|facts| {
            let mut cluster = sample::cluster();
            cluster.configuration = configuration(policy, keys);
            facts.cluster = ClusterKnowledge::Known(Box::new(cluster));
            facts.pin = Some(SeedPin {
                signature: found.map(signature),
                ..pin()
            });
        });
        match (act, expect) {
            (Act::Run(plan), Ok(name)) => assert_eq!(plan.name.as_str(), name),
            (Act::Record, Err(part)) => {
                assert_eq!(state, State::PrepFailed);
                assert!(text.contains(part), "{text}");
            }
            other => panic!("{other:?}: {text}"),
        }
    };
    check("", &[], None, Ok("fetch-seed"));
    check("off", &[KEY], None, Ok("fetch-seed"));
    check("required", &[KEY], None, Ok("verify-seed"));
    check("required", &[OTHER_KEY, KEY], Some(KEY), Ok("fetch-seed"));
    // A key that is not trusted any more vouches for nothing.
    check("required", &[OTHER_KEY], Some(KEY), Ok("verify-seed"));
    check(
        "Required",
        &[KEY],
        Some(KEY),
        Err("it must be required or off"),
    );
    check("", &[KEY], Some(KEY), Err("signaturePolicy is not"));
    let (state, _, text) = prep(|facts| {
        facts.pin = Some(pin());
        facts.run = RunFact::Failed {
            plan: planner::PlanName::VerifySeed,
            kind: ErrorKind::Permanent,
            error: "image x is not signed".to_owned(),
            attempt: 1,
            since: 0,
        };
    });
    assert_eq!(state, State::PrepFailed);
    assert_eq!(
        text,
        "failed to validate seed image info: image x is not signed; request stage Idle, correct it and \
         request Prep again"
    );
}

#[test]
fn an_unhealthy_cluster_is_waited_for_before_the_work_and_not_in_it() {
    let (state, act, text) = prep(unhealthy);
    assert_eq!(
        (state, act),
        (State::PrepInProgress, Act::Wait(Why::Cluster))
    );
    // The Node is looked at when the rest is fine.
    let expected = "Waiting for system to stabilize before Prep stage can continue: one or more health \
                    checks failed: one or more ClusterOperators not yet ready: dns";
    assert_eq!(text, expected);
    let (_, act, _) = prep(|facts| {
        unhealthy(facts);
        facts.pin = Some(pin());
    });
    assert!(matches!(act, Act::Run(_)), "{act:?}");
    let (_, act, text) = prep(|facts| {
        unhealthy(facts);
        facts.run = RunFact::Running {
            plan: planner::PlanName::InspectSeed,
            progress: "step 1".to_owned(),
        };
    });
    assert_eq!(act, Act::Wait(Why::Work));
    assert!(text.ends_with("step 1"), "{text}");
}

#[test]
fn a_seed_that_does_not_fit_is_refused_before_the_first_byte() {
    let (state, _, text) = prep(|facts| {
        facts.pin = Some(pin());
        let mut node = sample::node();
        node.spaces[0].available = 64 * MIB;
        facts.node = NodeKnowledge::Known(Box::new(node));
    });
    assert_eq!(state, State::PrepFailed);
    assert_eq!(
        text,
        "failed to validate seed image info: checking seed image compatibility: /sysroot is too full: the \
         seed needs 65 MiB (estimated as 2.5 times its compressed size of 1 MiB, with 64 MiB kept for the \
         way back), 64 MiB are free, 1 MiB are missing"
    );
    // Without room for the compressed seed it goes straight through.
    for (available, spools) in [(999, false), (1000, true)] {
        let (_, act, _) = prep(|facts| {
            facts.pin = Some(pin());
            let mut node = sample::node();
            node.spaces[2].available = available;
            facts.node = NodeKnowledge::Known(Box::new(node));
        });
        let Act::Run(plan) = act else {
            panic!("{act:?}")
        };
        let spool = plan.steps.iter().find_map(|step| match step {
            planner::Step::FetchSeed { spool, .. } => Some(*spool),
            _ => None,
        });
        assert_eq!(spool, Some(spools));
    }
    // What is missing of facts that only warn is nobody's obstacle.
    let (_, act, _) = prep(|facts| {
        facts.pin = Some(pin());
        facts.node = NodeKnowledge::Unknown("denied".to_owned());
    });
    assert!(matches!(act, Act::Run(_)), "{act:?}");
}

#[test]
fn only_blockers_are_kept_for_themselves() {
    let severities = |moment: Moment| {
        let rows = CHECKS.iter().filter(move |check| check.moment == moment);
        rows.map(|check| check.failed).collect::<Vec<_>>()
    };
    assert!(
        severities(Moment::Gate)
            .iter()
            .all(|found| *found == Severity::Blocker)
    );
    let mut case = Case::new();
    case.node.cpu.model = "Other".to_owned();
    case.node.containers_mounted = false;
    let found = case.with(warnings);
    let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["cpu-model"]);
}

/// The table as people read it: `tests/contract/checks.txt`. `UPDATE_GOLDEN=1` writes it anew.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the golden file is this test's own"
)]
fn golden_checks() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/contract/checks.txt"
    );
    let now = explain_checks();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert!(now == golden, "the checks differ from {path}:\n{now}");
}
