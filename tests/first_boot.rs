//! The first boot of a target on a node in the box: what the origin leaves for it, field by field, and that the node answers under
//! its own name, address and keys afterwards.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use boxed::Site;
use serde_json::{Value, json};

const TARGET: &str = "rhcos_4.17.4";
const ORIGIN: &str = "rhcos";
const EXPORTED: &str = "/var/opt/openshift";
const DEVICES: &str = "# devices of the site\nVERSION=1.1.2\n";
const MIRRORS: &str = "
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata: {name: site, labels: {of: site}}
spec: {imageDigestMirrors: [{source: quay.io/site, mirrors: [mirror.lab/site]}]}
";

/// Mode and path of everything below a directory, paths relative to it and sorted.
fn listing(root: &Path) -> Result<Vec<String>> {
    fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) -> Result<()> {
        for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            let mode = metadata.permissions().mode() & 0o7777;
            ensure!(
                (metadata.uid(), metadata.gid()) == (0, 0),
                "{} belongs to {}:{}",
                path.display(),
                metadata.uid(),
                metadata.gid()
            );
            let rel = path.strip_prefix(root)?.display();
            let slash = if metadata.is_dir() { "/" } else { "" };
            found.push(format!("{rel}{slash} {mode:04o}"));
            if metadata.is_dir() {
                walk(root, &path, found)?;
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(root, root, &mut found)?;
    found.sort();
    Ok(found)
}

/// A file of a stateroot, on the host.
fn text(site: &Site, stateroot: &str, path: &str) -> Result<String> {
    let path = site.node.path_in_stateroot(stateroot, path)?;
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// Permissions of a file of a stateroot, and its owner.
fn standing(site: &Site, path: &str) -> Result<(u32, u32)> {
    let found = fs::symlink_metadata(site.node.path_in_stateroot(TARGET, path)?)?;
    Ok((found.permissions().mode() & 0o7777, found.uid()))
}

fn object(site: &Site, what: &[&str]) -> Result<Value> {
    let args: Vec<&str> = ["get", "-o", "json"]
        .into_iter()
        .chain(what.iter().copied())
        .collect();
    Ok(serde_json::from_str(&site.node.kubectl(&args)?)?)
}

/// Gives the site what the usual one lacks.
fn furnish(site: &Site) -> Result<()> {
    let devices = site
        .node
        .path_in_stateroot(ORIGIN, "/etc/lvm/devices/system.devices")?;
    fs::create_dir_all(devices.parent().context("a parent")?)?;
    fs::write(&devices, DEVICES)?;
    let file = site.lab.dir().join("mirrors.yaml");
    fs::write(&file, MIRRORS)?;
    site.node
        .kubectl(&["create", "-f", &file.display().to_string()])?;
    site.node
        .kubectl(&["label", "node", "site", "zone=north"])?;
    Ok(())
}

/// The document against what the site is, read another way.
fn compare_document(site: &Site, id: &str) -> Result<()> {
    let path = format!("{EXPORTED}/cluster-configuration/manifest.json");
    let document: Value = serde_json::from_str(&text(site, TARGET, &path)?)?;
    let origin = |path: &str| text(site, ORIGIN, path);
    let address = site.node.address().to_string();
    let [a, b, c, _] = site.node.address().octets();
    let expected = [
        ("api_version", json!(1)),
        ("base_domain", json!("lab.example.com")),
        ("cluster_name", json!("sno")),
        ("cluster_id", json!(id)),
        ("node_ips", json!([address])),
        ("release_registry", json!("quay.io")),
        ("hostname", json!("site")),
        (
            "ssh_key",
            json!(origin("/var/home/core/.ssh/authorized_keys.d/ignition")?),
        ),
        (
            "pull_secret",
            json!(origin("/var/lib/kubelet/config.json")?),
        ),
        ("machine_networks", json!([format!("{a}.{b}.{c}.0/24")])),
        ("chrony_config", json!(origin("/etc/chrony.conf")?)),
        (
            "additionalTrustBundle",
            json!({"userCaBundle": "", "proxyConfigmapName": "", "proxyConfigmapBundle": ""}),
        ),
    ];
    for (field, value) in &expected {
        assert_eq!(document[field], *value, "{field}");
    }
    assert_eq!(document["node_labels"]["zone"], "north");
    for key in document["server_ssh_keys"].as_array().context("keys")? {
        let name = key["file_name"].as_str().context("a name")?;
        let file = origin(&format!("/etc/ssh/{name}"))?;
        assert_eq!(key["file_content"], json!(file), "{name}");
    }
    let mut fields: Vec<&str> = expected.iter().map(|(field, _)| *field).collect();
    fields.extend([
        "infra_id",
        "KubeconfigCryptoRetention",
        "server_ssh_keys",
        "kubeadmin_password_hash",
        "install_config",
        "node_labels",
    ]);
    fields.sort_unstable();
    let mut found: Vec<&str> = document
        .as_object()
        .context("an object")?
        .keys()
        .map(String::as_str)
        .collect();
    found.sort_unstable();
    assert_eq!(found, fields);
    // Each key once more as a file.
    let serving = &document["KubeconfigCryptoRetention"]["KubeAPICrypto"]["ServingCrypto"];
    for (file, value) in [
        (
            "loadbalancer-serving-signer.key",
            &serving["loadbalancer_external_signer_private_key"],
        ),
        (
            "localhost-serving-signer.key",
            &serving["localhost_signer_private_key"],
        ),
        (
            "ingresskey-ingress-operator.key",
            &document["KubeconfigCryptoRetention"]["IngresssCrypto"]["ingress_ca"],
        ),
    ] {
        let content = text(
            site,
            TARGET,
            &format!("{EXPORTED}/kubeconfig-crypto/{file}"),
        )?;
        ensure!(content.contains("PRIVATE KEY"), "{file} holds no key");
        assert_eq!(*value, json!(content), "{file}");
    }
    Ok(())
}

#[test]
fn the_target_comes_up_as_the_site_that_it_replaces() -> Result<()> {
    let site = Site::boot("first-boot")?;
    furnish(&site)?;
    let version = ["clusterversion", "version"];
    let id = object(&site, &version)?["spec"]["clusterID"].clone();
    let id = id.as_str().context("an id")?.to_owned();
    let address = site.node.address().to_string();
    let scan = ["ssh-keyscan", "-t", "ed25519", &address];
    let shown = site.node.run(&scan)?;
    ensure!(shown.contains("ssh-ed25519 "), "{shown:?}");

    site.go("Prep")?;
    site.node.hold_at_reboot(true);
    site.request("Upgrade")?;
    site.node.wait_off()?;
    let exported = listing(&site.node.path_in_stateroot(TARGET, EXPORTED)?)?;
    assert_eq!(
        exported,
        [
            "cluster-configuration/ 0700",
            "cluster-configuration/manifest.json 0600",
            "cluster-configuration/manifests/ 0700",
            "cluster-configuration/manifests/image-digest-mirror-set.json 0600",
            "kubeconfig-crypto/ 0700",
            "kubeconfig-crypto/admin-kubeconfig-client-ca.crt 0600",
            "kubeconfig-crypto/ingresskey-ingress-operator.key 0600",
            "kubeconfig-crypto/loadbalancer-serving-signer.key 0600",
            "kubeconfig-crypto/localhost-serving-signer.key 0600",
            "kubeconfig-crypto/service-network-serving-signer.key 0600",
            "lvm-configuration/ 0700",
            "lvm-configuration/system.devices 0600",
            "network-configuration/ 0700",
            "network-configuration/system-connections/ 0755",
            "network-configuration/system-connections/enp1s0.nmconnection 0600",
        ]
    );
    compare_document(&site, &id)?;

    site.node.hold_at_reboot(false);
    site.node.boot()?;
    site.wait_stage("Upgrade")?;
    assert_eq!(
        site.node.booted().map(|booted| booted.stateroot).as_deref(),
        Some(TARGET)
    );

    // Its own address, name and keys, from the network and not from files.
    assert_eq!(site.node.run(&scan)?, shown, "the SSH server's key");
    assert_eq!(site.node.run(&["hostname"])?.trim(), "site");
    let api = site
        .node
        .run(&["getent", "hosts", "api.sno.lab.example.com"])?;
    ensure!(api.starts_with(&address), "{api:?} is not {address}");
    let node = object(&site, &["node", "site"])?;
    assert_eq!(node["metadata"]["labels"]["zone"], "north");

    // Where the contract says, as it says.
    let hint = format!(
        "KUBELET_NODEIP_HINT={}.0",
        address.rsplit_once('.').context("an address")?.0
    );
    let overrides = format!(
        "SNO_CLUSTER_NAME_OVERRIDE=sno\nSNO_BASE_DOMAIN_OVERRIDE=lab.example.com\nSNO_DNSMASQ_IP_OVERRIDE={address}"
    );
    let ssh_key = text(
        &site,
        ORIGIN,
        "/var/home/core/.ssh/authorized_keys.d/ignition",
    )?;
    let pull_secret = text(&site, ORIGIN, "/var/lib/kubelet/config.json")?;
    let chrony = text(&site, ORIGIN, "/etc/chrony.conf")?;
    for (path, mode, owner, content) in [
        ("/etc/default/nodeip-configuration", 0o600, 0, &hint),
        (
            "/etc/default/sno_dnsmasq_configuration_overrides",
            0o600,
            0,
            &overrides,
        ),
        (
            "/var/home/core/.ssh/authorized_keys.d/ib-early-access",
            0o600,
            1000,
            &ssh_key,
        ),
        ("/var/lib/kubelet/config.json", 0o600, 0, &pull_secret),
        ("/etc/chrony.conf", 0o644, 0, &chrony),
        (
            "/etc/lvm/devices/system.devices",
            0o600,
            0,
            &DEVICES.to_owned(),
        ),
    ] {
        assert_eq!(text(&site, TARGET, path)?, *content, "{path}");
        assert_eq!(standing(&site, path)?, (mode, owner), "{path}");
    }
    for name in ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"] {
        let path = format!("/etc/ssh/{name}");
        assert_eq!(text(&site, TARGET, &path)?, text(&site, ORIGIN, &path)?);
    }
    // Who was told to read it again.
    let recorded = |name: &str| text(&site, TARGET, &format!("/var/log/recorders/{name}"));
    let hinted = recorded("nodeip-configuration")?;
    ensure!(
        hinted.contains(&hint.replace("KUBELET_NODEIP_HINT", "hint")),
        "{hinted}"
    );
    ensure!(recorded("chronyd")?.lines().count() >= 2, "chronyd");
    ensure!(recorded("update-ca-trust")?.lines().count() >= 2, "trust");

    // What its API server has.
    assert_eq!(object(&site, &version)?["spec"]["clusterID"], json!(id));
    let mirrors = object(&site, &["imagedigestmirrorset", "site"])?;
    assert_eq!(mirrors["metadata"]["labels"]["of"], "site");
    for role in ["master", "worker"] {
        let config = object(&site, &["machineconfig", &format!("99-{role}-ssh")])?;
        let users = &config["spec"]["config"]["passwd"]["users"];
        assert_eq!(users[0]["sshAuthorizedKeys"], json!([ssh_key]));
    }
    // Nothing of it is left, and the unit does not run again.
    for gone in [EXPORTED, "/var/seed_data"] {
        ensure!(
            !site.node.path_in_stateroot(TARGET, gone)?.exists(),
            "{gone} is still there"
        );
    }
    let unit = site
        .node
        .exec(&["systemctl", "is-enabled", "installation-configuration"])?;
    assert_eq!(String::from_utf8_lossy(&unit.stdout).trim(), "disabled");
    Ok(())
}

/// The unit as the Go original ships it: it is up when all is done and not before, and gives no socket to tell anything on.
const UNIT_OF_GO: &str = "\
[Unit]
Description=First boot
After=coreos-update-ca-trust.service

[Service]
Type=oneshot
RemainAfterExit=no
ExecStart=/usr/local/bin/lca-cli post-pivot
Restart=on-failure
RestartSec=5s

[Install]
WantedBy=multi-user.target
";

/// And a seed whose kubelet is enabled: it begins under the seed's name, beside the unit.
#[test]
fn the_go_originals_unit_and_a_kubelet_that_is_enabled_do_as_well() -> Result<()> {
    let site = Site::boot("oneshot")?;
    site.go("Prep")?;
    let units = "/etc/systemd/system";
    let unit = site.node.path_in_stateroot(
        TARGET,
        &format!("{units}/installation-configuration.service"),
    )?;
    fs::write(&unit, UNIT_OF_GO)?;
    let wanted = format!("{units}/multi-user.target.wants/kubelet.service");
    std::os::unix::fs::symlink(
        "/usr/lib/systemd/system/kubelet.service",
        site.node.path_in_stateroot(TARGET, &wanted)?,
    )
    .context("enabling kubelet in the target")?;
    site.go("Upgrade")?;
    site.node.wait_api()?;
    let nodes = object(&site, &["nodes"])?;
    let nodes = nodes["items"].as_array().context("a list")?;
    let names: Vec<&Value> = nodes.iter().map(|node| &node["metadata"]["name"]).collect();
    assert_eq!(names, ["site"]);
    let addresses = &nodes[0]["status"]["addresses"];
    assert_eq!(
        addresses[0]["address"],
        json!(site.node.address().to_string())
    );
    let journal = site.node.run(&[
        "journalctl",
        "--boot",
        "--unit=installation-configuration.service",
        "--output=cat",
    ])?;
    ensure!(
        journal.contains("this node has its identity"),
        "the unit did not say that it is done:\n{journal}"
    );
    Ok(())
}
