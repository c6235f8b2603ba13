//! Looking at the node and the cluster: the facts of one pass.

use api::network_limits::NetworkLimits;
use api::rollback_config::RollbackConfig;
use api::{
    DeploymentId, HandoverStamp, ImageBasedUpgrade, OcpVersion, Stage, StaterootName, Timestamp,
    annotation,
};
use engine::RunView;
use planner::{
    ClusterKnowledge, ErrorKind, Facts, FailedBoot, FallbackState, ImageCleanup, ImageFacts,
    NodeKnowledge, Peer, PlanName, PostPivot, PrecachePolicy, PrecacheRecord, RunFact, SeedContent,
    SeedPin, Side, State, TargetRecord, Told, VerdictFact,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ports::{Deployment, NodePath, Ports, Reserved, UnitState};
use crate::record::{self, Record};
use crate::{PortError, PortResult, evidence, steps, verdict, way_back};

/// Directories of the upgrade in the booted stateroot and the shared partition: what Idle removes.
const LEFTOVERS: [&str; 2] = [api::path::WORKSPACE, api::path::SAVED_IBU];

/// Observes what a decision in `state` looks at. Fails only where the node's own files cannot be read; what else
/// is not known is a fact too.
pub fn observe(
    ports: &Ports<'_>,
    ibu: &ImageBasedUpgrade,
    state: State,
    run: RunFact,
    run_id: String,
    cluster: ClusterKnowledge,
) -> PortResult<Facts> {
    let deployments = ports.ostree.deployments();
    let booted = match &deployments {
        Ok(deployments) => only_booted(deployments).map_err(|error| engine::error_chain(&error)),
        Err(error) => Err(engine::error_chain(error)),
    };
    let deployments = deployments.unwrap_or_default();
    let handover: Option<HandoverStamp> = tolerant(record::read(ports.files, Record::Handover))?;
    let target: Option<TargetRecord> = tolerant(record::read(ports.files, Record::Target))?;
    let side = side(
        booted.as_ref().ok(),
        handover.as_ref(),
        target.as_ref(),
        ibu,
    );
    let origin = origin(
        ports,
        state,
        side,
        booted.as_ref().ok(),
        handover.as_ref(),
        &deployments,
    )?;
    let removable = removable(
        ports,
        booted.as_ref().ok(),
        origin.as_ref(),
        handover.as_ref(),
        target.as_ref(),
        side,
    )?;
    let in_prep = state == State::PrepInProgress;
    let pin = if in_prep {
        tolerant(record::read::<SeedPin>(ports.files, Record::SeedPin))?
    } else {
        None
    };
    let reserved = ports.machine.reserved()?;
    let prepared = target.as_ref().is_some_and(|target| target.precached);
    let node = match (&run, &cluster) {
        // Nobody decides anything by it while a run is under way, before the cluster has answered, or when everything is
        // done.
        (RunFact::Running { .. }, _) => NodeKnowledge::NotLooked,
        (_, ClusterKnowledge::Known(_)) if in_prep && !prepared => look(ports, pin.as_ref()),
        _ => NodeKnowledge::NotLooked,
    };
    let returned = state == State::UpgradeInProgress
        && side == Side::Origin
        && target
            .as_ref()
            .map_or(Ok(false), |target| was_booted(ports, &target.stateroot))?;
    let failed_boot = if state == State::UpgradeInProgress && side == Side::Origin {
        failed_boot(ports, target.as_ref())?
    } else {
        None
    };
    let evidence = evidence::fact(
        ports,
        state,
        side,
        booted.as_ref().ok(),
        handover.as_ref(),
        target.as_ref(),
    );
    let begun = pin.is_some() || target.is_some();
    let peer = peer(ports, ibu, state, begun);
    let fallback = fallback(ports, state, side, booted.as_ref().ok(), target.as_ref())?;
    let prepared_target = target
        .as_ref()
        .and_then(|target| target.deployment.as_ref());
    let foreign_target = match prepared_target {
        Some(target)
            if matches!(state, State::UpgradeInProgress | State::UpgradeFailed)
                && side == Side::Origin =>
        {
            !steps::can_declare(ports, target)?
        }
        _ => false,
    };
    let verdict = match (side, &target) {
        (Side::Target, _) => {
            let found = verdict::read_own(ports)?;
            if matches!(state, State::UpgradeInProgress | State::UpgradeFailed) {
                verdict::settle(ports, &found)?;
            }
            found
        }
        (Side::Origin, Some(target))
            if returned
                || state == State::UpgradeFailed
                    && deployments
                        .first()
                        .is_some_and(|first| first.id.stateroot == target.stateroot) =>
        {
            let path = NodePath::in_stateroot(&target.stateroot, api::path::VERDICT);
            verdict::read(ports.files, &path)?
        }
        (Side::Origin, _) => VerdictFact::None,
    };
    Ok(Facts {
        verdict,
        foreign_target,
        returns: ibu
            .metadata
            .annotations
            .get(annotation::AUTO_ROLLBACK_UPGRADE_COMPLETION)
            .is_none_or(|value| value != annotation::DISABLED),
        monitor_armed: side == Side::Target
            && state == State::UpgradeCompleted
            && steps::monitor_armed(ports),
        rollback_until: match &origin {
            Some(origin) if side == Side::Target && tells_expiry(state) => {
                rollback_until(ports, origin)
            }
            _ => None,
        },
        now: Timestamp::from_unix(ports.clock.now()),
        boot_id: ports.clock.boot_id().0,
        run_id,
        default: deployments.first().map(|first| first.id.clone()),
        side,
        origin,
        pin,
        content: if in_prep {
            tolerant(record::read::<SeedContent>(
                ports.files,
                Record::SeedContent,
            ))?
        } else {
            None
        },
        leftovers: !removable.is_empty() || reserved != Reserved::default() || leftovers(ports)?,
        reserved: reserved.sysroot >= Some(planner::SYSROOT_RESERVE)
            && reserved.boot >= Some(planner::BOOT_RESERVE),
        node,
        peer,
        removable,
        target,
        cluster,
        run,
        post_pivot: if state == State::UpgradeInProgress && side == Side::Target {
            post_pivot(ports)
        } else {
            PostPivot::Finished
        },
        returned,
        failed_boot,
        evidence,
        fallback,
        cleanup_now: ibu
            .metadata
            .annotations
            .contains_key(annotation::MANUAL_CLEANUP_DONE),
        images: ImageFacts {
            cleanup: ImageCleanup::for_upgrade(ibu),
            policy: PrecachePolicy::default(),
            tally: if in_prep {
                tolerant(record::read::<PrecacheRecord>(
                    ports.files,
                    Record::Precache,
                ))?
                .map(|record| record.tally)
            } else {
                None
            },
        },
        limits: NetworkLimits::of_annotations(&ibu.metadata.annotations)
            .map_err(|error| error.to_string()),
        rollback_config: RollbackConfig::for_upgrade(ibu),
        booted,
    })
}

/// The other flow, where this one is asked to leave Idle, and where it has but no work has begun. Asked live and within the pass: an
/// answer from before may be older than that flow's start.
fn peer(ports: &Ports<'_>, ibu: &ImageBasedUpgrade, state: State, begun: bool) -> Peer {
    let idles = matches!(ibu.spec.stage(), Ok(None | Some(Stage::Idle)));
    let leaving = state == State::Idle || state == State::PrepInProgress && !begun;
    if !leaving || idles {
        return Peer::NotLooked;
    }
    match ports.cluster.ip_config() {
        Ok(found) => Peer::Known(found.map(Box::new)),
        Err(error) => Peer::Unknown(engine::error_chain(&error)),
    }
}

/// The release that the boot loader returned from, if it is the one that this upgrade made.
pub(crate) fn failed_boot(
    ports: &Ports<'_>,
    target: Option<&TargetRecord>,
) -> PortResult<Option<FailedBoot>> {
    let failed: Option<FailedBoot> = tolerant(record::read(ports.files, Record::FailedBoot))?;
    let is_ours = |failed: &FailedBoot| {
        target.is_some_and(|target| target.stateroot == failed.target.stateroot)
    };
    Ok(failed.filter(is_ours))
}

/// The boot loader's way back where a decision is made by it: before a pivot, and where nothing shall stay armed.
fn fallback(
    ports: &Ports<'_>,
    state: State,
    side: Side,
    booted: Option<&DeploymentId>,
    target: Option<&TargetRecord>,
) -> PortResult<FallbackState> {
    let before = state == State::UpgradeInProgress && side == Side::Origin;
    let ended = matches!(
        (state, side),
        (State::UpgradeCompleted, Side::Target) | (State::UpgradeFailed, Side::Origin)
    );
    if !before && !ended {
        return Ok(FallbackState::None("nobody has looked".to_owned()));
    }
    let look = || -> PortResult<FallbackState> {
        let state = ports.fallback.state()?;
        let target = target.and_then(|target| target.deployment.as_ref());
        let counts = !matches!(state, FallbackState::None(_));
        if let (true, Some(booted), Some(target)) = (before && counts, booted, target) {
            if !steps::can_declare(ports, target)? {
                let text = "the seed has no program that would declare its boots good: ";
                return Ok(FallbackState::None(format!("{text}{}", api::path::PROGRAM)));
            }
            // Whether the entry's name can be told at all.
            ports.ostree.entry_after(target, booted)?;
        }
        Ok(state)
    };
    match look() {
        // A passing failure is no reason to go without.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Permanent | ErrorKind::Contradiction
            ) =>
        {
            Ok(FallbackState::None(engine::error_chain(&error)))
        }
        looked => looked,
    }
}

