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
