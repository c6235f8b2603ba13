use std::collections::BTreeSet;
use std::path::Path;

use api::reconfiguration::TrustBundle;
use api::seed_info::{SeedClusterInfo, TrustBundleState};
use cluster::{Access, SeedHost};
use node::ErrorKind;
use node::PortResult;
use node::ports::{Cluster as _, ClusterFacts, Health, Told};
use serde_json::{Value, json};
use testenv::Version;

use crate::plane::Plane;

const ACCOUNT: &str = "lifecycle-agent-controller-manager";
const NAMESPACE: &str = "openshift-lifecycle-agent";

fn repository(path: &str) -> String {
    format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))
}

/// OpenShift's kinds, a healthy cluster's objects, and the agent's account with the manifests' permissions.
pub(crate) fn openshift() -> Plane {
    let plane = Plane::start(Version::Pinned);
    let crds = std::fs::read_to_string(repository("hack/mini-sno/cluster/crds.yaml")).unwrap();
    plane.servers.apply_yaml(&crds).unwrap();
    plane
        .servers
        .kubectl(&["wait", "--for=condition=Established", "crd", "--all"])
        .unwrap();
    let objects = include_str!("openshift.yaml").replace("@ROUTER_CA@", &certificate());
    plane.servers.apply_yaml(&objects).unwrap();
    let node = r#"[{"op": "add", "path": "/status/addresses", "value": [
        {"type": "InternalIP", "address": "192.0.2.10"}, {"type": "Hostname", "address": "sno.example.com"},
        {"type": "InternalIP", "address": "2001:db8::10"}]}]"#;
    plane
        .servers
        .kubectl(&[
            "patch",
            "node",
            "sno",
            "--subresource=status",
            "--type=json",
            "--patch",
            node,
        ])
        .unwrap();
    for (resource, status) in [
        (
            "clusterversion/version",
            r#"{"status": {"desired": {"version": "4.16.9"}}}"#,
        ),
        (
            "infrastructure/cluster",
            r#"{"status": {"infrastructureName": "sno-x7x7x", "infrastructureTopology": "SingleReplica"}}"#,
        ),
        (
            "clusteroperator/dns",
            r#"{"status": {"conditions": [{"type": "Available", "status": "True"},
                {"type": "Progressing", "status": "False"}]}}"#,
        ),
        (
            "clusteroperator/etcd",
            r#"{"status": {"conditions": [{"type": "Available", "status": "True"},
                {"type": "Degraded", "status": "True"}]}}"#,
        ),
        (
            "machineconfigpool/worker",
            r#"{"status": {"machineCount": 1, "readyMachineCount": 0}}"#,
        ),
        (
            "network.config.openshift.io/cluster",
            r#"{"status": {"clusterNetwork": [{"cidr": "10.128.0.0/14", "hostPrefix": 23}],
                "serviceNetwork": ["172.30.0.0/16"]}}"#,
        ),
    ] {
        let patch = [
            "patch",
            resource,
            "--subresource=status",
            "--type=merge",
            "--patch",
            status,
        ];
        plane.servers.kubectl(&patch).unwrap();
    }
    // Not those that need the monitoring stack's kinds.
    for part in [
        "crds",
        "01_namespace.yaml",
        "02_service_account.yaml",
        "03_rbac.yaml",
    ] {
        let path = repository(&format!("manifests/{part}"));
        plane
            .servers
            .kubectl(&["apply", "-R", "-f", &path])
            .unwrap();
    }
    let configuration = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: lifecycle-agent-config, \
                         namespace: openshift-lifecycle-agent}\ndata: {signaturePolicy: 'off', fetchBandwidth: 20Mi}\n";
    plane.servers.apply_yaml(configuration).unwrap();
    plane
}

/// An ingress CA's certificate, in base64.
pub(crate) fn certificate() -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "x");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "ingress-operator@1730000000");
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(pem)
}

/// The agent as it is in its pod: a service account's files, nothing but the manifests' permissions.
pub(crate) fn as_the_pod(plane: &Plane) -> (cluster::LiveCluster, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let token = plane
        .servers
        .service_account_token(NAMESPACE, ACCOUNT)
        .unwrap();
    std::fs::write(directory.path().join("token"), token).unwrap();
    std::fs::write(directory.path().join("ca.crt"), plane.servers.ca_pem()).unwrap();
    let address = plane.servers.url().strip_prefix("https://").unwrap();
    let (host, port) = address.split_once(':').unwrap();
    let access = Access::ServiceAccount {
        directory: directory.path().to_owned(),
        host: host.to_owned(),
        port: port.parse().unwrap(),
    };
    (plane.port_over(plane.connection_by(&access)), directory)
}

