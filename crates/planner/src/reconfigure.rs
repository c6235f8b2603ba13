//! The plan of the target's first boot.

use std::net::IpAddr;

use api::names;
use api::reconfiguration::{API_VERSION, SeedReconfiguration};
use api::seed_info::SeedClusterInfo;

use crate::step::{Plan, PlanName, Step};

/// Labels that kubelet gives its Node; they are not carried over (S 3.3, step 24).
const LABELS_OF_KUBELET: [&str; 9] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    api::label::NODE_ROLE_CONTROL_PLANE,
    api::label::NODE_ROLE_MASTER,
    api::label::NODE_ROLE_WORKER,
    "node.openshift.io/os_id",
];

/// What the first boot does, from the document that the origin left and what the seed says of itself, where it still does:
/// first what needs no API server, then the signal that the boot may go on, then the rest. Secrets stay in the document;
/// steps that need them read it.
///
/// # Errors
/// The document lacks what a node cannot do without, or does not fit the seed; the message names the field.
pub fn reconfigure(
    document: &SeedReconfiguration,
    seed: Option<&SeedClusterInfo>,
) -> Result<Plan, String> {
    examine(document)?;
    if let Some(seed) = seed {
        compare(document, seed)?;
    }
    let addresses = document.addresses();
    let mut steps = vec![
        // A seed may have it enabled: it must not come up under another node's name.
        Step::HoldUnit {
            unit: names::KUBELET_UNIT.to_owned(),
        },
        Step::AuthorizeSshKeys,
        Step::WritePullSecret,
        Step::RestoreConnections,
    ];
    if !document.raw_nm_state_config.is_empty() {
        steps.push(Step::ApplyNetworkState);
    }
    steps.extend([
        Step::SetHostname {
            hostname: document.hostname.clone(),
        },
        Step::WriteNodeIpHint {
            addresses: document
                .networks()
                .into_iter()
                .map(|network| address_of(network).to_owned())
                .collect(),
        },
    ]);
    if addresses.is_empty() {
        steps.push(Step::AwaitNodeAddress);
    }
    steps.extend([
        Step::WriteDnsOverrides {
            cluster_name: document.cluster_name.clone(),
            base_domain: document.base_domain.clone(),
            address: addresses.first().map(|first| (*first).to_owned()),
        },
        Step::TrustAuthorities,
        Step::WriteChronyConfig,
        Step::WriteServerKeys,
        Step::RestoreLvmDevices,
        Step::SignalReady,
        Step::StartUnit {
            unit: names::KUBELET_UNIT.to_owned(),
        },
        Step::AwaitApi,
        Step::ConfigureCluster,
        Step::RemoveMirrors,
        Step::ApplyManifests,
    ]);
    if let Some(seed) = seed {
        steps.push(Step::SetReleaseRegistry {
            seed: seed.release_registry.clone(),
            mirrored: seed.mirror_registry_configured,
            site: document.release_registry.clone(),
        });
    }
    steps.push(Step::SetClusterId {
        cluster_id: document.cluster_id.clone(),
    });
    let labels = document.node_labels.iter();
    steps.push(Step::SetNodeLabels {
        // As kubelet names its Node.
        node: document.hostname.to_lowercase(),
        labels: labels
            .filter(|(key, _)| !LABELS_OF_KUBELET.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    });
    steps.extend(ending());
    Ok(Plan {
        name: PlanName::Reconfigure,
        steps,
    })
}

/// The document by itself.
fn examine(document: &SeedReconfiguration) -> Result<(), String> {
    if document.api_version != API_VERSION {
        return Err(format!(
            "api_version of the exported configuration of this site is {}, and only {API_VERSION} is known",
            document.api_version
        ));
    }
    let needed = [
        (&document.hostname, "hostname"),
        (&document.cluster_id, "cluster_id"),
        (&document.cluster_name, "cluster_name"),
        (&document.base_domain, "base_domain"),
    ];
    let empty = needed.iter().find(|(value, _)| value.is_empty());
    let missing = match empty {
        Some((_, field)) => Some(*field),
        None if document.hostname == "localhost" => Some("hostname"),
        None if document.pull_secret.is_empty() => Some("pull_secret"),
        None if document.networks().is_empty() => Some("machine_networks"),
        None => None,
    };
    if let Some(field) = missing {
        return Err(format!(
            "{field} is empty in the exported configuration of this site"
        ));
    }
    let bundle = &document.additional_trust_bundle;
    if bundle.proxy_configmap_name.is_empty() != bundle.proxy_configmap_bundle.is_empty() {
        return Err(
            "additionalTrustBundle of the exported configuration of this site has one of name and bundle of the \
             proxy's ConfigMap without the other"
                .to_owned(),
        );
    }
    let networks = families("machine_networks", &document.networks())?;
    let own = families("node_ips", &document.addresses())?;
    // Without addresses the node finds its own, on these networks.
    if !own.is_empty() && own != networks {
        return Err(format!(
            "machine_networks of this site are {} and its node_ips {}: one network for each address, of the same family",
            networks.join(", "),
            own.join(", ")
        ));
    }
    Ok(())
}

/// The document against the seed, as far as the seed says anything: what a first boot cannot change.
fn compare(document: &SeedReconfiguration, seed: &SeedClusterInfo) -> Result<(), String> {
    if document.proxy.is_some() != seed.has_proxy {
        let has = |has: bool| if has { "one" } else { "none" };
        return Err(format!(
            "proxy: the seed has {} and this site {}",
            has(seed.has_proxy),
            has(document.proxy.is_some())
        ));
    }
    let networks: Vec<&str> = seed.machine_networks.iter().map(String::as_str).collect();
    for (what, seed, own) in [
        ("node_ips", seed.addresses(), document.addresses()),
        ("machine_networks", networks, document.networks()),
    ] {
        let (seed, own) = (families(what, &seed)?, families(what, &own)?);
        if !seed.is_empty() && !own.is_empty() && seed != own {
            return Err(format!(
                "{what} of the seed are {} and of this site {}: as many, of the same families, in the same order",
                seed.join(", "),
                own.join(", ")
            ));
        }
    }
    Ok(())
}

/// The address in front of a CIDR's length, as it is written.
fn address_of(network: &str) -> &str {
    network
        .split_once('/')
        .map_or(network, |(address, _)| address)
}

fn families(what: &str, addresses: &[&str]) -> Result<Vec<&'static str>, String> {
    let family = |text: &&str| match address_of(text).parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => Ok("IPv4"),
        Ok(IpAddr::V6(_)) => Ok("IPv6"),
        Err(_) => Err(format!("{what} has {text:?}, which is no address")),
    };
    addresses.iter().map(family).collect()
}

/// What is left of the first boot where the document is removed already and nothing else tells what it said: a power cut came
/// behind the removal. The service manager still waits for its signal.
pub fn finish_reconfiguration() -> Plan {
    let steps = [Step::SignalReady].into_iter().chain(ending()).collect();
    Plan {
        name: PlanName::Reconfigure,
        steps,
    }
}

/// The end of the plan of the first boot. The unit stays enabled until nothing is left to remove: it is what goes on after a
/// power cut.
fn ending() -> [Step; 2] {
    [
        Step::RemoveReconfiguration,
        Step::DisableUnit {
            unit: names::POST_PIVOT_UNIT.to_owned(),
        },
    ]
}
