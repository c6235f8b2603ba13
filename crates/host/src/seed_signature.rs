//! Who signed a seed image, asked where it is fetched from.

use api::configuration::PublicKey;
use node::ports::{PullSecret, SeedPin, SeedSignature};
use node::{ErrorKind, PortError, PortResult};
use seed::signature::SignatureError;

use crate::failure::Attempt;
use crate::layout::Layout;
use crate::seed_access::{Places, pinned};
use crate::seed_failure::registry_kind;

pub(crate) fn verify(
    layout: &Layout,
    pin: &SeedPin,
    keys: &[PublicKey],
    secret: &PullSecret,
) -> PortResult<SeedSignature> {
    let attempted = || "verifying the seed's signature".to_owned();
    // A tag that moved since has other signatures.
    let places = Places::of(layout, &pinned(pin)?, secret)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .attempt(attempted)?;
    let (sources, mut watch) = (places.sources(), ());
    let found = sources.verify(&pin.digest, keys, &mut watch);
    let signer = runtime
        .block_on(found)
        .map_err(|error: SignatureError| PortError::new(kind(&error), attempted(), error))?;
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