#[test]
fn everything_that_the_agent_must_know_is_read() {
    let plane = openshift();
    let (pod, _files) = as_the_pod(&plane);
    assert!(pod.ready());
    assert_eq!(
        pod.facts().unwrap(),
        ClusterFacts {
            version: "4.16.9".to_owned(),
            has_proxy: false,
            has_fips: false,
            has_user_ca_bundle: false,
            proxy_config_map: String::new(),
            release_registry: "registry.example.com:5000".to_owned(),
            mirror_sources: vec!["quay.io".to_owned()],
            nodes: vec!["sno".to_owned()],
            health: Health {
                operators: vec!["console".to_owned(), "etcd".to_owned()],
                pools: vec!["worker".to_owned()],
                node: vec![
                    "node is not yet ready: sno".to_owned(),
                    "node missing node-role.kubernetes.io/control-plane label: sno".to_owned(),
                    "node missing node-role.kubernetes.io/worker label: sno".to_owned(),
                ],
                service_versions: vec!["operator.v1".to_owned()],
                ..Health::default()
            },
            node_ips: vec!["192.0.2.10".to_owned(), "2001:db8::10".to_owned()],
            machine_networks: Told::Known(vec!["192.0.2.0/24".to_owned()]),
            kernel_arguments: vec!["quiet".to_owned()],
            files: vec!["/etc/chrony.conf".to_owned()],
            file_marks: [("/etc/chrony.conf".to_owned(), "cbf29ce484222325".to_owned(),)].into(),
            machine_configs: Told::Known(
                [("50-user".to_owned(), "294553ab4cca8e28".to_owned())].into()
            ),
            operators: Told::Known(["ptp-operator".to_owned()].into()),
            configuration: [("signaturePolicy", "off"), ("fetchBandwidth", "20Mi")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        }
    );
    whole_upgrade_object(&pod);
    secrets(&pod);
    identity(&plane, &pod);
    mirrors(&pod);
    seed(&plane);
    trust(&plane, &pod);
    odd_clusters(&plane, &pod);
}

/// Everything about the object works with the manifests' permissions.
fn whole_upgrade_object(pod: &cluster::LiveCluster) {
    pod.ensure_upgrade().unwrap();
    let seen = pod.upgrade().unwrap().unwrap();
    pod.publish(&seen, &api::ImageBasedUpgradeStatus::default())
        .unwrap();
    pod.annotate("a", Some("b")).unwrap();
    let mut saved = seen;
    saved.spec.stage = Some("Prep".to_owned());
    pod.restore_upgrade(&saved).unwrap();
    assert_eq!(pod.upgrade().unwrap().unwrap().spec, saved.spec);
}

fn secrets(pod: &cluster::LiveCluster) {
    assert_eq!(
        pod.pull_secret("seed-pull-secret").unwrap().0,
        br#"{"auths":{}}"#
    );
    let check = |name: &str, kind: ErrorKind, chain: &str| {
        let error = pod.pull_secret(name).unwrap_err();
        assert_eq!((error.kind(), self::chain(&error).as_str()), (kind, chain));
    };
    check(
        "missing",
        ErrorKind::Permanent,
        "failed to retrieve pull-secret from secret missing, err: reading Secret openshift-lifecycle-agent/missing: \
         not found: secrets \"missing\" not found",
    );
    check(
        "keyless",
        ErrorKind::Permanent,
        "did not find key .dockerconfigjson in Secret keyless/openshift-lifecycle-agent",
    );
    check(
        "../../nodes/sno",
        ErrorKind::Permanent,
        "failed to retrieve pull-secret from secret ../../nodes/sno, err: reading Secret \
         openshift-lifecycle-agent/../../nodes/sno: \"openshift-lifecycle-agent/../../nodes/sno\" cannot be the name \
         of an object",
    );
}

fn identity(plane: &Plane, pod: &cluster::LiveCluster) {
    let found = pod.reconfiguration().unwrap();
    let shown = serde_json::to_value(&found).unwrap();
    let install_config = shown["install_config"].as_str().unwrap();
    assert!(install_config.contains("baseDomain: example.com"));
    let expected = json!({
        "api_version": 1,
        "base_domain": "example.com",
        "cluster_name": "sno",
        "cluster_id": "11111111-2222-3333-4444-555555555555",
        "infra_id": "sno-x7x7x",
        "node_ips": ["192.0.2.10", "2001:db8::10"],
        "release_registry": "registry.example.com:5000",
        "hostname": "sno.example.com",
        "KubeconfigCryptoRetention": {
            "KubeAPICrypto": {
                "ServingCrypto": {
                    "localhost_signer_private_key": "localhost key",
                    "service_network_signer_private_key": "service key",
                    "loadbalancer_external_signer_private_key": "loadbalancer key",
                },
                "ClientAuthCrypto": {"admin_ca_certificate": "admin ca"},
            },
            "IngresssCrypto": {
                "ingress_ca": "router key",
                "ingress_certificate_cn": "ingress-operator@1730000000",
            },
        },
        "kubeadmin_password_hash": "$2a$10$hash",
        "pull_secret": r#"{"auths":{"a":{}}}"#,
        "machine_networks": ["192.0.2.0/24"],
        "install_config": install_config,
        "additionalTrustBundle": {"userCaBundle": "", "proxyConfigmapName": "", "proxyConfigmapBundle": ""},
        "node_labels": {"node-role.kubernetes.io/master": "", "zone": "a"},
    });
    assert_eq!(shown, expected);
    let printed = format!("{found:?}");
    for secret in ["localhost key", "router key", "$2a$10$hash", "auths"] {
        assert!(!printed.contains(secret), "{secret} is printed");
    }

    // Without the administrator's password, which is removed on many clusters.
    plane
        .servers
        .kubectl(&["delete", "secret", "-n", "kube-system", "kubeadmin"])
        .unwrap();
    assert!(
        pod.reconfiguration()
            .unwrap()
            .kubeadmin_password_hash
            .is_empty()
    );

    let node = plane.port();
    assert_eq!(
        pod.cluster_id().unwrap(),
        "11111111-2222-3333-4444-555555555555"
    );
    node.set_cluster_id("66666666-7777-8888-9999-000000000000")
        .unwrap();
    assert_eq!(
        pod.cluster_id().unwrap(),
        "66666666-7777-8888-9999-000000000000"
    );
    // The pod may not do that; the post-pivot service does.
    let error = pod.set_cluster_id("x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permanent);
    assert!(
        chain(&error).starts_with(
            "changing ClusterVersion version: no permission to patch clusterversions.config.openshift.io: "
        ),
        "{}",
        chain(&error)
    );
}

fn mirrors(pod: &cluster::LiveCluster) {
    let exported = pod.exported().unwrap();
    let manifests = exported.manifests;
    // No local storage and no cert-manager here: their kinds are not served.
    assert_eq!(exported.keys, []);
    let names: Vec<_> = manifests.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "image-digest-mirror-set.json",
            "image-content-source-policy-list.json"
        ]
    );
    let list: Value = serde_json::from_slice(&manifests[0].1).unwrap();
    assert_eq!(
        list,
        json!({
            "apiVersion": "config.openshift.io/v1",
            "kind": "ImageDigestMirrorSetList",
            "metadata": {},
            "items": [{
                "apiVersion": "config.openshift.io/v1",
                "kind": "ImageDigestMirrorSet",
                "metadata": {"name": "mirrors", "labels": {"l": "v"}, "annotations": list["items"][0]["metadata"]["annotations"]},
                "spec": {"imageDigestMirrors": [
                    {"source": "quay.io/a", "mirrors": ["mirror.example.com/a"]},
                    {"source": "quay.io/b", "mirrors": ["mirror.example.com/b"]},
                ]},
            }],
        })
    );
}

