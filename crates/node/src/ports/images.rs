//! Container storage.

use std::collections::BTreeSet;

use super::PullSecret;
use crate::PortResult;

/// The node's container storage, shared by all stateroots.
pub trait Images: Send + Sync {
    /// Every name under which an image is present: tags (`registry/repository:tag`) and digests
    /// (`registry/repository@sha256:...`). One listing.
    fn present(&self) -> PortResult<BTreeSet<String>>;

    /// Pulls one image. `stop` is asked every second; when it answers `true` the pull is ended (`Interrupted`). A registry
    /// that says that the image does not exist is `Permanent`; everything else a registry may say is `Transient`.
    fn pull(&self, image: &str, secret: &PullSecret, stop: &dyn Fn() -> bool) -> PortResult<()>;
}
