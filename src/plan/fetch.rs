//! What of the seed would be fetched.

use host::Missing;
use planner::SeedPin;

use super::document::{Fetch, Part};

/// The bytes of each part. `missing` = what the seed's index says is missing here, where it has one; `is_fetched` = Prep has
/// the seed already.
pub(super) fn fetch(
    pin: &SeedPin,
    spooled: u64,
    missing: Option<&Missing>,
    is_fetched: bool,
) -> Fetch {
    let compressed: u64 = pin.layers.iter().map(|(_, size)| size).sum();
    let part = |name, bytes| Part { name, bytes };
    let parts = match missing {
        _ if is_fetched => Vec::new(),
        Some(missing) => vec![
            part("manifest-and-configuration", pin.documents),
            part("index-and-documents", missing.index),
            part("repository", missing.repository),
            part("var", missing.var),
            part("etc", missing.etc),
        ],
        // What the spool has is behind its manifest, which is there then.
        None => vec![
            part(
                "manifest-and-configuration",
                if spooled > 0 { 0 } else { pin.documents },
            ),
            part("layers", compressed.saturating_sub(spooled)),
        ],
    };
    let sum = |sum: u64, part: &Part| sum.saturating_add(part.bytes);
    Fetch {
        compressed_bytes: compressed,
        spooled_bytes: spooled,
        fetch_bytes: parts.iter().fold(0, sum),
        indexed: missing.is_some(),
        objects: missing.map(|missing| missing.objects),
        missing_objects: missing.map(|missing| missing.missing_objects),
        parts,
    }
}

#[cfg(test)]
mod tests {
    use planner::SeedContent;

    use super::*;

    #[test]
    fn parts_add_up() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64)).parse().unwrap();
        let pin = SeedPin {
            image: "registry.example/seed:1".parse().unwrap(),
            digest: digest("1"),
            format_version: None,
            cluster_info: None,
            node_facts: None,
            index: None,
            architecture: None,
            layers: vec![(digest("2"), 1000), (digest("3"), 500)],
            documents: 30,
            signature: None,
        };
        let missing = Missing {
            index: 1,
            repository: 20,
            var: 300,
            etc: 4000,
            objects: 9,
            missing_objects: 8,
            inflated: 10_000,
            content: SeedContent {
                digest: digest("1"),
                info: api::seed_info::SeedClusterInfo::default(),
                commit: String::new(),
                kernel_arguments: Vec::new(),
                files: Vec::new(),
                file_marks: std::collections::BTreeMap::new(),
                origin: String::new(),
                images: Vec::new(),
            },
        };
        let check = |spooled, missing, is_fetched, expect: &[(&str, u64)]| {
            let found = fetch(&pin, spooled, missing, is_fetched);
            let parts: Vec<_> = found
                .parts
                .iter()
                .map(|part| (part.name, part.bytes))
                .collect();
            assert_eq!(parts, expect);
            let sum: u64 = expect.iter().map(|(_, bytes)| bytes).sum();
            assert_eq!((found.fetch_bytes, found.compressed_bytes), (sum, 1500));
            assert_eq!(found.indexed, missing.is_some());
        };
        let documents = "manifest-and-configuration";
        check(0, None, false, &[(documents, 30), ("layers", 1500)]);
        check(600, None, false, &[(documents, 0), ("layers", 900)]);
        check(1500, None, true, &[]);
        check(
            0,
            Some(&missing),
            false,
            &[
                (documents, 30),
                ("index-and-documents", 1),
                ("repository", 20),
                ("var", 300),
                ("etc", 4000),
            ],
        );
        check(0, Some(&missing), true, &[]);
    }
}