/// The node as it is now, or why nobody knows.
fn look(ports: &Ports<'_>, pin: Option<&SeedPin>) -> NodeKnowledge {
    match ports.machine.facts(pin) {
        Ok(facts) => NodeKnowledge::Known(Box::new(facts)),
        Err(error) => NodeKnowledge::Unknown(engine::error_chain(&error)),
    }
}

/// Exactly one booted deployment, or why not: what it says is shown to people.
pub(crate) fn only_booted(deployments: &[Deployment]) -> PortResult<DeploymentId> {
    let mut booted = deployments.iter().filter(|found| found.booted);
    let why = match (booted.next(), booted.next()) {
        (Some(only), None) => return Ok(only.id.clone()),
        (None, _) => "no deployment is known to be booted",
        (Some(_), Some(_)) => "more than one deployment is listed as booted",
    };
    Err(PortError::plain(ErrorKind::Transient, why))
}

/// A damaged record counts as none; it was reported where it was read.
fn tolerant<T: DeserializeOwned + Serialize>(read: PortResult<Option<T>>) -> PortResult<Option<T>> {
    match read {
        Err(error) if error.kind() == ErrorKind::Contradiction => {
            tracing::warn!(
                error = engine::error_chain(&error),
                "ignored a damaged record"
            );
            Ok(None)
        }
        other => other,
    }
}

