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
