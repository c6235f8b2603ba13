//! The table. What surely breaks an upgrade blocks; what may be meant so warns.

use api::message::{
    INVALID_SEED_PREFIX, INVALID_SPEC_PREFIX, SEED_COMPATIBILITY_PREFIX, SEED_LABELS_PREFIX,
    SEED_TRUST_PREFIX, STATEROOT_SETUP_PREFIX,
};

use super::Moment::{AfterContent, AfterResolve, BeforeFetch, BeforeResolve, Gate};
use super::Severity::{Blocker, CouldNotTell, Warning};
use super::{
    Check, Judged, Moment, Severity, Subject, fit, health, limits, request, seed, signature, space,
};

const SPEC: &[&str] = &[INVALID_SPEC_PREFIX];
const RESOLVED: &[&str] = &[INVALID_SEED_PREFIX, SEED_LABELS_PREFIX];
const SEED: &[&str] = &[INVALID_SEED_PREFIX, SEED_COMPATIBILITY_PREFIX];
const TRUST: &[&str] = &[
    INVALID_SEED_PREFIX,
    SEED_COMPATIBILITY_PREFIX,
    SEED_TRUST_PREFIX,
];
const SETUP: &[&str] = &[STATEROOT_SETUP_PREFIX];

/// A row: name, moment, what a failure and what ignorance means, the contract's prefix, the question, what it reads.
const fn row(
    name: &'static str,
    moment: Moment,
    (failed, unknown): (Severity, Severity),
    prefix: &'static [&'static str],
    judge: fn(&Subject<'_>) -> Judged,
    reads: &'static str,
) -> Check {
    Check {
        name,
        reads,
        moment,
        failed,
        unknown,
        prefix,
        judge,
    }
}

/// It must be so, and without an answer nobody can say whether the upgrade would work.
const MUST: (Severity, Severity) = (Blocker, CouldNotTell);
/// It must be so; a seed that does not say is taken at the user's risk.
const MUST_IF_SAID: (Severity, Severity) = (Blocker, Warning);
/// It may be meant so.
const SHOULD: (Severity, Severity) = (Warning, Warning);

