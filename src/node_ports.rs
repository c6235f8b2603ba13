//! The ports of the real node, put together.

use cluster::{Connection, LiveCluster};
use host::{HostClock, HostFiles, HostImages, HostOstree, HostSeeds, HostUnits, Layout};
use node::PortResult;
use node::ports::Ports;

use crate::background::Background;
use crate::cli::ApiServer;

/// Owns the real ports.
pub(crate) struct NodePorts {
    ostree: HostOstree,
    images: HostImages,
    seeds: HostSeeds,
    units: HostUnits,
    files: HostFiles,
    clock: HostClock,
    cluster: LiveCluster,
}

impl NodePorts {
    /// The ports of the node that this process runs on, and the connection for a watch.
    ///
    /// # Errors
    /// `Transient` while the kubeconfig does not exist, `Permanent` when it is no good.
    pub(crate) fn open(api: &ApiServer, background: &Background) -> PortResult<(Self, Connection)> {
        let connection = connect(api, background)?;
        let layout = Layout::running();
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let namespace = variable(api::names::ENV_POD_NAMESPACE)
            .unwrap_or_else(|| api::names::NAMESPACE.to_owned());
        let instance = variable(api::names::ENV_POD_NAME)
            .or_else(|| variable("HOSTNAME"))
            .unwrap_or_else(|| "lifecycle-agent".to_owned());
        let ports = Self {
            ostree: HostOstree::new(layout.clone()),
            images: HostImages::new(),
            seeds: HostSeeds::new(layout.clone()),
            units: HostUnits,
            files: HostFiles::new(layout),
            clock: HostClock::new(),
            cluster: LiveCluster::new(
                connection.clone(),
                background.handle().clone(),
                namespace,
                instance,
            ),
        };
        Ok((ports, connection))
    }

    /// As the steps see them.
    pub(crate) fn ports(&self) -> Ports<'_> {
        Ports {
            ostree: &self.ostree,
            images: &self.images,
            seeds: &self.seeds,
            units: &self.units,
            files: &self.files,
            clock: &self.clock,
            cluster: &self.cluster,
        }
    }

    /// The cluster, for what is not part of the port.
    pub(crate) fn cluster(&self) -> &LiveCluster {
        &self.cluster
    }
}

/// Prepares a connection; nothing is sent yet.
pub(crate) fn connect(api: &ApiServer, background: &Background) -> PortResult<Connection> {
    let access = api.access()?;
    background.handle().block_on(Connection::open(&access))
}
