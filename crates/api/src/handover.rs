//! The handover stamp: which pivot a saved CR belongs to (architecture 4.4).

use serde::{Deserialize, Serialize};

use crate::annotation;
use crate::deployment::DeploymentId;
use crate::excerpt::excerpt;
use crate::image_based_upgrade::ImageBasedUpgrade;

/// The stamp's format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Which run wrote a saved CR, in which boot, for which pivot. A saved CR whose stamp does not
/// match what booted is set aside; the Go original writes none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandoverStamp {
    /// [`FORMAT`].
    pub format: u32,
    /// The run that wrote it.
    pub run_id: String,
    /// The boot in which it was written; a restore in the same boot means that no pivot happened.
    pub boot_id: String,
    /// What was booted when it was written.
    pub origin: DeploymentId,
    /// What is to boot next.
    pub target: DeploymentId,
}

/// Why a stamp cannot be read. The saved CR is to be set aside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// Not the JSON of a stamp.
    #[error("the handover stamp of the saved ImageBasedUpgrade is damaged: {0}")]
    Damaged(String),
    /// A format of another program version.
    #[error("the handover stamp of the saved ImageBasedUpgrade has format {0}; this program knows only {known}", known = FORMAT)]
    UnknownFormat(u32),
}

/// Writes the stamp into the object's annotation [`annotation::HANDOVER`].
///
/// # Errors
/// None that the types allow; the signature is serde's.
pub fn stamp(ibu: &mut ImageBasedUpgrade, stamp: &HandoverStamp) -> Result<(), serde_json::Error> {
    let text = serde_json::to_string(stamp)?;
    ibu.metadata
        .annotations
        .insert(annotation::HANDOVER.to_owned(), text);
    Ok(())
}

/// Removes the stamp from the object, so that it never reaches the cluster, and reads it; `None`
/// when there is none.
///
/// # Errors
/// [`StampError`] when there is one that cannot be read; it is removed all the same.
pub fn take_stamp(ibu: &mut ImageBasedUpgrade) -> Result<Option<HandoverStamp>, StampError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Some(text) = ibu.metadata.annotations.remove(annotation::HANDOVER) else {
        return Ok(None);
    };
    let damaged = |error: serde_json::Error| StampError::Damaged(excerpt(&error.to_string()));
    let Format { format } = serde_json::from_str(&text).map_err(damaged)?;
    if format != FORMAT {
        return Err(StampError::UnknownFormat(format));
    }
    serde_json::from_str(&text).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> HandoverStamp {
        HandoverStamp {
            format: FORMAT,
            run_id: "20241105T101500Z-1".to_owned(),
            boot_id: "0f4f1b2c-2f7c-4c26-8f2c-9c0a5d5e7c11".to_owned(),
            origin: format!("rhcos-{}.0", "ab".repeat(32)).parse().unwrap(),
            target: format!("rhcos_4.17.4-{}.0", "cd".repeat(32))
                .parse()
                .unwrap(),
        }
    }

    #[test]
    fn a_stamp_survives_the_file_and_leaves_the_object() {
        let mut ibu = ImageBasedUpgrade::initial();
        stamp(&mut ibu, &example()).unwrap();
        let mut read = crate::saved_cr::parse(&crate::saved_cr::print(&ibu).unwrap()).unwrap();
        assert_eq!(take_stamp(&mut read), Ok(Some(example())));
        assert_eq!(read, ImageBasedUpgrade::initial());
        assert_eq!(take_stamp(&mut read), Ok(None));
    }

    #[test]
    fn stamps_have_this_text() {
        let mut ibu = ImageBasedUpgrade::initial();
        stamp(&mut ibu, &example()).unwrap();
        let expected = format!(
            r#"{{"format":1,"runId":"20241105T101500Z-1","bootId":"0f4f1b2c-2f7c-4c26-8f2c-9c0a5d5e7c11","origin":"rhcos-{}.0","target":"rhcos_4.17.4-{}.0"}}"#,
            "ab".repeat(32),
            "cd".repeat(32)
        );
        assert_eq!(
            ibu.metadata.annotations["lca.openshift.io/handover"],
            expected
        );
    }

    #[test]
    fn unreadable_stamps_are_errors_and_leave_the_object() {
        let check = |text: &str, expected: fn(&StampError) -> bool| {
            let mut ibu = ImageBasedUpgrade::initial();
            ibu.metadata
                .annotations
                .insert(annotation::HANDOVER.to_owned(), text.to_owned());
            let error = take_stamp(&mut ibu).unwrap_err();
            assert!(expected(&error), "{text}: {error}");
            assert_eq!(ibu, ImageBasedUpgrade::initial());
        };
        check("", |error| matches!(error, StampError::Damaged(_)));
        check("{}", |error| matches!(error, StampError::Damaged(_)));
        check(r#"{"format":1}"#, |error| {
            matches!(error, StampError::Damaged(_))
        });
        check(r#"{"format":2,"new":true}"#, |error| {
            *error == StampError::UnknownFormat(2)
        });
    }
}
