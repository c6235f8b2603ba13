//! What a registry says of an image.

use seed::pin::{SeedPin, parse_labels, parse_manifest};

use crate::judge;

pub(crate) fn manifest(bytes: &[u8]) {
    match parse_manifest(bytes) {
        Err(error) => drop(judge::error(&error)),
        Ok((config, layers)) => {
            assert!(!layers.is_empty(), "an image without layers");
            let total: u128 = layers.iter().map(|layer| u128::from(layer.size)).sum();
            let total = total + u128::from(config.size);
            assert!(
                total <= u128::from(u64::MAX / 2),
                "sums of sizes may overflow"
            );
        }
    }
}

pub(crate) fn config(bytes: &[u8]) {
    let labels = match parse_labels(bytes) {
        Ok(labels) => labels,
        Err(error) => return drop(judge::error(&error)),
    };
    let digest = api::Digest::from_sha256(&[0; 32]);
    let Ok(reference) = "registry.example/seed:1".parse() else {
        return;
    };
    let blob = seed::pin::Blob {
        digest: digest.clone(),
        size: 0,
        media_type: String::new(),
    };
    let pin = SeedPin {
        reference,
        digest,
        labels,
        layers: vec![blob.clone()],
        config: blob,
    };
    assert_eq!(
        pin.format_version(),
        pin.labels
            .get(api::label::SEED_FORMAT_VERSION)
            .map(String::as_str)
    );
    if let Err(error) = pin.seed_info() {
        judge::error(&error);
    }
}
