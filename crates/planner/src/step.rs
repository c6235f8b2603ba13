//! Plans: lists of steps, complete before the first one runs.

use std::collections::BTreeMap;

use api::configuration::PublicKey;
use api::rollback_config::RollbackConfig;
use api::verdict::{Judge, Outcome};
use api::{DeploymentId, Digest, HandoverStamp, ImageRef, Phase, Stage, StaterootName};
use serde::{Deserialize, Serialize};

use crate::cleanup::ImageCleanup;
use crate::facts::{SeedPin, TargetRecord};
use crate::image_facts::PrecachePolicy;
use crate::limits::FetchLimits;
use crate::upgrade::{ASK_AGAIN, HEALTH_AGAIN};

/// Bytes of the root filesystem that are kept from the start of Prep until Idle: for records, a journal and the boot
/// entries of the way back.
pub const SYSROOT_RESERVE: u64 = 64 << 20;
/// The same of `/boot`: boot entries are a few KiB each.
pub const BOOT_RESERVE: u64 = 1 << 20;

/// What a plan is for; its journal name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanName {
    /// Prep: what does the reference stand for, and is it a seed for this cluster?
    InspectSeed,
    /// Prep: is the seed signed as it must be?
    VerifySeed,
    /// Prep: the seed's blobs into the spool.
    FetchSeed,
    /// Prep: the target's stateroot.
    InstallStateroot,
    /// Prep: images that the target will need.
    Precache,
    /// Upgrade: over to the target.
    Pivot,
    /// The target's first boot: this site's identity.
    Reconfigure,
    /// Upgrade, behind the pivot: the verdict that the target stays.
    Complete,
    /// Upgrade, behind its completion: nobody watches over it any more.
    Disarm,
    /// Rollback: back to the origin.
    Return,
    /// Back to the origin because the controller says so, unasked.
    AutomaticReturn,
    /// The same by the service of the first boot.
    PostPivotReturn,
    /// The same by the init monitor.
    MonitorReturn,
    /// In the origin that the node returned to: keep what is left of the boots that failed.
    SealEvidence,
    /// Idle: undo what Prep made.
    Abort,
    /// Idle: forget the release that is not booted.
    Finalize,
}

/// A process that carries plans out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Owner {
    /// The controller.
    Controller,
    /// The service of the first boot.
    PostPivot,
    /// The init monitor.
    InitMonitor,
}

impl PlanName {
    /// All of them.
    pub const ALL: [PlanName; 16] = [
        PlanName::InspectSeed,
        PlanName::VerifySeed,
        PlanName::FetchSeed,
        PlanName::InstallStateroot,
        PlanName::Precache,
        PlanName::Pivot,
        PlanName::Reconfigure,
        PlanName::Complete,
        PlanName::Disarm,
        PlanName::Return,
        PlanName::AutomaticReturn,
        PlanName::PostPivotReturn,
        PlanName::MonitorReturn,
        PlanName::SealEvidence,
        PlanName::Abort,
        PlanName::Finalize,
    ];

