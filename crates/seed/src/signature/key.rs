//! Public keys, and what they can verify.

use api::Digest;
use api::configuration::PublicKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA256_ASN1,
    ECDSA_P521_SHA512_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

type Algorithms = &'static [&'static dyn VerificationAlgorithm];

/// `AlgorithmIdentifier`s as DER has them (RFC 5480, 8410, 8017), and what signatures by such keys are tried as: cosign
/// hashes with SHA-256 whatever the curve, newer versions with what fits the curve.
const KINDS: [(&[u8], Algorithms); 5] = [
    (
        b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
        &[&ECDSA_P256_SHA256_ASN1],
    ),
    (
        b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22",
        &[&ECDSA_P384_SHA256_ASN1, &ECDSA_P384_SHA384_ASN1],
    ),
    (
        b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23",
        &[&ECDSA_P521_SHA256_ASN1, &ECDSA_P521_SHA512_ASN1],
    ),
    (b"\x30\x05\x06\x03\x2b\x65\x70", &[&ED25519]),
    (
        b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00",
        &[&RSA_PKCS1_2048_8192_SHA256],
    ),
];

/// A key that signatures are tried with.
#[derive(Debug)]
pub struct Key {
    text: PublicKey,
    fingerprint: Digest,
    tried: Vec<ParsedPublicKey>,
}

/// Why a configured key is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Its text.
    #[error("key {number} of signatureKeys is not base64")]
    Base64 {
        /// Which one, from 1.
        number: usize,
    },
    /// Its algorithm.
    #[error(
        "key {number} of signatureKeys is of a kind that is not supported; \
         use ECDSA (P-256, P-384, P-521), Ed25519 or RSA"
    )]
    Kind {
        /// Which one, from 1.
        number: usize,
    },
    /// Its content.
    #[error("key {number} of signatureKeys is malformed: {why}")]
    Malformed {
        /// Which one, from 1.
        number: usize,
        /// What the library says.
        why: String,
    },
}

impl Key {
    /// The configured keys.
    ///
    /// # Errors
    ///
    /// When any of them is none: a list of which a part is ignored is not what was configured.
    pub fn parse_all(keys: &[PublicKey]) -> Result<Vec<Self>, InvalidKey> {
        let numbered = keys.iter().zip(1..);
        numbered
            .map(|(key, number)| Self::parse(key, number))
            .collect()
    }

    fn parse(text: &PublicKey, number: usize) -> Result<Self, InvalidKey> {
        let der = STANDARD
            .decode(text.as_base64())
            .map_err(|_| InvalidKey::Base64 { number })?;
        let algorithms = algorithms(&der).ok_or(InvalidKey::Kind { number })?;
        let parse = |algorithm: &&'static dyn VerificationAlgorithm| {
            ParsedPublicKey::new(*algorithm, &der).map_err(|error| InvalidKey::Malformed {
                number,
                why: error.to_string(),
            })
        };
        Ok(Self {
            text: text.clone(),
            fingerprint: Digest::from_sha256(&Sha256::digest(&der).into()),
            tried: algorithms.iter().map(parse).collect::<Result<_, _>>()?,
        })
    }

    /// The key as it was configured.
    pub fn text(&self) -> &PublicKey {
        &self.text
    }

    /// SHA-256 of its `SubjectPublicKeyInfo`.
    pub fn fingerprint(&self) -> &Digest {
        &self.fingerprint
    }

    /// Whether a signature of these bytes was made with its private half.
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let mut tried = self.tried.iter();
        tried.any(|key| key.verify_sig(bytes, signature).is_ok())
    }
}

/// What a `SubjectPublicKeyInfo` is good for: its algorithm follows the head of the outer sequence.
fn algorithms(der: &[u8]) -> Option<Algorithms> {
    let head = match der {
        [0x30, 0x81, ..] => 3,
        [0x30, 0x82, ..] => 4,
        [0x30, length, ..] if *length < 0x80 => 2,
        _ => return None,
    };
    let rest = der.get(head..)?;
    let mut kinds = KINDS.iter();
    kinds
        .find(|(kind, _)| rest.starts_with(kind))
        .map(|(_, algorithms)| *algorithms)
}
