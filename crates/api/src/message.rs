//! Texts of conditions and Events, exactly as users and tools know them.
//!
//! Constants are whole texts unless they are called `..._PREFIX`. Functions put values into a
//! text; what they are given should already be bounded, and [`crate::Condition::new`] bounds the
//! result once more.

mod health;

pub use health::*;

use crate::image::ImageRef;
use crate::names;
use crate::stateroot::StaterootName;
use crate::time::Timestamp;
use crate::version::OcpVersion;

// Conditions of every stage (C 2.4).

/// `Idle` is True.
pub const IDLE: &str = "Idle";
/// A stage was accepted, or runs and has nothing more precise to say.
pub const IN_PROGRESS: &str = "In progress";
/// `PrepInProgress` after success.
pub const PREP_COMPLETED: &str = "Prep completed";
/// `PrepCompleted` after success.
pub const PREP_SUCCEEDED: &str = "Prep stage completed successfully";
/// `PrepCompleted` after success with a warning about extra manifests.
pub const PREP_SUCCEEDED_WITH_WARNING: &str = "Prep stage completed with extramanifests validation warning. Please check the annotation 'extra-manifest.lca.openshift.io/validation-warning' for details.";
/// `PrepCompleted` after failure; why is in `PrepInProgress`.
pub const PREP_FAILED: &str = "Prep failed";
/// `UpgradeCompleted` after success, and the beginning of `UpgradeInProgress`.
pub const UPGRADE_COMPLETED: &str = "Upgrade completed";
/// `UpgradeCompleted` after failure; why is in `UpgradeInProgress`.
pub const UPGRADE_FAILED: &str = "Upgrade failed";
/// The origin booted again without anybody having asked for it.
pub const UNCONTROLLED_ROLLBACK: &str = "Uncontrolled rollback";
/// What stands between the text of a failed upgrade and the place of what was kept of its boots.
const EVIDENCE: &str = "; evidence: ";
/// Both upgrade conditions once the user asked for Rollback.
pub const ROLLBACK_REQUESTED: &str = "Rollback requested";
/// `RollbackInProgress` before the switch.
pub const INITIATING_ROLLBACK: &str = "Initiating rollback";
/// `RollbackInProgress` before the reboot.
pub const COMPLETING_ROLLBACK: &str = "Completing rollback";
/// `RollbackInProgress` where libostree cannot switch the default deployment.
pub const ROLLBACK_MANUAL_DEFAULT: &str = "default deployment must be manually set for next boot";
/// `RollbackInProgress` and `RollbackCompleted` after success.
pub const ROLLBACK_COMPLETED: &str = "Rollback completed";
/// `RollbackCompleted` after failure; why is in `RollbackInProgress`.
pub const ROLLBACK_FAILED: &str = "Rollback failed";
/// A return that the init monitor's deadline led to; followed by the time (C 9.3).
pub const ROLLBACK_BY_TIMEOUT_PREFIX: &str = "Rollback due to LCA Init Monitor timeout, after ";
/// A return that the first boot's service led to; followed by what failed (C 9.3).
pub const ROLLBACK_BY_POST_PIVOT_PREFIX: &str = "Rollback due to postpivot failure: ";
/// A return that the failure of a unit led to, followed by the component's name (C 9.3).
pub const ROLLBACK_BY_UNIT_PREFIX: &str = "Rollback due to service-unit failure: component ";
/// A return that a failed upgrade behind the pivot led to; followed by what failed. Ours: where the Go original fails without a
/// text of its own for it.
pub const ROLLBACK_BY_FAILURE_PREFIX: &str = "Rollback due to upgrade failure: ";

/// A return that the init monitor's count of boots led to. Ours: the Go original counts none.
#[must_use]
pub fn rollback_by_boots(limit: u32) -> String {
    format!("Rollback due to LCA Init Monitor: not completed within {limit} boots")
}

/// Within the text of a rollback: the certificates of the release to return to have expired (C 12.6, row 63). `until` is
/// `status.rollbackAvailabilityExpiration` as it was.
#[must_use]
pub fn origin_expired(stateroot: &StaterootName, until: Timestamp) -> String {
    format!(
        "Warning: {stateroot} could be returned to until {until}: certificates of its control plane have expired, and it may \
         need certificate signing requests approved before it is healthy"
    )
}

/// `Idle` while finalizing.
pub const FINALIZING: &str = "Finalizing";
/// `Idle` while aborting.
pub const ABORTING: &str = "Aborting";

