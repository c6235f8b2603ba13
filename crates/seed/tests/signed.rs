//! Signatures through a real registry, made by another implementation (openssl), in the places where cosign puts them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    dead_code,
    reason = "the registry and the sample serve several test binaries"
)]

mod blocking;
mod loopback;
mod sample;
mod upload;

use std::fs;
use std::path::Path;
use std::process::Command;

use api::configuration::{PublicKey, SIGNATURE_KEYS, SIGNATURE_POLICY, SignaturePolicy};
use api::{Digest, ImageRef};
use blocking::block_on;
use loopback::{Loopback, PASSWORD, USER};
use reqwest::{Client, StatusCode};
use seed::registry::{Registry, Sources};
use seed::signature::{PAYLOAD_TYPE, SIGNATURE_ANNOTATION, SignatureError, Signer, tag};
use serde_json::json;
use sha2::Digest as _;
use upload::{client, pushed};

/// Pushes a seed; the pin that its tag stands for.
fn push(registry: &Loopback, image: &str, dir: &Path) -> Digest {
    pushed(registry, image, dir);
    let client = client(registry, image);
    block_on(client.resolve(&mut ())).unwrap().pin.digest
}

/// Somebody who signs, with openssl.
struct Signatory {
    dir: tempfile::TempDir,
}

impl Signatory {
    fn new(options: &[&str]) -> Self {
        let this = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let key = [&["genpkey", "-out", "key.pem"], options].concat();
        this.openssl(&key);
        this.openssl(&["pkey", "-in", "key.pem", "-pubout", "-out", "pub.pem"]);
        this
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        let output = command
            .args(arguments)
            .current_dir(self.dir.path())
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn pem(&self) -> String {
        fs::read_to_string(self.dir.path().join("pub.pem")).unwrap()
    }

    fn sign(&self, payload: &[u8]) -> String {
        use base64::Engine as _;
        fs::write(self.dir.path().join("payload"), payload).unwrap();
        self.openssl(&[
            "dgst",
            "-sha256",
            "-sign",
            "key.pem",
            "-out",
            "signature",
            "payload",
        ]);
        let signature = fs::read(self.dir.path().join("signature")).unwrap();
        base64::engine::general_purpose::STANDARD.encode(signature)
    }
}

fn keys(pems: &[&Signatory]) -> Vec<PublicKey> {
    let text: String = pems.iter().map(|signatory| signatory.pem()).collect();
    let data = [
        (SIGNATURE_POLICY, "required".to_owned()),
        (SIGNATURE_KEYS, text),
    ];
    let data = data.map(|(key, value)| (key.to_owned(), value)).into();
    match SignaturePolicy::parse(&data).unwrap() {
        SignaturePolicy::Required(keys) => keys,
        SignaturePolicy::Off => panic!("off"),
    }
}

fn payload(digest: &Digest) -> Vec<u8> {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": "quay.example.com/org/seed"},
            "image": {"docker-manifest-digest": digest.as_str()},
            "type": "cosign container image signature",
        },
        "optional": {"creator": "a test"},
    });
    payload.to_string().into_bytes()
}

/// Puts signatures where cosign puts those of `digest`: (payload, signature, size that the manifest gives the payload).
fn attach(registry: &Loopback, digest: &Digest, signatures: &[(Vec<u8>, String, usize)]) {
    let ca = reqwest::Certificate::from_pem(&fs::read(registry.ca()).unwrap()).unwrap();
    let http = Client::builder().tls_certs_merge([ca]).build().unwrap();
    let url = |rest: &str| format!("https://{}{rest}", registry.image("v2/org/seed/"));
    block_on(async {
        let blob = async |bytes: &[u8]| {
            let digest = Digest::from_sha256(&sha2::Sha256::digest(bytes).into());
            let begun = http.post(url("blobs/uploads/"));
            let begun = begun.basic_auth(USER, Some(PASSWORD)).send().await.unwrap();
            let place = begun.headers()["location"].to_str().unwrap().to_owned();
            let place = format!("{place}&digest={digest}");
            let put = http.put(place).basic_auth(USER, Some(PASSWORD));
            let put = put.body(bytes.to_vec()).send().await.unwrap();
            assert_eq!(put.status(), StatusCode::CREATED);
            digest
        };
        let config = blob(b"{}").await;
        let mut layers = Vec::new();
        for (payload, signature, size) in signatures {
            layers.push(json!({
                "mediaType": PAYLOAD_TYPE,
                "size": size,
                "digest": blob(payload).await.as_str(),
                "annotations": {SIGNATURE_ANNOTATION: signature},
            }));
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": kind,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": config.as_str()},
            "layers": layers,
        });
        let put = http.put(url(&format!("manifests/{}", tag(digest))));
        let put = put
            .basic_auth(USER, Some(PASSWORD))
            .header("content-type", kind);
        let put = put.body(manifest.to_string()).send().await.unwrap();
        assert_eq!(
            put.status(),
            StatusCode::CREATED,
            "{}",
            put.text().await.unwrap()
        );
    });
}

