//! Prep: inspect the seed, fetch it, install it as a stateroot, precache its images. Each part is a plan of its own, so
//! that every plan is complete when it starts.

use api::configuration::PublicKey;
use api::{ImageBasedUpgradeSpec, ImageRef, OcpVersion, Phase, StaterootName, message, names};

use crate::check::{self, Moment, Subject};
use crate::cleanup::ImageCleanup;
use crate::decide::{Act, Decision, Pending, Why, noted, pending};
use crate::facts::{
    ClusterFacts, ClusterKnowledge, Facts, RunFact, SeedContent, SeedPin, TargetRecord,
};
use crate::failure::{Disposition, disposition};
use crate::image_facts::PrecachePolicy;
use crate::kernel_arguments::rebooting;
use crate::limits::{FetchLimits, Limits};
use crate::peer;
use crate::precache_list;
use crate::state::State;
use crate::step::{BOOT_RESERVE, Plan, PlanName, SYSROOT_RESERVE, Step};
use crate::upgrade::HEALTH_AGAIN;

const PLANS: [PlanName; 5] = [
    PlanName::InspectSeed,
    PlanName::VerifySeed,
    PlanName::FetchSeed,
    PlanName::InstallStateroot,
    PlanName::Precache,
];

/// Seconds until limits that cannot be kept are looked at again; a correction of the upgrade object is seen at once.
const CORRECTION_AGAIN: u64 = 20;

/// What the user does about a failed Prep.
const NEXT: &str = "request stage Idle, correct it and request Prep again";

/// What the user asked for, validated.
struct Wanted {
    image: ImageRef,
    pull_secret: Option<String>,
    version: OcpVersion,
    stateroot: StaterootName,
}

pub(crate) fn decide(spec: &ImageBasedUpgradeSpec, facts: &Facts) -> Decision {
    let state = State::PrepInProgress;
    let fail = |message: String| Decision::record(State::PrepFailed, facts.side, message);
    let target = facts
        .target
        .as_ref()
        .filter(|target| is_for(target, spec, facts));
    let phase = if target.is_some() {
        Phase::Precache
    } else {
        Phase::Stateroot
    };
    let usual = match phase {
        Phase::Precache => message::precache_in_progress(names::NAMESPACE, ""),
        _ => message::stateroot_in_progress(names::NAMESPACE),
    };
    let usual = usual.trim_end_matches([' ', '.']).to_owned();
    let usual = match (phase, &facts.images.tally) {
        (Phase::Precache, Some(tally)) => noted(&usual, &tally.to_string()),
        _ => usual,
    };
    match pending(&facts.run, &PLANS) {
        Pending::Failed(error) => return fail(failed_work(&facts.run, &error)),
        Pending::Wait { why, note, again } => {
            let mut decision =
                Decision::stay(state, facts.side, noted(&usual, &note), Act::Wait(why))
                    .within(phase);
            decision.look_again = again;
            return decision;
        }
        Pending::Free => {}
    }
    if let Some(target) = target.filter(|target| target.precached) {
        debug_assert!(target.deployment.is_some());
        let mut decision =
            Decision::record(State::PrepCompleted, facts.side, message::PREP_SUCCEEDED);
        let tally = facts.images.tally.as_ref().map(ToString::to_string);
        decision.said.work = tally.map(|tally| format!("{}: {tally}", message::PREP_COMPLETED));
        return decision;
    }
    let cluster = match &facts.cluster {
        ClusterKnowledge::Known(cluster) => cluster,
        ClusterKnowledge::NotAsked => {
            return Decision::stay(state, facts.side, usual, Act::Wait(Why::Cluster))
                .within(phase)
                .again(1);
        }
        ClusterKnowledge::Unknown { kind, error } => {
            return match disposition(*kind, 1) {
                Disposition::Fail => fail(format!("{}{error}", message::INVALID_SPEC_PREFIX)),
                _ => {
                    let note = format!("Waiting for the API server: {error}");
                    Decision::stay(
                        state,
                        facts.side,
                        noted(&usual, &note),
                        Act::Wait(Why::Cluster),
                    )
                    .within(phase)
                    .again(2)
                }
            };
        }
    };
    let subject = Subject::of(spec, facts);
    // Only before the work has begun: what is under way is not held up by an operator that flaps.
    let begun = subject.pin.is_ok() || facts.target.is_some();
    if !begun && let Some(decision) = peer::before_the_first_run(facts) {
        return decision;
    }
    if !begun && let Some(unhealthy) = check::unhealthy(&cluster.health) {
        let text = format!("{}{}", message::WAIT_BEFORE_PREP_PREFIX, unhealthy.text);
        return Decision::stay(state, facts.side, text, Act::Wait(Why::Cluster))
            .within(phase)
            .again(HEALTH_AGAIN);
    }
    let limits = match check::limits_to_plan_with(&subject) {
        Err(error) if begun => {
            // What is done already is kept; a failure would end in Idle, which removes it.
            let note = format!("Waiting for a correction: {error}");
            return Decision::stay(
                state,
                facts.side,
                noted(&usual, &note),
                Act::Wait(Why::Cluster),
            )
            .within(phase)
            .again(CORRECTION_AGAIN);
        }
        // Before the work has begun, it is the row of the table that says so.
        limits => limits,
    };
    match next_plan(spec, &subject, facts, cluster, limits) {
        Ok(plan) => Decision::stay(state, facts.side, usual, Act::Run(plan)).within(phase),
        Err(message) => fail(message),
    }
}