// Refusals (C 2.4, 2.7).

/// Prep or Upgrade were asked for too early.
pub const PREVIOUS_STAGE_NOT_SUCCEEDED: &str = "Previous stage not succeeded";
/// Rollback was asked for while there is nothing to return from.
pub const UPGRADE_NOT_STARTED: &str = "Upgrade not started or already finalized";
/// Idle was asked for after a failed rollback.
pub const IDLE_REFUSED_ROLLBACK_FAILED: &str = "Transition to Idle not allowed - Rollback failed";
/// Idle was asked for in the target, while it rolls back.
pub const IDLE_REFUSED_ROLLBACK_IN_PROGRESS: &str =
    "Transition to Idle not allowed - Rollback is in progress";
/// Idle was asked for in the target before the upgrade completed.
pub const IDLE_REFUSED_ROLLBACK_FIRST: &str = "Transition to Idle not allowed - Rollback first";
/// Idle was asked for and none of the other refusals says why not.
pub const IDLE_REFUSED: &str = "Abort or finalize not allowed";
/// The IP configuration flow holds the node.
pub const IP_CONFIG_NOT_IDLE: &str = "IPC is not idle";
/// Nobody could say whether the other flow is idle; the cause follows (C 2.7).
pub const IP_CONFIG_UNKNOWN_PREFIX: &str = "failed to get IPConfig for gating: ";

// Waiting for health; the texts are followed by what is not healthy (C 3.1, 5.1, 5.3, 6.2).

/// Before Prep starts.
pub const WAIT_BEFORE_PREP_PREFIX: &str =
    "Waiting for system to stabilize before Prep stage can continue: ";
/// What an upgrade of this version leaves as the seed has it; ours.
pub const SEED_CRYPTO_KEPT: &str =
    "certificates and keys stay the seed's: regenerating them is not part of this version";
/// Before Upgrade starts.
pub const WAIT_BEFORE_UPGRADE_PREFIX: &str =
    "Waiting for system to stabilize before Upgrade (pre-pivot) stage can continue: ";
/// In the target, before anything is applied.
pub const WAIT_AFTER_PIVOT_PREFIX: &str = "Waiting for system to stabilize: ";
/// In the target, before completion.
pub const WAIT_BEFORE_COMPLETION_PREFIX: &str = "Waiting for system to fully stabilize: ";
/// Before finalizing.
pub const WAIT_BEFORE_FINALIZE_PREFIX: &str =
    "Waiting for system to stabilize before finalize (idle) stage can continue: ";

/// There are more Nodes than one, or none (C 3.3).
#[must_use]
pub fn not_one_node(count: usize) -> String {
    format!("expected exactly one node, got {count}")
}

// Prep (C 3.1 to 3.3, 4.2). The job names are kept: tools look for them.

/// The container storage is no mount of its own.
pub const NO_CONTAINER_STORAGE_TARGET: &str = "container storage mountpoint target not found";
/// Prep failed: the spec asks for something impossible.
pub const INVALID_SPEC_PREFIX: &str = "failed to validate IBU spec: ";
/// Prep failed: no workspace.
pub const WORKSPACE_PREFIX: &str = "failed to initialize IBU workspace: ";
/// Prep failed: the seed image does not fit.
pub const INVALID_SEED_PREFIX: &str = "failed to validate seed image info: ";
/// Within [`INVALID_SEED_PREFIX`]: the registry could not be asked.
pub const SEED_LABELS_PREFIX: &str = "failed to get seed image labels: ";
/// Within [`INVALID_SEED_PREFIX`]: the labels do not fit.
pub const SEED_COMPATIBILITY_PREFIX: &str = "checking seed image compatibility: ";
/// Within [`SEED_COMPATIBILITY_PREFIX`]: the seed info is no JSON.
pub const SEED_INFO_PREFIX: &str =
    "failed to get seed cluster info from label: failed to unmarshal seed cluster info: ";
