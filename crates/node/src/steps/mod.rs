//! The steps, written against the ports: how each one is looked for, done and made durable.
//!
//! A step makes no choices: what it needs to know stands in it. One that seems to need an `if` wants a better plan.

mod boot;
mod cleanup;
mod fallback;
mod first_boot;
mod handover;
mod pins;
mod precache;
mod removal;
mod seed;
mod stateroot;
mod verdict;

pub(crate) use boot::release_or_go_on;
pub(crate) use fallback::can_declare;
pub use first_boot::{document, seed_info};
pub(crate) use pins::unpinned;
pub use stateroot::VAR_UNPACKED;
pub(crate) use stateroot::is_ours;
pub(crate) use verdict::monitor_armed;

use engine::{Presence, Progress, StepContext, StepError, Unit, Work};
use planner::{ErrorKind, Step};

use crate::ports::{FetchRequest, Ports, PullSecret, RegistryChange, Reserved, Root, Watch};
use crate::{PortError, PortResult, evidence};

/// Of a step that does nothing but wait for something outside of the agent: how long, at most, it does not notice that it has
/// come, in whole seconds.
pub(crate) fn awaits(step: &str) -> Option<u64> {
    match step {
        "await-api" => Some(first_boot::API_AGAIN / 1000),
        "await-node-address" => Some(first_boot::network::ADDRESS_AGAIN / 1000),
        _ => None,
    }
}

/// The steps of this program on one node.
#[derive(Clone, Copy)]
pub struct NodeWork<'a> {
    ports: Ports<'a>,
}

impl<'a> NodeWork<'a> {
    /// Steps that act through these ports.
    pub fn new(ports: Ports<'a>) -> Self {
        Self { ports }
    }
}

impl Work for NodeWork<'_> {
    type Step = Step;
    type Kind = ErrorKind;

    fn name(step: &Step) -> &'static str {
        step.name()
    }

    fn probe(
        &mut self,
        step: &Step,
        _context: &StepContext<'_>,
    ) -> Result<Presence, StepError<ErrorKind>> {
        let present = probe(&self.ports, step).map_err(step_error)?;
        Ok(if present {
            Presence::Present
        } else {
            Presence::Absent
        })
    }

    fn apply(
        &mut self,
        step: &Step,
        context: &StepContext<'_>,
    ) -> Result<(), StepError<ErrorKind>> {
        apply(&self.ports, step, context).map_err(step_error)
    }

    fn settle(
        &mut self,
        step: &Step,
        _context: &StepContext<'_>,
    ) -> Result<(), StepError<ErrorKind>> {
        settle(&self.ports, step).map_err(step_error)
    }
}

fn step_error(error: PortError) -> StepError<ErrorKind> {
    StepError::new(error.kind(), error)
}

