//! The kinds of object that the agent talks about.

/// A kind of object as the API server names it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Kind<'k> {
    /// API group, empty for the core group.
    pub(crate) group: &'k str,
    pub(crate) version: &'k str,
    /// The word in request paths and in RBAC rules.
    pub(crate) plural: &'k str,
    /// The word for people and in `kind`.
    pub(crate) name: &'k str,
}

impl<'k> Kind<'k> {
    pub(crate) const fn new(
        group: &'k str,
        version: &'k str,
        plural: &'k str,
        name: &'k str,
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

pub(crate) const UPGRADE: Kind<'static> = Kind::new(
    "lca.openshift.io",
    "v1",
    "imagebasedupgrades",
    "ImageBasedUpgrade",
);
/// The other flow that works on the node's deployments.
pub(crate) const IP_CONFIG: Kind<'static> =
    Kind::new("lca.openshift.io", "v1", "ipconfigs", "IPConfig");
pub(crate) const CONFIG_MAP: Kind<'static> = Kind::new("", "v1", "configmaps", "ConfigMap");
pub(crate) const SECRET: Kind<'static> = Kind::new("", "v1", "secrets", "Secret");
pub(crate) const POD: Kind<'static> = Kind::new("", "v1", "pods", "Pod");
pub(crate) const NODE: Kind<'static> = Kind::new("", "v1", "nodes", "Node");
pub(crate) const DEPLOYMENT: Kind<'static> = Kind::new("apps", "v1", "deployments", "Deployment");
pub(crate) const EVENT: Kind<'static> = Kind::new("events.k8s.io", "v1", "events", "Event");
pub(crate) const TOKEN_REVIEW: Kind<'static> =
    Kind::new("authentication.k8s.io", "v1", "tokenreviews", "TokenReview");
pub(crate) const ACCESS_REVIEW: Kind<'static> = Kind::new(
    "authorization.k8s.io",
    "v1",
    "subjectaccessreviews",
    "SubjectAccessReview",
);
pub(crate) const CLUSTER_VERSION: Kind<'static> = Kind::new(
    "config.openshift.io",
    "v1",
    "clusterversions",
    "ClusterVersion",
);
pub(crate) const INFRASTRUCTURE: Kind<'static> = Kind::new(
    "config.openshift.io",
    "v1",
    "infrastructures",
    "Infrastructure",
);
pub(crate) const PROXY: Kind<'static> = Kind::new("config.openshift.io", "v1", "proxies", "Proxy");
pub(crate) const NETWORK: Kind<'static> =
    Kind::new("config.openshift.io", "v1", "networks", "Network");
pub(crate) const DIGEST_MIRROR_SET: Kind<'static> = Kind::new(
    "config.openshift.io",
    "v1",
    "imagedigestmirrorsets",
    "ImageDigestMirrorSet",
);
pub(crate) const CONTENT_SOURCE_POLICY: Kind<'static> = Kind::new(
    "operator.openshift.io",
    "v1alpha1",
    "imagecontentsourcepolicies",
    "ImageContentSourcePolicy",
);
pub(crate) const MACHINE_CONFIG: Kind<'static> = Kind::new(
    "machineconfiguration.openshift.io",
    "v1",
    "machineconfigs",
    "MachineConfig",
);
pub(crate) const CLUSTER_SERVICE_VERSION: Kind<'static> = Kind::new(
    "operators.coreos.com",
    "v1alpha1",
    "clusterserviceversions",
    "ClusterServiceVersion",
);
pub(crate) const CATALOG_SOURCE: Kind<'static> = Kind::new(
    "operators.coreos.com",
    "v1alpha1",
    "catalogsources",
    "CatalogSource",
);
pub(crate) const CLUSTER_OPERATOR: Kind<'static> = Kind::new(
    "config.openshift.io",
    "v1",
    "clusteroperators",
    "ClusterOperator",
);
pub(crate) const MACHINE_CONFIG_POOL: Kind<'static> = Kind::new(
    "machineconfiguration.openshift.io",
    "v1",
    "machineconfigpools",
    "MachineConfigPool",
);
pub(crate) const SRIOV_NODE_STATE: Kind<'static> = Kind::new(
    "sriovnetwork.openshift.io",
    "v1",
    "sriovnetworknodestates",
    "SriovNetworkNodeState",
);
pub(crate) const DATA_PROTECTION_APPLICATION: Kind<'static> = Kind::new(
    "oadp.openshift.io",
    "v1alpha1",
    "dataprotectionapplications",
    "DataProtectionApplication",
);
pub(crate) const BACKUP_STORAGE_LOCATION: Kind<'static> = Kind::new(
    "velero.io",
    "v1",
    "backupstoragelocations",
    "BackupStorageLocation",
);
pub(crate) const SIGNING_REQUEST: Kind<'static> = Kind::new(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
);
pub(crate) const SUBSCRIPTION: Kind<'static> = Kind::new(
    "operators.coreos.com",
    "v1alpha1",
    "subscriptions",
    "Subscription",
);
pub(crate) const NAMESPACE: Kind<'static> = Kind::new("", "v1", "namespaces", "Namespace");
pub(crate) const STORAGE_CLASS: Kind<'static> =
    Kind::new("storage.k8s.io", "v1", "storageclasses", "StorageClass");
pub(crate) const LOCAL_VOLUME: Kind<'static> = Kind::new(
    "local.storage.openshift.io",
    "v1",
    "localvolumes",
    "LocalVolume",
);
pub(crate) const CERTIFICATE: Kind<'static> =
    Kind::new("cert-manager.io", "v1", "certificates", "Certificate");