/// Within [`SEED_COMPATIBILITY_PREFIX`]: not a seed image, or one of before versions.
pub const SEED_WITHOUT_FORMAT: &str = "seed image is missing the com.openshift.lifecycle-agent.seed_format_version label, please build a new image using the latest version of the lca-cli";
/// Within [`SEED_COMPATIBILITY_PREFIX`]: the trusted CAs do not fit (C 3.3 rows 6 and 7).
pub const SEED_TRUST_PREFIX: &str = "checking seed image additional trust bundle compatibility: ";
/// Within [`INVALID_SPEC_PREFIX`]: the versions do not fit.
pub const INVALID_VERSION_PREFIX: &str = "failed to validate seed image OCP version: ";
/// Within [`INVALID_VERSION_PREFIX`]: the cluster's version is not known.
pub const NO_CLUSTER_VERSION_PREFIX: &str = "failed to get ClusterVersion for target: ";
/// Prep failed: pulling the seed image.
pub const PULL_SEED_PREFIX: &str = "failed to pull seed image: ";
/// Prep failed: installing the stateroot.
pub const STATEROOT_SETUP_PREFIX: &str = "failed to complete stateroot setup: ";
/// Prep failed: some image could not be precached.
pub const PRECACHE_INCOMPLETE: &str = "failed to pre-cache one or more images";
/// Prep progress: nothing known yet.
pub const PRECACHE_NO_STATUS: &str = "No precache status file to read yet.";

/// `job-name: <job>, job-namespace: <namespace>`.
fn job(name: &str, namespace: &str) -> String {
    format!("job-name: {name}, job-namespace: {namespace}")
}

/// Prep progress: the installation of the stateroot began.
#[must_use]
pub fn stateroot_started(namespace: &str) -> String {
    let job = job(names::STATEROOT_JOB, namespace);
    format!("Successfully launched a new job for stateroot setup. {job}")
}

/// Prep progress: the installation of the stateroot runs.
#[must_use]
pub fn stateroot_in_progress(namespace: &str) -> String {
    format!(
        "Stateroot setup job in progress. {}",
        job(names::STATEROOT_JOB, namespace)
    )
}

/// Prep failed: the stateroot is not installed.
#[must_use]
pub fn stateroot_failed(namespace: &str) -> String {
    format!(
        "stateroot setup job failed to complete. {}",
        job(names::STATEROOT_JOB, namespace)
    )
}

/// Prep progress: precaching began.
#[must_use]
pub fn precache_started(namespace: &str) -> String {
    format!(
        "Successfully launched a new job precache. {}",
        job(names::PRECACHE_JOB, namespace)
    )
}

/// Prep progress: precaching runs; `status` is a [`precache_counts`] or [`PRECACHE_NO_STATUS`].
#[must_use]
pub fn precache_in_progress(namespace: &str, status: &str) -> String {
    format!(
        "Precache job in progress. {}. {status}",
        job(names::PRECACHE_JOB, namespace)
    )
}

/// Prep failed: precaching.
#[must_use]
pub fn precache_failed(namespace: &str) -> String {
    format!(
        "precache job failed to complete. {}",
        job(names::PRECACHE_JOB, namespace)
    )
}

/// How far precaching is.
#[must_use]
pub fn precache_counts(total: usize, pulled: usize, failed: usize) -> String {
    format!("total: {total} (pulled: {pulled}, failed: {failed})")
}

/// How far precaching is, with what did not have to be pulled told apart.
#[must_use]
pub fn precache_tally(total: usize, pulled: usize, skipped: usize, failed: usize) -> String {
    format!("total: {total} (pulled: {pulled}, skipped: {skipped}, failed: {failed})")
}

/// The seed is not newer than what runs (C 3.2 item 1).
#[must_use]
pub fn version_not_higher(seed: &OcpVersion, current: &OcpVersion) -> String {
    format!("seed OCP version ({seed}) must be higher than current OCP version ({current})")
}

/// The version in the spec is none (C 3.2 item 1); `reason` is the parser's.
#[must_use]
pub fn seed_version_unreadable(text: &str, reason: &str) -> String {
    format!("failed to parse seed version {text}: {reason}")
}

/// The cluster's version is none (C 3.2 item 1); `reason` is the parser's.
#[must_use]
pub fn current_version_unreadable(text: &str, reason: &str) -> String {
    format!("failed to parse target version {text}: {reason}")
}

/// The seed says another version than the spec (C 4.2 step 6).
#[must_use]
pub fn version_differs(seed: &str, spec: &str) -> String {
    format!("version specified in seed image ({seed}) differs from version in spec ({spec})")
}

/// The seed has another format (C 3.3 row 2).
#[must_use]
pub fn seed_format_mismatch(found: &str) -> String {
    format!("seed image format version mismatch: expected 4, got {found}")
}

/// The Secret with the registry's credentials cannot be read (C 3.3).
#[must_use]
pub fn pull_secret_unavailable(secret: &str, reason: &str) -> String {
    format!("failed to retrieve pull-secret from secret {secret}, err: {reason}")
}