    /// The name in journals, logs and `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            PlanName::InspectSeed => "inspect-seed",
            PlanName::VerifySeed => "verify-seed",
            PlanName::FetchSeed => "fetch-seed",
            PlanName::InstallStateroot => "install-stateroot",
            PlanName::Precache => "precache",
            PlanName::Pivot => "pivot",
            PlanName::Reconfigure => "reconfigure",
            PlanName::Complete => "complete",
            PlanName::Disarm => "disarm",
            PlanName::Return => "return",
            PlanName::AutomaticReturn => "automatic-return",
            PlanName::PostPivotReturn => "post-pivot-return",
            PlanName::MonitorReturn => "monitor-return",
            PlanName::SealEvidence => "seal-evidence",
            PlanName::Abort => "abort",
            PlanName::Finalize => "finalize",
        }
    }

    /// The stage whose request it serves.
    pub fn stage(self) -> Stage {
        match self {
            PlanName::InspectSeed
            | PlanName::VerifySeed
            | PlanName::FetchSeed
            | PlanName::InstallStateroot
            | PlanName::Precache => Stage::Prep,
            PlanName::Pivot
            | PlanName::Reconfigure
            | PlanName::Complete
            | PlanName::Disarm
            | PlanName::AutomaticReturn
            | PlanName::PostPivotReturn
            | PlanName::MonitorReturn
            | PlanName::SealEvidence => Stage::Upgrade,
            PlanName::Return => Stage::Rollback,
            PlanName::Abort | PlanName::Finalize => Stage::Idle,
        }
    }

    /// The plan of this journal name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plan| plan.as_str() == name)
    }

    /// The process that carries it out. Several keep journals on one node, each its own.
    pub fn owner(self) -> Owner {
        match self {
            PlanName::Reconfigure | PlanName::PostPivotReturn => Owner::PostPivot,
            PlanName::MonitorReturn => Owner::InitMonitor,
            _ => Owner::Controller,
        }
    }

    /// The phase of the stage's history that it belongs to; `None` = the stage has no phases for it.
    pub fn phase(self) -> Option<Phase> {
        match self {
            PlanName::InspectSeed
            | PlanName::VerifySeed
            | PlanName::FetchSeed
            | PlanName::InstallStateroot => Some(Phase::Stateroot),
            PlanName::Precache => Some(Phase::Precache),
            PlanName::Pivot => Some(Phase::PrePivot),
            PlanName::Reconfigure
            | PlanName::Complete
            | PlanName::Disarm
            | PlanName::AutomaticReturn
            | PlanName::PostPivotReturn
            | PlanName::MonitorReturn
            | PlanName::SealEvidence => Some(Phase::PostPivot),
            PlanName::Return | PlanName::Abort | PlanName::Finalize => None,
        }
    }

    /// Where something outside of the agent (a healthy cluster) is waited for before this plan begins: how often it is looked
    /// for, in seconds. `None` = nothing is, so that whatever passes before the plan begins is the agent's own doing.
    pub fn looks_every(self) -> Option<u64> {
        match self {
            PlanName::InspectSeed | PlanName::Pivot | PlanName::Finalize => Some(HEALTH_AGAIN),
            PlanName::Complete => Some(ASK_AGAIN),
            _ => None,
        }
    }

    /// Whether it takes back what was done, or ends it: what the kept space is for.
    pub fn leads_back(self) -> bool {
        self.returns() || matches!(self, PlanName::Abort | PlanName::Finalize)
    }

    /// Whether it leads to the other release, which waits for nothing that it can do without.
    pub fn returns(self) -> bool {
        matches!(
            self,
            PlanName::Return
                | PlanName::AutomaticReturn
                | PlanName::PostPivotReturn
                | PlanName::MonitorReturn
        )
    }
}

/// What is to be done, in order.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What for.
    pub name: PlanName,
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether the space that is kept may be given back for its journal: it is kept for the way back, a failed switch's too.
    pub fn may_have_space(&self) -> bool {
        let switches = |step: &Step| matches!(step, Step::SetDefault { .. });
        self.name.leads_back() || self.name == PlanName::Disarm && self.steps.iter().any(switches)
    }
}

