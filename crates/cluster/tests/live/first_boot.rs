//! What the origin exports and what the first boot tells the target's API server.

use api::reconfiguration::{Proxy, SeedReconfiguration, TrustBundle};
use node::ErrorKind;
use node::ports::{Cluster as _, RegistryChange};
use serde_json::{Value, json};

use crate::facts::{as_the_pod, certificate, openshift};
use crate::plane::Plane;

/// Kinds that only some clusters have.
const KINDS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: localvolumes.local.storage.openshift.io}
spec:
  group: local.storage.openshift.io
  names: {kind: LocalVolume, plural: localvolumes, singular: localvolume}
  scope: Namespaced
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certificates.cert-manager.io}
spec:
  group: cert-manager.io
  names: {kind: Certificate, plural: certificates, singular: certificate}
  scope: Namespaced
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
";

const OBJECTS: &str = "
apiVersion: local.storage.openshift.io/v1
kind: LocalVolume
metadata: {name: disks, namespace: default}
spec: {storageClassDevices: [{storageClassName: fast}, {storageClassName: fast}]}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast}
provisioner: kubernetes.io/no-provisioner
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Secret
metadata: {name: shop-tls, namespace: shop}
type: kubernetes.io/tls
data: {tls.crt: @CERTIFICATE@, tls.key: a2V5}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: shop, namespace: shop}
spec: {secretName: shop-tls}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: again, namespace: shop}
spec: {secretName: shop-tls}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: pending, namespace: shop}
spec: {secretName: not-there-yet}
";

fn get(plane: &Plane, what: &[&str]) -> Value {
    let args: Vec<&str> = ["get", "-o", "json"]
        .into_iter()
        .chain(what.iter().copied())
        .collect();
    serde_json::from_str(&plane.servers.kubectl(&args).unwrap()).unwrap()
}

fn gone(plane: &Plane, what: &[&str]) -> bool {
    let args: Vec<&str> = ["get"].into_iter().chain(what.iter().copied()).collect();
    plane.servers.kubectl(&args).is_err()
}

/// Files by name, as the target finds them.
fn names(files: &[(String, Vec<u8>)]) -> Vec<&str> {
    files.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn local_storage_and_certificates_are_carried_over_and_applied() {
    let plane = openshift();
    plane.servers.apply_yaml(KINDS).unwrap();
    let established = ["wait", "--for=condition=Established", "crd", "--all"];
    plane.servers.kubectl(&established).unwrap();
    let objects = OBJECTS.replace("@CERTIFICATE@", &certificate());
    plane.servers.apply_yaml(&objects).unwrap();
    // By the manifests' permissions, not by an administrator's.
    let (pod, _files) = as_the_pod(&plane);
    let exported = pod.exported().unwrap();
    assert_eq!(
        names(&exported.manifests),
        [
            "image-digest-mirror-set.json",
            "image-content-source-policy-list.json",
            "LocalVolume_disks_default.json",
            "StorageClass_fast_.json",
            "03_certmanager_Secret_shop-tls_shop.json",
            "01_certmanager_Namespace_shop.json",
        ]
    );
    // The test's certificate has a colon-free name with an at sign, as OpenShift's ingress has.
    assert_eq!(
        exported.keys,
        [(
            "CN=ingress-operator@1730000000__shop_shop-tls.key".to_owned(),
            b"key".to_vec()
        )]
    );
    assert!(!format!("{exported:?}").contains("a2V5"));

    // In a cluster without them, in the order of their names; twice, as after an interruption. (Nothing here ends namespaces.)
    for what in [
        ["localvolume/disks", "-n", "default"],
        ["secret/shop-tls", "-n", "shop"],
        ["storageclass/fast", "-n", "default"],
    ] {
        let args: Vec<&str> = ["delete"].into_iter().chain(what).collect();
        plane.servers.kubectl(&args).unwrap();
    }
    let node = plane.port();
    let mut manifests = exported.manifests;
    manifests.sort();
    for _ in 0..2 {
        for (file, content) in &manifests {
            node.apply(file, content).unwrap();
        }
    }
    let volume = get(&plane, &["localvolume/disks"]);
    let devices = &volume["spec"]["storageClassDevices"];
    assert_eq!(devices[0]["storageClassName"], "fast");
    let secret = get(&plane, &["-n", "shop", "secret/shop-tls"]);
    assert_eq!(secret["data"]["tls.key"], "a2V5");
    assert_eq!(secret["type"], "kubernetes.io/tls");
}

#[test]
fn the_seeds_mirrors_go_and_the_sites_come() {
    let plane = openshift();
    let node = plane.port();
    let ours = br#"{"apiVersion":"config.openshift.io/v1","kind":"ImageDigestMirrorSetList","metadata":{},"items":[
        {"metadata":{"name":"site","annotations":{"lca.openshift.io/apply-type":"merge"},"uid":"u","resourceVersion":"1"},
         "spec":{"imageDigestMirrors":[{"source":"quay.io","mirrors":["mirror.example.com"]}]}}]}"#;
    let manifests = vec![("image-digest-mirror-set.json".to_owned(), ours.to_vec())];
    for _ in 0..2 {
        node.remove_mirrors(&manifests).unwrap();
        for what in [
            ["imagedigestmirrorset", "mirrors", "", ""],
            ["imagecontentsourcepolicy", "policy", "", ""],
            ["catalogsource", "operators", "-n", "openshift-marketplace"],
        ] {
            let what: Vec<&str> = what.into_iter().filter(|word| !word.is_empty()).collect();
            assert!(gone(&plane, &what), "{what:?} is still there");
        }
        node.apply(&manifests[0].0, &manifests[0].1).unwrap();
        let found = get(&plane, &["imagedigestmirrorset", "site"]);
        let mirrors = &found["spec"]["imageDigestMirrors"][0]["mirrors"];
        assert_eq!(*mirrors, json!(["mirror.example.com"]));
        // Always replaced: the annotation is for manifests of users.
        assert_eq!(found["metadata"]["annotations"], Value::Null);
    }

    // Its mirrors decide whose registry the release comes from.
    let change = |site: &str| RegistryChange {
        seed: "registry.example.com:5000".to_owned(),
        mirrored: true,
        site: site.to_owned(),
    };
    let deployment = [
        "-n",
        "openshift-cluster-version",
        "deploy",
        "cluster-version-operator",
    ];
    let image = || {
        let found = get(&plane, &deployment);
        found["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    node.set_release_registry(&change("")).unwrap();
    assert_eq!(image(), "registry.example.com:5000/release@sha256:00");
    for _ in 0..2 {
        node.set_release_registry(&change("mirror.example.com"))
            .unwrap();
        assert_eq!(image(), "mirror.example.com/release@sha256:00");
    }

    // What the server does not have may come; what makes no sense will not.
    let check = |content: &str, kind: ErrorKind, expect: &str| {
        let error = node.apply("x.json", content.as_bytes()).unwrap_err();
        let told = node::error_chain(&error);
        assert_eq!(error.kind(), kind, "{told}");
        assert!(told.contains(expect), "{told}");
    };
    check(
        r#"{"apiVersion":"none.example.com/v1","kind":"Nothing","metadata":{"name":"a"}}"#,
        ErrorKind::Transient,
        "applying manifest x.json: kind Nothing of none.example.com/v1: the resource is not served",
    );
    check(
        r#"{"apiVersion":"v1","metadata":{"name":"a"}}"#,
        ErrorKind::Permanent,
        "no apiVersion or no kind",
    );
    check(
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"../a"}}"#,
        ErrorKind::Permanent,
        "cannot be the name of an object",
    );
}