fn verify(
    registry: &Registry,
    mirrors: &[Registry],
    digest: &Digest,
    keys: &[PublicKey],
) -> Result<Signer, SignatureError> {
    let sources = Sources {
        mirrors,
        own: registry,
    };
    block_on(sources.verify(digest, keys, &mut ()))
}

#[test]
fn a_seed_is_verified_where_it_is_fetched_from() {
    let mut registry = Loopback::start();
    let dir = tempfile::tempdir().unwrap();
    let digest = push(&registry, "org/seed:4.17.4", dir.path());
    let own = client(&registry, "org/seed:4.17.4");
    let ours = Signatory::new(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let theirs = Signatory::new(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let third = Signatory::new(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);

    // Nothing is there.
    let missing = verify(&own, &[], &digest, &keys(&[&ours])).unwrap_err();
    assert!(
        matches!(missing, SignatureError::Missing { .. }),
        "{missing:?}"
    );
    assert!(!missing.is_transient());
    let text = missing.to_string();
    for part in [own.image().as_str(), digest.as_str(), &tag(&digest)] {
        assert!(text.contains(part), "{text}");
    }

    // One that somebody else made, one that is too large, ours, and one of P-384 hashed with SHA-256 as cosign does it.
    let good = payload(&digest);
    let long = [good.clone(), vec![b' '; 100_000]].concat();
    let entry =
        |payload: &[u8], by: &Signatory| (payload.to_vec(), by.sign(payload), payload.len());
    let all = [
        entry(&long, &ours),
        entry(&good, &theirs),
        entry(&good, &ours),
        entry(&good, &third),
    ];
    attach(&registry, &digest, &all);
    for signatory in [&ours, &theirs, &third] {
        let signer = verify(&own, &[], &digest, &keys(&[signatory])).unwrap();
        assert_eq!(
            signer.reference.as_deref(),
            Some("quay.example.com/org/seed")
        );
        assert_eq!(signer.claims["creator"], "a test");
        assert_eq!(signer.key, keys(&[signatory])[0]);
    }
    attach(&registry, &digest, &all[..2]);
    let refused = verify(&own, &[], &digest, &keys(&[&ours])).unwrap_err();
    let text = refused.to_string();
    for part in [
        "signature 1 has a payload of 100",
        "signature 2 was made with another key",
        "tried with sha256:",
    ] {
        assert!(text.contains(part), "{text}");
    }

    // Another manifest has its own signatures, or none.
    let other = format!("sha256:{}", "07".repeat(32)).parse().unwrap();
    let missing = verify(&own, &[], &other, &keys(&[&theirs])).unwrap_err();
    assert!(
        matches!(missing, SignatureError::Missing { .. }),
        "{missing:?}"
    );

    // A mirror that does not answer, and one without the image, are passed over.
    let gone: ImageRef = "127.0.0.1:1/org/seed:4.17.4".parse().unwrap();
    let gone = Registry::new(&gone, &registry.auth(), &registry.trust()).unwrap();
    let empty = client(&registry, "org/empty:1");
    let mirrors = [gone, empty];
    verify(&own, &mirrors, &digest, &keys(&[&theirs])).unwrap();

    // Where only a mirror can be asked, its word counts.
    let gone = "127.0.0.1:1/org/seed:4.17.4".parse().unwrap();
    let gone = Registry::new(&gone, &registry.auth(), &registry.trust()).unwrap();
    let mirror = [client(&registry, "org/seed:4.17.4")];
    let refused = verify(&gone, &mirror, &digest, &keys(&[&ours])).unwrap_err();
    assert!(
        matches!(refused, SignatureError::Refused { .. }),
        "{refused:?}"
    );
    verify(&gone, &mirror, &digest, &keys(&[&theirs])).unwrap();

    // A registry that is away is asked again; a key list with garbage is refused before anybody is asked.
    registry.stop();
    let away = verify(&own, &[], &digest, &keys(&[&theirs])).unwrap_err();
    assert!(away.is_transient(), "{away:?}");
    let data = [
        (SIGNATURE_POLICY, "required"),
        (SIGNATURE_KEYS, {
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
        }),
    ];
    let data = data.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let Ok(SignaturePolicy::Required(garbage)) = SignaturePolicy::parse(&data.into()) else {
        panic!("the policy is well-formed");
    };
    let malformed = verify(&own, &[], &digest, &garbage).unwrap_err();
    assert!(matches!(malformed, SignatureError::Key(_)), "{malformed:?}");
    assert!(!malformed.is_transient());
}