/// The Secret with the registry's credentials has none (C 3.3).
#[must_use]
pub fn pull_secret_without_key(secret: &str, namespace: &str) -> String {
    format!("did not find key .dockerconfigjson in Secret {secret}/{namespace}")
}

/// The registry did not give the seed image's labels (C 3.3); after [`SEED_LABELS_PREFIX`].
#[must_use]
pub fn inspect_failed(image: &ImageRef, reason: &str) -> String {
    format!("failed to inspect image: {image}: {reason}")
}

/// A property that the seed and the cluster must share (C 3.3 rows 4 to 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedProperty {
    /// Row 4.
    Proxy,
    /// Row 5.
    Fips,
    /// Row 6.
    UserCaBundle,
}

/// The seed has the property and the cluster has not, or the other way round (C 3.3).
#[must_use]
pub fn seed_differs(property: SharedProperty, seed_has_it: bool) -> String {
    let (has, lacks) = match property {
        SharedProperty::Proxy => ("has a proxy", "does not have a proxy"),
        SharedProperty::Fips => ("has FIPS enabled", "does not have FIPS enabled"),
        SharedProperty::UserCaBundle => (
            "has an openshift-config/user-ca-bundle configmap",
            "does not have an openshift-config/user-ca-bundle configmap",
        ),
    };
    let (seed, cluster) = if seed_has_it {
        (has, "does not")
    } else {
        (lacks, "does")
    };
    format!(
        "seed image {seed} but the cluster being upgraded {cluster}, this combination is not supported"
    )
}

/// The seed's Proxy names another ConfigMap of CAs (C 3.3 row 7); both names may be empty.
#[must_use]
pub fn proxy_configmap_differs(seed: &str, cluster: &str) -> String {
    format!(
        "seed image's Proxy trustedCA configmap name \"{seed}\" (oc get proxy -oyaml) mismatches cluster's name \"{cluster}\", this combination is not supported"
    )
}

/// The shared container storage is another device (C 3.3 row 8).
#[must_use]
pub fn storage_target_differs(seed: &str, cluster: &str) -> String {
    format!("container storage mountpoint target mismatch: seed={seed}, cluster={cluster}")
}

// Upgrade before the pivot (C 5.1).

/// Backups are made.
pub const BACKING_UP: &str = "Backing up Application Data";
/// Backups are not finished.
pub const BACKUP_IN_PROGRESS: &str = "Backup of Application Data is in progress";
/// Restores and storage locations are written into the target.
pub const EXPORTING_APPLICATIONS: &str = "Exporting Application Configuration";
/// Manifests are written into the target.
pub const EXPORTING_MANIFESTS: &str = "Exporting Policy and Config Manifests";
/// The reconfiguration is written into the target.
pub const EXPORTING_CLUSTER: &str = "Exporting Cluster, LVM, and cert-manager configuration";
/// The reboot could not be asked for; followed by why, without a blank.
pub const REBOOT_REFUSED_PREFIX: &str = "failed to reboot with systemd :";
/// The reboot was asked for and did not come.
pub const REBOOT_DID_NOT_COME: &str =
    "failed to reboot. This should never happen! Please check the system";

// Upgrade after the pivot (C 5.3).

/// Manifests from policies are applied.
pub const APPLYING_POLICY_MANIFESTS: &str = "Applying Policy Manifests";
/// Manifests from ConfigMaps are applied.
pub const APPLYING_CONFIG_MANIFESTS: &str = "Applying Config Manifests";
/// Restores are made.
pub const RESTORING: &str = "Restoring Application Data";
/// Restores are not finished.
pub const RESTORE_IN_PROGRESS: &str = "Restore of Application Data is in progress";
/// What the backup storage needs is checked; only with [`retrying`].
pub const CHECKING_APPLICATIONS: &str = "Checking Application Configuration";

/// Progress that failed and is tried again (C 5.3).
#[must_use]
pub fn retrying(progress: &str, error: &str) -> String {
    format!("{progress}: Failure occurred: {error}")
}

// Idle (C 2.4, 6.2).

/// The clean-up failed; what and why comes first, several errors separated by a blank.
#[must_use]
pub fn cleanup_failed(errors: &str) -> String {
    format!(
        "{} Perform cleanup manually then add 'lca.openshift.io/manual-cleanup-done' annotation to ibu CR to transition back to Idle",
        errors.trim_end()
    )
}

