//! Every kind of request that the code makes, by who makes it. The manifests grant the first list and nothing else;
//! a request in neither list fails an assertion in every test that makes it.

use crate::call::{Call, Verb};
use crate::kind::{self, Kind};

/// The right to make one kind of request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Permission {
    /// What is done.
    pub verb: Verb,
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Plural name.
    pub resource: &'static str,
    /// Empty for the object itself.
    pub subresource: &'static str,
    /// The only namespace in which it is needed; `None` for objects outside of namespaces and for all namespaces;
    /// empty for the operator's namespace.
    pub namespace: Option<&'static str>,
}

impl Permission {
    const fn of(verb: Verb, kind: &Kind<'static>) -> Self {
        Self {
            verb,
            group: kind.group,
            resource: kind.plural,
            subresource: "",
            namespace: None,
        }
    }

    const fn status(self) -> Self {
        Self {
            subresource: "status",
            ..self
        }
    }

    const fn within(self, namespace: &'static str) -> Self {
        Self {
            namespace: Some(namespace),
            ..self
        }
    }

    pub(crate) fn covers(&self, call: &Call<'_>) -> bool {
        self.verb == call.verb
            && self.group == call.kind.group
            && self.resource == call.kind.plural
            && self.subresource == call.subresource.unwrap_or_default()
            && self
                .namespace
                .is_none_or(|namespace| namespace.is_empty() || call.namespace == Some(namespace))
    }
}

/// What the controller asks under the service account of the manifests.
pub const CONTROLLER: &[Permission] = &[
    // The object itself: watch, live reads, annotations, and its restoration after a pivot.
    Permission::of(Verb::Get, &kind::UPGRADE),
    Permission::of(Verb::Watch, &kind::UPGRADE),
    Permission::of(Verb::Create, &kind::UPGRADE),
    Permission::of(Verb::Update, &kind::UPGRADE),
    Permission::of(Verb::Patch, &kind::UPGRADE),
    Permission::of(Verb::Delete, &kind::UPGRADE),
    Permission::of(Verb::Update, &kind::UPGRADE).status(),
    // Whether the other flow works on the node's deployments, and when it has ended.
    Permission::of(Verb::Get, &kind::IP_CONFIG),
    Permission::of(Verb::Watch, &kind::IP_CONFIG),
    // What the checks of a seed compare.
    Permission::of(Verb::Get, &kind::CLUSTER_VERSION),
    Permission::of(Verb::Get, &kind::PROXY),
    Permission::of(Verb::List, &kind::NODE),
    Permission::of(Verb::Get, &kind::MACHINE_CONFIG),
    Permission::of(Verb::List, &kind::MACHINE_CONFIG),
    Permission::of(Verb::List, &kind::SUBSCRIPTION),
    Permission::of(Verb::Get, &kind::DEPLOYMENT).within("openshift-cluster-version"),
    Permission::of(Verb::List, &kind::DIGEST_MIRROR_SET),
    Permission::of(Verb::List, &kind::CONTENT_SOURCE_POLICY),
    Permission::of(Verb::Get, &kind::CONFIG_MAP).within("openshift-config"),
    // Whether the cluster is healthy. OADP's own namespace is there only where OADP is, so no Role can be bound to it.
    Permission::of(Verb::List, &kind::CLUSTER_OPERATOR),
    Permission::of(Verb::Watch, &kind::CLUSTER_OPERATOR),
    Permission::of(Verb::List, &kind::MACHINE_CONFIG_POOL),
    Permission::of(Verb::Watch, &kind::MACHINE_CONFIG_POOL),
    Permission::of(Verb::Watch, &kind::NODE),
    Permission::of(Verb::List, &kind::SRIOV_NODE_STATE),
    Permission::of(Verb::List, &kind::DATA_PROTECTION_APPLICATION),
    Permission::of(Verb::List, &kind::BACKUP_STORAGE_LOCATION),
    Permission::of(Verb::List, &kind::CLUSTER_SERVICE_VERSION),
    Permission::of(Verb::List, &kind::SIGNING_REQUEST),
    // The agent's own configuration.
    Permission::of(Verb::Get, &kind::CONFIG_MAP).within(""),
    // Registry credentials named by the user.
    Permission::of(Verb::Get, &kind::SECRET).within(""),
    // Images that the clean-up of container storage has to leave alone.
    Permission::of(Verb::List, &kind::POD),
    // What the target takes over.
    Permission::of(Verb::Get, &kind::INFRASTRUCTURE),
    Permission::of(Verb::Get, &kind::CONFIG_MAP).within("kube-system"),
    Permission::of(Verb::Get, &kind::SECRET).within("kube-system"),
    Permission::of(Verb::Get, &kind::SECRET).within("openshift-config"),
    Permission::of(Verb::Get, &kind::SECRET).within("openshift-ingress-operator"),
    Permission::of(Verb::Get, &kind::SECRET).within("openshift-kube-apiserver-operator"),
    // Local storage, and what cert-manager keeps, in whatever namespace.
    Permission::of(Verb::List, &kind::LOCAL_VOLUME),
    Permission::of(Verb::Get, &kind::STORAGE_CLASS),
    Permission::of(Verb::List, &kind::CERTIFICATE),
    Permission::of(Verb::Get, &kind::NAMESPACE),
    Permission::of(Verb::Get, &kind::SECRET),
    // Who reads metrics.
    Permission::of(Verb::Create, &kind::TOKEN_REVIEW),
    Permission::of(Verb::Create, &kind::ACCESS_REVIEW),
    // What a run announces.
    Permission::of(Verb::Create, &kind::EVENT).within("default"),
];

