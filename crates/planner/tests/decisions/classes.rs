//! Facts reduced to finite classes, and which of them a position may look at.

use api::ImageBasedUpgradeSpec;
use api::verdict::{Judge, Outcome};
use planner::{
    ClusterKnowledge, ErrorKind, Facts, PlanName, PostPivot, RunFact, Side, State, VerdictFact,
    disposition,
};

use crate::sample;

/// One dimension of the facts.
pub(crate) struct Dimension {
    pub(crate) name: &'static str,
    pub(crate) values: &'static [&'static str],
}

/// What is asked for: `absent` and a word that is no stage included.
pub(crate) const REQUESTED: [Option<&str>; 6] = [
    Some("Idle"),
    None,
    Some("Prep"),
    Some("Upgrade"),
    Some("Rollback"),
    Some("Nap"),
];

pub(crate) const BOOTED: usize = 0;
const RUN: usize = 1;
const RETURNED: usize = 2;
const POST_PIVOT: usize = 3;
const CLUSTER: usize = 4;
const PREP: usize = 5;
const ORIGIN: usize = 6;
const LEFTOVERS: usize = 7;
const CLEANUP: usize = 8;
const VERDICT: usize = 9;
const RETURNS: usize = 10;
const ARMED: usize = 11;
const HEALTH: usize = 12;

/// All dimensions; a class is one value of each.
pub(crate) const DIMENSIONS: [Dimension; 13] = [
    Dimension {
        name: "booted",
        values: &["known", "unknown"],
    },
    Dimension {
        name: "run",
        // Kinds of failure by their first letter; `+` = the next attempt is due.
        values: &[
            "none",
            "runs",
            "other-runs",
            "cut-off",
            "done",
            "other-failed",
            "T",
            "T+",
            "B",
            "B+",
            "P",
            "P+",
            "C",
            "C+",
            "I",
            "I+",
        ],
    },
    Dimension {
        name: "returned",
        values: &["no", "yes"],
    },
    Dimension {
        name: "post-pivot",
        values: &["runs", "fails", "finished"],
    },
    Dimension {
        name: "cluster",
        values: &["not-asked", "known", "away", "forbidden"],
    },
    Dimension {
        name: "have",
        values: &[
            "nothing",
            "bad-label",
            "pin",
            "wrong-content",
            "content",
            "target",
            "precached",
        ],
    },
    Dimension {
        name: "origin",
        values: &["recorded", "unknown"],
    },
    Dimension {
        name: "leftovers",
        values: &["yes", "no"],
    },
    Dimension {
        name: "cleanup-now",
        values: &["no", "yes"],
    },
    Dimension {
        name: "verdict",
        // `back` = to go back, by the controller or by somebody else.
        values: &["none", "completed", "back", "others-back", "unreadable"],
    },
    Dimension {
        name: "auto-return",
        values: &["yes", "no"],
    },
    Dimension {
        name: "monitor",
        values: &["gone", "armed"],
    },
    Dimension {
        name: "unhealthy",
        // If the cluster is known. Mandatory checks and others, or others alone.
        values: &["nothing", "mandatory", "deferred"],
    },
];

/// A value of each dimension, by index.
pub(crate) type Class = [usize; DIMENSIONS.len()];

/// The dimensions that a position's decisions may depend on; the enumeration checks that the others do not matter.
pub(crate) fn relevant(state: State, side: Side) -> &'static [usize] {
    match (state, side) {
        (State::PrepInProgress, _) => &[BOOTED, RUN, CLUSTER, PREP],
        (State::UpgradeInProgress, Side::Origin) => {
            &[BOOTED, RUN, RETURNED, CLUSTER, PREP, VERDICT]
        }
        (State::UpgradeInProgress, Side::Target) => {
            &[BOOTED, VERDICT, POST_PIVOT, CLUSTER, HEALTH, RUN, ORIGIN]
        }
        (State::UpgradeFailed, Side::Target) => &[BOOTED, VERDICT, RETURNS, RUN, ORIGIN],
        (State::UpgradeCompleted, Side::Target) => &[BOOTED, ARMED, RUN],
        (State::RollbackInProgress | State::RollbackFailed, _) => &[BOOTED, RUN, ORIGIN, VERDICT],
        (State::Aborting | State::AbortFailed | State::FinalizeFailed, _) => {
            &[BOOTED, RUN, LEFTOVERS, CLEANUP]
        }
        (State::Finalizing, _) => &[BOOTED, RUN, LEFTOVERS, CLEANUP, CLUSTER, HEALTH],
        _ => &[BOOTED, RUN],
    }
}

/// Every class over these dimensions; the others keep their first value.
pub(crate) fn classes(dimensions: &[usize]) -> Vec<Class> {
    let mut all = vec![[0; DIMENSIONS.len()]];
    for dimension in dimensions {
        let values = 0..DIMENSIONS[*dimension].values.len();
        all = all
            .iter()
            .flat_map(|class| {
                values.clone().map(move |value| {
                    let mut class = *class;
                    class[*dimension] = value;
                    class
                })
            })
            .collect();
    }
    all
}

/// The plan that a position works with; in Prep the one that comes next.
pub(crate) fn plan_of(state: State, side: Side) -> PlanName {
    match (state, side) {
        (State::UpgradeInProgress, Side::Target) => PlanName::Complete,
        (State::UpgradeFailed, Side::Target) => PlanName::AutomaticReturn,
        (State::UpgradeCompleted, Side::Target) => PlanName::Disarm,
        (state, _) => plan_of_position(state),
    }
}

