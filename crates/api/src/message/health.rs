//! What is not healthy, in the words of the contract's 5.4.

/// Everything that is not healthy, in one text (C 5.4).
#[must_use]
pub fn health_failed(failures: &[String]) -> String {
    format!(
        "one or more health checks failed: {}",
        failures.join("\n  - ")
    )
}

/// Within [`health_failed`]: ClusterOperators (C 5.4).
#[must_use]
pub fn operators_not_ready(names: &[String]) -> String {
    format!(
        "one or more ClusterOperators not yet ready: {}",
        names.join(", ")
    )
}

/// Within [`health_failed`]: MachineConfigPools (C 5.4).
#[must_use]
pub fn pools_not_ready(names: &[String]) -> String {
    format!(
        "one or more MachineConfigPools not yet ready: {}",
        names.join(", ")
    )
}

/// Within [`health_failed`]: a Node whose condition `Ready` is not True (C 5.4).
#[must_use]
pub fn node_not_ready(name: &str) -> String {
    format!("node is not yet ready: {name}")
}

/// Within [`health_failed`]: a Node whose condition `NetworkUnavailable` is True (C 5.4).
#[must_use]
pub fn node_network_unavailable(name: &str) -> String {
    format!("node network unavailable: {name}")
}

/// Within [`health_failed`]: a Node without a label that a single node has (C 5.4).
#[must_use]
pub fn node_without_label(label: &str, name: &str) -> String {
    format!("node missing {label} label: {name}")
}

/// Within [`health_failed`]: SR-IOV is there and has not looked at any node yet (C 5.4).
pub const NO_SRIOV_NODE_STATES: &str = "no SriovNetworkNodeStates present";
/// Within [`health_failed`]: SR-IOV has not brought a node to where it shall be (C 5.4).
pub const SRIOV_NOT_READY: &str = "sriovNetworkNodeState not ready";
/// Within [`health_failed`]: OADP is configured and has not followed (C 5.4).
pub const BACKUPS_NOT_RECONCILED: &str = "dataProtectionApplication not reconciled";
/// Within [`health_failed`]: OADP has made no place for backups yet (C 5.4).
pub const NO_BACKUP_STORAGE: &str = "backupsStorageLocations not yet created";

/// Within [`health_failed`]: a place for backups that cannot be reached (C 5.4).
#[must_use]
pub fn backup_storage_not_available(name: &str) -> String {
    format!("backupStorageLocation {name} not available")
}

/// Within [`health_failed`]: ClusterServiceVersions (C 5.4).
#[must_use]
pub fn service_versions_not_ready(names: &[String]) -> String {
    format!(
        "one or more ClusterServiceVersions not yet ready: {}",
        names.join(", ")
    )
}

/// Within [`health_failed`]: a CertificateSigningRequest on which nobody has decided (C 5.4).
#[must_use]
pub fn signing_request_not_approved(name: &str) -> String {
    format!("certificateSigningRequest (csr) {name} not yet approved")
}