/// Whether the recorded target was made from what is asked for now; a record that an upgrade of another seed left does not
/// count.
fn is_for(target: &TargetRecord, spec: &ImageBasedUpgradeSpec, facts: &Facts) -> bool {
    let image = spec.seed_image_ref.as_ref().map_or("", |seed| &seed.image);
    let pinned = facts
        .pin
        .as_ref()
        .filter(|pin| image.parse().is_ok_and(|wanted| pin.image == wanted));
    pinned.is_some_and(|pin| pin.digest == target.seed) && target.version == spec.seed_version()
}

/// The failed part's text (contract 3.1 and 3.3), why, and what to do.
fn failed_work(run: &RunFact, error: &str) -> String {
    let plan = match run {
        RunFact::Failed { plan, .. } => *plan,
        _ => PlanName::InstallStateroot,
    };
    let text = match plan {
        PlanName::InspectSeed => format!(
            "{}{}{error}",
            message::INVALID_SEED_PREFIX,
            message::SEED_LABELS_PREFIX
        ),
        PlanName::VerifySeed => format!("{}{error}", message::INVALID_SEED_PREFIX),
        PlanName::FetchSeed => noted(
            &message::stateroot_failed(names::NAMESPACE),
            &format!("{}{error}", message::PULL_SEED_PREFIX),
        ),
        PlanName::Precache => noted(&message::precache_failed(names::NAMESPACE), error),
        _ => noted(&message::stateroot_failed(names::NAMESPACE), error),
    };
    format!("{text}; {NEXT}")
}

/// The next part of Prep, or why there is none: the first failed check that blocks.
fn next_plan(
    spec: &ImageBasedUpgradeSpec,
    subject: &Subject<'_>,
    facts: &Facts,
    cluster: &ClusterFacts,
    limits: Result<Limits, String>,
) -> Result<Plan, String> {
    check::first_blocker(subject, Moment::BeforeResolve)?;
    let limits = limits?;
    let wanted = wanted(spec)?;
    let Ok(pin) = subject.pin else {
        return Ok(inspect(&wanted));
    };
    check::first_blocker(subject, Moment::AfterResolve)?;
    if let Some(keys) = check::keys_to_verify_with(subject) {
        return Ok(verify(&wanted, pin, keys));
    }
    let Some(content) = subject.content else {
        check::first_blocker(subject, Moment::BeforeFetch)?;
        let spool = check::spools(subject);
        return Ok(fetch(&wanted, pin, facts, spool, limits.fetch));
    };
    check::first_blocker(subject, Moment::AfterContent)?;
    match facts
        .target
        .as_ref()
        .filter(|target| target.seed == pin.digest && target.deployment.is_some())
    {
        None => Ok(install(&wanted, pin, content)),
        Some(target) => Ok(precache(target, content, cluster, facts, limits.precache)),
    }
}

/// What the checks have found to make sense.
fn wanted(spec: &ImageBasedUpgradeSpec) -> Result<Wanted, String> {
    let seed = spec.seed_image_ref.clone().unwrap_or_default();
    let nonsense =
        |error: &dyn std::fmt::Display| format!("{}{error}: {NEXT}", message::INVALID_SPEC_PREFIX);
    let image: ImageRef = seed.image.parse().map_err(|error| {
        let error: api::image::InvalidImageRef = error;
        nonsense(&error)
    })?;
    let version: OcpVersion = seed.version.parse().map_err(|error| {
        let error: api::version::InvalidVersion = error;
        nonsense(&error)
    })?;
    Ok(Wanted {
        image,
        pull_secret: seed.pull_secret_ref.map(|secret| secret.name),
        stateroot: StaterootName::for_version(&version),
        version,
    })
}

