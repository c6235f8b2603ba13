//! The CustomResourceDefinition of [`crate::ImageBasedUpgrade`] (C 1.1 to 1.4).
//!
//! Written out instead of derived from the types: schema, patterns and rules are a contract with
//! manifests and policies that exist already, so they are reviewed as they stand, and the tests
//! compare them with the types on a real API server.

use serde_json::{Value, json};

use crate::condition::MESSAGE_LIMIT;
use crate::names;
use crate::stage::Stage;

/// The fields of `spec` that must not change while an upgrade is in progress.
const PROTECTED: [&str; 4] = [
    "seedImageRef",
    "oadpContent",
    "extraManifests",
    "autoRollbackOnFailure",
];

/// What a refused singleton is told (C 1.4 rule 1).
pub const SINGLETON: &str = "ibu is a singleton, metadata.name must be 'upgrade'";

/// What a refused stage is told (C 1.4 rule 6).
pub const STAGE_NOT_PERMITTED: &str = "the stage transition is not permitted. Please refer to status.validNextStages for valid transitions. If status.validNextStages is not present, it indicates that no transitions are currently allowed";

/// What a refused change of a protected field is told (C 1.4 rules 2 to 5).
#[must_use]
pub fn field_protected(field: &str) -> String {
    format!("can not change spec.{field} while ibu is in progress")
}

/// Every CustomResourceDefinition, as YAML documents for `kubectl apply`.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "a JSON value always prints; the drift test does it"
)]
pub fn crds_yaml() -> String {
    let text = serde_yaml_ng::to_string(&image_based_upgrade()).expect("JSON prints as YAML");
    format!("---\n{text}")
}

/// The definition of the resource `imagebasedupgrades`.
#[must_use]
pub fn image_based_upgrade() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{}.{}", names::PLURAL, names::GROUP) },
        "spec": {
            "group": names::GROUP,
            "names": {
                "kind": names::KIND,
                "listKind": names::LIST_KIND,
                "plural": names::PLURAL,
                "shortNames": [names::SHORT_NAME],
                "singular": names::SINGULAR,
            },
            "scope": "Cluster",
            "versions": [{
                "additionalPrinterColumns": [
                    column("Age", "date", ".metadata.creationTimestamp"),
                    column("Desired Stage", "string", ".spec.stage"),
                    column("State", "string", ".status.conditions[-1:].reason"),
                    column("Details", "string", ".status.conditions[-1:].message"),
                ],
                "name": names::VERSION,
                "schema": { "openAPIV3Schema": schema() },
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
            }],
        },
    })
}

fn column(name: &str, kind: &str, path: &str) -> Value {
    json!({ "name": name, "type": kind, "jsonPath": path })
}

fn schema() -> Value {
    json!({
        "description": "ImageBasedUpgrade upgrades this single-node cluster by installing a seed image beside the running system and rebooting into it.",
        "type": "object",
        "properties": {
            "apiVersion": {
                "description": "The versioned schema of this representation of the object.",
                "type": "string",
            },
            "kind": {
                "description": "The REST resource that this object represents.",
                "type": "string",
            },
            "metadata": { "type": "object" },
            "spec": spec(),
            "status": status(),
        },
        "x-kubernetes-validations": rules(),
    })
}

/// The rules of C 1.4 in their order.
///
/// Unlike the Go original's, no operand reads a field that may be absent: an absent stage counts
/// as `Idle`, and a status without conditions as one that does not say `Idle`. Otherwise an
/// object created without a stage could never be written again once it had a status.
fn rules() -> Value {
    let rule = |rule: String, message: String| json!({ "rule": rule, "message": message });
    let mut rules = vec![rule(
        format!("self.metadata.name == '{}'", names::IBU),
        SINGLETON.to_owned(),
    )];
    for field in PROTECTED {
        let (new, old) = (present("self", field), present("oldSelf", field));
        rules.push(rule(
            format!(
                "!has(oldSelf.status) \
                 || (has(oldSelf.status.conditions) && oldSelf.status.conditions.exists(c, c.type == 'Idle' && c.status == 'True')) \
                 || {stage} == 'Idle' \
                 || ({new} && {old} && self.spec.{field} == oldSelf.spec.{field}) \
                 || (!({new}) && !({old}))",
                stage = stage_of("self"),
            ),
            field_protected(field),
        ));
    }
    rules.push(rule(
        format!(
            "!has(oldSelf.status) \
             || (has(oldSelf.status.validNextStages) && {new} in oldSelf.status.validNextStages) \
             || {new} == {old}",
            new = stage_of("self"),
            old = stage_of("oldSelf"),
        ),
        STAGE_NOT_PERMITTED.to_owned(),
    ));
    Value::from(rules)
}

fn present(object: &str, field: &str) -> String {
    format!("has({object}.spec) && has({object}.spec.{field})")
}