fn side(
    booted: Option<&DeploymentId>,
    handover: Option<&HandoverStamp>,
    target: Option<&TargetRecord>,
    ibu: &ImageBasedUpgrade,
) -> Side {
    let Some(booted) = booted else {
        return Side::Origin;
    };
    // A prepared target lies in the records of its origin only, whatever an earlier pivot left beside it.
    if target.is_some_and(|target| target.stateroot != booted.stateroot) {
        return Side::Origin;
    }
    match handover {
        // Whichever deployment of theirs: their own machine configuration may have made another one.
        Some(stamp) if booted.stateroot == stamp.target.stateroot => return Side::Target,
        Some(stamp) if booted.stateroot == stamp.origin.stateroot => return Side::Origin,
        _ => {}
    }
    // As the Go original has it, for its hand-overs: by the name that the spec's version leads to.
    let named = ibu.spec.seed_version().parse::<OcpVersion>().ok();
    match named.map(|version| StaterootName::for_version(&version)) {
        Some(name) if name == booted.stateroot => Side::Target,
        _ => Side::Origin,
    }
}

/// The recorded origin if it is still deployed. Without a record, and only where an upgrade is known to have led here, what
/// [`way_back::origin`] finds: anywhere else that is somebody else's.
fn origin(
    ports: &Ports<'_>,
    state: State,
    side: Side,
    booted: Option<&DeploymentId>,
    handover: Option<&HandoverStamp>,
    deployments: &[Deployment],
) -> PortResult<Option<DeploymentId>> {
    let Some(booted) = booted else {
        return Ok(None);
    };
    if side == Side::Origin {
        return Ok(Some(booted.clone()));
    }
    if handover.is_none() && !led_here(state) {
        return Ok(None);
    }
    // What finalize has removed is not looked for any more: whatever is the only other one then is somebody else's.
    let guess = !matches!(state, State::Finalizing | State::FinalizeFailed);
    way_back::origin(ports, booted, handover, deployments, guess)
}

/// Positions in which it is told until when the origin can be returned to, or that this time is over.
fn tells_expiry(state: State) -> bool {
    matches!(
        state,
        State::UpgradeInProgress | State::RollbackInProgress | State::RollbackFailed
    )
}

/// Seconds before the first certificate expires from which on a return is not promised any more (contract 5.5).
const EXPIRY_MARGIN: i64 = 30 * 60;

/// `None` where nobody can tell; looked for again in the next pass.
fn rollback_until(ports: &Ports<'_>, origin: &DeploymentId) -> Option<Timestamp> {
    match ports.machine.certificates_until(origin) {
        Ok(Told::Known(end)) => Some(Timestamp::from_unix(end).plus_seconds(-EXPIRY_MARGIN)),
        Ok(Told::Unknown(reason)) => {
            tracing::debug!(reason, %origin, "unable to determine control plane expiry");
            None
        }
        Err(error) => {
            let error = engine::error_chain(&error);
            tracing::debug!(error, %origin, "unable to determine control plane expiry");
            None
        }
    }
}

