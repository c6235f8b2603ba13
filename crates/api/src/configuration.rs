//! The ConfigMap with which administrators set the agent up. Ours: the Go original has none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;

/// The ConfigMap's name, in the operator's namespace.
pub const CONFIG_MAP: &str = "lifecycle-agent-config";

/// Key: whether seeds must be signed, [`REQUIRED`] or [`OFF`]. Without it they need not be.
pub const SIGNATURE_POLICY: &str = "signaturePolicy";
/// Key: public keys in PEM, one behind the other; a seed must be signed with one of them.
pub const SIGNATURE_KEYS: &str = "signatureKeys";
/// Key: bytes per second at which the seed is fetched; see [`crate::network_limits`].
pub const FETCH_BANDWIDTH: &str = "fetchBandwidth";
/// Key: connections at a time over which the seed is fetched.
pub const FETCH_CONNECTIONS: &str = "fetchConnections";
/// Key: images that are pulled at a time.
pub const PRECACHE_PULLS: &str = "precachePulls";

/// Value of [`SIGNATURE_POLICY`]: only signed seeds are installed.
pub const REQUIRED: &str = "required";
/// Value of [`SIGNATURE_POLICY`]: signatures are not looked at.
pub const OFF: &str = "off";

/// Most keys in [`SIGNATURE_KEYS`]: each signature is tried with each.
const KEYS_LIMIT: usize = 32;
/// Longest key, in characters of base64: an RSA key of 8192 bits has 1,400.
const KEY_LIMIT: usize = 4096;

/// What is asked of signatures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SignaturePolicy {
    /// Nothing.
    Off,
    /// One by any of these keys, of which there is at least one.
    Required(Vec<PublicKey>),
}

/// A public key as PEM has it between its first and last line, without white space: base64 of the
/// `SubjectPublicKeyInfo`. Whether it is a key is not known here.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey(String);

impl PublicKey {
    /// Its base64.
    #[must_use]
    pub fn as_base64(&self) -> &str {
        &self.0
    }
}

/// A signature policy that cannot be followed; it is never taken for none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("ConfigMap {CONFIG_MAP}: {0}")]
pub struct InvalidPolicy(String);

fn invalid<T>(text: impl Into<String>) -> Result<T, InvalidPolicy> {
    Err(InvalidPolicy(text.into()))
}

impl SignaturePolicy {
    /// The policy in the ConfigMap's data.
    ///
    /// # Errors
    ///
    /// When a value is unknown, keys are missing or malformed, or a key of the ConfigMap looks like a misspelt one of ours.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, InvalidPolicy> {
        let known = [SIGNATURE_POLICY, SIGNATURE_KEYS];
        let unknown = data.keys().find(|key| {
            key.to_ascii_lowercase().starts_with("signature") && !known.contains(&key.as_str())
        });
        if let Some(key) = unknown {
            let key = excerpt(key);
            return invalid(format!(
                "there is no key {key}; the keys are {SIGNATURE_POLICY} and {SIGNATURE_KEYS}"
            ));
        }
        let keys = data.get(SIGNATURE_KEYS).map_or("", |text| text.trim());
        match data.get(SIGNATURE_POLICY).map(|text| text.trim()) {
            None if keys.is_empty() => Ok(Self::Off),
            None => invalid(format!(
                "{SIGNATURE_KEYS} is set and {SIGNATURE_POLICY} is not; set it to {REQUIRED} or {OFF}"
            )),
            Some(OFF) => Ok(Self::Off),
            Some(REQUIRED) if keys.is_empty() => invalid(format!(
                "{SIGNATURE_POLICY} is {REQUIRED} and {SIGNATURE_KEYS} holds no key; \
                 add the public keys of those who sign seeds"
            )),
            Some(REQUIRED) => parse_keys(keys).map(Self::Required),
            Some(other) => {
                let other = excerpt(other);
                invalid(format!(
                    "{SIGNATURE_POLICY} is \"{other}\"; it must be {REQUIRED} or {OFF}"
                ))
            }
        }
    }
}