// Automatic rollback (C 5.3, 9.3).

/// The storage of the backups is not there after the pivot.
pub const ROLLBACK_NO_STORAGE_PREFIX: &str = "Rollback due to missing DataProtectionApplication: ";
/// A manifest from a policy could not be applied.
pub const ROLLBACK_POLICY_MANIFESTS_PREFIX: &str =
    "Rollback due to failure applying policy manifests: ";
/// A manifest from a ConfigMap could not be applied.
pub const ROLLBACK_CONFIG_MANIFESTS_PREFIX: &str =
    "Rollback due to failure applying config manifests: ";
/// A restore failed.
pub const ROLLBACK_RESTORE_PREFIX: &str = "Rollback due to restore failure: ";
/// The post-pivot service failed.
pub const ROLLBACK_POST_PIVOT_PREFIX: &str = "Rollback due to postpivot failure: ";

/// The init monitor's deadline passed.
#[must_use]
pub fn rollback_monitor_timeout(seconds: u64) -> String {
    format!(
        "Rollback due to LCA Init Monitor timeout, after {}",
        go_duration(seconds)
    )
}

/// A unit that is watched failed.
#[must_use]
pub fn rollback_component_failed(component: &str) -> String {
    format!("Rollback due to service-unit failure: component {component}")
}

/// Whole seconds as Go prints a duration: `45s`, `5m0s`, `1h0m0s`.
fn go_duration(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        (_, _) => format!("{hours}h{minutes}m{rest}s"),
    }
}

// Events (C 10.4).

/// The note before the pivot.
pub const EVENT_REBOOT_FOR_UPGRADE: &str = "System will now reboot for upgrade";
/// The note before the return.
pub const EVENT_REBOOT_FOR_ROLLBACK: &str = "System will now reboot for rollback";

/// The text of a failed upgrade with the directory of its evidence behind it, instead of any that it names already.
#[must_use]
pub fn with_evidence(text: &str, directory: &str) -> String {
    let text = text.split_once(EVIDENCE).map_or(text, |(text, _)| text);
    format!("{text}{EVIDENCE}{directory}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composed_texts_are_the_contract_s() {
        let version = |text: &str| text.parse::<OcpVersion>().unwrap();
        let check = |text: String, expected: &str| assert_eq!(text, expected);
        check(
            stateroot_in_progress("openshift-lifecycle-agent"),
            "Stateroot setup job in progress. job-name: lca-prep-stateroot-setup, job-namespace: openshift-lifecycle-agent",
        );
        check(
            precache_in_progress("ns", &precache_counts(12, 7, 1)),
            "Precache job in progress. job-name: lca-prep-precache, job-namespace: ns. total: 12 (pulled: 7, failed: 1)",
        );
        check(
            version_not_higher(&version("4.16.9"), &version("4.16.10")),
            "seed OCP version (4.16.9) must be higher than current OCP version (4.16.10)",
        );
        check(
            version_differs("4.17.4", "4.17.5"),
            "version specified in seed image (4.17.4) differs from version in spec (4.17.5)",
        );
        check(
            seed_format_mismatch("3"),
            "seed image format version mismatch: expected 4, got 3",
        );
        check(
            seed_differs(SharedProperty::Proxy, true),
            "seed image has a proxy but the cluster being upgraded does not, this combination is not supported",
        );
        check(
            seed_differs(SharedProperty::Fips, false),
            "seed image does not have FIPS enabled but the cluster being upgraded does, this combination is not supported",
        );
        check(
            seed_differs(SharedProperty::UserCaBundle, false),
            "seed image does not have an openshift-config/user-ca-bundle configmap but the cluster being upgraded does, this combination is not supported",
        );
        check(
            cleanup_failed("failed to remove 1 stateroots "),
            "failed to remove 1 stateroots Perform cleanup manually then add 'lca.openshift.io/manual-cleanup-done' annotation to ibu CR to transition back to Idle",
        );
        check(
            retrying(APPLYING_POLICY_MANIFESTS, "timeout"),
            "Applying Policy Manifests: Failure occurred: timeout",
        );
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        for (seconds, text) in [
            (0, "0s"),
            (45, "45s"),
            (300, "5m0s"),
            (1800, "30m0s"),
            (3600, "1h0m0s"),
            (3725, "1h2m5s"),
        ] {
            assert_eq!(
                rollback_monitor_timeout(seconds),
                format!("Rollback due to LCA Init Monitor timeout, after {text}")
            );
        }
    }
}
