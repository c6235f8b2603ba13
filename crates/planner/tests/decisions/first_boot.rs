//! The plan of the first boot, from documents as either program exports them.

use api::reconfiguration::{Proxy, SeedReconfiguration, TrustBundle};
use api::seed_info::SeedClusterInfo;
use planner::{Plan, PlanName, Step, reconfigure};

fn document() -> SeedReconfiguration {
    SeedReconfiguration {
        api_version: 1,
        base_domain: "example.com".to_owned(),
        cluster_name: "sno".to_owned(),
        hostname: "Node.example.com".to_owned(),
        cluster_id: "6c0e".to_owned(),
        pull_secret: "{}".to_owned().into(),
        node_ips: vec!["192.0.2.20".to_owned()],
        machine_networks: vec!["192.0.2.0/24".to_owned()],
        release_registry: "mirror.example.com:5000".to_owned(),
        node_labels: [
            ("node-role.kubernetes.io/master", ""),
            ("kubernetes.io/hostname", "seed"),
            ("zone", "a"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        ..SeedReconfiguration::default()
    }
}

fn seed() -> SeedClusterInfo {
    SeedClusterInfo {
        node_ips: vec!["198.51.100.7".to_owned()],
        machine_networks: vec!["198.51.100.0/24".to_owned()],
        release_registry: "quay.io".to_owned(),
        ..SeedClusterInfo::default()
    }
}

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(Step::name).collect()
}

#[test]
fn what_needs_no_api_server_comes_before_the_signal() {
    let plan = reconfigure(&document(), Some(&seed())).unwrap();
    assert_eq!(plan.name, PlanName::Reconfigure);
    assert_eq!(
        names(&plan),
        [
            "hold-unit",
            "authorize-ssh-keys",
            "write-pull-secret",
            "restore-connections",
            "set-hostname",
            "write-node-ip-hint",
            "write-dns-overrides",
            "trust-authorities",
            "write-chrony-config",
            "write-server-keys",
            "restore-lvm-devices",
            "signal-ready",
            "start-unit",
            "await-api",
            "configure-cluster",
            "remove-mirrors",
            "apply-manifests",
            "set-release-registry",
            "set-cluster-id",
            "set-node-labels",
            "remove-reconfiguration",
            "disable-unit",
        ]
    );
    for step in plan.steps {
        match step {
            Step::WriteNodeIpHint { addresses } => assert_eq!(addresses, ["192.0.2.0"]),
            Step::WriteDnsOverrides { address, .. } => {
                assert_eq!(address.as_deref(), Some("192.0.2.20"));
            }
            Step::SetNodeLabels { node, labels } => {
                assert_eq!(node, "node.example.com");
                assert_eq!(labels, [("zone".to_owned(), "a".to_owned())].into());
            }
            Step::SetReleaseRegistry {
                seed,
                mirrored,
                site,
            } => {
                let expected = ("quay.io", false, "mirror.example.com:5000");
                assert_eq!((seed.as_str(), mirrored, site.as_str()), expected);
            }
            _ => {}
        }
    }
}

/// No secret of the document stands in a plan: plans are written to journals.
#[test]
fn secrets_stay_in_the_document() {
    let mut document = document();
    let secret = || "SECRET".to_owned().into();
    (document.pull_secret, document.install_config) = (secret(), secret());
    (document.kubeadmin_password_hash, document.ssh_key) = (secret(), "SECRET".to_owned());
    document.raw_nm_state_config = secret();
    document.proxy = Some(Proxy {
        http_proxy: secret(),
        ..Proxy::default()
    });
    let plan = reconfigure(&document, None).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert!(!text.contains("SECRET"), "{text}");
}

#[test]
fn the_network_of_an_installation_is_configured_behind_its_connections() {
    let mut document = document();
    document.raw_nm_state_config = "interfaces: []".to_owned().into();
    let plan = reconfigure(&document, None).unwrap();
    assert_eq!(
        names(&plan)[3..6],
        ["restore-connections", "apply-network-state", "set-hostname"]
    );
}

#[test]
fn a_node_without_recorded_addresses_finds_its_own() {
    let mut document = document();
    document.node_ips.clear();
    let plan = reconfigure(&document, Some(&seed())).unwrap();
    assert!(names(&plan).contains(&"await-node-address"));
    let found = plan.steps.iter().find_map(|step| match step {
        Step::WriteDnsOverrides { address, .. } => Some(address.clone()),
        _ => None,
    });
    assert_eq!(found, Some(None));
}

/// S 10.4: fields that older producers did not write, and those that they wrote instead.
#[test]
fn older_documents_and_seeds_are_understood() {
    let mut old = document();
    old.node_ips.clear();
    old.node_ip = "192.0.2.20".to_owned();
    old.machine_networks.clear();
    old.machine_network = "192.0.2.0/24".to_owned();
    let expected = names(&reconfigure(&document(), Some(&seed())).unwrap());
    let mut old_seed = seed();
    old_seed.node_ips.clear();
    old_seed.node_ip = "198.51.100.7".to_owned();
    assert_eq!(
        names(&reconfigure(&old, Some(&old_seed)).unwrap()),
        expected
    );
    // A seed that says nothing of its addresses and networks is not compared with.
    let silent = SeedClusterInfo::default();
    assert_eq!(names(&reconfigure(&old, Some(&silent)).unwrap()), expected);
    // Two families, the newer one first.
    let both = |order: [&str; 2]| order.map(str::to_owned).to_vec();
    let mut dual = document();
    dual.node_ips = both(["2001:db8::20", "192.0.2.20"]);
    dual.machine_networks = both(["2001:db8::/64", "192.0.2.0/24"]);
    let mut dual_seed = seed();
    dual_seed.node_ips = both(["2001:db8:1::7", "198.51.100.7"]);
    dual_seed.machine_networks = both(["2001:db8:1::/64", "198.51.100.0/24"]);
    let plan = reconfigure(&dual, Some(&dual_seed)).unwrap();
    let hint = plan.steps.iter().find_map(|step| match step {
        Step::WriteNodeIpHint { addresses } => Some(addresses.join(" ")),
        _ => None,
    });
    assert_eq!(hint.as_deref(), Some("2001:db8:: 192.0.2.0"));
}

#[test]
fn what_cannot_work_is_said_by_its_field() {
    let check = |change: fn(&mut SeedReconfiguration, &mut SeedClusterInfo), expected: &str| {
        let (mut document, mut seed) = (document(), seed());
        change(&mut document, &mut seed);
        assert_eq!(reconfigure(&document, Some(&seed)).unwrap_err(), expected);
    };
    type Change = fn(&mut SeedReconfiguration);
    let missing: [(Change, &str); 7] = [
        (|document| document.hostname.clear(), "hostname"),
        (
            |document| document.hostname = "localhost".to_owned(),
            "hostname",
        ),
        (|document| document.cluster_id.clear(), "cluster_id"),
        (|document| document.cluster_name.clear(), "cluster_name"),
        (|document| document.base_domain.clear(), "base_domain"),
        (
            |document| document.pull_secret = String::new().into(),
            "pull_secret",
        ),
        (
            |document| document.machine_networks.clear(),
            "machine_networks",
        ),
    ];
    for (change, field) in missing {
        let mut document = document();
        change(&mut document);
        let error = reconfigure(&document, Some(&seed())).unwrap_err();
        let expected = format!("{field} is empty in the exported configuration of this site");
        assert_eq!(error, expected);
    }
    check(
        |document, _| document.api_version = 2,
        "api_version of the exported configuration of this site is 2, and only 1 is known",
    );
    check(
        |document, _| document.node_ips = vec!["2001:db8::20".to_owned()],
        "machine_networks of this site are IPv4 and its node_ips IPv6: one network for each address, of the same family",
    );
    check(
        |document, _| document.node_ips = vec!["here".to_owned()],
        "node_ips has \"here\", which is no address",
    );
    check(
        |_, seed| seed.node_ips = vec!["2001:db8:1::7".to_owned()],
        "node_ips of the seed are IPv6 and of this site IPv4: as many, of the same families, in the same order",
    );
    check(
        |_, seed| seed.machine_networks.push("2001:db8:1::/64".to_owned()),
        "machine_networks of the seed are IPv4, IPv6 and of this site IPv4: as many, of the same families, in the same order",
    );
    check(
        |_, seed| seed.has_proxy = true,
        "proxy: the seed has one and this site none",
    );
    check(
        |document, _| document.proxy = Some(Proxy::default()),
        "proxy: the seed has none and this site one",
    );
    check(
        |document, _| {
            document.additional_trust_bundle = TrustBundle {
                proxy_configmap_name: "user-ca-bundle".to_owned(),
                ..TrustBundle::default()
            }
        },
        "additionalTrustBundle of the exported configuration of this site has one of name and bundle of the proxy's \
         ConfigMap without the other",
    );
}
