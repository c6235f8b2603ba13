//! The manifests for a real cluster: the API server takes them, and they grant what the controller asks and no more.

#![expect(clippy::unwrap_used, reason = "a test")]

mod rbac;

use std::path::Path;

use cluster::{CONTROLLER, Permission};
use rbac::{Request, Rules};
use testenv::ControlPlane;

const NAMESPACE: &str = "openshift-lifecycle-agent";
const ACCOUNT: &str = "lifecycle-agent-controller-manager";

/// As much of the monitoring operator's definition as the API server needs to take a ServiceMonitor.
const SERVICE_MONITORS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: servicemonitors.monitoring.coreos.com
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {kind: ServiceMonitor, plural: servicemonitors, singular: servicemonitor}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
";

fn manifests() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests"))
}

fn rules() -> Rules {
    Rules::read(manifests(), NAMESPACE, ACCOUNT).unwrap()
}

/// The namespace of a request that needs the permission.
fn namespace(permission: &Permission) -> &str {
    match permission.namespace {
        None => "",
        Some("") => NAMESPACE,
        Some(namespace) => namespace,
    }
}

fn is_for(permission: &Permission, granted: &Request) -> bool {
    permission.verb.as_str() == granted.verb
        && permission.group == granted.group
        && permission.resource == granted.resource
        && permission.subresource == granted.subresource
        && namespace(permission) == granted.namespace
}

#[test]
fn what_the_controller_asks_is_granted() {
    let grants = rules().grants();
    let missing: Vec<_> = CONTROLLER
        .iter()
        .filter(|permission| !grants.iter().any(|granted| is_for(permission, granted)))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn nothing_else_is_granted() {
    let wider: Vec<_> = rules()
        .grants()
        .into_iter()
        .filter(|granted| granted.resource != "securitycontextconstraints")
        .filter(|granted| {
            !CONTROLLER
                .iter()
                .any(|permission| is_for(permission, granted))
        })
        .collect();
    assert!(wider.is_empty(), "{wider:#?}");
}

#[test]
fn names_and_namespaces_bind() {
    let rules = rules();
    let check = |verb: &str, path: &str, name: &str, expect: bool| {
        let mut path = path.split(' ');
        let mut next = || path.next().unwrap_or_default().to_owned();
        let request = Request {
            verb: verb.to_owned(),
            group: next(),
            resource: next(),
            subresource: next(),
            namespace: next(),
            name: name.to_owned(),
        };
        assert_eq!(rules.allows(&request), expect, "{request:?}");
    };
    check(
        "get",
        "lca.openshift.io imagebasedupgrades",
        "upgrade",
        true,
    );
    check("get", "lca.openshift.io imagebasedupgrades", "other", false);
    check("list", "lca.openshift.io imagebasedupgrades", "", false);
    check(
        "update",
        "lca.openshift.io imagebasedupgrades status",
        "upgrade",
        true,
    );
    check(
        "patch",
        "lca.openshift.io imagebasedupgrades status",
        "upgrade",
        false,
    );
    check("get", " secrets  openshift-lifecycle-agent", "any", true);
    check("get", " secrets  openshift-config", "pull-secret", true);
    // Certificates that cert-manager keeps can lie anywhere.
    check("get", " secrets  shop", "any", true);
    check("list", " secrets  openshift-lifecycle-agent", "", false);
    check("list", " secrets ", "", false);
    check("get", " configmaps  shop", "any", false);
    check(
        "get",
        " configmaps  openshift-lifecycle-agent",
        "lifecycle-agent-config",
        true,
    );
    check(
        "get",
        " configmaps  openshift-lifecycle-agent",
        "other",
        false,
    );
    check(
        "use",
        "security.openshift.io securitycontextconstraints",
        "privileged",
        true,
    );
    check(
        "use",
        "security.openshift.io securitycontextconstraints",
        "anyuid",
        false,
    );
}

#[test]
fn the_api_server_takes_them_and_grants_what_they_say() {
    let plane = ControlPlane::start().unwrap();
    // What OpenShift brings.
    let mut namespaces: Vec<_> = CONTROLLER.iter().map(namespace).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    for name in namespaces
        .iter()
        .filter(|name| name.starts_with("openshift-"))
    {
        if *name != NAMESPACE {
            plane.kubectl(&["create", "namespace", name]).unwrap();
        }
    }
    plane.apply_yaml(SERVICE_MONITORS).unwrap();
    let established = "--for=condition=Established";
    let definition = "crd/servicemonitors.monitoring.coreos.com";
    plane
        .kubectl(&["wait", established, definition, "--timeout=30s"])
        .unwrap();
    for _again in 0..2 {
        plane
            .kubectl(&["apply", "-R", "-f", manifests().to_str().unwrap()])
            .unwrap();
    }
    let server = |verb: &str, resource: &str, namespace: &str| {
        let account = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
        let mut args = vec!["auth", "can-i", verb, resource, "--as", &account];
        if !namespace.is_empty() {
            args.extend(["--namespace", namespace]);
        }
        plane.kubectl(&args).is_ok()
    };
    assert!(server(
        "get",
        "imagebasedupgrades.lca.openshift.io/upgrade",
        ""
    ));
    assert!(server("create", "events.events.k8s.io", "default"));
    assert!(server("get", "secrets/pull-secret", "openshift-config"));
    assert!(server("get", "secrets/any", "default"));
    assert!(!server("delete", "secrets/any", "default"));
    assert!(!server("get", "configmaps/any", "default"));
    assert!(!server("list", "secrets", NAMESPACE));
    assert!(!server("get", "pods", NAMESPACE));
}
