use api::ImageBasedUpgrade;
use api::condition::bounded_message;
use node::ErrorKind;
use node::ports::Cluster as _;
use serde_json::{Value, json};
use testenv::Version;

use crate::plane::Plane;

/// A saved CR as the Go original writes it: neither kind nor apiVersion, nulls, versions of another server.
fn saved(message: &str) -> ImageBasedUpgrade {
    let text = json!({
        "metadata": {
            "name": "upgrade",
            "uid": "0b0a1c0e-0000-0000-0000-000000000000",
            "resourceVersion": "2950109",
            "generation": 3,
            "creationTimestamp": null,
            "annotations": {"image-cleanup.lca.openshift.io/on-prep": "Disabled"},
            "managedFields": [{"manager": "kubectl", "operation": "Update"}],
        },
        "spec": {
            "stage": "Upgrade",
            "seedImageRef": {
                "version": "4.17.4",
                "image": "registry.example.com/seed:4.17.4",
                "pullSecretRef": {"name": "seed-pull-secret"},
            },
            "oadpContent": [{"name": "oadp", "namespace": "openshift-adp"}],
            "autoRollbackOnFailure": {"initMonitorTimeoutSeconds": 3600},
        },
        "status": {
            "observedGeneration": 3,
            "conditions": [
                {"type": "Idle", "status": "False", "observedGeneration": 2, "reason": "InProgress",
                 "message": "In progress", "lastTransitionTime": "2024-02-01T19:00:45Z"},
                {"type": "UpgradeInProgress", "status": "True", "observedGeneration": 3,
                 "reason": "InProgress", "message": message, "lastTransitionTime": "2024-02-01T19:05:00Z"},
            ],
            "validNextStages": ["Rollback"],
            "rollbackAvailabilityExpiration": null,
            "history": [{
                "stage": "Upgrade",
                "phases": [{"phase": "PrePivot", "startTime": "2024-02-01T19:05:00Z", "completionTime": null}],
                "startTime": "2024-02-01T19:05:00Z",
                "completionTime": null,
            }],
        },
    });
    api::saved_cr::parse(text.to_string().as_bytes()).unwrap()
}

fn object(spec: Value, status: Option<Value>) -> Value {
    let mut object = json!({
        "apiVersion": "lca.openshift.io/v1",
        "kind": "ImageBasedUpgrade",
        "metadata": {"name": "upgrade", "annotations": {"of": "the seed"}, "labels": {"l": "v"}},
        "spec": spec,
    });
    if let Some(status) = status {
        object["status"] = status;
    }
    object
}

fn condition(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status, "reason": "InProgress", "message": "",
           "lastTransitionTime": "2024-01-01T00:00:00Z"})
}

/// Restores twice over what lies there; gives whether the object kept its uid.
fn check(plane: &Plane, case: &str, live: Option<&Value>, saved: &ImageBasedUpgrade) -> bool {
    plane.place(live);
    let before = plane.live();
    plane.port().restore_upgrade(saved).unwrap_or_else(|error| {
        panic!("{case}: {error}: {:?}", std::error::Error::source(&error));
    });
    let after = plane.live().unwrap();
    assert_eq!(after.spec, saved.spec, "{case}");
    assert_eq!(
        after.metadata.annotations, saved.metadata.annotations,
        "{case}"
    );
    assert_eq!(after.metadata.labels, saved.metadata.labels, "{case}");
    let mut status = saved.status.clone();
    for condition in status.iter_mut().flat_map(|status| &mut status.conditions) {
        condition.message = bounded_message(&condition.message);
    }
    assert_eq!(after.status, status, "{case}");

    plane.port().restore_upgrade(saved).unwrap();
    let again = plane.live().unwrap();
    assert_eq!(
        again.metadata.resource_version, after.metadata.resource_version,
        "{case}"
    );
    before.is_some_and(|before| before.metadata.uid == after.metadata.uid)
}

#[test]
fn a_saved_cr_is_restored_over_anything() {
    for version in Version::under_test() {
        let plane = Plane::start(version);
        let upgrade = saved("In progress");

        check(&plane, "nothing there", None, &upgrade);
        let lives = [
            ("fresh", object(json!({"stage": "Idle"}), None)),
            ("empty", object(json!({}), None)),
            (
                "idle",
                object(
                    json!({"stage": "Idle"}),
                    Some(
                        json!({"conditions": [condition("Idle", "True")], "validNextStages": ["Prep"]}),
                    ),
                ),
            ),
            (
                "another upgrade that allows nothing",
                object(
                    json!({"stage": "Prep", "seedImageRef": {"version": "4.18.0", "image": "a/b"},
                           "extraManifests": [{"name": "a", "namespace": "b"}]}),
                    Some(
                        json!({"conditions": [condition("Idle", "False"), condition("PrepInProgress", "True")]}),
                    ),
                ),
            ),
            (
                "a status without conditions",
                object(
                    json!({"stage": "Idle"}),
                    Some(json!({"observedGeneration": 1})),
                ),
            ),
            (
                "the same spec in another status",
                object(
                    json!(upgrade.spec),
                    Some(json!({"conditions": [condition("UpgradeCompleted", "False")]})),
                ),
            ),
        ];
        for (case, live) in &lives {
            assert!(
                check(&plane, case, Some(live), &upgrade),
                "{case}: the object was replaced"
            );
        }

        let long = saved(&"x".repeat(100_000));
        assert!(check(
            &plane,
            "a message beyond the limit",
            Some(&lives[2].1),
            &long
        ));

        let mut bare = saved("");
        bare.status = None;
        bare.spec = api::ImageBasedUpgradeSpec::default();
        assert!(check(
            &plane,
            "nothing saved but the object",
            Some(&lives[3].1),
            &bare
        ));

        what_the_server_would_not_take_is_not_deleted_for(&plane, &lives[2].1);
        rules_that_always_object_are_met_by_a_new_object(&plane, &lives[2].1, &upgrade);
    }
}

fn what_the_server_would_not_take_is_not_deleted_for(plane: &Plane, live: &Value) {
    plane.place(Some(live));
    let uid = plane.live().unwrap().metadata.uid;
    let mut wrong = saved("");
    wrong.spec.stage = Some("Finalize".to_owned());
    let error = plane.port().restore_upgrade(&wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permanent);
    assert_eq!(error.to_string(), "restoring the saved CR");
    assert_eq!(plane.live().unwrap().metadata.uid, uid);
}

fn rules_that_always_object_are_met_by_a_new_object(
    plane: &Plane,
    live: &Value,
    saved: &ImageBasedUpgrade,
) {
    let mut crd = api::crd::image_based_upgrade();
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let rule = json!({"rule": "self.spec == oldSelf.spec", "message": "never"});
    schema["x-kubernetes-validations"]
        .as_array_mut()
        .unwrap()
        .push(rule);
    plane
        .servers
        .apply_yaml(&serde_json::to_string(&crd).unwrap())
        .unwrap();
    plane.place(Some(live));
    // The server takes up a changed definition within moments.
    let patch = [
        "patch",
        "ibu",
        "upgrade",
        "--type=merge",
        "--patch",
        r#"{"spec":{"stage":"Prep"}}"#,
    ];
    while plane.servers.kubectl(&patch).is_ok() {
        plane.place(Some(live));
    }
    assert!(!check(
        plane,
        "a rule that always objects",
        Some(live),
        saved
    ));
}