#[test]
fn the_cluster_gets_the_sites_settings() {
    let plane = openshift();
    let node = plane.port();
    let proxy = |http: &str| Proxy {
        http_proxy: http.to_owned().into(),
        ..Proxy::default()
    };
    let document = SeedReconfiguration {
        pull_secret: r#"{"auths":{"site":{}}}"#.to_owned().into(),
        kubeadmin_password_hash: "the site's".to_owned().into(),
        install_config: "of the site".to_owned().into(),
        additional_trust_bundle: TrustBundle {
            user_ca_bundle: "authority".to_owned(),
            proxy_configmap_name: "proxy-ca".to_owned(),
            proxy_configmap_bundle: "proxy's authority".to_owned(),
        },
        proxy: Some(proxy("http://proxy:1")),
        status_proxy: Some(proxy("http://proxy:1")),
        ..SeedReconfiguration::default()
    };
    for _ in 0..2 {
        node.configure(&document).unwrap();
        let decoded = |what: &[&str], key: &str| {
            use base64::Engine as _;
            let value = get(&plane, what)["data"][key].as_str().unwrap().to_owned();
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(value)
                .unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let config = "openshift-config";
        assert_eq!(
            decoded(&["-n", config, "secret/pull-secret"], ".dockerconfigjson"),
            r#"{"auths":{"site":{}}}"#
        );
        assert_eq!(
            decoded(&["-n", "kube-system", "secret/kubeadmin"], "kubeadmin"),
            "the site's"
        );
        let value = |what: &[&str], key: &str| get(&plane, what)["data"][key].clone();
        for (name, expect) in [
            ("user-ca-bundle", "authority"),
            ("proxy-ca", "proxy's authority"),
        ] {
            let what = ["-n", config, "configmap", name];
            assert_eq!(value(&what, "ca-bundle.crt"), expect);
        }
        let installed = ["-n", "kube-system", "configmap/cluster-config-v1"];
        assert_eq!(value(&installed, "install-config"), "of the site");
        let found = get(&plane, &["proxies.config.openshift.io", "cluster"]);
        assert_eq!(found["spec"]["httpProxy"], "http://proxy:1");
        assert_eq!(found["spec"]["trustedCA"]["name"], "");
        assert_eq!(found["status"]["httpProxy"], "http://proxy:1");
    }
    // Where the site's administrator has removed the password, the seed's must not stay.
    let without = SeedReconfiguration {
        kubeadmin_password_hash: String::new().into(),
        ..document.clone()
    };
    for _ in 0..2 {
        node.configure(&without).unwrap();
        assert!(gone(&plane, &["-n", "kube-system", "secret/kubeadmin"]));
    }
    // And what is not there cannot get one.
    node.configure(&document).unwrap();
    assert!(gone(&plane, &["-n", "kube-system", "secret/kubeadmin"]));

    let labels = [("zone".to_owned(), "b".to_owned())].into();
    node.label_node("sno", &labels).unwrap();
    let found = get(&plane, &["node", "sno"]);
    assert_eq!(found["metadata"]["labels"]["zone"], "b");
    assert_eq!(
        found["metadata"]["labels"]["node-role.kubernetes.io/master"],
        ""
    );
    let error = node.label_node("other", &labels).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    node.label_node("other", &std::collections::BTreeMap::new())
        .unwrap();
}
