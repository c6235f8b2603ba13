//! What `lifecycle-agent plan` says on a node in the box: one row per check, provoked; and that a seed that does not fit is
//! refused before the first byte of it is fetched.

#![expect(
    clippy::print_stdout,
    reason = "what users are told is part of the result"
)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boxed::site::{conditions, seed_image};
use boxed::{REGISTRY_ADDRESS, Release, Site};
use serde_json::{Value, json};

/// The node's own credentials for the registry.
const PULL_SECRET: &str = "/var/lib/kubelet/config.json";

/// An answer of `plan`.
struct Plan {
    status: Option<i32>,
    document: Value,
}

impl Plan {
    /// What it says of a check: verdict and text.
    fn row(&self, name: &str) -> (&str, &str) {
        let rows = self.document["checks"].as_array();
        let row = rows.and_then(|rows| rows.iter().find(|row| row["name"] == name));
        row.map_or(("missing", ""), |row| {
            let text = |member: &str| row[member].as_str().unwrap_or_default();
            (text("verdict"), text("text"))
        })
    }
}

/// Runs `plan`, in a mount namespace of its own after `before`, if that is not empty.
fn plan(site: &Site, before: &str, arguments: &[&str]) -> Result<Plan> {
    let script = format!(
        "{before}{}exec lifecycle-agent plan -o json \"$@\"",
        if before.is_empty() { "" } else { "; " }
    );
    let mut command = vec!["unshare", "--mount", "sh", "-ec", &script, "sh"];
    command.extend(arguments);
    let output = site.node.exec(&command)?;
    let document = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(Plan {
        status: output.status.code(),
        document,
    })
}

/// Changes an object of the cluster.
fn patch(site: &Site, object: &str, status: bool, patch: &Value) -> Result<()> {
    let text = patch.to_string();
    let mut arguments = vec!["patch", object, "--type=merge", "-p", &text];
    if status {
        arguments.push("--subresource=status");
    }
    site.node.kubectl(&arguments).map(drop)
}

/// Pushes an image that holds nothing but labels.
fn push(site: &Site, tag: &str, labels: &[(&str, String)]) -> Result<String> {
    let image = format!("{REGISTRY_ADDRESS}/labels:{tag}");
    let changes: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("LABEL com.openshift.lifecycle-agent.{name}={value}"))
        .collect();
    let script = "image=$1; secret=$2; shift 2; tar -C /usr/lib -c os-release | podman import --quiet \"$@\" - $image \
                  && podman push --quiet --authfile $secret $image && podman rmi $image";
    let mut command = vec!["sh", "-ec", script, "sh", &image, PULL_SECRET];
    for change in &changes {
        command.extend(["--change", change]);
    }
    site.node.run(&command)?;
    Ok(image)
}

fn show(input: &str, name: &str, plan: &Plan) {
    let (verdict, text) = plan.row(name);
    let status = plan.status.unwrap_or(-1);
    println!("{name:24} | {input:44} | exit {status} | {verdict}: {text}");
}

/// What a seed that fits in nothing says.
fn misfit() -> Vec<(&'static str, String)> {
    let info = json!({
        "seed_cluster_ocp_version": "4.17.9",
        "has_proxy": true,
        "has_fips": true,
        "additionalTrustBundle": {"hasUserCaBundle": true, "proxyConfigmapName": "own-ca"},
        "container_storage_mountpoint_target": "/dev/other",
        "node_ips": ["2001:db8::7"],
        "machine_networks": ["192.0.2.0/24", "2001:db8::/64"],
        "mirror_registry_configured": true,
    });
    let node = json!({
        "architecture": "s390x",
        "cpu": {"model": "Other", "sockets": 9, "cores": 9, "threads": 9},
        "reserved_cpus": "4096",
        "machine_configs": {"50-seed": "00"},
        "kernel_arguments": ["of-the-seed"],
        "operators": ["ptp-operator"],
        "installed": {"sysroot": 1_u64 << 50, "boot": 1_u64 << 50},
    });
    vec![
        ("seed_format_version", "4".to_owned()),
        ("seed_cluster_info", info.to_string()),
        ("seed_node_facts", node.to_string()),
    ]
}