/// Whether the step's whole effect is there. A step whose effect cannot be told apart from half of it answers no: doing it
/// again is harmless.
fn probe(ports: &Ports<'_>, step: &Step) -> PortResult<bool> {
    match step {
        Step::ResolveSeed { image, .. } => seed::resolved(ports, image),
        Step::VerifySignature { pin, keys, .. } => seed::verified(ports, pin, keys),
        Step::ReserveSpace { sysroot, boot } => {
            let reserved = ports.machine.reserved()?;
            Ok(reserved.sysroot >= Some(*sysroot) && reserved.boot >= Some(*boot))
        }
        Step::ReleaseSpace { .. } => Ok(ports.machine.reserved()? == Reserved::default()),
        Step::FetchSeed { pin, .. } => seed::fetched(ports, pin),
        Step::ClearStateroot { stateroot, seed } => stateroot::clear(ports, stateroot, seed),
        Step::EnsureStateroot { stateroot, seed } => stateroot::claimed(ports, stateroot, seed),
        Step::ImportCommit { commit, .. } => ports.ostree.is_imported(commit),
        Step::DeployStateroot {
            stateroot,
            commit,
            kernel_arguments,
            ..
        } => stateroot::deployed(ports, stateroot, commit, kernel_arguments),
        Step::UnpackVar { pin, stateroot } => {
            stateroot::unpacked(ports, stateroot::VAR_UNPACKED, pin, stateroot)
        }
        Step::UnpackEtc { pin, stateroot } => {
            stateroot::unpacked(ports, stateroot::ETC_UNPACKED, pin, stateroot)
        }
        Step::EnsureBootUnit { target } => fallback::has_unit(ports, target),
        Step::SetDefault { deployment } => boot::is_default(ports, deployment),
        Step::Reboot { boot_id, .. } => Ok(ports.clock.boot_id().0 != *boot_id),
        Step::UndeployStateroot { stateroot } => removal::undeployed(ports, stateroot),
        Step::RemoveStateroot { stateroot } => removal::removed(ports, stateroot),
        // Made durable before kubelet was started; from then on others keep these files.
        Step::HoldUnit { .. }
        | Step::AuthorizeSshKeys
        | Step::WritePullSecret
        | Step::RestoreConnections
        | Step::ApplyNetworkState
        | Step::WriteNodeIpHint { .. }
        | Step::AwaitNodeAddress
        | Step::WriteDnsOverrides { .. }
        | Step::TrustAuthorities
        | Step::WriteChronyConfig
        | Step::WriteServerKeys
        | Step::RestoreLvmDevices => first_boot::has_started(ports),
        Step::StartUnit { unit } => {
            Ok(first_boot::has_started(ports)? && ports.units.enabled(unit)?)
        }
        Step::RemoveMirrors => first_boot::cluster::has_removed_mirrors(ports),
        Step::SetHostname { hostname } => Ok(ports.units.hostname()? == *hostname),
        Step::SetClusterId { cluster_id } => Ok(ports.cluster.cluster_id()? == *cluster_id),
        Step::AwaitApi => Ok(ports.cluster.ready()),
        Step::UnpinImages => pins::unpinned(ports),
        Step::DisableUnit { unit } => Ok(!ports.units.enabled(unit)?),
        Step::RecordVerdict { outcome, .. } => crate::verdict::agrees(ports, *outcome),
        Step::TellOrigin { origin, target, .. } => verdict::told(ports, origin, target),
        Step::SealEvidence {
            target, boot_id, ..
        } => Ok(evidence::is_sealed(ports, target, boot_id.as_deref())),
        Step::DisarmMonitor { unit } => verdict::disarmed(ports, unit),
        Step::RecordTarget { .. }
        | Step::CleanImages { .. }
        | Step::PinImages { .. }
        | Step::PrecacheImages { .. }
        | Step::CheckTarget { .. }
        | Step::ExportConfiguration { .. }
        | Step::WriteRollbackConfig { .. }
        | Step::SaveOriginCopy { .. }
        | Step::SaveHandover { .. }
        | Step::SyncStateroots { .. }
        | Step::ArmFallback { .. }
        | Step::RefillFallback
        | Step::DisarmFallback { .. }
        | Step::PruneRepository
        | Step::DiscardSeed
        | Step::RemoveRecords
        | Step::SignalReady
        | Step::ConfigureCluster
        | Step::ApplyManifests
        | Step::SetReleaseRegistry { .. }
        | Step::SetNodeLabels { .. }
        | Step::RemoveReconfiguration => Ok(false),
    }
}

