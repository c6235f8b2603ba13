//! Mini-SNO nodes that really boot, for tests, demo and bench: `systemd-nspawn` runs an ostree
//! deployment of a small Debian, with etcd and kube-apiserver behind a stand-in for kubelet.
//!
//! ```no_run
//! use boxed::{Lab, NodeConfig, Release};
//! let lab = Lab::new("example")?;
//! let registry = lab.start_registry(None)?;
//! let node = lab.install(&NodeConfig::new("target", Release::V4_16_9, 10))?;
//! node.boot()?;
//! node.wait_api()?;
//! println!("{}", node.kubectl(&["get", "nodes"])?);
//! # anyhow::Ok(())
//! ```
//!
//! Real: systemd, D-Bus, units, libostree and its choice of the default deployment, NetworkManager,
//! dnsmasq, podman, etcd, kube-apiserver, the registry. Not real: kernel, initramfs, boot loader,
//! partitions, power loss; there is no kubelet and there are no operators. Needs root.

pub mod cache;
mod cluster;
mod command;
mod control_group;
mod image;
mod install;
mod lab;
mod meter;
pub mod moment;
mod network;
mod node;
mod nspawn;
mod pki;
mod registry;
mod running;
pub mod site;
pub mod snapshot;
mod supervisor;
mod sysroot;
mod template;
mod upgrade_object;
mod usage;

pub use cache::cache_dir;
pub use cluster::{BASE_DOMAIN, CLUSTER_NAME};
pub use command::succeed;
pub use image::{Image, Release};
pub use install::{AGENT_UNIT, Disk, NodeConfig, content_key, install};
pub use lab::Lab;
pub use meter::Meter;
pub use network::{LAB_ADDRESS, MACHINE_NETWORK};
pub use node::Node;
pub use nspawn::Ended;
pub use registry::{REGISTRY_ADDRESS, REGISTRY_PASSWORD, REGISTRY_USER, Registry, Served};
pub use running::{KUBECONFIG, Running, process_runs, reachable};
pub use site::Site;
pub use sysroot::{Deployment, Sysroot};
pub use upgrade_object::{Kubectl, UpgradeObject};
pub use usage::used;
