//! The images that the target will need, as this cluster names them (contract 3.7).

use crate::facts::{ClusterFacts, SeedContent};

/// The images to precache, with the seed's registry replaced by this cluster's where the contract's 3.7 asks for it.
/// The registry is taken literally and ends at a `/`, unlike the Go original's regular expression.
pub fn images(content: &SeedContent, cluster: &ClusterFacts) -> Vec<String> {
    let seed = content.info.release_registry.as_str();
    let own = cluster.release_registry.as_str();
    let replace = if cluster.mirror_sources.is_empty() {
        content.info.mirror_registry_configured
    } else {
        !cluster.mirror_sources.iter().any(|source| source == seed)
    };
    let replaced = |image: &String| match image
        .strip_prefix(seed)
        .filter(|rest| rest.starts_with('/'))
    {
        Some(rest) if replace && !seed.is_empty() && !own.is_empty() => format!("{own}{rest}"),
        _ => image.clone(),
    };
    content.images.iter().map(replaced).collect()
}