fn stage_of(object: &str) -> String {
    format!(
        "({} ? {object}.spec.stage : 'Idle')",
        present(object, "stage")
    )
}

fn spec() -> Value {
    json!({
        "description": "What the user wants.",
        "type": "object",
        "properties": {
            "autoRollbackOnFailure": {
                "description": "When the node returns to the previous release by itself.",
                "type": "object",
                "properties": {
                    "initMonitorTimeoutSeconds": {
                        "description": "How long an upgrade may take after the reboot before the init monitor rolls it back, in seconds. Absent or 0 means 1800.",
                        "type": "integer",
                        "minimum": 0,
                    },
                },
            },
            "extraManifests": config_maps(
                "ConfigMaps with manifests to apply after the reboot, for example for configuration that the seed image does not have.",
            ),
            "oadpContent": config_maps(
                "ConfigMaps with OADP Backup and Restore objects: what to save before the reboot and to restore after it.",
            ),
            "seedImageRef": {
                "description": "The seed image to upgrade to.",
                "type": "object",
                "properties": {
                    "image": {
                        "description": "The pull specification of the seed image.",
                        "type": "string",
                        "minLength": 1,
                        "pattern": r"^([a-z0-9]+://)?[\S]+$",
                    },
                    "pullSecretRef": {
                        "description": "The Secret in the operator's namespace with the credentials for the seed image, key .dockerconfigjson. Absent: the cluster's pull secret.",
                        "type": "object",
                        "properties": {
                            "name": { "description": "The Secret's name.", "type": "string" },
                        },
                        "required": ["name"],
                    },
                    "version": {
                        "description": "The OpenShift version of the seed image. It must be what the image says of itself and higher than the version that runs.",
                        "type": "string",
                    },
                },
            },
            "stage": {
                "description": "The requested stage. Prep installs the seed image beside the running system, Upgrade reboots into it, Rollback reboots back, Idle aborts or finalizes. Absent means Idle. See status.validNextStages for what is possible now.",
                "type": "string",
                "enum": Stage::ALL.map(Stage::as_str),
            },
        },
    })
}

fn config_maps(description: &str) -> Value {
    json!({
        "description": description,
        "type": "array",
        "items": {
            "description": "A reference to a ConfigMap.",
            "type": "object",
            "properties": {
                "name": { "description": "The ConfigMap's name.", "type": "string" },
                "namespace": { "description": "The ConfigMap's namespace.", "type": "string" },
            },
            "required": ["name", "namespace"],
        },
    })
}

fn status() -> Value {
    json!({
        "description": "What the controller says.",
        "type": "object",
        "properties": {
            "conditions": {
                "description": "How the stages stand. The last one is the most recent change and is what kubectl get shows.",
                "type": "array",
                "items": condition(),
            },
            "history": {
                "description": "When the stages of this upgrade and their phases ran.",
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "completionTime": time("When the stage succeeded; absent while it runs and after a failure."),
                        "phases": {
                            "description": "The phases in the order in which they started.",
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {
                                    "completionTime": time("When the phase ended well; absent while it runs and after a failure."),
                                    "phase": { "description": "The phase's name.", "type": "string" },
                                    "startTime": time("When the phase started."),
                                },
                            },
                        },
                        "stage": { "description": "The stage.", "type": "string" },
                        "startTime": time("When the stage started."),
                    },
                },
            },
            "observedGeneration": {
                "description": "The metadata.generation that the controller has seen.",
                "type": "integer",
                "format": "int64",
            },
            "rollbackAvailabilityExpiration": time(
                "Until when a rollback works: then the first certificate of the previous release expires.",
            ),
            "validNextStages": {
                "description": "The stages that may be requested now. Absent: none.",
                "type": "array",
                "items": { "type": "string" },
            },
        },
    })
}

fn time(description: &str) -> Value {
    json!({ "description": description, "type": "string", "format": "date-time" })
}

fn condition() -> Value {
    json!({
        "description": "One aspect of the current state.",
        "type": "object",
        "properties": {
            "lastTransitionTime": time("When status last changed."),
            "message": {
                "description": "Details for people.",
                "type": "string",
                "maxLength": MESSAGE_LIMIT,
            },
            "observedGeneration": {
                "description": "The metadata.generation that the condition speaks of.",
                "type": "integer",
                "format": "int64",
                "minimum": 0,
            },
            "reason": {
                "description": "Why, as one word for programs.",
                "type": "string",
                "maxLength": 1024,
                "minLength": 1,
                "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            },
            "status": {
                "description": "Whether the condition holds.",
                "type": "string",
                "enum": ["True", "False", "Unknown"],
            },
            "type": {
                "description": "The condition's name.",
                "type": "string",
                "maxLength": 316,
                "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
            },
        },
        "required": ["lastTransitionTime", "message", "reason", "status", "type"],
    })
}
