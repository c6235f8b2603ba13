//! Annotation keys, by the object that carries them (C 11.1, 11.2, S 0.2).

/// The one value that switches a feature off; case-sensitive (C 9.2).
pub const DISABLED: &str = "Disabled";

// On the ImageBasedUpgrade, written by users.

/// Any value: the user cleaned up by hand after AbortFailed or FinalizeFailed; the controller
/// removes it.
pub const MANUAL_CLEANUP_DONE: &str = "lca.openshift.io/manual-cleanup-done";
/// Any value: look again.
pub const TRIGGER_RECONCILE: &str = "lca.openshift.io/trigger-reconcile";
/// How many labelled manifests the policies must yield; an integer.
pub const TARGET_MANIFEST_COUNT: &str = "lca.openshift.io/target-ocp-version-manifest-count";
/// [`DISABLED`]: no rollback when the post-pivot service fails.
pub const AUTO_ROLLBACK_POST_REBOOT_CONFIG: &str =
    "auto-rollback-on-failure.lca.openshift.io/post-reboot-config";
/// [`DISABLED`]: no rollback when the controller fails the upgrade after the pivot.
pub const AUTO_ROLLBACK_UPGRADE_COMPLETION: &str =
    "auto-rollback-on-failure.lca.openshift.io/upgrade-completion";
/// [`DISABLED`]: no init monitor.
pub const AUTO_ROLLBACK_INIT_MONITOR: &str =
    "auto-rollback-on-failure.lca.openshift.io/init-monitor";
/// [`DISABLED`]: no image clean-up at the start of Prep.
pub const IMAGE_CLEANUP_ON_PREP: &str = "image-cleanup.lca.openshift.io/on-prep";
/// The disk usage above which images are removed; an integer, per cent.
pub const IMAGE_CLEANUP_THRESHOLD: &str =
    "image-cleanup.lca.openshift.io/disk-usage-threshold-percent";
/// The threshold where the annotation is absent, per cent (C 3.9).
pub const IMAGE_CLEANUP_THRESHOLD_DEFAULT: u8 = 50;
/// What all annotations begin with that limit what Prep does to the network. Ours: the Go original has none.
pub const NETWORK_LIMITS_PREFIX: &str = "network-limits.lca.openshift.io/";
/// Bytes per second at which the seed is fetched; see [`crate::network_limits`].
pub const FETCH_BANDWIDTH: &str = "network-limits.lca.openshift.io/fetch-bandwidth";
/// Connections at a time over which the seed is fetched.
pub const FETCH_CONNECTIONS: &str = "network-limits.lca.openshift.io/fetch-connections";
/// Images that are pulled at a time.
pub const PRECACHE_PULLS: &str = "network-limits.lca.openshift.io/precache-pulls";

// On the ImageBasedUpgrade, written by the controller.

/// What the dry run of the extra manifests warned of.
pub const EXTRA_MANIFEST_WARNING: &str = "extra-manifest.lca.openshift.io/validation-warning";
/// The [`crate::HandoverStamp`] of a saved CR; never on the object in the cluster.
pub const HANDOVER: &str = "lca.openshift.io/handover";
/// The digest that `spec.seedImageRef.image` was resolved to, from then until Idle; for readers, nothing is decided by it.
/// Ours: the Go original resolves the tag again each time.
pub const SEED_DIGEST: &str = "lca.openshift.io/seed-digest";

// On manifests, backups, restores and other objects.

/// The order in which objects are applied; an integer.
pub const APPLY_WAVE: &str = "lca.openshift.io/apply-wave";
/// The objects that a Backup holds.
pub const APPLY_LABEL: &str = "lca.openshift.io/apply-label";
/// `replace` (the default) or `merge`.
pub const APPLY_TYPE: &str = "lca.openshift.io/apply-type";
/// On a PersistentVolume: `"true"` when we changed its reclaim policy.
pub const UPDATED_RECLAIM_POLICY: &str = "lca.openshift.io/updated-reclaim-policy";
/// On a policy: the order in which policies are taken; an integer.
pub const ZTP_DEPLOY_WAVE: &str = "ran.openshift.io/ztp-deploy-wave";
/// On a PersistentVolume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On pods: which CPUs they run on.
pub const WORKLOAD_MANAGEMENT: &str = "target.workload.openshift.io/management";
/// On a Node: the name of its rendered MachineConfig.
pub const CURRENT_MACHINE_CONFIG: &str = "machineconfiguration.openshift.io/currentConfig";