fn apply(ports: &Ports<'_>, step: &Step, context: &StepContext<'_>) -> PortResult<()> {
    let bytes = Told {
        context,
        unit: Unit::Bytes,
    };
    let items = Told {
        context,
        unit: Unit::Items,
    };
    match step {
        Step::ResolveSeed { image, pull_secret } => {
            seed::resolve(ports, image, pull_secret.as_deref(), &items)
        }
        Step::VerifySignature {
            pin,
            pull_secret,
            keys,
        } => seed::verify(ports, pin, keys, pull_secret.as_deref(), &items),
        Step::ReserveSpace { sysroot, boot } => ports.machine.reserve(*sysroot, *boot),
        Step::ReleaseSpace { may_fail: false } => ports.machine.release(),
        Step::ReleaseSpace { may_fail: true } => release_or_go_on(ports.machine),
        Step::FetchSeed {
            pin,
            pull_secret,
            stateroot,
            spool,
            limits,
        } => {
            let request = FetchRequest {
                pin: pin.clone(),
                stateroot: stateroot.clone(),
                spool: *spool,
                limits: *limits,
            };
            seed::fetch(ports, &request, pull_secret.as_deref(), &bytes)
        }
        Step::ClearStateroot { stateroot, .. } => removal::clear(ports, stateroot, &items),
        Step::EnsureStateroot { stateroot, seed } => stateroot::ensure(ports, stateroot, seed),
        Step::ImportCommit { pin, commit } => ports.seeds.import_commit(pin, commit, &bytes),
        Step::DeployStateroot {
            stateroot,
            commit,
            kernel_arguments,
            origin,
        } => stateroot::deploy(ports, stateroot, commit, kernel_arguments, origin),
        Step::UnpackVar { pin, stateroot } => ports.seeds.unpack_var(pin, stateroot, &bytes),
        Step::UnpackEtc { pin, stateroot } => {
            let deployment = stateroot::deployment(ports, stateroot)?;
            ports.seeds.unpack_etc(pin, &deployment, &bytes)
        }
        Step::RecordTarget { record } => stateroot::record(ports, record),
        Step::CleanImages { cleanup, keep } => cleanup::clean(ports, cleanup, keep, context),
        Step::PinImages { images, stateroot } => pins::pin(ports, images, stateroot),
        Step::UnpinImages => pins::unpin(ports),
        Step::PrecacheImages { images, policy } => precache::pull(ports, images, *policy, context),
        Step::CheckTarget { target, monitored } => handover::check(ports, target, *monitored),
        Step::ExportConfiguration { stateroot } => handover::export(ports, stateroot),
        Step::WriteRollbackConfig { stateroot, config } => {
            handover::rollback_config(ports, stateroot, config)
        }
        Step::SaveOriginCopy { stamp } => handover::save_origin_copy(ports, stamp),
        Step::SaveHandover { stateroot, stamp } => handover::save(ports, stateroot, stamp),
        Step::RecordVerdict {
            outcome,
            judge,
            reason,
        } => verdict::record(ports, *outcome, *judge, reason),
        Step::TellOrigin {
            origin,
            target,
            reason,
        } => verdict::tell_origin(ports, origin, target, reason),
        Step::SealEvidence {
            target,
            boot_id,
            reason,
        } => {
            evidence::seal_or_tell(ports, target, boot_id.as_deref(), reason);
            Ok(())
        }
        Step::DisarmMonitor { unit } => verdict::disarm(ports, unit),
        Step::SyncStateroots { stateroots, shared } => boot::sync(ports, stateroots, *shared),
        Step::EnsureBootUnit { target } => fallback::add_unit(ports, target),
        Step::ArmFallback {
            origin,
            target,
            attempts,
            boot_id,
        } => fallback::arm(ports, origin, target, *attempts, boot_id),
        Step::RefillFallback => fallback::refill(ports),
        Step::DisarmFallback { may_fail } => fallback::disarm(ports, *may_fail),
        Step::SetDefault { deployment } => ports.ostree.set_default(deployment),
        Step::Reboot {
            reason, otherwise, ..
        } => boot::reboot(ports, reason, otherwise.as_ref()),
        Step::UndeployStateroot { stateroot } => removal::undeploy(ports, stateroot),
        Step::RemoveStateroot { stateroot } => ports.ostree.remove_stateroot(stateroot, &items),
        Step::PruneRepository => ports.ostree.prune(),
        Step::DiscardSeed => ports.seeds.discard(),
        Step::RemoveRecords => removal::remove_records(ports),
        Step::HoldUnit { unit } => first_boot::hold(ports, unit),
        Step::AuthorizeSshKeys => first_boot::host_files::authorize_ssh_keys(ports),
        Step::RestoreConnections => first_boot::network::restore_connections(ports),
        Step::ApplyNetworkState => first_boot::network::apply_state(ports),
        Step::SetHostname { hostname } => ports.units.set_hostname(hostname),
        Step::WritePullSecret => first_boot::host_files::write_pull_secret(ports),
        Step::WriteNodeIpHint { addresses } => {
            first_boot::network::write_node_ip_hint(ports, addresses)
        }
        Step::AwaitNodeAddress => first_boot::network::await_address(ports, context),
        Step::WriteDnsOverrides {
            cluster_name,
            base_domain,
            address,
        } => first_boot::network::write_dns_overrides(
            ports,
            cluster_name,
            base_domain,
            address.as_deref(),
        ),
        Step::TrustAuthorities => first_boot::host_files::trust_authorities(ports),
        Step::WriteChronyConfig => first_boot::host_files::write_chrony_config(ports),
        Step::WriteServerKeys => first_boot::host_files::write_server_keys(ports),
        Step::RestoreLvmDevices => first_boot::host_files::restore_lvm_devices(ports),
        Step::SignalReady => ports.units.notify_ready(&format!(
            "waiting for the API server; {}",
            api::message::SEED_CRYPTO_KEPT
        )),
        Step::StartUnit { unit } => first_boot::start_unit(ports, unit),
        Step::AwaitApi => first_boot::await_api(ports, context),
        Step::ConfigureCluster => first_boot::cluster::configure(ports),
        Step::RemoveMirrors => first_boot::cluster::remove_mirrors(ports),
        Step::ApplyManifests => first_boot::cluster::apply_manifests(ports, context),
        Step::SetReleaseRegistry {
            seed,
            mirrored,
            site,
        } => ports.cluster.set_release_registry(&RegistryChange {
            seed: seed.clone(),
            mirrored: *mirrored,
            site: site.clone(),
        }),
        Step::SetNodeLabels { node, labels } => ports.cluster.label_node(node, labels),
        Step::SetClusterId { cluster_id } => ports.cluster.set_cluster_id(cluster_id),
        Step::DisableUnit { unit } => ports.units.disable(unit),
        Step::RemoveReconfiguration => first_boot::remove_reconfiguration(ports),
    }
}

