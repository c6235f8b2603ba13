//! Is this seed for this cluster? Order and texts are the contract's (3.2 item 1, 3.3, 3.7).

use api::message::{self, SharedProperty};
use api::seed_info::{SeedClusterInfo, TrustBundleState};
use api::{OcpVersion, seed_format};

use crate::facts::{ClusterFacts, SeedContent, SeedPin};

/// The seed's version must be higher than the running one.
pub(crate) fn version(seed: &OcpVersion, current: &str) -> Result<(), String> {
    let current: OcpVersion = current
        .parse()
        .map_err(|error: api::version::InvalidVersion| {
            unfit_version(message::current_version_unreadable(
                current,
                &error.to_string(),
            ))
        })?;
    if seed.is_higher_than(&current) {
        Ok(())
    } else {
        Err(unfit_version(message::version_not_higher(seed, &current)))
    }
}

/// What is wrong with a version, as the contract's 3.2 item 1 begins it.
pub(crate) fn unfit_version(text: impl std::fmt::Display) -> String {
    format!("{}{text}", message::INVALID_VERSION_PREFIX)
}

/// What the image's labels say.
pub(crate) fn labels(pin: &SeedPin, cluster: &ClusterFacts) -> Result<(), String> {
    let incompatible = |text: String| format!("{}{text}", message::SEED_COMPATIBILITY_PREFIX);
    match pin.format_version.as_deref() {
        None => return Err(incompatible(message::SEED_WITHOUT_FORMAT.to_owned())),
        Some(seed_format::VERSION) => {}
        Some(other) => return Err(incompatible(message::seed_format_mismatch(other))),
    }
    let info: SeedClusterInfo = match pin.cluster_info.as_deref() {
        None => SeedClusterInfo::default(),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| incompatible(format!("{}{error}", message::SEED_INFO_PREFIX)))?,
    };
    same(SharedProperty::Proxy, info.has_proxy, cluster.has_proxy).map_err(incompatible)?;
    same(SharedProperty::Fips, info.has_fips, cluster.has_fips).map_err(incompatible)?;
    match &info.additional_trust_bundle {
        None => Ok(()),
        Some(bundle) => trust_bundle(bundle, cluster)
            .map_err(|text| incompatible(format!("{}{text}", message::SEED_TRUST_PREFIX))),
    }
}

fn same(property: SharedProperty, seed: bool, cluster: bool) -> Result<(), String> {
    if seed == cluster {
        Ok(())
    } else {
        Err(message::seed_differs(property, seed))
    }
}

fn trust_bundle(seed: &TrustBundleState, cluster: &ClusterFacts) -> Result<(), String> {
    same(
        SharedProperty::UserCaBundle,
        seed.has_user_ca_bundle,
        cluster.has_user_ca_bundle,
    )?;
    if seed.proxy_configmap_name == cluster.proxy_config_map {
        return Ok(());
    }
    Err(message::proxy_configmap_differs(
        &seed.proxy_configmap_name,
        &cluster.proxy_config_map,
    ))
}

/// The seed must say of itself what the user says of it (contract 4.2, step 6).
pub(crate) fn content(content: &SeedContent, wanted: &str) -> Result<(), String> {
    let found = content.info.seed_cluster_ocp_version.as_str();
    if found == wanted {
        Ok(())
    } else {
        Err(message::version_differs(found, wanted))
    }
}

/// The images to precache, with the seed's registry replaced by this cluster's where the contract's 3.7 asks for it.
/// The registry is taken literally and ends at a `/`, unlike the Go original's regular expression.
pub(crate) fn images(content: &SeedContent, cluster: &ClusterFacts) -> Vec<String> {
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
