//! A real control plane for tests: etcd and kube-apiserver on free loopback ports, with a PKI of
//! their own in a temporary directory, ready within ten seconds and gone with the test.
//!
//! ```no_run
//! let cluster = testenv::ControlPlane::start()?;
//! cluster.apply_yaml("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\n")?;
//! assert!(cluster.kubectl(&["get", "configmap", "a", "-o", "name"])?.contains("configmap/a"));
//! # anyhow::Ok(())
//! ```
//!
//! What is not there: a controller-manager (a deleted namespace stays Terminating, nothing is
//! garbage collected, the aggregated cluster roles `view`, `edit` and `admin` grant nothing), a
//! scheduler, a kubelet. The programs come from `hack/testenv`.

mod audit;
mod builder;
mod child;
mod control_plane;
mod pki;
mod port;
mod program;

pub use builder::Builder;
pub use child::OwnedChild;
pub use control_plane::ControlPlane;
pub use program::{Program, Version};
