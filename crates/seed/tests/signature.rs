//! Every case of a signature, from the policy's text to the verdict: one row each in `tests/contract/signatures.txt`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use api::Digest;
use api::configuration::{SIGNATURE_KEYS, SIGNATURE_POLICY, SignaturePolicy};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use seed::signature::{
    CLAIM_TYPE, Key, PAYLOAD_TYPE, SIGNATURE_ANNOTATION, parse_manifest, verify,
};
use serde_json::{Value, json};
use sha2::Digest as _;

const HEAD: &str = "\
# What becomes of a seed image by policy, keys and signatures; written by the test of the crate seed
# (UPDATE_GOLDEN=1 cargo test -p seed --test signature).
";

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

struct Pair {
    name: &'static str,
    pem: String,
    fingerprint: Digest,
    sign: Sign,
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&sha2::Sha256::digest(bytes).into())
}

impl Pair {
    fn new(name: &'static str, public: &PublicKeyX509Der<'_>, sign: Sign) -> Self {
        let der = public.as_ref();
        let pem = pem("PUBLIC KEY", &STANDARD.encode(der));
        Self {
            name,
            pem,
            fingerprint: sha256(der),
            sign,
        }
    }

    fn ecdsa(name: &'static str, algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let public = pair.public_key().as_der().unwrap();
        let sign = move |bytes: &[u8]| {
            let signature = pair.sign(&SystemRandom::new(), bytes);
            signature.unwrap().as_ref().to_vec()
        };
        Self::new(name, &public, Box::new(sign))
    }

    fn ed25519(name: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = pair.public_key().as_der().unwrap();
        let sign = move |bytes: &[u8]| pair.sign(bytes).as_ref().to_vec();
        Self::new(name, &public, Box::new(sign))
    }

    fn rsa(name: &'static str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key().as_der().unwrap();
        let sign = move |bytes: &[u8]| {
            let mut signature = vec![0; pair.public_modulus_len()];
            let random = SystemRandom::new();
            pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature)
                .unwrap();
            signature
        };
        Self::new(name, &public, Box::new(sign))
    }

    fn signs(&self, payload: &[u8]) -> String {
        STANDARD.encode((self.sign)(payload))
    }
}

fn pem(label: &str, body: &str) -> String {
    let lines: Vec<_> = body.as_bytes().chunks(64).collect();
    let lines = lines.into_iter().map(|line| str::from_utf8(line).unwrap());
    let lines = lines.collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}

fn seed_digest() -> Digest {
    format!("sha256:{}", "5e".repeat(32)).parse().unwrap()
}

/// The payload as cosign writes it.
fn payload(digest: &Digest) -> Value {
    json!({
        "critical": {
            "identity": {"docker-reference": "quay.example.com/org/seed"},
            "image": {"docker-manifest-digest": digest.as_str()},
            "type": CLAIM_TYPE,
        },
        "optional": null,
    })
}

/// A signature image, and what its blobs are.
#[derive(Default)]
struct Image {
    layers: Vec<Value>,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Image {
    fn of(payload: &[u8], signature: &str) -> Self {
        Self::default().and(payload, signature)
    }

    fn and(mut self, payload: &[u8], signature: &str) -> Self {
        let digest = sha256(payload);
        self.layers.push(json!({
            "mediaType": PAYLOAD_TYPE,
            "size": payload.len(),
            "digest": digest.as_str(),
            "annotations": {SIGNATURE_ANNOTATION: signature},
        }));
        self.blobs.insert(digest.as_str().into(), payload.to_vec());
        self
    }

    fn manifest(&self) -> Vec<u8> {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": "sha256:0"},
            "layers": self.layers,
        });
        serde_json::to_vec(&manifest).unwrap()
    }
}

