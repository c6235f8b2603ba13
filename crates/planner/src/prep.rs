//! Prep: inspect the seed, fetch it, install it as a stateroot, precache its images. Each part is a plan of its own, so
//! that every plan is complete when it starts.

use api::{ImageBasedUpgradeSpec, ImageRef, OcpVersion, Phase, StaterootName, message, names};

use crate::decide::{Act, Decision, Pending, Why, noted, pending};
use crate::facts::{
    ClusterFacts, ClusterKnowledge, Facts, RunFact, SeedContent, SeedPin, TargetRecord,
};
use crate::failure::{Disposition, disposition};
use crate::seed_check;
use crate::state::State;
use crate::step::{Plan, PlanName, Step};

const PLANS: [PlanName; 4] = [
    PlanName::InspectSeed,
    PlanName::FetchSeed,
    PlanName::InstallStateroot,
    PlanName::Precache,
];

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
        return Decision::record(State::PrepCompleted, facts.side, message::PREP_SUCCEEDED);
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
    match next_plan(spec, facts, cluster) {
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
        PlanName::FetchSeed => noted(
            &message::stateroot_failed(names::NAMESPACE),
            &format!("{}{error}", message::PULL_SEED_PREFIX),
        ),
        PlanName::Precache => noted(&message::precache_failed(names::NAMESPACE), error),
        _ => noted(&message::stateroot_failed(names::NAMESPACE), error),
    };
    format!("{text}; {NEXT}")
}

/// The next part of Prep, or why there is none.
fn next_plan(
    spec: &ImageBasedUpgradeSpec,
    facts: &Facts,
    cluster: &ClusterFacts,
) -> Result<Plan, String> {
    let wanted =
        wanted(spec, facts).map_err(|error| format!("{}{error}", message::INVALID_SPEC_PREFIX))?;
    seed_check::version(&wanted.version, &cluster.version)
        .map_err(|error| format!("{}{error}", message::INVALID_SPEC_PREFIX))?;
    let Some(pin) = facts.pin.as_ref().filter(|pin| pin.image == wanted.image) else {
        return Ok(inspect(&wanted));
    };
    seed_check::labels(pin, cluster)
        .map_err(|error| format!("{}{error}", message::INVALID_SEED_PREFIX))?;
    let Some(content) = facts
        .content
        .as_ref()
        .filter(|content| content.digest == pin.digest)
    else {
        return Ok(fetch(&wanted, pin));
    };
    seed_check::content(content, wanted.version.as_str())
        .map_err(|error| format!("{}{error}", message::STATEROOT_SETUP_PREFIX))?;
    match facts
        .target
        .as_ref()
        .filter(|target| target.seed == pin.digest && target.deployment.is_some())
    {
        None => Ok(install(&wanted, pin, content)),
        Some(target) => Ok(precache(target, content, cluster)),
    }
}

fn wanted(spec: &ImageBasedUpgradeSpec, facts: &Facts) -> Result<Wanted, String> {
    let seed = spec.seed_image_ref.clone().unwrap_or_default();
    if seed.image.is_empty() {
        return Err(format!("spec.seedImageRef.image is not set: {NEXT}"));
    }
    let image: ImageRef = seed
        .image
        .parse()
        .map_err(|error: api::image::InvalidImageRef| {
            format!("spec.seedImageRef.image: {error}: {NEXT}")
        })?;
    let version: OcpVersion =
        seed.version
            .parse()
            .map_err(|error: api::version::InvalidVersion| {
                seed_check::unfit_version(message::seed_version_unreadable(
                    &seed.version,
                    &error.to_string(),
                ))
            })?;
    let stateroot = StaterootName::for_version(&version);
    if facts
        .booted
        .as_ref()
        .is_ok_and(|booted| booted.stateroot == stateroot)
    {
        return Err(format!(
            "stateroot {stateroot} of version {version} is the running one: {NEXT}"
        ));
    }
    let pull_secret = seed.pull_secret_ref.map(|secret| secret.name);
    Ok(Wanted {
        image,
        pull_secret,
        version,
        stateroot,
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

fn fetch(wanted: &Wanted, pin: &SeedPin) -> Plan {
    Plan {
        name: PlanName::FetchSeed,
        steps: vec![Step::FetchSeed {
            pin: pin.clone(),
            pull_secret: wanted.pull_secret.clone(),
        }],
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
    kernel_arguments.extend(content.kernel_arguments.iter().cloned());
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
            },
            Step::RecordTarget { record },
        ],
    }
}

fn precache(target: &TargetRecord, content: &SeedContent, cluster: &ClusterFacts) -> Plan {
    Plan {
        name: PlanName::Precache,
        steps: vec![
            Step::PrecacheImages {
                images: seed_check::images(content, cluster),
            },
            Step::RecordTarget {
                record: TargetRecord {
                    precached: true,
                    ..target.clone()
                },
            },
        ],
    }
}