fn seed(plane: &Plane) {
    let host = SeedHost {
        container_storage_target: "/dev/disk/by-partlabel/containers".to_owned(),
        recert_image: "registry.example.com/recert:v0".to_owned(),
    };
    assert_eq!(
        plane.port().seed_info(&host).unwrap(),
        SeedClusterInfo {
            seed_cluster_ocp_version: "4.16.9".to_owned(),
            base_domain: "example.com".to_owned(),
            cluster_name: "sno".to_owned(),
            node_ips: vec!["192.0.2.10".to_owned(), "2001:db8::10".to_owned()],
            release_registry: "registry.example.com:5000".to_owned(),
            mirror_registry_configured: true,
            sno_hostname: "sno.example.com".to_owned(),
            recert_image_pull_spec: host.recert_image.clone(),
            cluster_network_cidr: vec!["10.128.0.0/14".to_owned()],
            service_network_cidr: vec!["172.30.0.0/16".to_owned()],
            additional_trust_bundle: Some(TrustBundleState::default()),
            container_storage_mountpoint_target: host.container_storage_target.clone(),
            ingress_certificate_cn: "ingress-operator@1730000000".to_owned(),
            machine_networks: vec!["192.0.2.0/24".to_owned()],
            ..SeedClusterInfo::default()
        }
    );
    let images = plane.port().container_images().unwrap();
    let set = |images: &[&str]| {
        images
            .iter()
            .map(|&image| image.to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        images.related,
        set(&["registry.example.com/operator@sha256:11"])
    );
    assert_eq!(
        images.catalogs,
        set(&["registry.example.com/redhat-operator-index:v4.16"])
    );
}

fn set(plane: &Plane, resource: &str, patch: &str) {
    plane
        .servers
        .kubectl(&["patch", resource, "--type=merge", "--patch", patch])
        .unwrap();
}

fn bundle(plane: &Plane, name: &str, text: &str) {
    plane
        .servers
        .apply_yaml(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: openshift-config}}\n\
             data: {{ca-bundle.crt: \"{text}\"}}\n"
        ))
        .unwrap();
}

