//! Which images precaching would pull, and what that would fetch.

use std::collections::{BTreeMap, BTreeSet};

use host::HostImages;
use node::ports::{Images as _, Layer, PullSecret};
use planner::{ClusterFacts, SeedContent};

use super::document::{ImageCounts, Pull};

/// Asks storage and registries; nothing where the storage cannot be listed.
pub(super) fn look(
    content: &SeedContent,
    cluster: &ClusterFacts,
    secret: Option<&PullSecret>,
) -> Option<ImageCounts> {
    let storage = HostImages::new();
    let present = storage.present(&|| false).ok()?;
    let wanted = planner::images(content, cluster);
    let to_pull: Vec<String> = wanted
        .iter()
        .filter(|image| !present.contains(*image))
        .cloned()
        .collect();
    let layers = match secret {
        Some(secret) if !to_pull.is_empty() => storage.layers(&to_pull, secret, &|| false),
        _ => BTreeMap::new(),
    };
    Some(counts(
        wanted.len(),
        to_pull,
        &layers,
        storage.present_layers(),
    ))
}

/// Layers that several images share are fetched once: they count for the first of these.
fn counts(
    total: usize,
    to_pull: Vec<String>,
    layers: &BTreeMap<String, Vec<Layer>>,
    mut present: BTreeSet<String>,
) -> ImageCounts {
    let mut bytes = |image: &String| {
        let lacking = layers.get(image)?.iter();
        let lacking = lacking.filter(|layer| present.insert(layer.digest.clone()));
        Some(lacking.fold(0_u64, |sum, layer| sum.saturating_add(layer.size)))
    };
    let pulls: Vec<Pull> = to_pull
        .iter()
        .map(|image| Pull {
            image: image.clone(),
            bytes: bytes(image),
        })
        .collect();
    let unknown = pulls.iter().filter(|pull| pull.bytes.is_none()).count();
    let sum = |sum: Option<u64>, pull: &Pull| Some(sum?.saturating_add(pull.bytes?));
    ImageCounts {
        total,
        present: total - to_pull.len(),
        to_pull,
        pull_bytes: pulls.iter().fold(Some(0), sum),
        pulls,
        unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests and sizes.
    type Layers<'a> = &'a [(&'a str, u64)];

    #[test]
    fn shared_and_present_layers_are_not_counted_twice() {
        let layer = |(digest, size): &(&str, u64)| Layer {
            digest: (*digest).to_owned(),
            size: *size,
        };
        let check = |images: &[(&str, Option<Layers<'_>>)],
                     present: &[&str],
                     expect: &[Option<u64>]| {
            let to_pull: Vec<String> = images.iter().map(|(name, _)| (*name).to_owned()).collect();
            let layers = images
                .iter()
                .filter_map(|(name, layers)| {
                    Some((
                        (*name).to_owned(),
                        layers.as_ref()?.iter().map(layer).collect(),
                    ))
                })
                .collect();
            let present = present.iter().map(|digest| (*digest).to_owned()).collect();
            let found = counts(10, to_pull, &layers, present);
            let bytes: Vec<_> = found.pulls.iter().map(|pull| pull.bytes).collect();
            assert_eq!(bytes, expect);
            assert_eq!(found.pull_bytes, expect.iter().copied().sum());
            assert_eq!(
                found.unknown,
                expect.iter().filter(|bytes| bytes.is_none()).count()
            );
            assert_eq!(found.present, 10 - images.len());
        };
        check(&[], &[], &[]);
        check(
            &[
                ("a", Some(&[("base", 100), ("a", 1)])),
                ("b", Some(&[("base", 100), ("b", 2)])),
            ],
            &[],
            &[Some(101), Some(2)],
        );
        check(
            &[("a", Some(&[("base", 100), ("a", 1)]))],
            &["base"],
            &[Some(1)],
        );
        // The same layer twice in one image is one blob.
        check(&[("a", Some(&[("x", 5), ("x", 5)]))], &[], &[Some(5)]);
        check(
            &[("a", None), ("b", Some(&[("b", 2)]))],
            &[],
            &[None, Some(2)],
        );
        check(&[("a", Some(&[]))], &[], &[Some(0)]);
    }
}
