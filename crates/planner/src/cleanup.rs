//! Which images leave a container storage that is too full (contract 3.9).

use std::collections::BTreeSet;
use std::fmt;

use api::{ImageBasedUpgrade, annotation};
use serde::{Deserialize, Serialize};

/// Images removed between two looks at the disk (contract 3.9).
const BATCH: usize = 5;

/// Whether, and from when on, images are cleaned up: what the user's annotations say.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageCleanup {
    /// Not at all.
    #[default]
    Disabled,
    /// Above this usage of the storage's filesystem, per cent. Any integer: one below 0 is always exceeded, one from 100 on
    /// never.
    Above(i64),
    /// Not at all, because the threshold is no integer; the text as it stands in the annotation.
    Unreadable(String),
}

impl ImageCleanup {
    /// What the annotations of an upgrade ask for.
    pub fn for_upgrade(ibu: &ImageBasedUpgrade) -> Self {
        let annotation = |key: &str| ibu.metadata.annotations.get(key).map(String::as_str);
        if annotation(annotation::IMAGE_CLEANUP_ON_PREP) == Some(annotation::DISABLED) {
            return Self::Disabled;
        }
        match annotation(annotation::IMAGE_CLEANUP_THRESHOLD) {
            None => Self::Above(annotation::IMAGE_CLEANUP_THRESHOLD_DEFAULT.into()),
            Some(text) => text
                .parse()
                .map_or_else(|_| Self::Unreadable(text.to_owned()), Self::Above),
        }
    }
}

/// An image in the container storage.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StoredImage {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// Its tags and digests, as they may be given to remove it.
    pub names: Vec<String>,
    /// When it was built, unix seconds.
    pub created: i64,
    /// It has no tag and nothing is built on it.
    pub dangling: bool,
}

/// What must not be removed because of what the container runtimes say. Ids and names in any of the forms that runtimes use.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeldImages {
    /// Of containers, running or not.
    pub used: BTreeSet<String>,
    /// Pinned.
    pub pinned: BTreeSet<String>,
}

/// What must not be removed because somebody will start it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NeededImages {
    /// Named in manifests of static pods.
    pub static_pods: BTreeSet<String>,
    /// Named by Pods of the cluster.
    pub pods: BTreeSet<String>,
    /// Named by units of the running system and by the scripts that these run.
    pub boot: BTreeSet<String>,
    /// What the new release is precached with.
    pub precached: BTreeSet<String>,
}

/// Why an image stays.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kept {
    /// It is pinned.
    Pinned,
    /// A container is made of it.
    Used,
    /// A static pod needs it.
    StaticPod,
    /// A Pod needs it.
    Pod,
    /// A unit starts it, at boot perhaps.
    Boot,
    /// The new release needs it.
    Precached,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kept::Pinned => "pinned",
            Kept::Used => "used by a container",
            Kept::StaticPod => "named by a static pod",
            Kept::Pod => "named by a Pod",
            Kept::Boot => "named by a unit or a script",
            Kept::Precached => "needed by the new release",
        })
    }
}

/// Why an image stays; `None` = it may go.
pub fn kept(image: &StoredImage, held: &HeldImages, needed: &NeededImages) -> Option<Kept> {
    let reasons = [
        (&held.pinned, Kept::Pinned),
        (&held.used, Kept::Used),
        (&needed.static_pods, Kept::StaticPod),
        (&needed.pods, Kept::Pod),
        (&needed.boot, Kept::Boot),
        (&needed.precached, Kept::Precached),
    ];
    reasons
        .into_iter()
        .find(|(names, _)| names.iter().any(|name| means(name, image)))
        .map(|(_, reason)| reason)
}

/// Whether a reference means this image. Digests count whatever the repository is called: a mirror's name differs.
fn means(name: &str, image: &StoredImage) -> bool {
    let id = name.strip_prefix("sha256:").unwrap_or(name);
    let digest = |name: &str| {
        let (_, digest) = name.split_once('@')?;
        Some(digest.to_owned())
    };
    let wanted = digest(name);
    id == image.id
        || image.names.iter().any(|own| own == name)
        || wanted.is_some() && image.names.iter().any(|own| digest(own) == wanted)
}

/// Whether a filesystem that is this full, per cent, is fuller than it may be. Exactly at the threshold it is not.
pub fn exceeds(usage: u8, threshold: i64) -> bool {
    i64::from(usage) > threshold
}

/// What may go, in the order of going, in portions behind each of which the disk is looked at: dangling images first, then
/// the oldest.
pub fn batches(
    mut stored: Vec<StoredImage>,
    held: &HeldImages,
    needed: &NeededImages,
) -> Vec<Vec<StoredImage>> {
    stored.retain(|image| kept(image, held, needed).is_none());
    stored.sort_by_key(|image| (!image.dangling, image.created));
    stored.chunks(BATCH).map(<[StoredImage]>::to_vec).collect()
}
