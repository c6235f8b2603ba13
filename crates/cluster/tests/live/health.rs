//! Health of operators that were installed after the cluster, read with the manifests' permissions and nothing else.

use node::ports::{Cluster as _, Health};

use crate::facts::{as_the_pod, openshift};
use crate::plane::Plane;

const ADP: &str = "openshift-adp";

/// As much of an operator's kind as the API server needs.
fn kind(group: &str, version: &str, name: &str) -> String {
    let singular = name.to_lowercase();
    format!(
        "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
         metadata: {{name: {singular}s.{group}}}\n\
         spec:\n  group: {group}\n  scope: Namespaced\n  \
         names: {{kind: {name}, plural: {singular}s, singular: {singular}}}\n  \
         versions: [{{name: {version}, served: true, storage: true, schema: {{openAPIV3Schema: \
         {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}]\n"
    )
}

fn install(plane: &Plane) {
    let kinds = [
        kind("sriovnetwork.openshift.io", "v1", "SriovNetworkNodeState"),
        kind("oadp.openshift.io", "v1alpha1", "DataProtectionApplication"),
        kind("velero.io", "v1", "BackupStorageLocation"),
    ];
    plane.servers.apply_yaml(&kinds.concat()).unwrap();
    plane
        .servers
        .kubectl(&["wait", "--for=condition=Established", "crd", "--all"])
        .unwrap();
    plane
        .servers
        .kubectl(&["create", "namespace", ADP])
        .unwrap();
}

fn object(plane: &Plane, version: &str, kind: &str, (namespace, name): (&str, &str), status: &str) {
    let text = format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nstatus: {status}\n"
    );
    plane.servers.apply_yaml(&text).unwrap();
}

#[test]
fn operators_own_resources() {
    let plane = openshift();
    let (pod, _files) = as_the_pod(&plane);
    let health = || pod.health().unwrap();
    let first = health();
    assert_eq!((first.sriov, first.backups), (Vec::new(), Vec::new()));

    install(&plane);
    let check = |expect: [&[&str]; 2]| {
        let Health { sriov, backups, .. } = health();
        assert_eq!([sriov, backups], expect);
    };
    // The operators are there: SR-IOV looks at every node, OADP waits to be configured.
    check([&["no SriovNetworkNodeStates present"], &[]]);
    let sriov = |status: &str| {
        let at = ("openshift-lifecycle-agent", "sno");
        object(
            &plane,
            "sriovnetwork.openshift.io/v1",
            "SriovNetworkNodeState",
            at,
            status,
        );
    };
    sriov("{syncStatus: InProgress}");
    check([&["sriovNetworkNodeState not ready"], &[]]);
    sriov("{syncStatus: Succeeded}");
    check([&[], &[]]);

    let configured = |namespace: &str, status: &str| {
        let (version, kind) = ("oadp.openshift.io/v1alpha1", "DataProtectionApplication");
        object(&plane, version, kind, (namespace, "velero"), status);
    };
    configured("default", "{}");
    check([&[], &[]]);
    configured(ADP, "{conditions: [{type: Reconciled, status: \"False\"}]}");
    check([&[], &["dataProtectionApplication not reconciled"]]);
    configured(ADP, "{conditions: [{type: Reconciled, status: \"True\"}]}");
    check([&[], &["backupsStorageLocations not yet created"]]);
    let place = |name: &str, phase: &str| {
        let status = format!("{{phase: {phase}}}");
        object(
            &plane,
            "velero.io/v1",
            "BackupStorageLocation",
            (ADP, name),
            &status,
        );
    };
    place("a", "Unavailable");
    place("b", "Available");
    check([&[], &["backupStorageLocation a not available"]]);
    place("a", "Available");
    check([&[], &[]]);

    service_versions(&plane, &pod);
    signing_requests(&plane, &pod);
}

fn service_versions(plane: &Plane, pod: &cluster::LiveCluster) {
    let check = |expect: &[&str]| assert_eq!(pod.health().unwrap().service_versions, expect);
    check(&["operator.v1"]);
    let phase = |name: &str, namespace: &str, phase: &str| {
        // The kind has a subresource for its status.
        let patch = format!(r#"{{"status": {{"phase": "{phase}"}}}}"#);
        plane
            .servers
            .kubectl(&[
                "patch",
                "csv",
                name,
                "-n",
                namespace,
                "--subresource=status",
                "--type=merge",
                "--patch",
                &patch,
            ])
            .unwrap();
    };
    let create = |name: &str, labels: &str| {
        let text = format!(
            "apiVersion: operators.coreos.com/v1alpha1\nkind: ClusterServiceVersion\n\
             metadata: {{name: {name}, namespace: default, labels: {labels}}}\n"
        );
        plane.servers.apply_yaml(&text).unwrap();
    };
    // Ours, which an upgrade of the agent itself replaces, and what a namespace has of an operator of another one.
    create("lifecycle-agent.v4", "{}");
    create("copied.v1", "{olm.copiedFrom: openshift-operators}");
    create("another.v1", "{}");
    check(&["another.v1", "operator.v1"]);
    phase("operator.v1", "openshift-lifecycle-agent", "Succeeded");
    phase("another.v1", "default", "Installing");
    check(&["another.v1"]);
    phase("another.v1", "default", "Succeeded");
    check(&[]);
}

fn signing_requests(plane: &Plane, pod: &cluster::LiveCluster) {
    use base64::Engine as _;
    let check = |expect: &[&str]| assert_eq!(pod.health().unwrap().signing_requests, expect);
    check(&[]);
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::new(Vec::new())
        .unwrap()
        .serialize_request(&key)
        .unwrap();
    let request = base64::engine::general_purpose::STANDARD.encode(request.pem().unwrap());
    for name in ["csr-a", "csr-b"] {
        let text = format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\n\
             spec: {{signerName: example.com/any, usages: [digital signature], request: {request}}}\n"
        );
        plane.servers.apply_yaml(&text).unwrap();
    }
    check(&["csr-a", "csr-b"]);
    let decide = |verdict: &str, name: &str| {
        plane
            .servers
            .kubectl(&["certificate", verdict, name])
            .unwrap();
    };
    decide("approve", "csr-a");
    check(&["csr-b"]);
    decide("deny", "csr-b");
    check(&[]);
}
