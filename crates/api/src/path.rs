//! Absolute paths on the node (C 11.3, S 0.1). In another stateroot what begins with `/var` lies
//! below that stateroot's directory, `/ostree/deploy/<name>`.

// The agent's own.

/// The agent's state; 0700.
pub const LCA: &str = "/var/lib/lca";
/// The saved CR; 0600.
pub const SAVED_IBU: &str = "/var/lib/lca/ibu.json";
/// The saved CR of the IP configuration flow; 0600.
pub const SAVED_IP_CONFIG: &str = "/var/lib/lca/ipc.json";
/// The [`crate::rollback_config::RollbackConfig`]; 0600.
pub const ROLLBACK_CONFIG: &str = "/var/lib/lca/autorollback_config.json";
/// The [`crate::verdict::Verdict`] on the upgrade that led to this stateroot; 0600. Made once, never changed.
pub const VERDICT: &str = "/var/lib/lca/verdict.json";
/// What the init monitor counts: boots and seconds since the pivot; 0600.
pub const INIT_MONITOR: &str = "/var/lib/lca/init-monitor.json";
/// Scratch space of Prep, removed on Idle; 0700.
pub const WORKSPACE: &str = "/var/lib/lca/workspace";
/// How far precaching is, in [`WORKSPACE`]; 0600.
pub const PRECACHE_STATUS: &str = "/var/lib/lca/workspace/precache_status.json";
/// The seed image as an OCI layout, in the storage that both stateroots share.
pub const SEED_SPOOL: &str = "/var/lib/containers/lca/seed";
/// Space kept on the root filesystem from the start of Prep until Idle: without it a full disk would bar the way back.
/// Outside every stateroot, so that whichever release runs can remove it; libostree leaves what it does not know alone.
pub const SYSROOT_RESERVE: &str = "/sysroot/ostree/lifecycle-agent.reserve";
/// The same on the filesystem of boot entries.
pub const BOOT_RESERVE: &str = "/boot/lifecycle-agent.reserve";

// What an upgrade hands to the target.

/// What the post-pivot works on, removed by it; 0700.
pub const OPENSHIFT: &str = "/var/opt/openshift";
/// The [`crate::reconfiguration::SeedReconfiguration`]; 0600.
pub const RECONFIGURATION: &str = "/var/opt/openshift/cluster-configuration/manifest.json";
/// Manifests that the post-pivot applies; must exist, may be empty; 0700.
pub const CLUSTER_MANIFESTS: &str = "/var/opt/openshift/cluster-configuration/manifests";
/// Further manifests of an image-based installation, applied behind those (S 3.3, step 19); need not exist.
pub const INSTALL_MANIFESTS: &str = "/var/opt/openshift/extra-manifests";
/// The network of an image-based installation, as `nmstatectl` reads it (S 3.3, step 6b); 0600.
pub const NETWORK_STATE: &str = "/var/opt/openshift/nmstate.yaml";
/// NetworkManager connections to restore.
pub const NETWORK_CONNECTIONS: &str = "/var/opt/openshift/network-configuration/system-connections";
/// The LVM devices file to restore.
pub const LVM_DEVICES: &str = "/var/opt/openshift/lvm-configuration/system.devices";
/// Keys of certificates that cert-manager keeps, one file each; 0600.
pub const CERT_MANAGER_KEYS: &str = "/var/opt/openshift/cluster-configuration/certmanager-crypto";
/// The origin's API server keys; 0700.
pub const KUBECONFIG_CRYPTO: &str = "/var/opt/openshift/kubeconfig-crypto";
/// Manifests from policies, applied by the controller after the pivot.
pub const POLICY_MANIFESTS: &str = "/var/opt/policy-manifests";
/// Manifests from ConfigMaps, applied by the controller after the pivot.
pub const EXTRA_MANIFESTS: &str = "/var/opt/extra-manifests";

// What a seed brings.

