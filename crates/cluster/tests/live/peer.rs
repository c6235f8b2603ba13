//! The other flow's object, by a definition that has no more than this flow reads.

use std::time::Duration;

use api::ip_config::IpConfig;
use node::ports::Cluster as _;
use testenv::Version;

use crate::plane::Plane;

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: ipconfigs.lca.openshift.io
spec:
  group: lca.openshift.io
  scope: Cluster
  names: {kind: IPConfig, plural: ipconfigs, singular: ipconfig, shortNames: [ipc]}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
";

const OBJECT: &str = "
apiVersion: lca.openshift.io/v1
kind: IPConfig
metadata: {name: ipconfig}
spec: {stage: Config}
";

const BUSY: &str = r#"{"status": {"conditions": [{"type": "ConfigInProgress", "status": "True", "reason": "InProgress",
    "message": "Configuration in progress", "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}]}}"#;

#[test]
fn the_other_flow_is_seen_as_it_is_and_its_changes_at_once() {
    let plane = Plane::start(Version::Pinned);
    let port = plane.port();
    assert_eq!(port.ip_config().unwrap(), None, "the kind is not served");

    plane.servers.apply_yaml(DEFINITION).unwrap();
    let established = [
        "wait",
        "--for=condition=Established",
        "crd/ipconfigs.lca.openshift.io",
        "--timeout=30s",
    ];
    plane.servers.kubectl(&established).unwrap();
    assert_eq!(port.ip_config().unwrap(), None, "there is no object");

    let connection = plane.connection();
    let mut changes = plane
        .handle()
        .block_on(async { cluster::watch_changes(&connection, cluster::Awaited::Peer) });
    let mut changed = || {
        let next = async { tokio::time::timeout(Duration::from_secs(30), changes.recv()).await };
        plane.handle().block_on(next).unwrap().unwrap();
    };
    let seen_when = |changed: &mut dyn FnMut(), wanted: &dyn Fn(&IpConfig) -> bool| loop {
        changed();
        if let Some(found) = port.ip_config().unwrap()
            && wanted(&found)
        {
            return;
        }
    };
    plane.servers.apply_yaml(OBJECT).unwrap();
    seen_when(&mut changed, &|found| {
        found.spec.stage == "Config" && found.status.conditions.is_empty()
    });
    let patch = [
        "patch",
        "ipconfig",
        "ipconfig",
        "--subresource=status",
        "--type=merge",
        "--patch",
        BUSY,
    ];
    plane.servers.kubectl(&patch).unwrap();
    seen_when(&mut changed, &|found| {
        found
            .status
            .conditions
            .iter()
            .any(|one| one.type_ == "ConfigInProgress")
    });
    plane
        .servers
        .kubectl(&["delete", "ipconfig", "ipconfig"])
        .unwrap();
    changed();
    assert_eq!(port.ip_config().unwrap(), None);
}
