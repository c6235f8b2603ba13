//! Where the control-plane programs come from.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Names the kube-apiserver that `hack/test --full` wants the contract tests to run on as well.
const NEWEST_APISERVER: &str = "LCA_TEST_NEWEST_APISERVER";

/// Which kube-apiserver a control plane runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// v1.30, the Kubernetes of OpenShift 4.17.
    Pinned,
    /// The newest that `hack/testenv/kubernetes-newest` names.
    Newest,
}

impl Version {
    /// The versions that an API contract test has to pass on in this run: the pinned one, and under
    /// `hack/test --full` (which sets `LCA_TEST_NEWEST_APISERVER`) the newest as well.
    #[must_use]
    pub fn under_test() -> Vec<Version> {
        let mut versions = vec![Version::Pinned];
        if std::env::var_os(NEWEST_APISERVER).is_some() {
            versions.push(Version::Newest);
        }
        versions
    }
}

/// A program of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    KubeApiserver(Version),
    /// kubectl, of the pinned Kubernetes.
    Kubectl,
}

impl Program {
    /// Path of the executable: what `TEST_ASSET_ETCD`, `TEST_ASSET_KUBE_APISERVER`,
    /// `TEST_ASSET_KUBECTL` or `LCA_TEST_NEWEST_APISERVER` names, else what `hack/testenv/build`
    /// has in its cache; it is built there, which takes minutes, when it is not.
    ///
    /// # Errors
    /// When the variable names no file, or the build fails.
    pub fn path(self) -> Result<PathBuf> {
        let (variable, name) = match self {
            Program::Etcd => ("TEST_ASSET_ETCD", "etcd"),
            Program::KubeApiserver(Version::Pinned) => {
                ("TEST_ASSET_KUBE_APISERVER", "kube-apiserver")
            }
            Program::KubeApiserver(Version::Newest) => (NEWEST_APISERVER, "kube-apiserver-newest"),
            Program::Kubectl => ("TEST_ASSET_KUBECTL", "kubectl"),
        };
        if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            ensure!(
                path.is_file(),
                "{variable} names {}, which is no file",
                path.display()
            );
            return Ok(path);
        }
        built(name)
    }
}

fn built(name: &str) -> Result<PathBuf> {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/testenv/build");
    let output = Command::new(&build)
        .arg(name)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {}", build.display()))?;
    if !output.status.success() {
        bail!("{} {name} ended with {}", build.display(), output.status);
    }
    let path = String::from_utf8(output.stdout).context("path printed by hack/testenv/build")?;
    Ok(PathBuf::from(path.trim_end()))
}
