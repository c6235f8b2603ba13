//! Is this seed for a node like this one? What differs is in the text.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::subject::{known, says};
use super::{Fault, Judged, Subject, failed, unknown};

/// Names in a text before the rest is only counted.
const LISTED: usize = 10;

pub(super) fn architecture(subject: &Subject<'_>) -> Judged {
    let own = subject.node()?.architecture.as_str();
    let label = subject.seed_node()?.architecture;
    let label = Some(label).filter(|label| !label.is_empty());
    let image = subject.pin()?.architecture.clone();
    let seed = says("its architecture", label.or(image))?;
    if seed == own {
        Ok(seed)
    } else {
        failed(format!("the seed is for {seed} and this node is {own}"))
    }
}

pub(super) fn cpu_model(subject: &Subject<'_>) -> Judged {
    let own = &subject.node()?.cpu.model;
    let seed = says("its CPU model", subject.seed_node()?.cpu)?.model;
    same("CPU model", &seed, own)
}

pub(super) fn cpu_topology(subject: &Subject<'_>) -> Judged {
    let print = |cpu: &api::seed_node::Cpu| {
        let (sockets, cores, threads) = (cpu.sockets, cpu.cores, cpu.threads);
        format!("{sockets} sockets, {cores} cores, {threads} threads")
    };
    let own = print(&subject.node()?.cpu);
    let seed = print(&says("its CPU topology", subject.seed_node()?.cpu)?);
    same("CPU topology", &seed, &own)
}

/// The kernel arguments that name CPUs by number (kernel-parameters, systemd(1)).
const CPU_ARGUMENTS: [&str; 5] = [
    "isolcpus",
    "nohz_full",
    "rcu_nocbs",
    "systemd.cpu_affinity",
    "irqaffinity",
];

fn seed_arguments(subject: &Subject<'_>) -> Result<Vec<String>, Fault> {
    if let Some(content) = subject.content {
        return Ok(content.kernel_arguments.clone());
    }
    match subject.seed_node()?.kernel_arguments {
        Some(arguments) => Ok(arguments),
        None => unknown("the seed's kernel arguments are known once it is fetched"),
    }
}

/// Every CPU that a list of ranges names; words that are no numbers are flags (`isolcpus=managed_irq,2-3`).
fn highest_cpu(list: &str) -> Option<u32> {
    let numbers = list.split([',', '-']);
    numbers
        .filter_map(|number| number.trim().parse().ok())
        .max()
}

/// CPUs that the seed's configuration names must exist, online or not: kubelet and the kernel refuse others.
pub(super) fn cpus_present(subject: &Subject<'_>) -> Judged {
    let node = subject.node()?;
    let own = node.cpu_numbers;
    let label = subject.seed_node()?;
    let reserved = label.reserved_cpus.unwrap_or_default();
    let arguments = seed_arguments(subject)?;
    let named = arguments.iter().filter_map(|argument| {
        let (key, list) = argument.split_once('=')?;
        CPU_ARGUMENTS.contains(&key).then_some((key, list))
    });
    let named = named.chain(std::iter::once(("reservedSystemCPUs", reserved.as_str())));
    for (key, list) in named {
        if let Some(highest) = highest_cpu(list)
            && highest >= own
        {
            return failed(format!(
                "the seed's {key} names CPU {highest} ({list}) and this node's are numbered below {own}"
            ));
        }
    }
    Ok(match node.cpu.threads {
        online if online == own => format!("{own} CPUs"),
        online => format!("{online} CPUs online, numbered below {own}"),
    })
}

pub(super) fn reserved_cpus(subject: &Subject<'_>) -> Judged {
    let seed = says("which CPUs it reserves", subject.seed_node()?.reserved_cpus)?;
    let own = known(
        "which CPUs this node reserves",
        &subject.node()?.reserved_cpus,
    )?;
    same("reserved CPUs", &seed, own)
}

fn same(what: &str, seed: &str, own: &str) -> Judged {
    let shown = |text: &str| {
        if text.is_empty() {
            "none".to_owned()
        } else {
            text.to_owned()
        }
    };
    if seed == own {
        Ok(shown(seed))
    } else {
        failed(format!(
            "{what} of the seed: {}; of this node: {}",
            shown(seed),
            shown(own)
        ))
    }
}

pub(super) fn kernel_arguments(subject: &Subject<'_>) -> Judged {
    let seed = seed_arguments(subject)?;
    let own = &subject.cluster()?.kernel_arguments;
    let set = |arguments: &[String]| arguments.iter().cloned().collect::<BTreeSet<_>>();
    differing("kernel arguments", &set(&seed), &set(own))
}

