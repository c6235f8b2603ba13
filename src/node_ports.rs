//! The ports of the real node, put together.

use std::time::Duration;

use cluster::{Connection, LiveCluster};
use host::{
    HostClock, HostFallback, HostFiles, HostImages, HostMachine, HostOstree, HostSeeds, HostTraces,
    HostUnits, Layout,
};
use node::ports::{Cluster, Ports};
use node::{ErrorKind, PortResult};

use crate::background::Background;
use crate::cli::ApiServer;
use crate::unasked::Unasked;

/// Wait before looking again for a kubeconfig that is not there yet.
const RETRY: Duration = Duration::from_secs(2);

/// Owns the real ports of a process that talks to the API server, or ([`Unasked`]) of one that does not.
pub(crate) struct NodePorts<C = LiveCluster> {
    ostree: HostOstree,
    images: HostImages,
    seeds: HostSeeds,
    machine: HostMachine,
    fallback: HostFallback,
    units: HostUnits,
    traces: HostTraces,
    files: HostFiles,
    clock: HostClock,
    cluster: C,
}

impl NodePorts {
    /// The ports of the node that this process runs on, and the connection for a watch.
    ///
    /// # Errors
    /// `Transient` while the kubeconfig does not exist, `Permanent` when it is no good.
    pub(crate) fn open(api: &ApiServer, background: &Background) -> PortResult<(Self, Connection)> {
        let connection = connect(api, background)?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let namespace = variable(api::names::ENV_POD_NAMESPACE)
            .unwrap_or_else(|| api::names::NAMESPACE.to_owned());
        let instance = variable(api::names::ENV_POD_NAME)
            .or_else(|| variable("HOSTNAME"))
            .unwrap_or_else(|| "lifecycle-agent".to_owned());
        let cluster = LiveCluster::new(
            connection.clone(),
            background.handle().clone(),
            namespace,
            instance,
        );
        let ports = Self::with(cluster);
        Ok((ports, connection))
    }

    /// [`NodePorts::open`], tried again while it fails in passing. `given_up` waits for as long as it is told and says whether
    /// nobody wants the ports any more: then there are none.
    ///
    /// # Errors
    /// The kubeconfig is no good.
    pub(crate) fn open_patiently(
        api: &ApiServer,
        background: &Background,
        given_up: impl Fn(Duration) -> bool,
    ) -> PortResult<Option<(Self, Connection)>> {
        loop {
            match Self::open(api, background) {
                Ok(opened) => return Ok(Some(opened)),
                Err(error) if error.kind() == ErrorKind::Transient => {
                    let reason = engine::error_chain(&error);
                    tracing::info!(reason, "waiting for the way to the API server");
                }
                Err(error) => return Err(error.within("reaching the API server")),
            }
            if given_up(RETRY) {
                return Ok(None);
            }
        }
    }
}

impl NodePorts<Unasked> {
    /// The ports of this node without an API server.
    pub(crate) fn unasked() -> Self {
        Self::with(Unasked)
    }
}

impl<C: Cluster> NodePorts<C> {
    fn with(cluster: C) -> Self {
        let layout = Layout::running();
        Self {
            ostree: HostOstree::new(layout.clone()),
            images: HostImages::new(),
            seeds: HostSeeds::new(layout.clone()),
            machine: HostMachine::new(layout.clone()),
            fallback: HostFallback::new(layout.clone()),
            units: HostUnits,
            traces: HostTraces::new(layout.clone()),
            files: HostFiles::new(layout),
            clock: HostClock::new(),
            cluster,
        }
    }

    /// The cluster, for what is not part of the port.
    pub(crate) fn cluster(&self) -> &C {
        &self.cluster
    }

    /// As the steps see them.
    pub(crate) fn ports(&self) -> Ports<'_> {
        Ports {
            ostree: &self.ostree,
            images: &self.images,
            seeds: &self.seeds,
            machine: &self.machine,
            fallback: &self.fallback,
            units: &self.units,
            traces: &self.traces,
            files: &self.files,
            clock: &self.clock,
            cluster: &self.cluster,
        }
    }
}

/// Prepares a connection; nothing is sent yet.
pub(crate) fn connect(api: &ApiServer, background: &Background) -> PortResult<Connection> {
    let access = api.access()?;
    background.handle().block_on(Connection::open(&access))
}
