//! The API server of a process that asks it for nothing, whether it is there or not.

use std::collections::{BTreeMap, BTreeSet};

use api::ip_config::IpConfig;
use api::reconfiguration::SeedReconfiguration;
use api::{ImageBasedUpgrade, ImageBasedUpgradeStatus};
use node::ports::{
    Announcement, Cluster, ClusterFacts, Exported, Health, Published, PullSecret, RegistryChange,
};
use node::{ErrorKind, PortError, PortResult};

/// Answers nothing.
pub(crate) struct Unasked;

fn unasked<T>() -> PortResult<T> {
    let text = "this process does not ask the API server";
    Err(PortError::plain(ErrorKind::Transient, text))
}

impl Cluster for Unasked {
    fn upgrade(&self) -> PortResult<Option<ImageBasedUpgrade>> {
        unasked()
    }

    fn publish(
        &self,
        _seen: &ImageBasedUpgrade,
        _status: &ImageBasedUpgradeStatus,
    ) -> PortResult<Published> {
        unasked()
    }

    fn ensure_upgrade(&self) -> PortResult<()> {
        unasked()
    }

    fn restore_upgrade(&self, _saved: &ImageBasedUpgrade) -> PortResult<()> {
        unasked()
    }

    fn annotate(&self, _key: &str, _value: Option<&str>) -> PortResult<()> {
        unasked()
    }

    fn ip_config(&self) -> PortResult<Option<IpConfig>> {
        unasked()
    }

    fn facts(&self) -> PortResult<ClusterFacts> {
        unasked()
    }

    fn health(&self) -> PortResult<Health> {
        unasked()
    }

    fn pull_secret(&self, _name: &str) -> PortResult<PullSecret> {
        unasked()
    }

    fn pod_images(&self) -> PortResult<BTreeSet<String>> {
        unasked()
    }

    fn reconfiguration(&self) -> PortResult<SeedReconfiguration> {
        unasked()
    }

    fn exported(&self) -> PortResult<Exported> {
        unasked()
    }

    fn configure(&self, _document: &SeedReconfiguration) -> PortResult<()> {
        unasked()
    }

    fn remove_mirrors(&self, _but: &[(String, Vec<u8>)]) -> PortResult<()> {
        unasked()
    }

    fn apply(&self, _file: &str, _content: &[u8]) -> PortResult<()> {
        unasked()
    }

    fn set_release_registry(&self, _change: &RegistryChange) -> PortResult<()> {
        unasked()
    }

    fn label_node(&self, _node: &str, _labels: &BTreeMap<String, String>) -> PortResult<()> {
        unasked()
    }

    fn ready(&self) -> bool {
        false
    }

    fn cluster_id(&self) -> PortResult<String> {
        unasked()
    }

    fn set_cluster_id(&self, _id: &str) -> PortResult<()> {
        unasked()
    }

    fn announce(&self, _announcement: Announcement) {}

    fn await_announced(&self) {}
}