/// Checks that the misfit fails, with a part of each text.
const MISFIT: [(&str, &str); 19] = [
    ("proxy", "seed image has a proxy but the cluster"),
    ("fips", "seed image has FIPS enabled but the cluster"),
    (
        "user-ca-bundle",
        "seed image has an openshift-config/user-ca-bundle",
    ),
    ("proxy-configmap", "configmap name \"own-ca\""),
    (
        "container-storage-target",
        "mismatch: seed=/dev/other, cluster=/dev/disk/",
    ),
    ("architecture", "the seed is for s390x and this node is"),
    ("ip-families", "of the seed: IPv6; of this node: IPv4"),
    (
        "machine-networks",
        "of the seed: IPv4, IPv6; of this node: IPv4",
    ),
    ("cpus-present", "reservedSystemCPUs names CPU 4096"),
    ("cpu-model", "CPU model of the seed: Other"),
    ("cpu-topology", "of the seed: 9 sockets, 9 cores, 9 threads"),
    ("reserved-cpus", "of the seed: 4096; of this node: none"),
    ("operators", "only in the seed: ptp-operator"),
    ("mirrors", "the seed has mirrors configured"),
    (
        "seed-version",
        "version specified in seed image (4.17.9) differs",
    ),
    ("space-sysroot", "/sysroot is too full: the seed needs"),
    ("space-boot", "/boot is too full: the seed needs"),
    (
        "kernel-arguments",
        "only in the seed: of-the-seed; only here: ",
    ),
    ("machine-configs", "only in the seed: 50-seed"),
];

/// A change of the cluster, what takes it back, and what `plan` says of it.
struct Provoked {
    check: &'static str,
    object: &'static str,
    status: bool,
    change: Value,
    back: Value,
    text: &'static str,
    exit: i32,
}

fn provoked() -> Vec<Provoked> {
    let condition = |degraded: &str| {
        json!({"status": {"conditions": [
            {"type": "Available", "status": "True", "lastTransitionTime": "2024-10-01T00:00:00Z"},
            {"type": "Degraded", "status": degraded, "lastTransitionTime": "2024-10-01T00:00:00Z"},
        ]}})
    };
    vec![
        Provoked {
            check: "cluster-operators",
            object: "clusteroperator/dns",
            status: true,
            change: condition("True"),
            back: condition("False"),
            text: "one or more ClusterOperators not yet ready: dns",
            exit: 1,
        },
        Provoked {
            check: "machine-config-pools",
            object: "machineconfigpool/master",
            status: true,
            change: json!({"status": {"readyMachineCount": 0}}),
            back: json!({"status": {"readyMachineCount": 1}}),
            text: "one or more MachineConfigPools not yet ready: master",
            exit: 1,
        },
        Provoked {
            check: "node-ready",
            object: "node/site",
            status: false,
            change: json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": null}}}),
            back: json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": ""}}}),
            text: "node missing node-role.kubernetes.io/worker label: site",
            exit: 1,
        },
        Provoked {
            check: "proxy",
            object: "proxy/cluster",
            status: false,
            change: json!({"spec": {"httpProxy": "http://proxy:3128"}}),
            back: json!({"spec": {"httpProxy": null}}),
            text: "seed image does not have a proxy but the cluster being upgraded does",
            exit: 1,
        },
    ]
}

/// A sysroot, `/boot` or container storage that is not as it must be, in a mount namespace of its own.
const HIDDEN: [(&str, &str, i32, &str); 3] = [
    (
        "container-storage",
        "umount /var/lib/containers",
        1,
        "container storage mountpoint target not found",
    ),
    (
        "default-switch",
        "mount -t tmpfs tmpfs /boot",
        1,
        "another deployment cannot be made the default",
    ),
    (
        "booted-deployment",
        "mount -t tmpfs tmpfs /sysroot",
        2,
        "which deployment is booted is not known",
    ),
];