/// What a seed says of itself, removed by the post-pivot.
pub const SEED_DATA: &str = "/var/seed_data";
/// The [`crate::seed_info::SeedClusterInfo`] in [`SEED_DATA`].
pub const SEED_INFO: &str = "/var/seed_data/manifest.json";
/// The binary under the name that seeds of either kind use; seen as `/usr/local/bin/lca-cli`.
pub const LCA_CLI: &str = "/var/usrlocal/bin/lca-cli";
/// Our binary under its own name, which only seeds of ours have; seen as `/usr/local/bin/lifecycle-agent`.
pub const PROGRAM: &str = "/var/usrlocal/bin/lifecycle-agent";
/// Where units live.
pub const UNITS: &str = "/etc/systemd/system";

// The node's.

/// Container storage, shared by both stateroots.
pub const CONTAINERS: &str = "/var/lib/containers";
/// Stateroots.
pub const STATEROOTS: &str = "/ostree/deploy";
/// Kernels and boot entries.
pub const BOOT: &str = "/boot";
/// The ostree repository.
pub const OSTREE_REPO: &str = "/ostree/repo";
/// The physical root.
pub const SYSROOT: &str = "/sysroot";
/// The cluster's pull secret as the node has it.
pub const PULL_SECRET: &str = "/var/lib/kubelet/config.json";
/// An administrator's kubeconfig that follows the booted stateroot.
pub const KUBECONFIG: &str = "/etc/kubernetes/static-pod-resources/kube-apiserver-certs/secrets/node-kubeconfigs/lb-ext.kubeconfig";
/// The MachineConfig that the node runs.
pub const CURRENT_MACHINE_CONFIG: &str = "/etc/machine-config-daemon/currentconfig";
/// CRI-O's configuration.
pub const CRIO_CONFIG: &str = "/etc/crio/crio.conf";
/// Additions to CRI-O's configuration, in the order of their names.
pub const CRIO_DROP_INS: &str = "/etc/crio/crio.conf.d";
/// The addition by which an upgrade keeps images from garbage collection. Behind the one of the machine-config operator
/// (`50-pinned-images`), because the last list counts; ours has the others' in it.
pub const PINNED_IMAGES: &str = "/etc/crio/crio.conf.d/99-lifecycle-agent-pinned-images";
/// Keys that may log in as `core`.
pub const SSH_AUTHORIZED_KEYS: &str = "/home/core/.ssh/authorized_keys.d/ignition";
/// The user's CA bundle among the node's anchors.
pub const CA_ANCHOR: &str = "/etc/pki/ca-trust/source/anchors/openshift-config-user-ca-bundle.crt";
/// Overrides for the node's dnsmasq.
pub const DNSMASQ_OVERRIDES: &str = "/etc/default/sno_dnsmasq_configuration_overrides";
/// The hint from which `nodeip-configuration` chooses the node's address.
pub const NODE_IP_HINT: &str = "/etc/default/nodeip-configuration";
/// There as soon as `nodeip-configuration` has found the node's address.
pub const PRIMARY_IP: &str = "/run/nodeip-configuration/primary-ip";
/// Where `nodeip-configuration` tells kubelet the node's addresses.
pub const NODE_IP_DROP_IN: &str = "/etc/systemd/system/kubelet.service.d/20-nodenet.conf";
/// chronyd's configuration.
pub const CHRONY_CONFIG: &str = "/etc/chrony.conf";
/// The devices that LVM looks at; 0600.
pub const SYSTEM_DEVICES: &str = "/etc/lvm/devices/system.devices";
/// The SSH server's configuration and keys.
pub const SSH: &str = "/etc/ssh";
/// Keys that may log in as `core` until the MachineConfigs of this site are applied; 0600, owned by `core`.
pub const EARLY_SSH_KEYS: &str = "/home/core/.ssh/authorized_keys.d/ib-early-access";
/// The home directory of `core`.
pub const CORE_HOME: &str = "/home/core";
/// NetworkManager's connections.
pub const SYSTEM_CONNECTIONS: &str = "/etc/NetworkManager/system-connections";