/// One thing to do. The set is closed, so that adding one makes the compiler list every place to think about.
/// Secrets are never in a step: steps are written to the journal.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Ask the registry for digest and labels and record them.
    ResolveSeed {
        /// The seed image.
        image: ImageRef,
        /// Name of the Secret with credentials; without it the node's own are used.
        pull_secret: Option<String>,
    },
    /// Find a signature of the resolved seed by one of the keys, and record whose it is.
    VerifySignature {
        /// What was resolved.
        pin: SeedPin,
        /// As in [`Step::ResolveSeed`].
        pull_secret: Option<String>,
        /// The keys; any of them will do.
        keys: Vec<PublicKey>,
    },
    /// Keep space for the way back, so that what fits now still fits then.
    ReserveSpace {
        /// Bytes of the root filesystem.
        sysroot: u64,
        /// Bytes of `/boot`.
        boot: u64,
    },
    /// Give the kept space back.
    ReleaseSpace {
        /// It goes on without: what follows may need the space, or not.
        may_fail: bool,
    },
    /// Fetch the seed, read the documents in it and unpack below the stateroot what can be unpacked while it arrives.
    FetchSeed {
        /// What was resolved.
        pin: SeedPin,
        /// As in [`Step::ResolveSeed`].
        pull_secret: Option<String>,
        /// The stateroot that it is for.
        stateroot: StaterootName,
        /// Keep the compressed seed in the spool until Idle: a fetch that is interrupted goes on where it was, and the other
        /// steps can be repeated.
        spool: bool,
        /// How hard the network may be worked.
        limits: FetchLimits,
    },
    /// Remove a stateroot of this name that another seed left behind.
    ClearStateroot {
        /// Whose place is needed.
        stateroot: StaterootName,
        /// The seed that may stay.
        seed: Digest,
    },
    /// Make the stateroot and note which seed it is for.
    EnsureStateroot {
        /// The target's stateroot.
        stateroot: StaterootName,
        /// The seed that it is for.
        seed: Digest,
    },
    /// Bring the seed's ostree objects into the node's repository.
    ImportCommit {
        /// The seed.
        pin: SeedPin,
        /// Checksum of the commit.
        commit: String,
    },
    /// Deploy the commit, not as default.
    DeployStateroot {
        /// The target's stateroot.
        stateroot: StaterootName,
        /// Checksum of the commit.
        commit: String,
        /// Complete kernel arguments.
        kernel_arguments: Vec<String>,
        /// Text of the origin file.
        origin: String,
    },
    /// Unpack the seed's `/var`.
    UnpackVar {
        /// The seed.
        pin: SeedPin,
        /// The target's stateroot.
        stateroot: StaterootName,
    },
    /// Unpack the seed's `/etc` over the deployment's.
    UnpackEtc {
        /// The seed.
        pin: SeedPin,
        /// The target's stateroot; it has one deployment by now.
        stateroot: StaterootName,
    },
    /// Record the finished target. Its deployment is looked up: it has an id only once it is deployed.
    RecordTarget {
        /// All of the record that is known beforehand.
        record: TargetRecord,
    },
    /// Remove images that nobody needs from a container storage that is too full.
    CleanImages {
        /// When it is.
        cleanup: ImageCleanup,
        /// Images that the new release needs, as far as they are known.
        keep: Vec<String>,
    },
    /// Keep images from the garbage collection of kubelet and CRI-O, now and in the target.
    PinImages {
        /// Their names.
        images: Vec<String>,
        /// The target, whose `/etc` counts behind the pivot.
        stateroot: StaterootName,
    },
    /// Leave images to the garbage collection again.
    UnpinImages,
    /// Pull what is not present yet.
    PrecacheImages {
        /// Images in order.
        images: Vec<String>,
        /// How.
        policy: PrecachePolicy,
    },
    /// Verify that the target is still there with all that its first boot needs.
    CheckTarget {
        /// The prepared target.
        target: DeploymentId,
        /// Whether it needs the init monitor.
        monitored: bool,
    },
    /// Write this site's identity and configuration into the target's stateroot.
    ExportConfiguration {
        /// The target's stateroot.
        stateroot: StaterootName,
    },
    /// Write the configuration of the automatic rollback into the target's stateroot.
    WriteRollbackConfig {
        /// The target's stateroot.
        stateroot: StaterootName,
        /// Its content.
        config: RollbackConfig,
    },
    /// Save the upgrade object for a return that nobody asked for.
    SaveOriginCopy {
        /// Ids of this pivot.
        stamp: HandoverStamp,
    },
    /// Save the upgrade object into the stateroot that boots next.
    SaveHandover {
        /// Where to.
        stateroot: StaterootName,
        /// Ids of this pivot.
        stamp: HandoverStamp,
    },
    /// Decide for all: create the verdict, or find that it says the same already.
    RecordVerdict {
        /// What is decided.
        outcome: Outcome,
        /// Who decides.
        judge: Judge,
        /// Why; no secrets.
        reason: String,
    },
    /// Write into the origin's own copy of the upgrade object why the node comes back. A copy that says more already stays, and
    /// one that cannot be read or is of another upgrade is left as it is.
    TellOrigin {
        /// Where the copy is.
        origin: StaterootName,
        /// What the upgrade led to.
        target: DeploymentId,
        /// Why.
        reason: String,
    },
    /// Keep what there is to know of a release's boots in the partition that all releases share: their journal, our runs, verdict
    /// and counts, the states of units and what the kernel left of a panic. It bars nothing: what cannot be kept is told, and the
    /// step is done.
    SealEvidence {
        /// The release whose boot failed.
        target: DeploymentId,
        /// The boot that it runs in; `None` = it does not run.
        boot_id: Option<String>,
        /// Why; no secrets.
        reason: String,
    },
    /// Stop the init monitor and remove its unit.
    DisarmMonitor {
        /// Its name.
        unit: String,
    },
    /// Make stateroots durable.
    SyncStateroots {
        /// Which ones.
        stateroots: Vec<StaterootName>,
        /// Whether what all of them share is made durable too: a way back needs nothing of it, and its disk may hang.
        shared: bool,
    },
    /// See to it that each boot of the target is declared good by its early unit.
    EnsureBootUnit {
        /// The prepared target.
        target: DeploymentId,
    },
    /// Let the boot loader return by itself from a target that does not come up, once that is the default.
    ArmFallback {
        /// Where to.
        origin: DeploymentId,
        /// What from.
        target: DeploymentId,
        /// Boots that the target gets.
        attempts: u32,
        /// The boot that this plan was made in.
        boot_id: String,
    },
    /// Give all attempts back, where it is armed.
    RefillFallback,
    /// Take the arming back.
    DisarmFallback {
        /// Whether it may stay armed: behind a switch the first boot of what is switched to takes it back as well.
        may_fail: bool,
    },
    /// Make a deployment the default: the commit point.
    SetDefault {
        /// Which one.
        deployment: DeploymentId,
    },
    /// Reboot, once.
    Reboot {
        /// `upgrade` or `rollback`.
        reason: String,
        /// The boot that this plan was made in: in any other one the reboot has happened.
        boot_id: String,
        /// What boots by default again if the machine stays up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        otherwise: Option<DeploymentId>,
    },
    /// Take all deployments of a stateroot out of the boot list.
    UndeployStateroot {
        /// Which one.
        stateroot: StaterootName,
    },
    /// Remove a stateroot from the disk.
    RemoveStateroot {
        /// Which one.
        stateroot: StaterootName,
    },
    /// Drop objects that no deployment needs.
    PruneRepository,
    /// Empty the seed spool.
    DiscardSeed,
    /// Remove the records of the ended upgrade.
    RemoveRecords,
    /// Stop a unit that would do harm before this site's identity is in place, until its start is due.
    HoldUnit {
        /// Its name.
        unit: String,
    },
    /// Let those in as `core` who may log in on this site.
    AuthorizeSshKeys,
    /// Put this site's network connections in place.
    RestoreConnections,
    /// Configure the network as the document of an image-based installation describes it.
    ApplyNetworkState,
    /// Give the node its name.
    SetHostname {
        /// The site's hostname.
        hostname: String,
    },
    /// Put this site's pull secret in place.
    WritePullSecret,
    /// Say on which networks the node's address is to be found.
    WriteNodeIpHint {
        /// An address of each, in order.
        addresses: Vec<String>,
    },
    /// Wait until the node has found its address by itself.
    AwaitNodeAddress,
    /// Let the node answer for the cluster's names.
    WriteDnsOverrides {
        /// The cluster's name.
        cluster_name: String,
        /// The domain below which it stands.
        base_domain: String,
        /// The node's first address; `None` = the one that it has found.
        address: Option<String>,
    },
    /// Trust the authorities that this site trusts.
    TrustAuthorities,
    /// Put this site's time servers in place.
    WriteChronyConfig,
    /// Give the SSH server this site's keys.
    WriteServerKeys,
    /// Let LVM look at this site's devices, and activate what is on them.
    RestoreLvmDevices,
    /// Tell systemd that the node may go on booting.
    SignalReady,
    /// Enable a unit and queue its start.
    StartUnit {
        /// Its name.
        unit: String,
    },
    /// Wait until the API server answers.
    AwaitApi,
    /// Give the objects that hold the cluster's settings this site's content.
    ConfigureCluster,
    /// Remove mirror sets and catalogs of the seed.
    RemoveMirrors,
    /// Apply the manifests that the origin left, in the order of their names.
    ApplyManifests,
    /// Let the version operator use this site's registry in place of the seed's, where the contract asks for it.
    SetReleaseRegistry {
        /// The seed's registry.
        seed: String,
        /// The seed had mirrors.
        mirrored: bool,
        /// This site's registry.
        site: String,
    },
    /// Give the Node this site's labels.
    SetNodeLabels {
        /// Its name.
        node: String,
        /// The labels; others stay.
        labels: BTreeMap<String, String>,
    },
    /// Give the cluster its id.
    SetClusterId {
        /// The site's cluster id.
        cluster_id: String,
    },
    /// Keep a unit from running at the next boot.
    DisableUnit {
        /// Its name.
        unit: String,
    },
    /// Remove what the origin left for the first boot: it holds keys.
    RemoveReconfiguration,
}

