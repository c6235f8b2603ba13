//! The synchronous port over the asynchronous connection.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::{Arc, OnceLock};

use api::ip_config::IpConfig;
use api::reconfiguration::SeedReconfiguration;
use api::seed_info::SeedClusterInfo;
use api::{ConfigMapRef, ImageBasedUpgrade, ImageBasedUpgradeStatus};
use node::PortResult;
use node::ports::{
    Announcement, Cluster, ClusterFacts, Exported, Health, Published, PullSecret, RegistryChange,
};
use tokio::runtime::Handle;

use crate::connection::Connection;
use crate::container_images::{self, ContainerImages};
use crate::event::Announcer;
use crate::seed_info::{self, SeedHost};
use crate::{
    cluster_version, config_map, exported, facts, manifest, mirror, node_labels, peer, pod_images,
    pull_secret, reconfiguration, release, restoration, settings, upgrade,
};

/// The live cluster as a port.
///
/// Every call blocks the thread that makes it until the runtime has done the work, at most some tens of seconds. So it
/// must be a thread of the worker's own: on a thread of the runtime a call would panic, and while no thread drives the
/// runtime (a `current_thread` runtime outside of its `block_on`) a call would never return.
#[derive(Clone, Debug)]
pub struct LiveCluster {
    connection: Connection,
    runtime: Handle,
    namespace: String,
    instance: String,
    announcer: Arc<OnceLock<Announcer>>,
}

impl LiveCluster {
    /// A port on `connection`, which belongs to `runtime`. `namespace` is the operator's; `instance` names this agent
    /// in events (the pod's name or the hostname).
    pub fn new(
        connection: Connection,
        runtime: Handle,
        namespace: impl Into<String>,
        instance: impl Into<String>,
    ) -> Self {
        Self {
            connection,
            runtime,
            namespace: namespace.into(),
            instance: instance.into(),
            announcer: Arc::default(),
        }
    }

    /// Posts events; begun with the first one.
    fn announcer(&self) -> &Announcer {
        self.announcer.get_or_init(|| {
            Announcer::start(
                &self.runtime,
                self.connection.clone(),
                self.instance.clone(),
            )
        })
    }

    /// What a seed made here says of this cluster.
    ///
    /// # Errors
    /// As all calls of the port; `Permanent` names the object that lacks something.
    pub fn seed_info(&self, host: &SeedHost) -> PortResult<SeedClusterInfo> {
        self.runtime
            .block_on(seed_info::read(&self.connection, host))
    }

    /// The data of a ConfigMap that the upgrade refers to; `None` where there is none.
    ///
    /// # Errors
    /// As all calls of the port.
    pub fn config_map(
        &self,
        reference: &ConfigMapRef,
    ) -> PortResult<Option<BTreeMap<String, String>>> {
        self.runtime
            .block_on(config_map::read(&self.connection, reference))
    }

    /// What the operators add to and take from the images that a seed made here wants precached.
    ///
    /// # Errors
    /// As all calls of the port.
    pub fn container_images(&self) -> PortResult<ContainerImages> {
        self.runtime
            .block_on(container_images::read(&self.connection))
    }
}

impl Cluster for LiveCluster {
    fn upgrade(&self) -> PortResult<Option<ImageBasedUpgrade>> {
        self.runtime.block_on(upgrade::read(&self.connection))
    }

    fn publish(
        &self,
        seen: &ImageBasedUpgrade,
        status: &ImageBasedUpgradeStatus,
    ) -> PortResult<Published> {
        self.runtime
            .block_on(upgrade::publish(&self.connection, seen, status))
    }

    fn ensure_upgrade(&self) -> PortResult<()> {
        self.runtime.block_on(upgrade::ensure(&self.connection))
    }

    fn restore_upgrade(&self, saved: &ImageBasedUpgrade) -> PortResult<()> {
        self.runtime
            .block_on(restoration::restore(&self.connection, saved))
    }

    fn annotate(&self, key: &str, value: Option<&str>) -> PortResult<()> {
        self.runtime
            .block_on(upgrade::annotate(&self.connection, key, value))
    }

    fn ip_config(&self) -> PortResult<Option<IpConfig>> {
        self.runtime.block_on(peer::read(&self.connection))
    }

    fn facts(&self) -> PortResult<ClusterFacts> {
        self.runtime
            .block_on(facts::read(&self.connection, &self.namespace))
    }

    fn health(&self) -> PortResult<Health> {
        self.runtime.block_on(facts::health(&self.connection))
    }

    fn pull_secret(&self, name: &str) -> PortResult<PullSecret> {
        self.runtime
            .block_on(pull_secret::read(&self.connection, &self.namespace, name))
    }

    fn pod_images(&self) -> PortResult<BTreeSet<String>> {
        self.runtime.block_on(pod_images::read(&self.connection))
    }

    fn reconfiguration(&self) -> PortResult<SeedReconfiguration> {
        self.runtime
            .block_on(reconfiguration::read(&self.connection))
    }

    fn exported(&self) -> PortResult<Exported> {
        self.runtime.block_on(exported::read(&self.connection))
    }

    fn configure(&self, document: &SeedReconfiguration) -> PortResult<()> {
        self.runtime
            .block_on(settings::configure(&self.connection, document))
    }

    fn remove_mirrors(&self, but: &[(String, Vec<u8>)]) -> PortResult<()> {
        let stay = manifest::names(but)?;
        self.runtime
            .block_on(mirror::remove(&self.connection, &stay))
    }

    fn apply(&self, file: &str, content: &[u8]) -> PortResult<()> {
        self.runtime
            .block_on(manifest::apply(&self.connection, file, content))
    }

    fn set_release_registry(&self, change: &RegistryChange) -> PortResult<()> {
        self.runtime
            .block_on(release::set_registry(&self.connection, change))
    }

    fn label_node(&self, node: &str, labels: &BTreeMap<String, String>) -> PortResult<()> {
        self.runtime
            .block_on(node_labels::set(&self.connection, node, labels))
    }

    fn ready(&self) -> bool {
        self.runtime.block_on(self.connection.ready())
    }

    fn cluster_id(&self) -> PortResult<String> {
        self.runtime.block_on(cluster_version::id(&self.connection))
    }

    fn set_cluster_id(&self, id: &str) -> PortResult<()> {
        self.runtime
            .block_on(cluster_version::set_id(&self.connection, id))
    }

    fn announce(&self, announcement: Announcement) {
        self.announcer().tell(announcement);
    }

    fn await_announced(&self) {
        if let Some(announcer) = self.announcer.get() {
            self.runtime.block_on(announcer.posted());
        }
    }
}