const EXTRA: &str = "\
---
apiVersion: v1
kind: Node
metadata: {name: second}
---
apiVersion: operators.coreos.com/v1alpha1
kind: Subscription
metadata: {name: lso, namespace: openshift-lifecycle-agent}
spec: {name: local-storage-operator}
---
apiVersion: operators.coreos.com/v1alpha1
kind: Subscription
metadata: {name: lvms, namespace: openshift-lifecycle-agent}
spec: {name: lvms-operator}
";

/// Limits on the network, from the ConfigMap and from annotations.
fn limits_are_told(site: &Site, own: &[&str]) -> Result<()> {
    const NAMESPACE: &str = "openshift-lifecycle-agent";
    const KEY: &str = "network-limits.lca.openshift.io/fetch-bandwidth";
    let told = |input: &str, verdict: &str, part: &str, exit: i32| -> Result<()> {
        let plan = plan(site, "", own)?;
        show(input, "network-limits", &plan);
        let (found, text) = plan.row("network-limits");
        assert_eq!((found, plan.status), (verdict, Some(exit)), "{text}");
        assert!(text.contains(part), "{text:?} lacks {part:?}");
        Ok(())
    };
    let name = "lifecycle-agent-config";
    let create = ["create", "configmap", name, "-n", NAMESPACE];
    let literal = ["--from-literal=fetchBandwidth=20MB/s"];
    site.node.kubectl(&[create.as_slice(), &literal].concat())?;
    told(
        "fetchBandwidth: 20MB/s",
        "failed",
        "is \"20MB/s\"; it must be",
        1,
    )?;
    site.node
        .kubectl(&["delete", "configmap", name, "-n", NAMESPACE])?;
    let literals = [
        "--from-literal=fetchBandwidth=20Mi",
        "--from-literal=precachePulls=2",
    ];
    site.node
        .kubectl(&[create.as_slice(), &literals].concat())?;
    let text = "seed: 20480 KiB/s, 4 connections at most; images: 2 pulls at a time";
    told("fetchBandwidth: 20Mi, precachePulls: 2", "passed", text, 0)?;
    let object = "imagebasedupgrade/upgrade";
    let annotate = |value: Value| json!({"metadata": {"annotations": {KEY: value}}});
    patch(site, object, false, &annotate(json!("1Mi")))?;
    told(
        "and annotation fetch-bandwidth: 1Mi",
        "passed",
        "seed: 1024 KiB/s, ",
        0,
    )?;
    patch(site, object, false, &annotate(json!("fast")))?;
    told("and annotation fetch-bandwidth: fast", "failed", KEY, 1)?;
    patch(site, object, false, &annotate(Value::Null))?;
    site.node
        .kubectl(&["delete", "configmap", name, "-n", NAMESPACE])?;
    told(
        "nothing is set",
        "passed",
        "seed: bandwidth not limited, 4 connections",
        0,
    )
}

