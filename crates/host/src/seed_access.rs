//! Where a seed image is fetched from: the registry that it names and its mirrors, with the node's credentials.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::ImageRef;
use node::ports::{FetchLimits, PullSecret, SeedPin, Watch};
use node::{ErrorKind, PortError, PortResult};
use seed::auth::AuthFile;
use seed::mirrors::{Mirrors, MirrorsError};
use seed::registry::{Budget, Registry, RegistryError, Sources};
use seed::trust::Trust;

use crate::failure::Attempt;
use crate::layout::Layout;
use crate::seed_failure::registry_kind;

/// Where administrators put the certificates of single registries (containers-certs.d(5)), best first.
pub(crate) const REGISTRY_CERTIFICATES: [&str; 2] =
    ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Where `registries.conf` is, below the root.
const CONTAINERS: &str = "etc/containers";

/// What a registry's client runs on: this thread.
pub(crate) fn runtime(attempted: &str) -> PortResult<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .attempt(|| attempted.to_owned())
}

/// Runs a future of the registry's client on this thread.
pub(crate) fn blocking<T>(
    future: impl Future<Output = Result<T, RegistryError>>,
    attempted: &str,
) -> PortResult<T> {
    let result = runtime(attempted)?.block_on(future);
    result.map_err(|error| PortError::new(registry_kind(&error), attempted, error))
}

/// How often a stop is looked for while a registry is asked.
const LOOK: Duration = Duration::from_millis(250);

/// Asks a registry something small on this thread. A stop ends it, however long the registry is silent.
pub(crate) fn asking<T, E: std::error::Error + Send + Sync + 'static>(
    question: impl Future<Output = Result<T, E>>,
    kind: fn(&E) -> ErrorKind,
    watch: &dyn Watch,
    attempted: &str,
) -> PortResult<T> {
    runtime(attempted)?.block_on(async {
        let mut question = std::pin::pin!(question);
        loop {
            if let Ok(answer) = tokio::time::timeout(LOOK, &mut question).await {
                return answer.map_err(|error| PortError::new(kind(&error), attempted, error));
            }
            if !watch.progress(0, None, "waiting for the registry") {
                return Err(PortError::stopped(attempted));
            }
        }
    })
}

/// The places that have an image, with the credentials for each.
pub(crate) struct Places {
    mirrors: Vec<Registry>,
    own: Registry,
}

impl Places {
    pub(crate) fn of(layout: &Layout, image: &ImageRef, secret: &PullSecret) -> PortResult<Self> {
        let attempted = || format!("looking for mirrors of {image}");
        let permanent =
            |error: MirrorsError| PortError::new(ErrorKind::Permanent, attempted(), error);
        let mirrors = Mirrors::read(&layout.booted().join(CONTAINERS)).map_err(permanent)?;
        let places = mirrors.places(image).map_err(permanent)?;
        let others = places.mirrors.iter();
        let others = others.map(|mirror| registry(mirror, secret));
        Ok(Self {
            mirrors: others.collect::<PortResult<_>>()?,
            own: registry(&places.own, secret)?,
        })
    }

    /// Fetches from all of them together within these limits.
    pub(crate) fn limited(self, limits: FetchLimits) -> Self {
        let budget = limits.bytes_per_second.map(Budget::new).map(Arc::new);
        let limited = |registry: Registry| registry.limited(budget.clone());
        Self {
            own: limited(self.own),
            mirrors: self.mirrors.into_iter().map(limited).collect(),
        }
    }

    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources {
            mirrors: &self.mirrors,
            own: &self.own,
        }
    }
}

fn registry(image: &ImageRef, secret: &PullSecret) -> PortResult<Registry> {
    let attempted = || format!("preparing access to the registry of {image}");
    let permanent = |error: Box<dyn std::error::Error + Send + Sync>| {
        PortError::new(ErrorKind::Permanent, attempted(), error)
    };
    let auth = AuthFile::parse(&secret.0).map_err(|error| permanent(error.into()))?;
    let mut trust = Trust::system();
    for directory in REGISTRY_CERTIFICATES {
        let path = Path::new(directory).join(image.registry());
        trust.add(&path).map_err(|error| permanent(error.into()))?;
    }
    Registry::new(image, &auth, &trust).map_err(|error| permanent(error.into()))
}

/// The image by digest: a tag that moved changes nothing.
pub(crate) fn pinned(pin: &SeedPin) -> PortResult<ImageRef> {
    let image = pin.image.as_str();
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let name = match name.rsplit_once(':') {
        // What follows the colon of a port contains the repository.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    format!("{name}@{}", pin.digest).parse().map_err(|error| {
        PortError::new(
            ErrorKind::Permanent,
            format!("naming image {image} by its digest"),
            error,
        )
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Instant;

    use super::*;

    struct StopAfter(Cell<u32>);

    impl Watch for StopAfter {
        fn progress(&self, _done: u64, _total: Option<u64>, _object: &str) -> bool {
            let left = self.0.get();
            self.0.set(left.saturating_sub(1));
            left > 0
        }
    }

    #[test]
    fn a_stop_ends_the_wait_for_a_silent_registry() {
        let begun = Instant::now();
        let never = std::future::pending::<Result<(), RegistryError>>();
        let stop = StopAfter(Cell::new(2));
        let error = asking(never, registry_kind, &stop, "asking").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert!(begun.elapsed() >= 3 * LOOK, "{:?}", begun.elapsed());
        assert_eq!(stop.0.get(), 0);
        let answered = std::future::ready(Ok::<_, RegistryError>(7));
        assert_eq!(asking(answered, registry_kind, &stop, "asking").unwrap(), 7);
    }
}