fn inspect(wanted: &Wanted) -> Plan {
    Plan {
        name: PlanName::InspectSeed,
        steps: vec![Step::ResolveSeed {
            image: wanted.image.clone(),
            pull_secret: wanted.pull_secret.clone(),
        }],
    }
}

fn verify(wanted: &Wanted, pin: &SeedPin, keys: Vec<PublicKey>) -> Plan {
    Plan {
        name: PlanName::VerifySeed,
        steps: vec![Step::VerifySignature {
            pin: pin.clone(),
            pull_secret: wanted.pull_secret.clone(),
            keys,
        }],
    }
}

fn fetch(wanted: &Wanted, pin: &SeedPin, facts: &Facts, spool: bool, limits: FetchLimits) -> Plan {
    // Room for the seed first; what it wants precached is not known yet.
    let mut steps = clean(facts, &[]);
    steps.extend([
        Step::ReserveSpace {
            sysroot: SYSROOT_RESERVE,
            boot: BOOT_RESERVE,
        },
        // The seed is unpacked while it arrives: its stateroot is there first.
        Step::ClearStateroot {
            stateroot: wanted.stateroot.clone(),
            seed: pin.digest.clone(),
        },
        Step::EnsureStateroot {
            stateroot: wanted.stateroot.clone(),
            seed: pin.digest.clone(),
        },
        Step::FetchSeed {
            pin: pin.clone(),
            pull_secret: wanted.pull_secret.clone(),
            stateroot: wanted.stateroot.clone(),
            spool,
            limits,
        },
    ]);
    Plan {
        name: PlanName::FetchSeed,
        steps,
    }
}

fn install(wanted: &Wanted, pin: &SeedPin, content: &SeedContent) -> Plan {
    let stateroot = wanted.stateroot.clone();
    let record = TargetRecord {
        stateroot: stateroot.clone(),
        deployment: None,
        version: wanted.version.as_str().to_owned(),
        seed: pin.digest.clone(),
        precached: false,
    };
    // Makes the boot entry unique even where both releases share the commit (contract 4.2, step 9).
    let mut kernel_arguments = vec![format!("ibu={}", wanted.version)];
    kernel_arguments.extend(rebooting(&content.kernel_arguments));
    Plan {
        name: PlanName::InstallStateroot,
        steps: vec![
            Step::ClearStateroot {
                stateroot: stateroot.clone(),
                seed: pin.digest.clone(),
            },
            Step::ImportCommit {
                pin: pin.clone(),
                commit: content.commit.clone(),
            },
            Step::EnsureStateroot {
                stateroot: stateroot.clone(),
                seed: pin.digest.clone(),
            },
            Step::DeployStateroot {
                stateroot: stateroot.clone(),
                commit: content.commit.clone(),
                kernel_arguments,
                origin: content.origin.clone(),
            },
            Step::UnpackVar {
                pin: pin.clone(),
                stateroot: stateroot.clone(),
            },
            Step::UnpackEtc {
                pin: pin.clone(),
                stateroot: stateroot.clone(),
            },
            Step::SyncStateroots {
                stateroots: vec![stateroot],
                shared: true,
            },
            Step::RecordTarget { record },
        ],
    }
}

/// The clean-up of container storage, unless the user does not want it.
fn clean(facts: &Facts, keep: &[String]) -> Vec<Step> {
    match &facts.images.cleanup {
        ImageCleanup::Disabled => Vec::new(),
        cleanup => vec![Step::CleanImages {
            cleanup: cleanup.clone(),
            keep: keep.to_vec(),
        }],
    }
}

fn precache(
    target: &TargetRecord,
    content: &SeedContent,
    cluster: &ClusterFacts,
    facts: &Facts,
    policy: PrecachePolicy,
) -> Plan {
    let images = precache_list::images(content, cluster);
    // Once more: the seed and its stateroot have taken space since, and now it is known what must stay.
    let mut steps = clean(facts, &images);
    steps.extend([
        // Before the first one is pulled: the garbage collector does not wait.
        Step::PinImages {
            images: images.clone(),
            stateroot: target.stateroot.clone(),
        },
        Step::PrecacheImages { images, policy },
        Step::RecordTarget {
            record: TargetRecord {
                precached: true,
                ..target.clone()
            },
        },
    ]);
    Plan {
        name: PlanName::Precache,
        steps,
    }
}
