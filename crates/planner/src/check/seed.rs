//! Is this a seed, and one for this cluster? Order and texts are the contract's (3.3, 4.2).

use api::document;
use api::message::{self, SharedProperty};
use api::seed_format;
use api::seed_info::SeedClusterInfo;

use super::subject::known;
use super::{Judged, Subject, failed, unknown};

pub(super) fn resolved(subject: &Subject<'_>) -> Judged {
    match subject.pin {
        Err(error) if subject.refused => failed(error),
        _ => Ok(subject.pin()?.digest.to_string()),
    }
}

pub(super) fn format(subject: &Subject<'_>) -> Judged {
    match subject.pin()?.format_version.as_deref() {
        None => failed(message::SEED_WITHOUT_FORMAT),
        Some(seed_format::VERSION) => Ok(seed_format::VERSION.to_owned()),
        Some(other) => failed(message::seed_format_mismatch(other)),
    }
}

pub(super) fn info(subject: &Subject<'_>) -> Judged {
    let Some(text) = subject.pin()?.cluster_info.as_deref() else {
        return Ok("the seed has no such label".to_owned());
    };
    match document::parse::<SeedClusterInfo>(text.as_bytes()) {
        Ok(_) => Ok(String::new()),
        Err(error) => failed(format!("{}{error}", message::SEED_INFO_PREFIX)),
    }
}

fn same(property: SharedProperty, seed: bool, cluster: bool) -> Judged {
    if seed == cluster {
        Ok(if seed { "both" } else { "neither" }.to_owned())
    } else {
        failed(message::seed_differs(property, seed))
    }
}

pub(super) fn proxy(subject: &Subject<'_>) -> Judged {
    let (info, cluster) = (subject.info()?, subject.cluster()?);
    same(SharedProperty::Proxy, info.has_proxy, cluster.has_proxy)
}

pub(super) fn fips(subject: &Subject<'_>) -> Judged {
    let (info, cluster) = (subject.info()?, subject.cluster()?);
    same(SharedProperty::Fips, info.has_fips, cluster.has_fips)
}

const TRUST_UNKNOWN: &str = "the seed does not say which CA bundles it trusts";

pub(super) fn user_bundle(subject: &Subject<'_>) -> Judged {
    let Some(bundle) = subject.info()?.additional_trust_bundle else {
        return unknown(TRUST_UNKNOWN);
    };
    same(
        SharedProperty::UserCaBundle,
        bundle.has_user_ca_bundle,
        subject.cluster()?.has_user_ca_bundle,
    )
}

pub(super) fn proxy_configmap(subject: &Subject<'_>) -> Judged {
    let Some(bundle) = subject.info()?.additional_trust_bundle else {
        return unknown(TRUST_UNKNOWN);
    };
    let (seed, own) = (
        bundle.proxy_configmap_name,
        &subject.cluster()?.proxy_config_map,
    );
    if seed == *own {
        Ok(seed)
    } else {
        failed(message::proxy_configmap_differs(&seed, own))
    }
}

pub(super) fn storage_target(subject: &Subject<'_>) -> Judged {
    let seed = subject.info()?.container_storage_mountpoint_target;
    if seed.is_empty() {
        return unknown("the seed does not say what its container storage is");
    }
    let own = known(
        "what this node's container storage is",
        &subject.node()?.storage_target,
    )?;
    if seed == *own {
        Ok(seed)
    } else {
        failed(message::storage_target_differs(&seed, own))
    }
}

/// The seed must say of itself what the user says of it (contract 4.2, step 6). Earlier than there, its label tells.
pub(super) fn version(subject: &Subject<'_>) -> Judged {
    let found = subject.info()?.seed_cluster_ocp_version;
    if found.is_empty() && subject.content.is_none() {
        return unknown("the seed's version is known once the seed is fetched");
    }
    let wanted = subject.spec()?.seed_version();
    if found == wanted {
        Ok(found)
    } else {
        failed(message::version_differs(&found, wanted))
    }
}
