//! The saved CR, `/var/lib/lca/ibu.json` (C 2.8): the upgrade's object outside of the cluster.

use crate::excerpt::excerpt;
use crate::image_based_upgrade::ImageBasedUpgrade;
use crate::names;

/// Why a saved CR cannot be used. The file is to be set aside; the upgrade's object in the
/// cluster is what counts then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedCrError {
    /// Nothing, or only white space or zeros: a write that did not reach the disk.
    #[error("the saved ImageBasedUpgrade is empty")]
    Empty,
    /// No JSON, cut off, or fields of the wrong type.
    #[error("the saved ImageBasedUpgrade is damaged: {0}")]
    Damaged(String),
    /// Another kind of object.
    #[error("the saved object is {0}, not ImageBasedUpgrade/upgrade")]
    NotAnUpgrade(String),
    /// A version of the API that this program does not know.
    #[error("the saved ImageBasedUpgrade has apiVersion \"{0}\"; this program knows only {known}", known = names::API_VERSION)]
    UnknownVersion(String),
}

/// Reads a saved CR, whoever wrote it: `kind` and `apiVersion` may be absent, times may be null,
/// unknown fields are ignored.
///
/// # Errors
/// [`SavedCrError`]; its text is bounded whatever the file holds.
pub fn parse(bytes: &[u8]) -> Result<ImageBasedUpgrade, SavedCrError> {
    if bytes
        .iter()
        .all(|byte| *byte == 0 || byte.is_ascii_whitespace())
    {
        return Err(SavedCrError::Empty);
    }
    let ibu: ImageBasedUpgrade = serde_json::from_slice(bytes)
        .map_err(|error| SavedCrError::Damaged(excerpt(&error.to_string())))?;
    if !ibu.api_version.is_empty() && ibu.api_version != names::API_VERSION {
        let same_group = ibu.api_version.starts_with("lca.openshift.io/");
        if same_group && (ibu.kind.is_empty() || ibu.kind == names::KIND) {
            return Err(SavedCrError::UnknownVersion(excerpt(&ibu.api_version)));
        }
        return Err(not_an_upgrade(&ibu));
    }
    if !(ibu.kind.is_empty() || ibu.kind == names::KIND) || ibu.metadata.name != names::IBU {
        return Err(not_an_upgrade(&ibu));
    }
    Ok(ibu)
}

fn not_an_upgrade(ibu: &ImageBasedUpgrade) -> SavedCrError {
    let kind = if ibu.kind.is_empty() {
        "an object"
    } else {
        &ibu.kind
    };
    SavedCrError::NotAnUpgrade(excerpt(&format!("{kind}/{}", ibu.metadata.name)))
}