const MANIFESTS: &str = "\
# Nothing but a comment.
---
apiVersion: v1
kind: Namespace
metadata: {name: wanted}
---
apiVersion: operators.coreos.com/v1alpha1
kind: Subscription
metadata: {name: unwanted, namespace: wanted}
---
kind: [
";

/// What the spec refers to: found or missing, to be applied or refused.
fn objects_are_told(site: &Site, own: &[&str]) -> Result<()> {
    let file = "/run/manifests";
    let write = format!(
        "cat > {file} <<'END'\n{MANIFESTS}END\nkubectl create configmap extra -n default --from-file=all={file}"
    );
    site.node.run(&["sh", "-ec", &write])?;
    let object = "imagebasedupgrade/upgrade";
    let references = json!([{"name": "extra", "namespace": "default"}, {"name": "none", "namespace": "default"}]);
    patch(
        site,
        object,
        false,
        &json!({"spec": {"extraManifests": references}}),
    )?;
    let told = plan(site, "", own)?;
    let objects = &told.document["objects"];
    println!("objects: {objects:#}");
    let rows = |member: &str, first: &str, second: &str| -> Vec<(String, String)> {
        let rows = objects[member].as_array().into_iter().flatten();
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        rows.map(|row| (text(row, first), text(row, second)))
            .collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|(one, two)| ((*one).to_owned(), (*two).to_owned()))
            .collect()
    };
    assert_eq!(
        rows("sources", "configMap", "verdict"),
        pairs(&[("default/extra", "found"), ("default/none", "missing")])
    );
    assert_eq!(
        rows("objects", "name", "verdict"),
        pairs(&[
            ("wanted", "apply"),
            ("unwanted", "refused"),
            ("", "refused")
        ])
    );
    // This version applies none of them: they hold nothing up.
    assert_eq!(told.status, Some(0), "{:#}", told.document["blockers"]);
    let warnings = told.document["warnings"].to_string();
    assert!(
        warnings.contains("ConfigMap default/none is missing"),
        "{warnings}"
    );
    patch(
        site,
        object,
        false,
        &json!({"spec": {"extraManifests": null}}),
    )?;
    site.node
        .kubectl(&["delete", "configmap", "extra", "-n", "default"])?;
    let text = site
        .node
        .run(&["lifecycle-agent", "plan", "--image", own[1]])?;
    println!("{text}");
    for part in [
        "\nTo fetch:  ",
        "\n           manifest-and-configuration ",
        "\nObjects:   the spec refers to none\n",
    ] {
        assert!(text.contains(part), "{part:?}");
    }
    let yaml = site
        .node
        .run(&["lifecycle-agent", "plan", "-o", "yaml", "--image", own[1]])?;
    for part in [
        "\n  fetchBytes: ",
        "\nobjects:\n  sources: []\n",
        "\nmachineConfigFiles:\n  added: []\n",
    ] {
        assert!(yaml.contains(part), "{part:?}: {yaml}");
    }
    let fetch = &told.document["fetch"];
    let parts = fetch["parts"].as_array().context("parts")?.iter();
    let sum: u64 = parts.filter_map(|part| part["bytes"].as_u64()).sum();
    assert_eq!(Some(sum), fetch["fetchBytes"].as_u64(), "{fetch:#}");
    Ok(())
}