/// Proxies and CA bundles (contract 3.3).
fn trust(plane: &Plane, pod: &cluster::LiveCluster) {
    let check = |name: &str, expect: (bool, &str, &str, &str)| {
        set(
            plane,
            "proxy/cluster",
            &format!(r#"{{"spec": {{"trustedCA": {{"name": "{name}"}}}}}}"#),
        );
        let (has_user_bundle, user, proxy_name, proxy_bundle) = expect;
        let facts = pod.facts().unwrap();
        assert_eq!(
            (facts.has_user_ca_bundle, facts.proxy_config_map.as_str()),
            (has_user_bundle, proxy_name)
        );
        assert_eq!(
            pod.reconfiguration().unwrap().additional_trust_bundle,
            TrustBundle {
                user_ca_bundle: user.to_owned(),
                proxy_configmap_name: proxy_name.to_owned(),
                proxy_configmap_bundle: proxy_bundle.to_owned(),
            }
        );
    };
    check("user-ca-bundle", (false, "", "", ""));
    bundle(plane, "user-ca-bundle", "users");
    check("", (true, "users", "", ""));
    check("user-ca-bundle", (true, "users", "user-ca-bundle", "users"));
    bundle(plane, "other", "others");
    check("other", (true, "users", "other", "others"));

    bundle(plane, "other", "");
    let error = pod.facts().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permanent);
    assert_eq!(
        error.to_string(),
        "proxy trustedCA configmap openshift-config/other exists but is empty"
    );
    check("", (true, "users", "", ""));

    for member in ["httpProxy", "httpsProxy", "noProxy"] {
        set(
            plane,
            "proxy/cluster",
            &format!(r#"{{"spec": {{"{member}": "x"}}}}"#),
        );
        assert!(pod.facts().unwrap().has_proxy, "{member}");
        assert!(pod.reconfiguration().unwrap().proxy.is_some(), "{member}");
        set(
            plane,
            "proxy/cluster",
            &format!(r#"{{"spec": {{"{member}": null}}}}"#),
        );
        assert!(!pod.facts().unwrap().has_proxy, "{member}");
    }
}

/// Clusters that are not as they must be: an error that names the object, no panic.
fn odd_clusters(plane: &Plane, pod: &cluster::LiveCluster) {
    let facts = |change: &dyn Fn(), back: &dyn Fn(), expect: &str| {
        change();
        let result: PortResult<ClusterFacts> = pod.facts();
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind(), chain(&error).as_str()),
            (ErrorKind::Permanent, expect)
        );
        back();
        pod.facts().unwrap();
    };
    let merge = |resource: &'static str, patch: &'static str| move || set(plane, resource, patch);
    let current = r#"{"metadata": {"annotations": {"machineconfiguration.openshift.io/currentConfig": "rendered-master-1"}}}"#;
    facts(
        &merge(
            "node/sno",
            r#"{"metadata": {"annotations": {"machineconfiguration.openshift.io/currentConfig": "gone"}}}"#,
        ),
        &merge("node/sno", current),
        "reading MachineConfig gone: not found: machineconfigs.machineconfiguration.openshift.io \"gone\" not found",
    );
    facts(
        &merge(
            "node/sno",
            r#"{"metadata": {"annotations": {"machineconfiguration.openshift.io/currentConfig": null}}}"#,
        ),
        &merge("node/sno", current),
        "Node sno has no annotation machineconfiguration.openshift.io/currentConfig",
    );
    facts(
        &merge(
            "machineconfig/rendered-master-1",
            r#"{"spec": {"fips": "yes"}}"#,
        ),
        &merge(
            "machineconfig/rendered-master-1",
            r#"{"spec": {"fips": true}}"#,
        ),
        "reading MachineConfig rendered-master-1: the answer has an unexpected shape: \
         invalid type: string \"yes\", expected a boolean",
    );
    assert!(pod.facts().unwrap().has_fips);
    let another = "apiVersion: v1\nkind: Node\nmetadata: {name: second}\n";
    plane.servers.apply_yaml(another).unwrap();
    assert_eq!(pod.facts().unwrap().nodes, ["second", "sno"]);
    let error = pod.reconfiguration().unwrap_err();
    assert_eq!(error.to_string(), "expected exactly one node, got 2");
    plane
        .servers
        .kubectl(&["delete", "node", "second"])
        .unwrap();
}

