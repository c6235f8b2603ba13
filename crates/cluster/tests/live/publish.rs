use api::{
    Condition, ConditionStatus, ConditionType, ImageBasedUpgradeStatus, Reason, Stage, Timestamp,
};
use node::ErrorKind;
use node::ports::{Announcement, Cluster as _, Published, Severity};
use serde_json::{Value, json};
use testenv::Version;

use crate::plane::Plane;

fn status(message: &str) -> ImageBasedUpgradeStatus {
    let mut condition = Condition::new(
        ConditionType::Idle,
        ConditionStatus::True,
        Reason::Idle,
        "",
        1,
        Timestamp::from_unix(1_706_815_240),
    );
    // Not bounded here: that is the port's last defence.
    condition.message = message.to_owned();
    ImageBasedUpgradeStatus {
        observed_generation: Some(1),
        conditions: vec![condition],
        valid_next_stages: vec![Stage::Prep],
        ..ImageBasedUpgradeStatus::default()
    }
}

#[test]
fn a_status_is_published_only_over_what_was_seen() {
    for version in Version::under_test() {
        let plane = Plane::start(version);
        let port = plane.port();
        assert_eq!(port.upgrade().unwrap(), None);
        port.ensure_upgrade().unwrap();
        port.ensure_upgrade().unwrap();
        let seen = port.upgrade().unwrap().unwrap();
        assert_eq!(seen.spec.stage.as_deref(), Some("Idle"));
        assert!(!seen.metadata.rest.contains_key("managedFields"));

        assert!(matches!(
            port.publish(&seen, &status("first")).unwrap(),
            Published::Stored(_)
        ));
        assert_eq!(plane.live().unwrap().status, Some(status("first")));

        // Somebody else wrote in between.
        assert_eq!(
            port.publish(&seen, &status("second")).unwrap(),
            Published::Conflict
        );
        assert_eq!(plane.live().unwrap().status, Some(status("first")));

        // A message beyond the schema's limit is cut, not refused.
        let seen = plane.live().unwrap();
        let long = "ä".repeat(100_000);
        assert!(matches!(
            port.publish(&seen, &status(&long)).unwrap(),
            Published::Stored(_)
        ));
        let message = plane
            .live()
            .unwrap()
            .status
            .unwrap()
            .conditions
            .remove(0)
            .message;
        assert!(message.starts_with('ä') && message.chars().count() <= 32_768);

        // What the schema refuses is permanent and says so.
        let seen = plane.live().unwrap();
        let mut wrong = status("wrong");
        wrong.conditions[0].reason = "not a reason".to_owned();
        let error = port.publish(&seen, &wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permanent);
        assert_eq!(
            error.to_string(),
            "updating the status of ImageBasedUpgrade upgrade"
        );
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("conditions[0].reason"), "{source}");

        // Gone, or created anew.
        plane.place(None);
        assert_eq!(
            port.publish(&seen, &status("gone")).unwrap(),
            Published::Conflict
        );
        port.ensure_upgrade().unwrap();
        assert_eq!(
            port.publish(&seen, &status("gone")).unwrap(),
            Published::Conflict
        );
        assert_eq!(plane.live().unwrap().status, None);

        annotations(&plane);
        events(&plane);
    }
}

fn annotations(plane: &Plane) {
    let port = plane.port();
    let annotation = || {
        plane
            .live()
            .unwrap()
            .metadata
            .annotations
            .remove("a.example.com/b")
    };
    for value in [Some("1"), Some("2"), None, None] {
        port.annotate("a.example.com/b", value).unwrap();
        assert_eq!(annotation().as_deref(), value);
    }
    plane.place(None);
    port.annotate("a", None).unwrap();
    let error = port.annotate("a", Some("b")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permanent);
    port.ensure_upgrade().unwrap();
}

fn events(plane: &Plane) {
    let uid = plane.live().unwrap().metadata.uid.unwrap();
    let port = plane.port();
    port.announce(Announcement {
        severity: Severity::Normal,
        reason: "Reboot",
        note: "System will now reboot for upgrade".to_owned(),
    });
    // The longest note that is taken ends in the middle of a character: in front of it.
    port.announce(Announcement {
        severity: Severity::Warning,
        reason: "StepFailed",
        note: format!("{}é", "x".repeat(1023)),
    });
    port.await_announced();
    let found =
        plane
            .servers
            .kubectl(&["get", "events.events.k8s.io", "-n", "default", "-o", "json"]);
    let found: Value = serde_json::from_str(&found.unwrap()).unwrap();
    let events = found["items"].as_array().unwrap();
    let event = events
        .iter()
        .find(|event| event["reason"] == "Reboot")
        .unwrap();
    let told = json!({
        "action": event["action"],
        "controller": event["reportingController"],
        "note": event["note"],
        "regarding": event["regarding"],
        "type": event["type"],
    });
    assert_eq!(
        told,
        json!({
            "action": "Reboot",
            "controller": "ImageBasedUpgrade",
            "note": "System will now reboot for upgrade",
            "regarding": {
                "apiVersion": "lca.openshift.io/v1",
                "kind": "ImageBasedUpgrade",
                "name": "upgrade",
                "uid": uid,
            },
            "type": "Normal",
        })
    );
    let failed = events
        .iter()
        .find(|event| event["reason"] == "StepFailed")
        .unwrap();
    assert_eq!(failed["type"], "Warning");
    assert_eq!(failed["note"].as_str().unwrap(), "x".repeat(1023));
}
