//! What a registry says of an image.

use seed::mirrors::Mirrors;
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

/// The first line names an image, what follows is the file that says where it can be had.
pub(crate) fn registries(bytes: &[u8]) {
    let Some((image, text)) = str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.split_once('\n'))
    else {
        return;
    };
    let mut mirrors = Mirrors::default();
    if let Err(error) = mirrors.add(text) {
        judge::error(&error);
        return;
    }
    let Ok(image) = image.parse() else { return };
    match mirrors.places(&image) {
        Err(error) => drop(judge::error(&error)),
        Ok(places) => {
            for place in places.mirrors.iter().chain([&places.own]) {
                judge::line(place);
            }
            // Mirrors are others' names for the same repository and version.
            let name = |image: &api::ImageRef| image.as_str().contains('@');
            assert!(
                places
                    .mirrors
                    .iter()
                    .all(|mirror| !name(&image) || name(mirror))
            );
        }
    }
}
