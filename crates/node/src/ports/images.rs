//! Container storage.

use std::collections::{BTreeMap, BTreeSet};

use planner::{HeldImages, StoredImage};

use super::PullSecret;
use crate::PortResult;

/// A layer of an image, as its manifest names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layer {
    /// Digest of what the registry stores, compressed (`sha256:...`).
    pub digest: String,
    /// Bytes as stored there.
    pub size: u64,
}

/// The node's container storage, shared by all stateroots. What may take long has a `stop`, which is asked every second; when
/// it answers `true` the work is ended (`Interrupted`).
pub trait Images: Send + Sync {
    /// Every name under which an image is present: tags (`registry/repository:tag`) and digests
    /// (`registry/repository@sha256:...`). One listing.
    fn present(&self, stop: &dyn Fn() -> bool) -> PortResult<BTreeSet<String>>;

    /// The layers of images as the registry tells them. Advice for the order of pulls: an image about which nothing is to be
    /// learned is left out, whatever the reason.
    fn layers(
        &self,
        images: &[String],
        secret: &PullSecret,
        stop: &dyn Fn() -> bool,
    ) -> BTreeMap<String, Vec<Layer>>;

    /// Digests ([`Layer::digest`]) of the layers that are whole in the storage. Advice as well: empty where it cannot be
    /// learned. Cheap enough to be called several times a second.
    fn present_layers(&self) -> BTreeSet<String>;

    /// Pulls one image. `Permanent` when the image's own registry says that it does not exist or refuses the credentials, and
    /// nothing that may pass was the matter there or at a mirror, and when the disk is full; everything else that a registry
    /// may say is `Transient`.
    fn pull(&self, image: &str, secret: &PullSecret, stop: &dyn Fn() -> bool) -> PortResult<()>;

    /// Every image in the storage, in no order. One listing.
    fn stored(&self, stop: &dyn Fn() -> bool) -> PortResult<Vec<StoredImage>>;

    /// What containers, running or not, are made of, and what is pinned: by the container runtime where one answers, and by
    /// podman. `Transient` when one of them cannot be asked.
    fn held(&self, stop: &dyn Fn() -> bool) -> PortResult<HeldImages>;

    /// How full the storage's filesystem is for everybody but root, in whole per cent, rounded down (contract 3.9).
    fn usage(&self) -> PortResult<u8>;

    /// Removes images with all their names. One that cannot be removed, because a container has come to use it, stays and is
    /// no error; `Transient` when nothing could be tried. After a stop any of them may be gone.
    fn remove(&self, images: &[StoredImage], stop: &dyn Fn() -> bool) -> PortResult<()>;
}
