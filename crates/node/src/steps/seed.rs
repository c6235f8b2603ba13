//! Resolving, verifying and fetching the seed.

use api::ImageRef;
use api::configuration::PublicKey;
use planner::{SeedContent, SeedPin};

use super::credentials;
use crate::PortResult;
use crate::ports::{FetchRequest, Ports, Watch};
use crate::record::{self, Record};

pub(super) fn resolved(ports: &Ports<'_>, image: &ImageRef) -> PortResult<bool> {
    let pin: Option<SeedPin> = intact(record::read(ports.files, Record::SeedPin))?;
    Ok(pin.is_some_and(|pin| pin.image == *image))
}

pub(super) fn resolve(
    ports: &Ports<'_>,
    image: &ImageRef,
    secret: Option<&str>,
    watch: &dyn Watch,
) -> PortResult<()> {
    let secret = credentials(ports, secret)?;
    let pin = ports.seeds.resolve(image, &secret, watch)?;
    record::write(ports.files, Record::SeedPin, &pin)
}

/// Whether the record of this seed says that one of these keys vouches for it.
pub(super) fn verified(ports: &Ports<'_>, pin: &SeedPin, keys: &[PublicKey]) -> PortResult<bool> {
    let found: Option<SeedPin> = intact(record::read(ports.files, Record::SeedPin))?;
    let found = found.filter(|found| found.image == pin.image && found.digest == pin.digest);
    let signature = found.and_then(|found| found.signature);
    Ok(signature.is_some_and(|signature| keys.contains(&signature.key)))
}

pub(super) fn verify(
    ports: &Ports<'_>,
    pin: &SeedPin,
    keys: &[PublicKey],
    secret: Option<&str>,
    watch: &dyn Watch,
) -> PortResult<()> {
    let secret = credentials(ports, secret)?;
    let signature = ports.seeds.verify(pin, keys, &secret, watch)?;
    let pin = SeedPin {
        signature: Some(signature),
        ..pin.clone()
    };
    record::write(ports.files, Record::SeedPin, &pin)
}

pub(super) fn fetched(ports: &Ports<'_>, pin: &SeedPin) -> PortResult<bool> {
    let content: Option<SeedContent> = intact(record::read(ports.files, Record::SeedContent))?;
    Ok(content.is_some_and(|content| content.digest == pin.digest))
}

pub(super) fn fetch(
    ports: &Ports<'_>,
    request: &FetchRequest,
    secret: Option<&str>,
    watch: &dyn Watch,
) -> PortResult<()> {
    let content = ports
        .seeds
        .fetch(request, &credentials(ports, secret)?, watch)?;
    record::write(ports.files, Record::SeedContent, &content)
}

/// A damaged record that this step writes anew is as good as none.
fn intact<T>(read: PortResult<Option<T>>) -> PortResult<Option<T>> {
    match read {
        Err(error) if error.kind() == planner::ErrorKind::Contradiction => Ok(None),
        other => other,
    }
}
