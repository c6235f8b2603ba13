//! Names of API objects, units, processes and environment variables (C 1.1, 1.5, 11.4, S 0.1, 3.1).

// The custom resources.

/// The API group.
pub const GROUP: &str = "lca.openshift.io";
/// The API version within the group.
pub const VERSION: &str = "v1";
/// Group and version as objects write them.
pub const API_VERSION: &str = "lca.openshift.io/v1";
/// The kind.
pub const KIND: &str = "ImageBasedUpgrade";
/// The kind of a list.
pub const LIST_KIND: &str = "ImageBasedUpgradeList";
/// The resource, as in URLs.
pub const PLURAL: &str = "imagebasedupgrades";
/// One of the resource.
pub const SINGULAR: &str = "imagebasedupgrade";
/// What users type.
pub const SHORT_NAME: &str = "ibu";
/// The name of the one object.
pub const IBU: &str = "upgrade";
/// The name of the object of the IP configuration flow.
pub const IP_CONFIG: &str = "ipconfig";
/// The resource of the IP configuration flow.
pub const IP_CONFIG_PLURAL: &str = "ipconfigs";

// The operator in the cluster.

/// The operator's namespace unless [`ENV_POD_NAMESPACE`] says otherwise.
pub const NAMESPACE: &str = "openshift-lifecycle-agent";
/// The operator's Deployment and service account.
pub const DEPLOYMENT: &str = "lifecycle-agent-controller-manager";
/// The container in [`DEPLOYMENT`].
pub const CONTAINER: &str = "manager";
/// The Service of the metrics.
pub const METRICS_SERVICE: &str = "lifecycle-agent-controller-manager-metrics-service";
/// The Lease that one agent holds (C 10.3).
pub const LEASE: &str = "lca.openshift.io";
/// The key of a registry's credentials in a Secret.
pub const DOCKER_CONFIG_KEY: &str = ".dockerconfigjson";
/// The Prep job of the Go original that installs the stateroot; our messages keep its name.
pub const STATEROOT_JOB: &str = "lca-prep-stateroot-setup";
/// The Prep job and ConfigMap of the Go original that precache; our messages keep their name.
pub const PRECACHE_JOB: &str = "lca-prep-precache";

// Events (C 10.4).

/// Who reports an Event.
pub const EVENT_CONTROLLER: &str = "ImageBasedUpgrade";
/// The reason and the action of the Event before a reboot.
pub const EVENT_REBOOT: &str = "Reboot";
/// A step of a run was begun.
pub const EVENT_STEP_STARTED: &str = "StepStarted";
/// A step of a run is done.
pub const EVENT_STEP_COMPLETED: &str = "StepCompleted";
/// A step of a run failed.
pub const EVENT_STEP_FAILED: &str = "StepFailed";
/// A run goes on after an interruption or a failure.
pub const EVENT_RUN_RESUMED: &str = "RunResumed";
/// Every step of a run is done.
pub const EVENT_RUN_COMPLETED: &str = "RunCompleted";
/// A run was stopped on request.
pub const EVENT_RUN_STOPPED: &str = "RunStopped";
/// A run failed in passing and is tried again soon.
pub const EVENT_RETRY_WAITING: &str = "RetryWaiting";
/// A rollback was begun though certificates of the release to return to have expired.
pub const EVENT_ORIGIN_EXPIRED: &str = "OriginExpired";
/// The namespace of Events about an object without one.
pub const EVENT_NAMESPACE: &str = "default";

// On the node.

/// Runs the post-pivot on the first boot of the target.
pub const POST_PIVOT_UNIT: &str = "installation-configuration.service";
/// Runs the init monitor after a pivot.
pub const INIT_MONITOR_UNIT: &str = "lca-init-monitor.service";
/// Declares each boot good to the boot loader.
pub const BOOT_GOOD_UNIT: &str = "lca-boot-good.service";
/// Leads out of emergency mode while an upgrade is undecided.
pub const EMERGENCY_RETURN_UNIT: &str = "lca-emergency-return.service";
/// The mount of the shared container storage.
pub const CONTAINERS_MOUNT_UNIT: &str = "var-lib-containers.mount";
/// Enabled by the post-pivot, disabled in a seed.
pub const KUBELET_UNIT: &str = "kubelet.service";
/// Brings this site's connections up.
pub const NETWORK_UNIT: &str = "NetworkManager.service";
/// Answers for the cluster's names on the node itself.
pub const DNS_UNIT: &str = "dnsmasq.service";
/// Chooses the node's address from [`crate::path::NODE_IP_HINT`] and tells kubelet.
pub const NODE_IP_UNIT: &str = "nodeip-configuration.service";
/// Keeps the node's clock.
pub const TIME_UNIT: &str = "chronyd.service";
/// Lets people in over SSH.
pub const SSH_UNIT: &str = "sshd.service";
/// The message that a reboot carries (C 5.6).
pub const REBOOT_MESSAGE: &str = "Image Based Upgrade";
/// What the kernel arguments of a FIPS node have more (C 4.2 step 9).
pub const FIPS_KERNEL_ARGUMENTS: [&str; 2] = ["fips=1", "boot=LABEL=boot"];
/// The key of the kernel argument that carries the version installed by an upgrade and keeps its
/// boot entry apart from its neighbours' (C 4.2 step 9).
pub const IBU_KERNEL_ARGUMENT: &str = "ibu";

// Environment variables.

/// The pod's name.
pub const ENV_POD_NAME: &str = "MY_POD_NAME";
/// The operator's namespace.
pub const ENV_POD_NAMESPACE: &str = "MY_POD_NAMESPACE";
/// `TRUE`: images that cannot be precached do not fail Prep (C 3.8).
pub const ENV_PRECACHE_BEST_EFFORT: &str = "PRECACHE_BEST_EFFORT";
/// How many images are pulled at a time (C 3.8).
pub const ENV_PRECACHE_PULLS: &str = "MAX_PULL_THREADS";