impl Step {
    /// The step's name in journals, logs and `status`.
    pub fn name(&self) -> &'static str {
        match self {
            Step::ResolveSeed { .. } => "resolve-seed",
            Step::VerifySignature { .. } => "verify-signature",
            Step::ReserveSpace { .. } => "reserve-space",
            Step::ReleaseSpace { .. } => "release-space",
            Step::FetchSeed { .. } => "fetch-seed",
            Step::ClearStateroot { .. } => "clear-stateroot",
            Step::EnsureStateroot { .. } => "ensure-stateroot",
            Step::ImportCommit { .. } => "import-commit",
            Step::DeployStateroot { .. } => "deploy-stateroot",
            Step::UnpackVar { .. } => "unpack-var",
            Step::UnpackEtc { .. } => "unpack-etc",
            Step::RecordTarget { .. } => "record-target",
            Step::CleanImages { .. } => "clean-images",
            Step::PinImages { .. } => "pin-images",
            Step::UnpinImages => "unpin-images",
            Step::PrecacheImages { .. } => "precache-images",
            Step::CheckTarget { .. } => "check-target",
            Step::ExportConfiguration { .. } => "export-configuration",
            Step::WriteRollbackConfig { .. } => "write-rollback-config",
            Step::SaveOriginCopy { .. } => "save-origin-copy",
            Step::SaveHandover { .. } => "save-handover",
            Step::RecordVerdict { .. } => "record-verdict",
            Step::TellOrigin { .. } => "tell-origin",
            Step::SealEvidence { .. } => "seal-evidence",
            Step::DisarmMonitor { .. } => "disarm-monitor",
            Step::SyncStateroots { .. } => "sync-stateroots",
            Step::EnsureBootUnit { .. } => "ensure-boot-unit",
            Step::ArmFallback { .. } => "arm-fallback",
            Step::RefillFallback => "refill-fallback",
            Step::DisarmFallback { .. } => "disarm-fallback",
            Step::SetDefault { .. } => "set-default",
            Step::Reboot { .. } => "reboot",
            Step::UndeployStateroot { .. } => "undeploy-stateroot",
            Step::RemoveStateroot { .. } => "remove-stateroot",
            Step::PruneRepository => "prune-repository",
            Step::DiscardSeed => "discard-seed",
            Step::RemoveRecords => "remove-records",
            Step::HoldUnit { .. } => "hold-unit",
            Step::AuthorizeSshKeys => "authorize-ssh-keys",
            Step::RestoreConnections => "restore-connections",
            Step::ApplyNetworkState => "apply-network-state",
            Step::SetHostname { .. } => "set-hostname",
            Step::WritePullSecret => "write-pull-secret",
            Step::WriteNodeIpHint { .. } => "write-node-ip-hint",
            Step::AwaitNodeAddress => "await-node-address",
            Step::WriteDnsOverrides { .. } => "write-dns-overrides",
            Step::TrustAuthorities => "trust-authorities",
            Step::WriteChronyConfig => "write-chrony-config",
            Step::WriteServerKeys => "write-server-keys",
            Step::RestoreLvmDevices => "restore-lvm-devices",
            Step::SignalReady => "signal-ready",
            Step::StartUnit { .. } => "start-unit",
            Step::AwaitApi => "await-api",
            Step::ConfigureCluster => "configure-cluster",
            Step::RemoveMirrors => "remove-mirrors",
            Step::ApplyManifests => "apply-manifests",
            Step::SetReleaseRegistry { .. } => "set-release-registry",
            Step::SetNodeLabels { .. } => "set-node-labels",
            Step::SetClusterId { .. } => "set-cluster-id",
            Step::DisableUnit { .. } => "disable-unit",
            Step::RemoveReconfiguration => "remove-reconfiguration",
        }
    }
}
