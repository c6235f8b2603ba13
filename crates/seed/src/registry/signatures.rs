//! The signatures of an image, where its registry has them.

use api::Digest;
use api::configuration::PublicKey;
use oci_client::{Reference, RegistryOperation};

use super::{Registry, RegistryError, Sources, passed_over};
use crate::signature::{
    self, Key, Listed, SignatureError, Signer, named, parse_manifest, refused, verify,
};
use crate::watch::Watch;

impl Registry {
    /// Finds a signature of the manifest `digest` of this image by one of the keys.
    ///
    /// # Errors
    ///
    /// See [`SignatureError`].
    pub async fn verify(
        &self,
        digest: &Digest,
        keys: &[Key],
        watch: &mut dyn Watch,
    ) -> Result<Signer, SignatureError> {
        let image = || named(&self.image, digest);
        let failed = |source| SignatureError::Registry {
            image: image(),
            source,
        };
        let asked = self.signature_manifest(digest);
        let asked = self.until_stopped(watch, asked).await.flatten();
        let Some(manifest) = asked.map_err(failed)? else {
            return Err(SignatureError::Missing {
                image: image(),
                tag: signature::tag(digest),
            });
        };
        let listed = parse_manifest(&manifest).map_err(|why| SignatureError::Unreadable {
            image: image(),
            why,
        })?;
        let mut faults = Vec::new();
        for (listed, number) in listed.iter().zip(1..) {
            let payload = self.payload(listed, watch).await.map_err(failed)?;
            let verified = payload
                .and_then(|payload| verify(digest, listed.signature.as_deref(), &payload, keys));
            match verified {
                Ok(signer) => return Ok(signer),
                Err(fault) => faults.push(format!("signature {number} {fault}")),
            }
        }
        Err(refused(&self.image, digest, &faults, keys))
    }

    /// The manifest of the signature image; `None` when there is no such image.
    async fn signature_manifest(&self, digest: &Digest) -> Result<Option<Vec<u8>>, RegistryError> {
        self.authenticate(&self.client, RegistryOperation::Pull)
            .await?;
        let own = &self.reference;
        let reference = Reference::with_tag(
            own.registry().to_owned(),
            own.repository().to_owned(),
            signature::tag(digest),
        );
        match self.manifests().get(&reference).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A payload, or why it does not count.
    async fn payload(
        &self,
        listed: &Listed,
        watch: &mut dyn Watch,
    ) -> Result<Result<Vec<u8>, String>, RegistryError> {
        if let Err(fault) = listed.check_size() {
            return Ok(Err(fault));
        }
        match self.fetch(&listed.payload, watch).await {
            Ok(payload) => Ok(Ok(payload)),
            Err(RegistryError::NotFound { .. }) => Ok(Err("has no payload".to_owned())),
            Err(RegistryError::WrongDigest { .. }) => Ok(Err(
                "has a damaged payload: its digest is another one".to_owned(),
            )),
            Err(error) => Err(error),
        }
    }
}

impl Sources<'_> {
    /// Finds a signature of the manifest `digest` by one of the keys, at any place that may have the image.
    ///
    /// # Errors
    ///
    /// That of the image's own registry; where that one cannot be asked, as on a disconnected site, a mirror's verdict.
    pub async fn verify(
        &self,
        digest: &Digest,
        keys: &[PublicKey],
        watch: &mut dyn Watch,
    ) -> Result<Signer, SignatureError> {
        let keys = Key::parse_all(keys)?;
        let mut verdict = None;
        for mirror in self.mirrors {
            match mirror.verify(digest, &keys, watch).await {
                Err(SignatureError::Registry { source, .. })
                    if !matches!(source, RegistryError::Stopped { .. }) =>
                {
                    passed_over(mirror, &source);
                }
                // What a mirror lacks, another place may have.
                Err(
                    error @ (SignatureError::Missing { .. }
                    | SignatureError::Unreadable { .. }
                    | SignatureError::Refused { .. }),
                ) => verdict = verdict.or(Some(error)),
                other => return other,
            }
        }
        match (self.own.verify(digest, &keys, watch).await, verdict) {
            (Err(error), Some(verdict)) if error.is_transient() => Err(verdict),
            (own, _) => own,
        }
    }
}