/// Whether a node on the target's side in this position came here by an upgrade.
fn led_here(state: State) -> bool {
    matches!(
        state,
        State::UpgradeInProgress
            | State::UpgradeFailed
            | State::UpgradeCompleted
            | State::RollbackInProgress
            | State::RollbackFailed
            | State::Finalizing
            | State::FinalizeFailed
            | State::Contradictory
    )
}

fn removable(
    ports: &Ports<'_>,
    booted: Option<&DeploymentId>,
    origin: Option<&DeploymentId>,
    handover: Option<&HandoverStamp>,
    target: Option<&TargetRecord>,
    side: Side,
) -> PortResult<Vec<StaterootName>> {
    let Some(booted) = booted else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for name in ports.ostree.stateroots()? {
        let ours = target.is_some_and(|target| target.stateroot == name)
            || handover.is_some_and(|stamp| {
                stamp.origin.stateroot == name || stamp.target.stateroot == name
            })
            || side == Side::Target && origin.is_some_and(|origin| origin.stateroot == name)
            || steps::is_ours(ports, &name)?;
        if ours && name != booted.stateroot {
            names.push(name);
        }
    }
    Ok(names)
}

fn leftovers(ports: &Ports<'_>) -> PortResult<bool> {
    for path in LEFTOVERS {
        if ports.files.kind(&NodePath::booted(path))?.is_some() {
            return Ok(true);
        }
    }
    for record in [Record::Handover, Record::Fallback, Record::FailedBoot] {
        if ports.files.kind(&record.path())?.is_some() {
            return Ok(true);
        }
    }
    Ok(!steps::unpinned(ports)? || !ports.files.list(&NodePath::shared("seed"))?.is_empty())
}

/// Whether a stateroot was ever booted: seeds come with an empty `/var/log`, and without what our own services write first.
pub(crate) fn was_booted(ports: &Ports<'_>, stateroot: &StaterootName) -> PortResult<bool> {
    for record in [Record::Verdict, Record::InitMonitor] {
        if ports.files.kind(&record.path_in(stateroot))?.is_some() {
            return Ok(true);
        }
    }
    let log = NodePath::in_stateroot(stateroot, "/var/log");
    Ok(!ports.files.list(&log)?.is_empty())
}

/// What the unit of the first boot and its journal say.
fn post_pivot(ports: &Ports<'_>) -> PostPivot {
    match observe_post_pivot(ports) {
        Ok(found) => found,
        Err(error) => PostPivot::Failing {
            error: engine::error_chain(&error),
        },
    }
}

fn observe_post_pivot(ports: &Ports<'_>) -> PortResult<PostPivot> {
    let pending = ports
        .files
        .kind(&NodePath::booted(api::path::RECONFIGURATION))?
        .is_some();
    let state = ports.units.state(api::names::POST_PIVOT_UNIT)?;
    let view = latest_journal(ports)?;
    let error = view
        .as_ref()
        .and_then(|view| view.last_error.as_ref())
        .map(|last| last.error.clone());
    let progress = view
        .as_ref()
        .map(crate::place::describe)
        .unwrap_or_default();
    Ok(match (pending, state, error) {
        (false, UnitState::Inactive | UnitState::Absent, _)
            if !ports.units.enabled(api::names::POST_PIVOT_UNIT)? =>
        {
            PostPivot::Finished
        }
        (_, _, Some(error)) => PostPivot::Failing { error },
        (_, UnitState::Failed, None) => PostPivot::Failing {
            error: format!("{} failed: see its journal", api::names::POST_PIVOT_UNIT),
        },
        _ => PostPivot::Running { progress },
    })
}

/// The newest journal of the first boot's service.
pub(crate) fn latest_journal(ports: &Ports<'_>) -> PortResult<Option<RunView>> {
    let store = crate::JournalFiles::new(ports.files);
    let unreadable = |error: std::io::Error| {
        PortError::new(ErrorKind::Transient, "reading the journals of runs", error)
    };
    for run in engine::JournalStore::list(&store)
        .map_err(unreadable)?
        .iter()
        .rev()
    {
        let bytes = engine::JournalStore::read(&store, run).map_err(unreadable)?;
        let view = bytes.and_then(|bytes| RunView::from_journal(&bytes).ok());
        if let Some(view) = view.filter(|view| view.plan_name == PlanName::Reconfigure.as_str()) {
            return Ok(Some(view));
        }
    }
    Ok(None)
}