fn policy(policy: &str, keys: &str) -> BTreeMap<String, String> {
    let data = [(SIGNATURE_POLICY, policy), (SIGNATURE_KEYS, keys)];
    let data = data.into_iter().filter(|(_, value)| !value.is_empty());
    data.map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The verdict in a line, as the registry's client comes to it.
fn verdict(data: &BTreeMap<String, String>, image: Option<&Image>) -> String {
    let keys = match SignaturePolicy::parse(data) {
        Ok(SignaturePolicy::Off) => return "not asked for".to_owned(),
        Ok(SignaturePolicy::Required(keys)) => keys,
        Err(error) => return format!("policy refused: {error}"),
    };
    let keys = match Key::parse_all(&keys) {
        Ok(keys) => keys,
        Err(error) => return format!("policy refused: {error}"),
    };
    let Some(image) = image else {
        return "refused: not signed".to_owned();
    };
    let listed = match parse_manifest(&image.manifest()) {
        Ok(listed) => listed,
        Err(why) => return format!("refused: unreadable: {why}"),
    };
    let mut faults = Vec::new();
    for listed in &listed {
        if let Err(fault) = listed.check_size() {
            faults.push(fault);
            continue;
        }
        let payload = &image.blobs[listed.payload.digest.as_str()];
        match verify(&seed_digest(), listed.signature.as_deref(), payload, &keys) {
            Ok(signer) => {
                let reference = signer.reference.as_deref().unwrap_or("-");
                let claims = signer.claims;
                return format!("good: {}, for {reference}, {claims:?}", signer.fingerprint);
            }
            Err(fault) => faults.push(fault),
        }
    }
    format!("refused: {faults:?}")
}

#[test]
fn every_case_has_its_verdict() {
    let pairs = [
        Pair::ecdsa("ecdsa-p256", &ECDSA_P256_SHA256_ASN1_SIGNING),
        Pair::ecdsa("ecdsa-p384", &ECDSA_P384_SHA384_ASN1_SIGNING),
        Pair::ecdsa("ecdsa-p521", &ECDSA_P521_SHA512_ASN1_SIGNING),
        Pair::ed25519("ed25519"),
        Pair::rsa("rsa-2048"),
    ];
    let stranger = Pair::ecdsa("stranger", &ECDSA_P256_SHA256_ASN1_SIGNING);
    let own = &pairs[0];
    let good = payload(&seed_digest()).to_string().into_bytes();
    let signed = |payload: &Value| {
        let bytes = payload.to_string().into_bytes();
        Image::of(&bytes, &own.signs(&bytes))
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut payload = payload(&seed_digest());
        change(&mut payload);
        signed(&payload)
    };
    let required = policy("required", &own.pem);
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |input: &str, data: &BTreeMap<String, String>, image: Option<Image>| {
        let mut text = verdict(data, image.as_ref());
        for pair in pairs.iter().chain([&stranger]) {
            text = text.replace(pair.fingerprint.as_str(), pair.name);
        }
        rows.push((input.to_owned(), text));
    };

    for pair in &pairs {
        let image = Image::of(&good, &pair.signs(&good));
        row(
            &format!("signed with {}", pair.name),
            &policy("required", &pair.pem),
            Some(image),
        );
    }
    let all: String = pairs.iter().map(|pair| pair.pem.as_str()).collect();
    let image = || Image::of(&good, &own.signs(&good));
    row("the last of several keys", &policy("required", &all), {
        Some(Image::of(&good, &pairs[4].signs(&good)))
    });
    row("no signature", &required, None);
    row("no signature, policy off", &policy("off", ""), None);
    row("no signature, no policy", &policy("", ""), None);
    row("no layer of a signature", &required, Some(Image::default()));
    row(
        "another key",
        &required,
        Some(Image::of(&good, &stranger.signs(&good))),
    );
    let another = format!("sha256:{}", "07".repeat(32)).parse().unwrap();
    row(
        "signature of another image",
        &required,
        Some(signed(&payload(&another))),
    );
    row("payload changed behind the signature", &required, {
        let other = payload(&another).to_string().into_bytes();
        Some(Image::of(&good, &own.signs(&other)))
    });
    row("payload cut off behind the signature", &required, {
        Some(Image::of(&good[..good.len() - 9], &own.signs(&good)))
    });
    row("cut-off payload, signed", &required, {
        let cut = &good[..good.len() - 9];
        Some(Image::of(cut, &own.signs(cut)))
    });
    row("another type of claim", &required, {
        Some(changed(&|payload| {
            payload["critical"]["type"] = json!("atomic container signature")
        }))
    });
    row("no identity", &required, {
        Some(changed(&|payload| {
            payload["critical"]["identity"] = json!(null)
        }))
    });
    row("identity of another repository", &required, {
        Some(changed(&|payload| {
            payload["critical"]["identity"]["docker-reference"] = json!("mirror.site:5000/seed");
        }))
    });
    row("claims", &required, {
        Some(changed(&|payload| {
            payload["optional"] = json!({"team": "edge\n1", "at": 1, "creator": "cosign"});
        }))
    });
    row(
        "signature is no base64",
        &required,
        Some(Image::of(&good, "not base64!")),
    );
    row("signature is empty", &required, Some(Image::of(&good, "")));
    row(
        "signature is random",
        &required,
        Some(Image::of(&good, &STANDARD.encode([7; 70]))),
    );
    row(
        "signature is endless",
        &required,
        Some(Image::of(&good, &"A".repeat(9000))),
    );
    row("annotation is missing", &required, {
        let mut image = image();
        image.layers[0]["annotations"] = json!({});
        Some(image)
    });
    row("first signature foreign, second good", &required, {
        Some(Image::of(&good, &stranger.signs(&good)).and(&good, &own.signs(&good)))
    });
    row("first signature garbage, second foreign", &required, {
        Some(Image::of(&good, "!").and(&good, &stranger.signs(&good)))
    });
    row("payload of 64 KiB and more", &required, {
        let long = [good.clone(), vec![b' '; 1 << 16]].concat();
        let mut image = Image::of(&long, "AAAA");
        image.layers[0]["size"] = json!(1u64 << 62);
        Some(image.and(&long, &own.signs(&long)))
    });
    row("layer with a bad digest", &required, {
        let mut image = image();
        image.layers[0]["digest"] = json!("sha256:../../etc");
        Some(image)
    });
    row("negative payload size", &required, {
        // The text says in which column: signatures differ in length.
        let mut image = Image::of(&good, "AAAA");
        image.layers[0]["size"] = json!(-1);
        Some(image)
    });
    row("101 signatures", &required, {
        let mut image = image();
        image.layers = vec![image.layers[0].clone(); 101];
        Some(image)
    });
    row("100 signatures, the last one good", &required, {
        let mut foreign = Image::of(&good, &stranger.signs(&good));
        foreign.layers = vec![foreign.layers[0].clone(); 99];
        Some(foreign.and(&good, &own.signs(&good)))
    });
    row(
        "policy unknown",
        &policy("Required", &own.pem),
        Some(image()),
    );
    row(
        "keys without a policy",
        &policy("", &own.pem),
        Some(image()),
    );
    row("no keys", &policy("required", ""), Some(image()));
    let list = |rest: &str| policy("required", &format!("{}{rest}", own.pem));
    row("garbage behind a key", &list("garbage"), Some(image()));
    row(
        "a key that is no base64",
        &list(&pem("PUBLIC KEY", "A")),
        Some(image()),
    );
    row(
        "a key that is no DER",
        &list(&pem("PUBLIC KEY", "AAAA")),
        Some(image()),
    );
    let der = STANDARD.decode(
        own.pem
            .lines()
            .filter(|l| !l.starts_with('-'))
            .collect::<String>(),
    );
    let mut point = der.unwrap();
    *point.last_mut().unwrap() ^= 1;
    row(
        "a key that is no point of its curve",
        &list(&pem("PUBLIC KEY", &STANDARD.encode(&point))),
        Some(image()),
    );
    row(
        "a key that is cut off",
        &list(&pem("PUBLIC KEY", &STANDARD.encode(&point[..50]))),
        Some(image()),
    );
    row(
        "a certificate",
        &list(&pem("CERTIFICATE", "AAAA")),
        Some(image()),
    );
    row(
        "a private key",
        &list(&pem("PRIVATE KEY", "AAAA")),
        Some(image()),
    );

    let width = rows.iter().map(|(input, _)| input.len()).max().unwrap();
    let mut table = HEAD.to_owned();
    for (input, text) in rows {
        writeln!(table, "{input:width$}  {text}").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contract/signatures.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    assert_eq!(table, std::fs::read_to_string(&path).unwrap());
}