fn plan_of_position(state: State) -> PlanName {
    match state {
        State::PrepInProgress => PlanName::InstallStateroot,
        State::UpgradeInProgress => PlanName::Pivot,
        State::RollbackInProgress | State::RollbackFailed => PlanName::Return,
        State::Aborting | State::AbortFailed => PlanName::Abort,
        State::Finalizing | State::FinalizeFailed => PlanName::Finalize,
        _ => PlanName::Reconfigure,
    }
}

fn run(plan: PlanName, state: State, value: &str) -> RunFact {
    let other = match state {
        State::PrepInProgress => PlanName::Abort,
        _ => PlanName::FetchSeed,
    };
    let failed = |plan, kind, due: bool| {
        let attempt = 3;
        let wait = match disposition(kind, attempt) {
            planner::Disposition::Retry { after } => after,
            _ => planner::LONGEST_BACKOFF,
        };
        RunFact::Failed {
            plan,
            kind,
            error: "ERROR".to_owned(),
            attempt,
            since: if due { wait } else { 1 },
        }
    };
    let due = value.ends_with('+');
    match value.trim_end_matches('+') {
        "none" => RunFact::None,
        "runs" => RunFact::Running {
            plan,
            progress: "PROGRESS".to_owned(),
        },
        "other-runs" => RunFact::Running {
            plan: other,
            progress: "OTHER".to_owned(),
        },
        "cut-off" => RunFact::Interrupted { plan },
        "done" => RunFact::Completed { plan },
        "other-failed" => failed(other, ErrorKind::Permanent, false),
        "T" => failed(plan, ErrorKind::Transient, due),
        "B" => failed(plan, ErrorKind::Busy, due),
        "P" => failed(plan, ErrorKind::Permanent, due),
        "C" => failed(plan, ErrorKind::Contradiction, due),
        "I" => failed(plan, ErrorKind::Interrupted, due),
        other => panic!("no run is called {other}"),
    }
}

/// The facts of a class.
pub(crate) fn facts(state: State, side: Side, class: &Class) -> Facts {
    let value = |dimension: usize| DIMENSIONS[dimension].values[class[dimension]];
    let mut facts = sample::facts(side);
    if value(BOOTED) == "unknown" {
        facts.booted = Err("UNREADABLE".to_owned());
    }
    let verdict = value(VERDICT);
    // What runs behind a verdict to go back is the return.
    let back = (state, side) == (State::UpgradeInProgress, Side::Target)
        && matches!(verdict, "back" | "others-back" | "unreadable");
    let plan = if back {
        PlanName::AutomaticReturn
    } else {
        plan_of(state, side)
    };
    facts.run = run(plan, state, value(RUN));
    facts.verdict = match verdict {
        "completed" => sample::verdict(Outcome::Completed, Judge::Controller),
        "back" => sample::verdict(Outcome::Rollback, Judge::Controller),
        "others-back" => sample::verdict(Outcome::Rollback, Judge::InitMonitor),
        "unreadable" => VerdictFact::Unreadable("DAMAGED".to_owned()),
        _ => VerdictFact::None,
    };
    facts.returns = value(RETURNS) == "yes";
    facts.monitor_armed = value(ARMED) == "armed";
    facts.returned = value(RETURNED) == "yes";
    facts.post_pivot = match value(POST_PIVOT) {
        "runs" => PostPivot::Running {
            progress: "PROGRESS".to_owned(),
        },
        "fails" => PostPivot::Failing {
            error: "ERROR".to_owned(),
        },
        _ => PostPivot::Finished,
    };
    // What comes before the pivot has tests of its own.
    let gated =
        (state, side) == (State::UpgradeInProgress, Side::Target) || state == State::Finalizing;
    if gated && let ClusterKnowledge::Known(cluster) = &mut facts.cluster {
        let (mandatory, deferred) = match value(HEALTH) {
            "mandatory" => (true, true),
            "deferred" => (false, true),
            _ => (false, false),
        };
        if mandatory {
            cluster.health.operators = vec!["OPERATOR".to_owned()];
        }
        if deferred {
            cluster.health.node = vec!["NODE".to_owned()];
        }
    }
    let unknown = |kind| ClusterKnowledge::Unknown {
        kind,
        error: "ERROR".to_owned(),
    };
    facts.cluster = match value(CLUSTER) {
        "not-asked" => ClusterKnowledge::NotAsked,
        "away" => unknown(ErrorKind::Transient),
        "forbidden" => unknown(ErrorKind::Permanent),
        _ => facts.cluster,
    };
    let have = class[PREP];
    if have >= 1 {
        let mut pin = sample::pin();
        if have == 1 {
            pin.format_version = Some("3".to_owned());
        }
        facts.pin = Some(pin);
    }
    if have >= 3 {
        let mut content = sample::content();
        if have == 3 {
            content.info.seed_cluster_ocp_version = "4.17.5".to_owned();
        }
        facts.content = Some(content);
    }
    if have >= 5 {
        facts.target = Some(sample::target(have == 6));
    }
    if value(ORIGIN) == "unknown" {
        facts.origin = None;
    }
    facts.leftovers = value(LEFTOVERS) == "yes";
    facts.cleanup_now = value(CLEANUP) == "yes";
    facts
}

/// The spec that asks for a stage.
pub(crate) fn spec(requested: Option<&str>) -> ImageBasedUpgradeSpec {
    sample::spec(requested)
}
