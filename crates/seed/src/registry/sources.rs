//! Where an image can be had: its mirrors and its own registry.

use super::{Registry, RegistryError, Resolved};
use crate::watch::Watch;

/// The places that have an image.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Asked in turn before the image's own registry.
    pub mirrors: &'a [Registry],
    /// The registry that the image's reference names. What it answers is what counts when nobody
    /// has the image.
    pub own: &'a Registry,
}

impl<'a> From<&'a Registry> for Sources<'a> {
    fn from(own: &'a Registry) -> Self {
        Self { mirrors: &[], own }
    }
}

impl Sources<'_> {
    /// [`Registry::resolve`] at the first place that has the image.
    ///
    /// # Errors
    ///
    /// Those of the image's own registry.
    pub async fn resolve(&self, watch: &mut dyn Watch) -> Result<Resolved, RegistryError> {
        for mirror in self.mirrors {
            match mirror.resolve(watch).await {
                Ok(resolved) => {
                    let pin = crate::pin::SeedPin {
                        reference: self.own.image().clone(),
                        ..resolved.pin
                    };
                    return Ok(Resolved { pin, ..resolved });
                }
                Err(error @ RegistryError::Stopped { .. }) => return Err(error),
                Err(error) => passed_over(mirror, &error),
            }
        }
        self.own.resolve(watch).await
    }
}

/// Says that a mirror is not used.
pub(crate) fn passed_over(mirror: &Registry, error: &RegistryError) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(mirror = %mirror.image(), error, "asking the next place that has the image");
}