/// All checks, in the order in which Prep tells the first failure.
pub static CHECKS: [Check; 39] = [
    row(
        "cluster-operators",
        Gate,
        MUST,
        &[],
        health::operators,
        "ClusterOperators: Available, not Progressing, not Degraded",
    ),
    row(
        "machine-config-pools",
        Gate,
        MUST,
        &[],
        health::pools,
        "MachineConfigPools: every machine ready",
    ),
    row(
        health::NODE,
        Gate,
        MUST,
        &[],
        health::node,
        "Node of a single-node cluster: Ready, network, role labels",
    ),
    row(
        "container-storage",
        BeforeResolve,
        MUST,
        &[],
        request::container_storage,
        "/var/lib/containers: a mount of its own",
    ),
    row(
        "single-node",
        BeforeResolve,
        MUST,
        SPEC,
        request::one_node,
        "Nodes: exactly one",
    ),
    row(
        "booted-deployment",
        BeforeResolve,
        MUST,
        SPEC,
        request::booted,
        "ostree's deployments: exactly one is booted",
    ),
    row(
        "default-switch",
        BeforeResolve,
        MUST,
        SPEC,
        request::default_switch,
        "libostree and /boot/loader: another deployment can be made the default",
    ),
    row(
        "boot-fallback",
        BeforeResolve,
        SHOULD,
        SPEC,
        request::boot_fallback,
        "grub.cfg and grubenv: the boot loader can count attempts and return by itself",
    ),
    row(
        "signature-policy",
        BeforeResolve,
        MUST,
        &[],
        signature::policy,
        "ConfigMap lifecycle-agent-config: signaturePolicy and signatureKeys can be followed",
    ),
    row(
        "network-limits",
        BeforeResolve,
        MUST,
        &[],
        limits::network,
        "annotations network-limits.lca.openshift.io/* and ConfigMap lifecycle-agent-config: limits that can be kept",
    ),
    row(
        "seed-image",
        BeforeResolve,
        MUST,
        SPEC,
        request::image,
        "spec.seedImageRef.image: an image reference",
    ),
    row(
        "version-higher",
        BeforeResolve,
        MUST,
        SPEC,
        request::version,
        "spec.seedImageRef.version and ClusterVersion: higher than what runs",
    ),
    row(
        "target-stateroot",
        BeforeResolve,
        MUST,
        SPEC,
        request::stateroot,
        "spec.seedImageRef.version: its stateroot is not the running one",
    ),
    row(
        "local-storage",
        BeforeResolve,
        SHOULD,
        SPEC,
        fit::local_storage,
        "Subscriptions: not both of LSO and LVMS",
    ),
    row(
        "rollback-certificates",
        BeforeResolve,
        SHOULD,
        SPEC,
        request::rollback_certificates,
        "certificates of kubelet and static pods: valid for 4 hours and 30 minutes more",
    ),
    row(
        "seed-resolved",
        AfterResolve,
        MUST,
        RESOLVED,
        seed::resolved,
        "registry: the image is there and may be had",
    ),
    row(
        "signature",
        AfterResolve,
        MUST,
        &[INVALID_SEED_PREFIX],
        signature::signed,
        "registry and signatureKeys: the image is signed with one of the keys, where signaturePolicy is required",
    ),
    row(
        "seed-format",
        AfterResolve,
        MUST,
        SEED,
        seed::format,
        "label seed_format_version: 4",
    ),
    row(
        "seed-info",
        AfterResolve,
        MUST,
        SEED,
        seed::info,
        "label seed_cluster_info: JSON, where there is one",
    ),
    row(
        "proxy",
        AfterResolve,
        MUST,
        SEED,
        seed::proxy,
        "seed info and Proxy: both or neither have one",
    ),
    row(
        "fips",
        AfterResolve,
        MUST,
        SEED,
        seed::fips,
        "seed info and MachineConfig: both or neither in FIPS mode",
    ),
    row(
        "user-ca-bundle",
        AfterResolve,
        MUST_IF_SAID,
        TRUST,
        seed::user_bundle,
        "seed info and ConfigMap openshift-config/user-ca-bundle: both or neither",
    ),
    row(
        "proxy-configmap",
        AfterResolve,
        MUST_IF_SAID,
        TRUST,
        seed::proxy_configmap,
        "seed info and Proxy: the same trustedCA ConfigMap",
    ),
    row(
        "container-storage-target",
        AfterResolve,
        MUST_IF_SAID,
        SEED,
        seed::storage_target,
        "seed info and var-lib-containers.mount: the same What=",
    ),
    row(
        "architecture",
        AfterResolve,
        MUST_IF_SAID,
        SEED,
        fit::architecture,
        "label seed_node_facts or image configuration, and uname: the same",
    ),
    row(
        "ip-families",
        AfterResolve,
        MUST_IF_SAID,
        SEED,
        fit::ip_families,
        "seed info and Node: as many addresses, of the same families, in the same order",
    ),
    row(
        "machine-networks",
        AfterResolve,
        MUST_IF_SAID,
        SEED,
        fit::machine_networks,
        "seed info and install-config: as many networks, of the same families",
    ),
    row(
        "cpus-present",
        AfterResolve,
        MUST_IF_SAID,
        SEED,
        fit::cpus_present,
        "label seed_node_facts, kernel arguments and /sys/devices/system/cpu/present: every CPU that the seed names exists",
    ),
    row(
        "cpu-model",
        AfterResolve,
        SHOULD,
        SEED,
        fit::cpu_model,
        "label seed_node_facts and /proc/cpuinfo: the same model",
    ),
    row(
        "cpu-topology",
        AfterResolve,
        SHOULD,
        SEED,
        fit::cpu_topology,
        "label seed_node_facts and /proc/cpuinfo: the same sockets, cores and threads",
    ),
    row(
        "reserved-cpus",
        AfterResolve,
        SHOULD,
        SEED,
        fit::reserved_cpus,
        "label seed_node_facts and kubelet's configuration: the same reserved CPUs",
    ),
    row(
        "operators",
        AfterResolve,
        SHOULD,
        SEED,
        fit::operators,
        "label seed_node_facts and Subscriptions: the same day-2 operators, whatever their versions",
    ),
    row(
        "mirrors",
        AfterResolve,
        SHOULD,
        SEED,
        fit::mirrors,
        "seed info and mirror sets: both or neither have mirrors",
    ),
    row(
        "seed-version",
        AfterResolve,
        MUST_IF_SAID,
        SETUP,
        seed::version,
        "seed info: the version asked for",
    ),
    row(
        "space-sysroot",
        BeforeFetch,
        MUST,
        SEED,
        space::sysroot,
        "label seed_node_facts or layer sizes, and statfs of /sysroot: it fits",
    ),
    row(
        "space-boot",
        BeforeFetch,
        MUST,
        SEED,
        space::boot,
        "label seed_node_facts or the running release, and statfs of /boot: it fits",
    ),
    row(
        "space-containers",
        BeforeFetch,
        SHOULD,
        SEED,
        space::containers,
        "layer sizes and statfs of /var/lib/containers: it fits",
    ),
    row(
        "kernel-arguments",
        AfterContent,
        SHOULD,
        SEED,
        fit::kernel_arguments,
        "label seed_node_facts or mco-currentconfig.json, and the node's MachineConfig: the same kernel arguments",
    ),
    row(
        "machine-configs",
        AfterContent,
        SHOULD,
        SEED,
        fit::machine_configs,
        "label seed_node_facts and MachineConfigs that users made: the same; else the files in mco-currentconfig.json",
    ),
];
