//! What a registry says of an image's signatures, and the keys that an administrator configured.

use api::configuration::{REQUIRED, SIGNATURE_KEYS, SIGNATURE_POLICY, SignaturePolicy};
use seed::signature::{Key, PAYLOAD_LIMIT, SIGNATURES_LIMIT, parse_manifest, verify};

use crate::judge;

pub(crate) fn manifest(bytes: &[u8]) {
    let listed = match parse_manifest(bytes) {
        Ok(listed) => listed,
        Err(fault) => return drop(judge::line(&fault)),
    };
    assert!(listed.len() <= SIGNATURES_LIMIT, "too many signatures");
    let digest = api::Digest::from_sha256(&[0; 32]);
    for listed in listed {
        match listed.check_size() {
            Ok(()) => assert!(listed.payload.size <= PAYLOAD_LIMIT, "a long payload"),
            Err(fault) => drop(judge::line(&fault)),
        }
        // Without a key nothing is good.
        let found = verify(&digest, listed.signature.as_deref(), bytes, &[]);
        assert!(found.is_err(), "signed by nobody: {found:?}");
        if let Err(fault) = found {
            judge::line(&fault);
        }
    }
}

pub(crate) fn keys(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let data = [
        (SIGNATURE_POLICY, REQUIRED.to_owned()),
        (SIGNATURE_KEYS, text),
    ];
    let data = data.map(|(key, value)| (key.to_owned(), value)).into();
    let policy = SignaturePolicy::parse(&data);
    assert_ne!(policy, Ok(SignaturePolicy::Off), "it is required");
    let keys = match policy {
        Ok(SignaturePolicy::Required(keys)) => keys,
        Ok(SignaturePolicy::Off) => return,
        Err(error) => return drop(judge::error(&error)),
    };
    assert!(!keys.is_empty(), "a policy without keys");
    match Key::parse_all(&keys) {
        Ok(parsed) => {
            assert_eq!(parsed.len(), keys.len(), "a key is lost");
            let by_any = parsed.iter().any(|key| key.verifies(bytes, bytes));
            assert!(!by_any, "the text of a key is its signature");
        }
        Err(error) => drop(judge::error(&error)),
    }
}