/// What is asked besides that, only under the node's own kubeconfig (cluster administrator): the post-pivot service
/// and the making of a seed. The manifests do not grant these.
pub const NODE: &[Permission] = &[
    Permission::of(Verb::Patch, &kind::CLUSTER_VERSION),
    Permission::of(Verb::Get, &kind::NETWORK),
    Permission::of(Verb::List, &kind::CATALOG_SOURCE),
    // The site's settings in place of the seed's.
    Permission::of(Verb::Create, &kind::SECRET),
    Permission::of(Verb::Patch, &kind::SECRET),
    Permission::of(Verb::Delete, &kind::SECRET),
    Permission::of(Verb::Get, &kind::CONFIG_MAP),
    Permission::of(Verb::Create, &kind::CONFIG_MAP),
    Permission::of(Verb::Patch, &kind::CONFIG_MAP),
    Permission::of(Verb::Patch, &kind::PROXY),
    Permission::of(Verb::Patch, &kind::PROXY).status(),
    Permission::of(Verb::Delete, &kind::DIGEST_MIRROR_SET),
    Permission::of(Verb::Delete, &kind::CONTENT_SOURCE_POLICY),
    Permission::of(Verb::Delete, &kind::CATALOG_SOURCE),
    Permission::of(Verb::Update, &kind::DEPLOYMENT),
    Permission::of(Verb::Patch, &kind::NODE),
    // Manifests that the origin left: of these kinds, or whatever the Go original exports in the future.
    Permission::of(Verb::Get, &kind::DIGEST_MIRROR_SET),
    Permission::of(Verb::Create, &kind::DIGEST_MIRROR_SET),
    Permission::of(Verb::Update, &kind::DIGEST_MIRROR_SET),
    Permission::of(Verb::Get, &kind::CONTENT_SOURCE_POLICY),
    Permission::of(Verb::Create, &kind::CONTENT_SOURCE_POLICY),
    Permission::of(Verb::Update, &kind::CONTENT_SOURCE_POLICY),
    Permission::of(Verb::Create, &kind::MACHINE_CONFIG),
    Permission::of(Verb::Update, &kind::MACHINE_CONFIG),
];