#[test]
fn every_check_is_provoked_and_told() -> Result<()> {
    let site = Site::boot("plan")?;
    let seed = seed_image(Release::V4_17_4);
    let own = ["--image", seed.as_str()];
    let expect = |plan: &Plan, input: &str, name: &str, verdict: &str, part: &str, exit: i32| {
        show(input, name, plan);
        let (found, text) = plan.row(name);
        assert_eq!(found, verdict, "{name}: {text}");
        assert!(text.contains(part), "{name}: {text:?} lacks {part:?}");
        assert_eq!(
            plan.status,
            Some(exit),
            "{name}: {:#}",
            plan.document["blockers"]
        );
    };

    // Nothing is changed by asking.
    let version = |site: &Site| -> Result<Value> {
        Ok(site.upgrade()?["metadata"]["resourceVersion"].clone())
    };
    let before = version(&site)?;
    site.node.run(&["touch", "/run/before"])?;
    let fits = plan(&site, "", &own)?;
    assert_eq!(fits.status, Some(0), "{:#}", fits.document);
    assert_eq!(fits.document["verdict"], "clear");
    assert_eq!(fits.document["seedVersion"], "4.17.4");
    for row in fits.document["checks"].as_array().context("rows")? {
        let name = row["name"].as_str().unwrap_or_default();
        show("a fitting seed", name, &fits);
        // A box has no boot loader, which a warning says.
        let expected = if name == "boot-fallback" {
            assert!(fits.row(name).1.contains("there is no grub.cfg"));
            "failed"
        } else {
            "passed"
        };
        assert_eq!(row["verdict"], expected, "{name}");
    }
    assert_eq!(version(&site)?, before);
    let places = "/var/lib/lca /var/lib/containers/lca /sysroot/ostree /boot /etc /var/tmp /tmp";
    let written = format!(
        "find {places} -newer /run/before -not -type d 2>/dev/null | grep -v -e /var/log/ -e /var/lib/etcd/ || true"
    );
    let written = site.node.run(&["sh", "-c", &written])?;
    ensure!(written.is_empty(), "asking wrote {written}");

    for row in provoked() {
        patch(&site, row.object, row.status, &row.change)?;
        let told = plan(&site, "", &own)?;
        expect(&told, row.object, row.check, "failed", row.text, row.exit);
        patch(&site, row.object, row.status, &row.back)?;
    }
    limits_are_told(&site, &own)?;
    objects_are_told(&site, &own)?;
    let file = "/run/extra.yaml";
    let write = format!("cat > {file} <<'END'\n{EXTRA}END\nkubectl apply -f {file}");
    site.node.run(&["sh", "-ec", &write])?;
    let told = plan(&site, "", &own)?;
    expect(
        &told,
        "a second Node",
        "single-node",
        "failed",
        "expected exactly one node, got 2",
        1,
    );
    expect(
        &told,
        "LSO and LVMS installed",
        "local-storage",
        "failed",
        "are both installed",
        1,
    );
    site.node.run(&["kubectl", "delete", "-f", file])?;

    for (name, before, exit, part) in HIDDEN {
        let verdict = if exit == 1 { "failed" } else { "unknown" };
        let told = plan(&site, before, &own)?;
        expect(&told, before, name, verdict, part, exit);
    }
    let pki = "mount -t tmpfs tmpfs /var/lib/kubelet/pki";
    let told = plan(&site, pki, &own)?;
    expect(
        &told,
        pki,
        "rollback-certificates",
        "unknown",
        "could not be read",
        0,
    );

    for (arguments, name, part, exit) in [
        (
            vec!["--image", "two words"],
            "seed-image",
            "spec.seedImageRef.image: ",
            1,
        ),
        (
            vec!["--image", &seed, "--version", "4.15.0"],
            "version-higher",
            "must be higher",
            1,
        ),
        (
            vec![],
            "seed-image",
            "spec.seedImageRef.image is not set",
            1,
        ),
        (
            vec!["--image", "registry.lab:5000/seed:none"],
            "seed-resolved",
            "registry.lab:5000/seed:none",
            1,
        ),
        (
            vec!["--image", &seed, "--pull-secret", "/etc/no-such"],
            "seed-resolved",
            "/etc/no-such",
            1,
        ),
        (
            vec!["--image", &seed, "--pull-secret", "none"],
            "seed-resolved",
            "secret none",
            1,
        ),
    ] {
        let told = plan(&site, "", &arguments)?;
        expect(&told, &arguments.join(" "), name, "failed", part, exit);
    }
    for (tag, labels, name, part) in [
        (
            "plain",
            vec![],
            "seed-format",
            "is missing the com.openshift",
        ),
        (
            "three",
            vec![("seed_format_version", "3".to_owned())],
            "seed-format",
            "expected 4, got 3",
        ),
        (
            "broken",
            vec![
                ("seed_format_version", "4".to_owned()),
                ("seed_cluster_info", "{".to_owned()),
            ],
            "seed-info",
            "failed to unmarshal seed cluster info",
        ),
    ] {
        let image = push(&site, tag, &labels)?;
        let told = plan(&site, "", &["--image", &image, "--version", "4.17.4"])?;
        expect(
            &told,
            &format!("labels {labels:?}"),
            name,
            "failed",
            part,
            1,
        );
    }
    let image = push(&site, "misfit", &misfit())?;
    let told = plan(&site, "", &["--image", &image, "--version", "4.17.4"])?;
    for (name, part) in MISFIT {
        expect(
            &told,
            "a seed that fits in nothing",
            name,
            "failed",
            part,
            1,
        );
    }
    let told = plan(
        &site,
        "",
        &["--image", &seed, "--kubeconfig", "/etc/no-such"],
    )?;
    expect(
        &told,
        "no way to the API server",
        "cluster-operators",
        "unknown",
        "/etc/no-such",
        2,
    );
    Ok(())
}