/// PEM blocks (RFC 7468). Between them only empty lines and comments may stand: what is anything else may be a key that
/// somebody relies on.
fn parse_keys(text: &str) -> Result<Vec<PublicKey>, InvalidPolicy> {
    let mut keys = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = keys.len() + 1;
        let fault = |text: &str| invalid(format!("{SIGNATURE_KEYS}: key {number} {text}"));
        let label = line
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"));
        match label {
            Some("PUBLIC KEY") => {}
            // Its text is not repeated.
            Some(label) if label.contains("PRIVATE") => {
                return fault(
                    "is a private key; replace it by its public key, and sign with another one: \
                     this one is disclosed",
                );
            }
            Some(label) => {
                let label = excerpt(label);
                return fault(&format!(
                    "is a \"{label}\"; a PUBLIC KEY in PEM is expected"
                ));
            }
            None => return fault("does not begin with -----BEGIN PUBLIC KEY-----"),
        }
        let mut body = String::new();
        loop {
            match lines.next() {
                Some("-----END PUBLIC KEY-----") => break,
                Some(line) if line.bytes().all(is_base64) => body.push_str(line),
                Some(_) => return fault("holds a line that is not base64"),
                None => return fault("does not end with -----END PUBLIC KEY-----"),
            }
            if body.len() > KEY_LIMIT {
                return fault(&format!("is longer than {KEY_LIMIT} characters"));
            }
        }
        if body.is_empty() {
            return fault("is empty");
        }
        keys.push(PublicKey(body));
        if keys.len() > KEYS_LIMIT {
            return invalid(format!(
                "{SIGNATURE_KEYS} holds more than {KEYS_LIMIT} keys"
            ));
        }
    }
    if keys.is_empty() {
        return invalid(format!("{SIGNATURE_KEYS} holds no key"));
    }
    Ok(keys)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        fn check(data: &[(&str, &str)], expect: Result<usize, &str>) {
            let data = data.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            match (SignaturePolicy::parse(&data.collect()), expect) {
                (Ok(SignaturePolicy::Off), Ok(0)) => {}
                (Ok(SignaturePolicy::Required(keys)), Ok(count)) => assert_eq!(keys.len(), count),
                (Err(error), Err(part)) => {
                    let text = error.to_string();
                    assert!(
                        text.starts_with("ConfigMap lifecycle-agent-config: "),
                        "{text}"
                    );
                    assert!(text.contains(part), "{text}");
                    assert!(!text.contains("c2VjcmV0"), "{text}");
                }
                (got, expect) => panic!("{got:?} instead of {expect:?}"),
            }
        }
        let pem = |kind: &str, body: &str| {
            format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
        };
        let one = pem("PUBLIC KEY", "AAAA\n  BB==");
        let required = |keys: &str, expect: Result<usize, &str>| {
            check(
                &[(SIGNATURE_POLICY, "required\n"), (SIGNATURE_KEYS, keys)],
                expect,
            );
        };
        check(&[], Ok(0));
        check(&[("precacheParallel", "4")], Ok(0));
        check(&[(SIGNATURE_POLICY, "off")], Ok(0));
        check(
            &[(SIGNATURE_POLICY, "off"), (SIGNATURE_KEYS, "garbage")],
            Ok(0),
        );
        check(
            &[(SIGNATURE_POLICY, "Required")],
            Err("\"Required\"; it must be required or off"),
        );
        check(&[(SIGNATURE_POLICY, "")], Err("\"\"; it must be"));
        check(&[(SIGNATURE_POLICY, "required")], Err("holds no key"));
        check(&[(SIGNATURE_KEYS, &one)], Err("signaturePolicy is not"));
        check(
            &[("signaturepolicy", "required")],
            Err("no key signaturepolicy"),
        );
        required(&one, Ok(1));
        required(&format!("# ours\n{one}\n\r\n{one}"), Ok(2));
        required(&one.repeat(33), Err("more than 32 keys"));
        required("# only a comment", Err("holds no key"));
        required(&format!("{one}garbage"), Err("key 2 does not begin with"));
        required(&pem("CERTIFICATE", "AAAA"), Err("is a \"CERTIFICATE\""));
        required(&pem("EC PRIVATE KEY", "c2VjcmV0"), Err("is a private key"));
        required("-----BEGIN PUBLIC KEY-----\nAAAA", Err("does not end"));
        required(&pem("PUBLIC KEY", "c2VjcmV0!"), Err("not base64"));
        required(&pem("PUBLIC KEY", ""), Err("is empty"));
        required(
            &pem("PUBLIC KEY", &"A".repeat(5000)),
            Err("longer than 4096"),
        );
    }
}