/// By name and content where the seed says which MachineConfigs users made, else by the files that all of them write:
/// rendered names and contents change with every release.
pub(super) fn machine_configs(subject: &Subject<'_>) -> Judged {
    let cluster = subject.cluster()?;
    if let Some(seed) = subject.seed_node()?.machine_configs {
        let own = known("this cluster's MachineConfigs", &cluster.machine_configs)?;
        return configs_differing(&seed, own);
    }
    let Some(content) = subject.content else {
        return unknown("the seed's MachineConfigs are known once it is fetched");
    };
    let set = |paths: &[String]| paths.iter().cloned().collect::<BTreeSet<_>>();
    differing(
        "files of the MachineConfig",
        &set(&content.files),
        &set(&cluster.files),
    )
}

fn configs_differing(seed: &BTreeMap<String, String>, own: &BTreeMap<String, String>) -> Judged {
    let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<BTreeSet<_>>();
    let of_both = differing("MachineConfigs", &names(seed), &names(own));
    let changed: BTreeSet<String> = seed
        .iter()
        .filter(|(name, digest)| own.get(*name).is_some_and(|own| own != *digest))
        .map(|(name, _)| name.clone())
        .collect();
    if changed.is_empty() {
        return of_both;
    }
    let changed = format!("MachineConfigs that differ: {}", listed(&changed));
    match of_both {
        Ok(_) => failed(changed),
        Err(Fault::Failed(text)) => failed(format!("{text}; {changed}")),
        other => other,
    }
}

pub(super) fn operators(subject: &Subject<'_>) -> Judged {
    let seed = says("its day-2 operators", subject.seed_node()?.operators)?;
    let own = known("this cluster's operators", &subject.cluster()?.operators)?;
    differing("day-2 operators", &seed, own)
}

/// Packages of the two operators that give out a node's own disks.
const LOCAL_STORAGE: [&str; 2] = ["local-storage-operator", "lvms-operator"];

pub(super) fn local_storage(subject: &Subject<'_>) -> Judged {
    let own = known("this cluster's operators", &subject.cluster()?.operators)?;
    let present: Vec<&str> = LOCAL_STORAGE
        .into_iter()
        .filter(|name| own.contains(*name))
        .collect();
    match present.as_slice() {
        [] => Ok("none".to_owned()),
        [one] => Ok((*one).to_owned()),
        _ => failed(format!(
            "{} are both installed: an upgrade carries the volumes of one of them over",
            present.join(" and ")
        )),
    }
}

fn differing(what: &str, seed: &BTreeSet<String>, own: &BTreeSet<String>) -> Judged {
    let only = |of: &BTreeSet<String>, other: &BTreeSet<String>| -> BTreeSet<String> {
        of.difference(other).cloned().collect()
    };
    let parts = [
        ("only in the seed", only(seed, own)),
        ("only here", only(own, seed)),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(place, names)| format!("{place}: {}", listed(&names)))
        .collect();
    if parts.is_empty() {
        Ok(match own.len() {
            0 => "none".to_owned(),
            count => format!("{count}, the same"),
        })
    } else {
        failed(format!("{what} {}", parts.join("; ")))
    }
}

fn listed(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED).map(String::as_str).collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn family(address: &str) -> &'static str {
    let address = address.split('/').next().unwrap_or_default();
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => "IPv4",
        Ok(IpAddr::V6(_)) => "IPv6",
        Err(_) => "unreadable",
    }
}

fn families<'t>(addresses: impl IntoIterator<Item = &'t str>) -> String {
    let families: Vec<&str> = addresses.into_iter().map(family).collect();
    families.join(", ")
}

/// The first boot regenerates the seed's addresses one by one: as many, of the same families, in the same order.
pub(super) fn ip_families(subject: &Subject<'_>) -> Judged {
    let info = subject.info()?;
    let seed = families(info.addresses());
    let own = families(subject.cluster()?.node_ips.iter().map(String::as_str));
    let seed = says(
        "its node's addresses",
        Some(seed).filter(|text| !text.is_empty()),
    )?;
    same("IP families", &seed, &own)
}

pub(super) fn machine_networks(subject: &Subject<'_>) -> Judged {
    let info = subject.info()?;
    let own = known(
        "this cluster's machine networks",
        &subject.cluster()?.machine_networks,
    )?;
    let seed = families(info.machine_networks.iter().map(String::as_str));
    let seed = says(
        "its machine networks",
        Some(seed).filter(|text| !text.is_empty()),
    )?;
    same(
        "families of machine networks",
        &seed,
        &families(own.iter().map(String::as_str)),
    )
}

pub(super) fn mirrors(subject: &Subject<'_>) -> Judged {
    let seed = subject.info()?.mirror_registry_configured;
    let cluster = subject.cluster()?;
    let own = !cluster.mirror_sources.is_empty();
    match (seed, own) {
        (true, true) => Ok("both".to_owned()),
        (false, false) => Ok("neither".to_owned()),
        (true, false) => failed(format!(
            "the seed has mirrors configured and this cluster has none: its images are pulled from {}",
            cluster.release_registry
        )),
        (false, true) => failed(
            "this cluster has mirrors configured and the seed has none: what it starts before the \
             mirrors are there is pulled from the images' own registries",
        ),
    }
}