const MIB: u64 = 1 << 20;

/// Makes `/boot` a filesystem of its own with so many bytes, as far as this program and the agent see.
fn boot_of(bytes: u64) -> String {
    format!(
        "mount -t tmpfs -o size={bytes} tmpfs /boot; mkdir /boot/loader.1; \
         mount --bind /sysroot/boot/loader.1 /boot/loader.1; ln -s loader.1 /boot/loader"
    )
}

#[test]
fn a_disk_1_mib_short_is_refused_before_the_first_byte() -> Result<()> {
    let site = Site::boot("short")?;
    let seed = seed_image(Release::V4_17_4);
    let own = ["--image", seed.as_str()];
    let space = |plan: &Plan| -> Result<u64> {
        let rows = plan.document["space"].as_array().context("rows")?;
        let boot = rows.iter().find(|row| row["filesystem"] == "/boot");
        boot.and_then(|row| row["neededBytes"].as_u64())
            .context("what /boot needs")
    };
    let needed = space(&plan(&site, "", &own)?)?;
    // tmpfs counts in pages.
    let needed = needed.next_multiple_of(4096);
    let fits = plan(&site, &boot_of(needed), &own)?;
    show("exactly enough", "space-boot", &fits);
    assert_eq!(fits.row("space-boot").0, "passed");
    assert_eq!(fits.status, Some(0), "{:#}", fits.document);
    let short = plan(&site, &boot_of(needed - MIB), &own)?;
    show("1 MiB less", "space-boot", &short);
    assert_eq!(
        (short.status, short.row("space-boot").0),
        (Some(1), "failed")
    );
    let (_, text) = short.row("space-boot");
    assert!(
        text.starts_with("/boot is too full: the seed needs"),
        "{text}"
    );
    assert!(text.ends_with(" 1 MiB are missing"), "{text}");

    // The same of Prep, where nothing is fetched then.
    site.node.run(&["sh", "-ec", &boot_of(needed - MIB)])?;
    site.request_prep()?;
    let ibu = site.wait(Duration::from_secs(60), |ibu| {
        conditions(ibu).contains(&("PrepCompleted", "False"))
    })?;
    let told = ibu["status"]["conditions"].to_string();
    println!("Prep: {told}");
    assert!(told.contains("failed to validate seed image info: checking seed image compatibility: /boot is too full"), "{told}");
    let spool = site.node.run(&[
        "sh",
        "-c",
        "find /var/lib/containers/lca/seed -type f | wc -l",
    ])?;
    assert_eq!(spool.trim(), "0");
    site.go("Idle")?;
    // With room, work begins and keeps its reserve until Idle.
    for place in ["/boot/loader.1", "/boot"] {
        site.node.run(&["umount", place])?;
    }
    site.go("Prep")?;
    let reserve = [
        "stat",
        "-c",
        "%n %s",
        "/sysroot/ostree/lifecycle-agent.reserve",
        "/boot/lifecycle-agent.reserve",
    ];
    let kept = site.node.run(&reserve)?;
    let expected =
        "/sysroot/ostree/lifecycle-agent.reserve 67108864\n/boot/lifecycle-agent.reserve 1048576\n";
    assert_eq!(kept, expected);
    site.go("Idle")?;
    assert_eq!(
        site.node.exec(&reserve)?.status.code(),
        Some(1),
        "the reserve stays"
    );
    Ok(())
}
