//! Who signed a seed image, asked where it is fetched from.

use api::configuration::PublicKey;
use node::ports::{PullSecret, SeedPin, SeedSignature, Watch};
use node::{ErrorKind, PortResult};
use seed::signature::SignatureError;

use crate::layout::Layout;
use crate::seed_access::{Places, asking, pinned};
use crate::seed_failure::registry_kind;

pub(crate) fn verify(
    layout: &Layout,
    pin: &SeedPin,
    keys: &[PublicKey],
    secret: &PullSecret,
    watch: &dyn Watch,
) -> PortResult<SeedSignature> {
    // A tag that moved since has other signatures.
    let places = Places::of(layout, &pinned(pin)?, secret)?;
    let (sources, mut nobody) = (places.sources(), ());
    let signer = asking(
        sources.verify(&pin.digest, keys, &mut nobody),
        kind,
        watch,
        "verifying the seed's signature",
    )?;
    Ok(SeedSignature {
        key: signer.key,
        fingerprint: signer.fingerprint,
        reference: signer.reference,
        claims: signer.claims,
    })
}

fn kind(error: &SignatureError) -> ErrorKind {
    match error {
        SignatureError::Registry { source, .. } => registry_kind(source),
        _ => ErrorKind::Permanent,
    }
}