/// Makes a step's effect durable where the port's call does not say that it is already.
fn settle(ports: &Ports<'_>, step: &Step) -> PortResult<()> {
    match step {
        Step::UnpackVar { pin, stateroot } => {
            stateroot::mark_unpacked(ports, stateroot::VAR_UNPACKED, pin, stateroot)
        }
        Step::UnpackEtc { pin, stateroot } => {
            stateroot::mark_unpacked(ports, stateroot::ETC_UNPACKED, pin, stateroot)
        }
        Step::StartUnit { .. } => {
            ports.files.sync(&Root::Booted)?;
            first_boot::mark_started(ports)
        }
        Step::RemoveMirrors => first_boot::cluster::mark_removed_mirrors(ports),
        // What a removal left in the page cache only would be there again after a power cut, when nobody looks for it any more.
        Step::SetHostname { .. }
        | Step::TrustAuthorities
        | Step::DisableUnit { .. }
        | Step::DisarmMonitor { .. }
        | Step::ClearStateroot { .. }
        | Step::ImportCommit { .. }
        | Step::UndeployStateroot { .. }
        | Step::RemoveStateroot { .. }
        | Step::PruneRepository => ports.files.sync(&Root::Booted),
        Step::SealEvidence { .. } => {
            evidence::tidy_or_tell(ports.files);
            Ok(())
        }
        Step::RecordVerdict { .. } => {
            let found = crate::verdict::read_own(ports)?;
            crate::verdict::settle(ports, &found)
        }
        Step::CleanImages { .. } | Step::PrecacheImages { .. } | Step::DiscardSeed => {
            ports.files.sync(&Root::Shared)
        }
        _ => Ok(()),
    }
}

/// A port's watch that tells the run's readers and obeys the run's stop.
struct Told<'a, 'c> {
    context: &'a StepContext<'c>,
    unit: Unit,
}

impl Watch for Told<'_, '_> {
    fn progress(&self, done: u64, total: Option<u64>, object: &str) -> bool {
        let object = object.to_owned();
        self.context.progress(Progress {
            done,
            total,
            unit: self.unit,
            object,
        });
        !self.context.stopped()
    }
}

/// Credentials: of a Secret where one is named, else the node's own.
fn credentials(ports: &Ports<'_>, secret: Option<&str>) -> PortResult<PullSecret> {
    if let Some(name) = secret {
        return ports.cluster.pull_secret(name);
    }
    let path = crate::ports::NodePath::booted(api::path::PULL_SECRET);
    let content = ports.files.read(&path, 1 << 20)?;
    content.map(PullSecret).ok_or_else(|| {
        PortError::plain(
            ErrorKind::Permanent,
            format!("the node has no pull secret at {path}"),
        )
    })
}
