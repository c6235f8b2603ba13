//! The gate of health in the contract's words (5.4): before Prep, before the pivot, behind it, and before finalize.

use api::ImageBasedUpgradeStatus;
use planner::{
    Act, ClusterKnowledge, Decision, ErrorKind, Facts, Health, PlanName, PostPivot, RunFact, Side,
    State, Why,
};

use crate::reachable::plain;
use crate::sample::{cluster, decided, facts, spec, target};

/// A moment at which health is asked for.
struct Gate {
    state: State,
    stage: &'static str,
    side: Side,
    /// What the text begins with while a mandatory check fails, and while only deferred ones do.
    prefixes: (&'static str, &'static str),
    again: u64,
}

const PREP: &str = "Waiting for system to stabilize before Prep stage can continue: ";
const PIVOT: &str =
    "Waiting for system to stabilize before Upgrade (pre-pivot) stage can continue: ";
const FINALIZE: &str =
    "Waiting for system to stabilize before finalize (idle) stage can continue: ";

const fn gate(state: State, stage: &'static str, side: Side, prefix: &'static str) -> Gate {
    Gate {
        state,
        stage,
        side,
        prefixes: (prefix, prefix),
        again: 20,
    }
}

const GATES: [Gate; 5] = [
    gate(State::PrepInProgress, "Prep", Side::Origin, PREP),
    gate(State::UpgradeInProgress, "Upgrade", Side::Origin, PIVOT),
    Gate {
        state: State::UpgradeInProgress,
        stage: "Upgrade",
        side: Side::Target,
        prefixes: (
            "Waiting for system to stabilize: ",
            "Waiting for system to fully stabilize: ",
        ),
        again: 1,
    },
    gate(State::Finalizing, "Idle", Side::Target, FINALIZE),
    gate(State::Finalizing, "Idle", Side::Origin, FINALIZE),
];

impl Gate {
    fn facts(&self, health: Health) -> Facts {
        let mut facts = facts(self.side);
        facts.post_pivot = PostPivot::Finished;
        facts.target = (self.state != State::PrepInProgress).then(|| target(true));
        let mut cluster = cluster();
        cluster.health = health;
        facts.cluster = ClusterKnowledge::Known(Box::new(cluster));
        facts
    }

    fn decide(&self, facts: &Facts) -> Decision {
        let ImageBasedUpgradeStatus { conditions, .. } = plain(self.state);
        decided(&spec(Some(self.stage)), &conditions, facts)
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Everything is wrong at once.
fn ill() -> Health {
    Health {
        operators: names(&["a", "b"]),
        pools: names(&["master"]),
        sriov: names(&["sriovNetworkNodeState not ready"]),
        backups: names(&[
            "backupStorageLocation x not available",
            "backupStorageLocation y not available",
        ]),
        node: names(&["node is not yet ready: n"]),
        service_versions: names(&["c.v1", "d.v1"]),
        signing_requests: names(&["csr-1", "csr-2"]),
    }
}

#[test]
fn every_gate_tells_the_first_group_that_fails() {
    let check = |health: &Health, deferred: bool, expected: &str| {
        for gate in &GATES {
            let decision = gate.decide(&gate.facts(health.clone()));
            assert_eq!(decision.act, Act::Wait(Why::Cluster), "{}", gate.state);
            assert_eq!(decision.look_again, Some(gate.again), "{}", gate.state);
            let prefix = if deferred {
                gate.prefixes.1
            } else {
                gate.prefixes.0
            };
            let text = format!("{prefix}one or more health checks failed: {expected}");
            assert_eq!(decision.said.message, text);
        }
    };
    let mut health = ill();
    // SR-IOV and OADP are operators' own: not asked while operators are not ready.
    check(
        &health,
        false,
        "one or more ClusterOperators not yet ready: a, b\n  - \
         one or more MachineConfigPools not yet ready: master",
    );
    health.operators.clear();
    check(
        &health,
        false,
        "one or more MachineConfigPools not yet ready: master\n  - sriovNetworkNodeState not ready\n  - \
         backupStorageLocation x not available\n  - backupStorageLocation y not available",
    );
    health.pools.clear();
    health.sriov.clear();
    check(
        &health,
        false,
        "backupStorageLocation x not available\n  - backupStorageLocation y not available",
    );
    health.backups.clear();
    check(
        &health,
        true,
        "node is not yet ready: n\n  - one or more ClusterServiceVersions not yet ready: c.v1, d.v1\n  - \
         certificateSigningRequest (csr) csr-1 not yet approved\n  - \
         certificateSigningRequest (csr) csr-2 not yet approved",
    );
    for gate in &GATES {
        let decision = gate.decide(&gate.facts(Health::default()));
        assert!(
            matches!(decision.act, Act::Run(_)),
            "{}: {:?}",
            gate.state,
            decision.act
        );
    }
}

/// What has begun to remove things, or has failed to, goes on whatever the cluster is like.
#[test]
fn only_the_beginning_of_finalize_waits_for_health() {
    let [.., gate] = GATES;
    let runs = |run: RunFact| {
        let mut facts = gate.facts(ill());
        facts.run = run;
        let decision = gate.decide(&facts);
        matches!(decision.act, Act::Run(plan) if plan.name == PlanName::Finalize)
    };
    let plan = PlanName::Finalize;
    let failed = |plan, kind| RunFact::Failed {
        plan,
        kind,
        error: "ERROR".to_owned(),
        attempt: 3,
        since: 30,
    };
    assert!(runs(RunFact::Interrupted { plan }));
    assert!(runs(failed(plan, ErrorKind::Transient)));
    assert!(runs(failed(plan, ErrorKind::Permanent)));
    assert!(!runs(RunFact::None));
    assert!(!runs(RunFact::Completed {
        plan: PlanName::Return
    }));
    assert!(!runs(failed(PlanName::Return, ErrorKind::Transient)));
    // Nothing to remove: nothing to wait for.
    let mut facts = gate.facts(ill());
    facts.leftovers = false;
    assert_eq!(gate.decide(&facts).state, State::Idle);
    // Nor does abort wait: it is the way out of an unhealthy cluster.
    let mut facts = gate.facts(ill());
    facts.cluster = ClusterKnowledge::NotAsked;
    let decision = Gate {
        state: State::Aborting,
        ..gate
    }
    .decide(&facts);
    assert!(matches!(decision.act, Act::Run(plan) if plan.name == PlanName::Abort));
    // What cannot be asked is told.
    facts.cluster = ClusterKnowledge::Unknown {
        kind: ErrorKind::Transient,
        error: "ERROR".to_owned(),
    };
    let [.., gate] = GATES;
    let decision = gate.decide(&facts);
    assert_eq!(
        (decision.act, decision.look_again),
        (Act::Wait(Why::Cluster), Some(2))
    );
    assert_eq!(decision.said.message, format!("{FINALIZE}ERROR"));
}
