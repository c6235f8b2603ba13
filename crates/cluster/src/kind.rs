//! The kinds of object that the agent talks about.

/// A kind of object as the API server names it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Kind {
    /// API group, empty for the core group.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    /// The word in request paths and in RBAC rules.
    pub(crate) plural: &'static str,
    /// The word for people and in `kind`.
    pub(crate) name: &'static str,
}

impl Kind {
    const fn new(
        group: &'static str,
        version: &'static str,
        plural: &'static str,
        name: &'static str,
    ) -> Self {
        Self {
            group,
            version,
            plural,
            name,
        }
    }

    /// The value of `apiVersion`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Kind and group for people: `imagebasedupgrades.lca.openshift.io`, as `kubectl` takes it.
    pub(crate) fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}

pub(crate) const UPGRADE: Kind = Kind::new(
    "lca.openshift.io",
    "v1",
    "imagebasedupgrades",
    "ImageBasedUpgrade",
);
pub(crate) const CONFIG_MAP: Kind = Kind::new("", "v1", "configmaps", "ConfigMap");
pub(crate) const SECRET: Kind = Kind::new("", "v1", "secrets", "Secret");
pub(crate) const POD: Kind = Kind::new("", "v1", "pods", "Pod");
pub(crate) const NODE: Kind = Kind::new("", "v1", "nodes", "Node");
pub(crate) const DEPLOYMENT: Kind = Kind::new("apps", "v1", "deployments", "Deployment");
pub(crate) const EVENT: Kind = Kind::new("events.k8s.io", "v1", "events", "Event");
pub(crate) const TOKEN_REVIEW: Kind =
    Kind::new("authentication.k8s.io", "v1", "tokenreviews", "TokenReview");
pub(crate) const ACCESS_REVIEW: Kind = Kind::new(
    "authorization.k8s.io",
    "v1",
    "subjectaccessreviews",
    "SubjectAccessReview",
);
pub(crate) const CLUSTER_VERSION: Kind = Kind::new(
    "config.openshift.io",
    "v1",
    "clusterversions",
    "ClusterVersion",
);
pub(crate) const INFRASTRUCTURE: Kind = Kind::new(
    "config.openshift.io",
    "v1",
    "infrastructures",
    "Infrastructure",
);
pub(crate) const PROXY: Kind = Kind::new("config.openshift.io", "v1", "proxies", "Proxy");
pub(crate) const NETWORK: Kind = Kind::new("config.openshift.io", "v1", "networks", "Network");
pub(crate) const DIGEST_MIRROR_SET: Kind = Kind::new(
    "config.openshift.io",
    "v1",
    "imagedigestmirrorsets",
    "ImageDigestMirrorSet",
);
pub(crate) const CONTENT_SOURCE_POLICY: Kind = Kind::new(
    "operator.openshift.io",
    "v1alpha1",
    "imagecontentsourcepolicies",
    "ImageContentSourcePolicy",
);
pub(crate) const MACHINE_CONFIG: Kind = Kind::new(
    "machineconfiguration.openshift.io",
    "v1",
    "machineconfigs",
    "MachineConfig",
);
pub(crate) const CLUSTER_SERVICE_VERSION: Kind = Kind::new(
    "operators.coreos.com",
    "v1alpha1",
    "clusterserviceversions",
    "ClusterServiceVersion",
);
pub(crate) const CATALOG_SOURCE: Kind = Kind::new(
    "operators.coreos.com",
    "v1alpha1",
    "catalogsources",
    "CatalogSource",
);
pub(crate) const CLUSTER_OPERATOR: Kind = Kind::new(
    "config.openshift.io",
    "v1",
    "clusteroperators",
    "ClusterOperator",
);
pub(crate) const MACHINE_CONFIG_POOL: Kind = Kind::new(
    "machineconfiguration.openshift.io",
    "v1",
    "machineconfigpools",
    "MachineConfigPool",
);
pub(crate) const SUBSCRIPTION: Kind = Kind::new(
    "operators.coreos.com",
    "v1alpha1",
    "subscriptions",
    "Subscription",
);