/// Prints the object as compact JSON without a final line end, as the Go original does.
///
/// # Errors
/// None that the types allow; the signature is serde's.
pub fn print(ibu: &ImageBasedUpgrade) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(ibu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConditionType, Stage, Timestamp};

    /// As the Go original marshals an object that it read from the API: no kind, no apiVersion,
    /// null times, fields that we do not model.
    const BY_GO: &str = r#"{"metadata":{"name":"upgrade","uid":"6f2d1b1e-5d0f-4b5e-8f3a-2b1c0d9e8f7a","resourceVersion":"2950109","generation":3,"creationTimestamp":"2024-02-01T19:20:40Z","annotations":{"a":"b"},"managedFields":[{"manager":"kubectl-edit","operation":"Update","apiVersion":"lca.openshift.io/v1","time":"2024-02-01T19:25:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:stage":{}}}}]},"spec":{"stage":"Upgrade","seedImageRef":{"version":"4.16.0","image":"quay.io/x/seed:v1","pullSecretRef":{"name":"seed-pull-secret"}},"oadpContent":[{"name":"oadp-cm","namespace":"openshift-adp"}],"autoRollbackOnFailure":{"initMonitorTimeoutSeconds":3600}},"status":{"observedGeneration":3,"conditions":[{"type":"Idle","status":"False","observedGeneration":2,"lastTransitionTime":"2024-02-01T19:00:45Z","reason":"InProgress","message":"In progress"},{"type":"UpgradeInProgress","status":"True","observedGeneration":3,"lastTransitionTime":"2024-02-01T19:05:00Z","reason":"InProgress","message":"In progress"}],"validNextStages":["Idle"],"rollbackAvailabilityExpiration":null,"history":[{"stage":"Upgrade","phases":[{"phase":"PrePivot","startTime":"2024-02-01T19:05:00Z","completionTime":"2024-02-01T19:08:00Z"}],"startTime":"2024-02-01T19:05:00Z","completionTime":null}]}}"#;

    #[test]
    fn an_object_saved_by_the_go_original_is_read_whole() {
        let ibu = parse(BY_GO.as_bytes()).unwrap();
        assert_eq!(ibu.spec.stage(), Ok(Some(Stage::Upgrade)));
        assert_eq!(ibu.spec.seed_version(), "4.16.0");
        assert!(ibu.condition(ConditionType::UpgradeInProgress).is_some());
        let status = ibu.status.as_ref().unwrap();
        assert_eq!(status.valid_next_stages, [Stage::Idle]);
        assert_eq!(status.rollback_availability_expiration, None);
        assert_eq!(status.history[0].completion_time, None);
        assert_eq!(
            status.history[0].phases[0].completion_time,
            Some("2024-02-01T19:08:00Z".parse::<Timestamp>().unwrap())
        );

        let printed: serde_json::Value = serde_json::from_slice(&print(&ibu).unwrap()).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(BY_GO).unwrap();
        // The two nulls are the same as nothing for every reader.
        expected["status"]
            .as_object_mut()
            .unwrap()
            .remove("rollbackAvailabilityExpiration");
        expected["status"]["history"][0]
            .as_object_mut()
            .unwrap()
            .remove("completionTime");
        assert_eq!(printed, expected);
    }

    #[test]
    fn the_smallest_objects_are_read() {
        for text in [
            r#"{"metadata":{"name":"upgrade"}}"#,
            r#"{"metadata":{"name":"upgrade","creationTimestamp":null,"annotations":null},"spec":null,"status":null}"#,
            r#"{"metadata":{"name":"upgrade"},"spec":{"seedImageRef":null,"oadpContent":null},"status":{"conditions":null,"validNextStages":null,"history":null,"future":1}}"#,
        ] {
            let ibu = parse(text.as_bytes()).unwrap();
            assert_eq!(ibu.spec.stage(), Ok(None));
            assert!(ibu.status.unwrap_or_default().conditions.is_empty());
        }
    }

    #[test]
    fn printing_leaves_out_what_go_leaves_out() {
        let check = |change: &dyn Fn(&mut ImageBasedUpgrade), text: &str| {
            let mut ibu = ImageBasedUpgrade::initial();
            ibu.spec.stage = None;
            change(&mut ibu);
            let head = r#"{"apiVersion":"lca.openshift.io/v1","kind":"ImageBasedUpgrade","metadata":{"name":"upgrade"},"#;
            let expected = format!("{head}{text}");
            assert_eq!(String::from_utf8(print(&ibu).unwrap()).unwrap(), expected);
            assert_eq!(parse(expected.as_bytes()).unwrap(), ibu);
        };
        check(&|_| {}, r#""spec":{}}"#);
        check(
            &|ibu| ibu.status = Some(Default::default()),
            r#""spec":{},"status":{}}"#,
        );
        check(
            &|ibu| ibu.spec.seed_image_ref = Some(Default::default()),
            r#""spec":{"seedImageRef":{}}}"#,
        );
    }

    #[test]
    fn unusable_files_are_told_apart() {
        let check = |bytes: &[u8], expected: SavedCrError| {
            assert_eq!(parse(bytes).unwrap_err(), expected);
        };
        check(b"", SavedCrError::Empty);
        check(b" \n", SavedCrError::Empty);
        check(&[0; 4096], SavedCrError::Empty);
        for cut in 1..BY_GO.len() {
            let error = parse(&BY_GO.as_bytes()[..cut]).unwrap_err();
            assert!(
                matches!(error, SavedCrError::Damaged(_)),
                "cut at {cut}: {error}"
            );
        }
        for text in [
            "null",
            "7",
            r#"{"metadata":{"name":7}}"#,
            r#"{"spec":{"stage":[]}}"#,
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, SavedCrError::Damaged(_)), "{text}: {error}");
        }
        let mut torn = BY_GO.as_bytes().to_vec();
        torn.extend([0; 16]);
        assert!(matches!(parse(&torn), Err(SavedCrError::Damaged(_))));
        check(b"[]", SavedCrError::NotAnUpgrade("an object/".to_owned()));
        check(b"{}", SavedCrError::NotAnUpgrade("an object/".to_owned()));
        check(
            br#"{"kind":"IPConfig","metadata":{"name":"ipconfig"}}"#,
            SavedCrError::NotAnUpgrade("IPConfig/ipconfig".to_owned()),
        );
        check(
            br#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"upgrade"}}"#,
            SavedCrError::NotAnUpgrade("Secret/upgrade".to_owned()),
        );
        check(
            br#"{"apiVersion":"lca.openshift.io/v2","kind":"ImageBasedUpgrade","metadata":{"name":"upgrade"}}"#,
            SavedCrError::UnknownVersion("lca.openshift.io/v2".to_owned()),
        );
    }

    #[test]
    fn error_texts_are_bounded() {
        let text = format!(r#"{{"metadata":{{"name":["{}"]}}}}"#, "x".repeat(1 << 20));
        assert!(parse(text.as_bytes()).unwrap_err().to_string().len() < 200);
        let deep = "[".repeat(1 << 20);
        assert!(parse(deep.as_bytes()).unwrap_err().to_string().len() < 200);
    }
}