/// The error with all causes. A parser's place in an answer is left out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        text.push_str(": ");
        text.push_str(line.split(" at line ").next().unwrap());
        cause = error.source();
    }
    text
}

#[test]
fn credentials_that_are_missing_are_named() {
    let check =
        |kubeconfig: Option<&Path>, variables: &[(&str, &str)], expect: Result<Access, &str>| {
            let variable = |name: &str| {
                variables
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            let found = Access::find(kubeconfig, variable).map_err(|error| error.to_string());
            assert_eq!(found, expect.map_err(str::to_owned));
        };
    let pod = |directory: &str, port: u16| {
        Ok(Access::ServiceAccount {
            directory: directory.into(),
            host: "10.0.0.1".to_owned(),
            port,
        })
    };
    let host = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    check(
        Some(Path::new("/a")),
        &[host],
        Ok(Access::Kubeconfig("/a".into())),
    );
    check(
        None,
        &[host],
        pod("/var/run/secrets/kubernetes.io/serviceaccount", 443),
    );
    check(
        None,
        &[
            host,
            ("KUBERNETES_SERVICE_PORT", "6443"),
            ("LCA_SERVICE_ACCOUNT_FD", "7"),
        ],
        pod("/proc/self/fd/7", 6443),
    );
    check(
        None,
        &[],
        Err(
            "no way to the API server: name a kubeconfig, or run in a pod (KUBERNETES_SERVICE_HOST is not set)",
        ),
    );
    check(
        None,
        &[host, ("KUBERNETES_SERVICE_PORT", "x")],
        Err("KUBERNETES_SERVICE_PORT is not a port: \"x\""),
    );
    check(
        None,
        &[host, ("LCA_SERVICE_ACCOUNT_FD", "-1")],
        Err("LCA_SERVICE_ACCOUNT_FD is not a descriptor: \"-1\""),
    );

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let open = |access: &Access| {
        runtime
            .block_on(cluster::Connection::open(access))
            .unwrap_err()
    };
    let error = open(&Access::Kubeconfig("/nonexistent/kubeconfig".into()));
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert_eq!(
        error.to_string(),
        "kubeconfig /nonexistent/kubeconfig does not exist"
    );
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken");
    std::fs::write(&broken, "clusters: [").unwrap();
    let error = open(&Access::Kubeconfig(broken.clone()));
    assert_eq!(error.kind(), ErrorKind::Permanent);
    assert_eq!(
        error.to_string(),
        format!("reading kubeconfig {}", broken.display())
    );
    let error = open(&Access::ServiceAccount {
        directory: dir.path().to_owned(),
        host: "::1".to_owned(),
        port: 6443,
    });
    assert_eq!(error.kind(), ErrorKind::Permanent);
    assert!(
        error
            .to_string()
            .ends_with("does not exist; the pod needs automountServiceAccountToken")
    );
}
