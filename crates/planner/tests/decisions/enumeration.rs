//! Every combination of position, requested stage, booted side, overlay and fact class, and what must hold for each.

use api::{DeploymentId, ImageBasedUpgradeSpec, ImageBasedUpgradeStatus, Stage};
use planner::{
    Act, Decision, Facts, Overlay, Parsed, Plan, PlanName, Side, State, Step, Transition, decide,
    parse, project, transition, valid_next,
};

use crate::classes::{Class, DIMENSIONS, REQUESTED, classes, facts, plan_of, relevant, spec};
use crate::reachable::{blocked, is_edge, plain, refusals};
use crate::sample::{occasion, say};

/// The state of one pass.
struct Row<'a> {
    state: State,
    side: Side,
    requested: Option<&'a str>,
    spec: &'a ImageBasedUpgradeSpec,
    status: &'a ImageBasedUpgradeStatus,
    class: &'a Class,
    facts: &'a Facts,
}

impl Row<'_> {
    fn stage(&self) -> Stage {
        self.requested
            .and_then(|stage| stage.parse().ok())
            .unwrap_or(Stage::Idle)
    }

    fn decide(&self, status: &ImageBasedUpgradeStatus) -> Decision {
        let conditions = &status.conditions;
        decide(self.spec, conditions, parse(conditions), self.facts)
    }

    fn named(&self) -> String {
        let class: Vec<String> = DIMENSIONS
            .iter()
            .zip(self.class)
            .map(|(dimension, value)| format!("{}={}", dimension.name, dimension.values[*value]))
            .collect();
        format!(
            "{} {:?} {:?} {:?} {}",
            self.state,
            self.side,
            self.requested,
            parse(&self.status.conditions).overlay,
            class.join(" ")
        )
    }
}

fn record_changes_the_position_and_nothing_else_does(row: &Row<'_>, decision: &Decision) {
    let changed = decision.state != row.state;
    assert_eq!(decision.act == Act::Record, changed, "{}", row.named());
    if changed {
        let edge = is_edge(row.state, decision.state);
        assert!(edge, "{} -> {}", row.named(), decision.state);
    }
}

fn listed_stages_are_the_table(row: &Row<'_>, decision: &Decision) {
    let table = valid_next(decision.state, row.side);
    assert_eq!(decision.valid_next, table, "{}", row.named());
}

fn requests_lead_along_listed_stages(row: &Row<'_>, decision: &Decision) {
    let moved = match row.requested.map(str::parse::<Stage>) {
        None | Some(Ok(_)) if row.facts.booted.is_ok() => {
            transition(row.state, row.side, row.stage())
        }
        _ => return,
    };
    match moved {
        Transition::Move(to) => {
            assert_eq!(decision.state, to, "{}", row.named());
            assert_eq!(decision.act, Act::Record, "{}", row.named());
        }
        Transition::Refuse(refusal) => {
            let told = Some((row.stage(), refusal));
            assert_eq!(decision.said.refused, told, "{}", row.named());
        }
        Transition::Stay => assert_eq!(decision.said.refused, None, "{}", row.named()),
    }
}

fn a_told_refusal_stops_no_work(row: &Row<'_>, decision: &Decision, unasked: &Decision) {
    let overlay = parse(&row.status.conditions).overlay;
    if decision.said.refused.is_some() && overlay == Overlay::Refused(row.stage()) {
        let mut told = unasked.clone();
        told.said.refused = decision.said.refused;
        assert_eq!(*decision, told, "{}", row.named());
    }
}

fn a_plan_belongs_to_its_position(row: &Row<'_>, decision: &Decision) {
    let Act::Run(plan) = &decision.act else {
        return;
    };
    let prep = [
        PlanName::InspectSeed,
        PlanName::FetchSeed,
        PlanName::InstallStateroot,
        PlanName::Precache,
    ];
    if row.state == State::PrepInProgress {
        assert!(
            prep.contains(&plan.name),
            "{}: {:?}",
            row.named(),
            plan.name
        );
    } else {
        let back = plan.name == PlanName::AutomaticReturn && row.facts.verdict.rollback().is_some();
        assert!(
            back || plan.name == plan_of(row.state, row.side),
            "{}: {:?}",
            row.named(),
            plan.name
        );
    }
    let side = match plan.name {
        PlanName::Pivot => Some(Side::Origin),
        PlanName::Return | PlanName::AutomaticReturn | PlanName::Complete | PlanName::Disarm => {
            Some(Side::Target)
        }
        _ => None,
    };
    assert!(side.is_none_or(|side| side == row.side), "{}", row.named());
}

fn a_plan_is_safe(row: &Row<'_>, plan: &Plan) {
    let named = row.named();
    let booted = &row.facts.booted.as_ref().unwrap().stateroot;
    let at = |wanted: &str| plan.steps.iter().position(|step| step.name() == wanted);
    for step in &plan.steps {
        let (Step::RemoveStateroot { stateroot }
        | Step::UndeployStateroot { stateroot }
        | Step::ClearStateroot { stateroot, .. }
        | Step::EnsureStateroot { stateroot, .. }
        | Step::DeployStateroot { stateroot, .. }
        | Step::UnpackVar { stateroot, .. }
        | Step::UnpackEtc { stateroot, .. }) = step
        else {
            continue;
        };
        assert_ne!(stateroot, booted, "{named}: {}", step.name());
    }
    let back = plan.name == PlanName::AutomaticReturn;
    let boots = back || matches!(plan.name, PlanName::Pivot | PlanName::Return);
    let cleans = matches!(plan.name, PlanName::Abort | PlanName::Finalize);
    assert_eq!(at("reboot").is_some(), boots, "{named}");
    // What is staged beside the booted deployment is nobody's to discard: a clean-up switches only what leads elsewhere.
    assert!(cleans || at("set-default").is_some() == boots, "{named}");
    if boots {
        // A pivot begins by taking back a switch that an earlier run made: what boots next is not written to.
        let commits = |step: &Step| step.name() == "set-default";
        let commit = plan.steps.iter().rposition(commits).unwrap();
        for (at, step) in plan.steps[..commit].iter().enumerate() {
            if let Step::SetDefault { deployment } = step {
                assert_eq!((at, &deployment.stateroot), (0, booted), "{named}");
            }
        }
        assert!(at("sync-stateroots").unwrap() < commit, "{named}");
        let told = if back { "tell-origin" } else { "save-handover" };
        assert!(
            at(told).unwrap() < at("sync-stateroots").unwrap(),
            "{named}"
        );
        if back {
            assert_eq!(at("record-verdict"), Some(0), "{named}");
            assert!(!row.facts.verdict.is_completed(), "{named}");
        }
        let after: Vec<&str> = plan.steps[commit + 1..].iter().map(Step::name).collect();
        let ending: &[&str] = match plan.name.returns() {
            true => &["disarm-fallback", "reboot"],
            false => &["reboot"],
        };
        assert_eq!(after, ending, "{named}");
        let Step::SyncStateroots { stateroots, .. } = &plan.steps[at("sync-stateroots").unwrap()]
        else {
            unreachable!()
        };
        assert_eq!(stateroots.len(), 2, "{named}");
        assert_ne!(stateroots[0], stateroots[1], "{named}");
    }
    if cleans {
        match (&plan.steps[0], &row.facts.default) {
            (Step::SetDefault { deployment }, Some(default)) => {
                assert_eq!(&deployment.stateroot, booted, "{named}");
                assert_ne!(&default.stateroot, booted, "{named}");
            }
            (_, default) => {
                let leads_here = |default: &DeploymentId| default.stateroot == *booted;
                assert!(
                    default.as_ref().is_none_or(leads_here),
                    "{named}: the default is set first"
                );
            }
        }
    }
}

fn nobody_is_stuck(row: &Row<'_>, decision: &Decision) {
    let resting = matches!(
        decision.state,
        State::Uninitialized
            | State::Idle
            | State::PrepFailed
            | State::PrepCompleted
            | State::UpgradeFailed
            | State::UpgradeCompleted
            | State::RollbackCompleted
            | State::Contradictory
    );
    let goes_on = decision.act != Act::Nothing || decision.look_again.is_some();
    assert!(resting || goes_on, "{}", row.named());
    let has_exit = !decision.valid_next.is_empty();
    assert!(goes_on || has_exit, "{}", row.named());
}

fn status_reads_back_and_settles(row: &Row<'_>, decision: &Decision) {
    let named = row.named();
    let stage = row.stage();
    let first = project(row.status, stage, decision, occasion(5, 10));
    let overlay = decision
        .said
        .refused
        .map_or(Overlay::None, |(stage, _)| Overlay::Refused(stage));
    let read = parse(&first.conditions);
    assert_eq!(read.state, decision.state, "{named}");
    if decision.state != State::Contradictory {
        assert_eq!(read.overlay, overlay, "{named}");
    }
    assert_eq!(first.valid_next_stages, decision.valid_next, "{named}");
    // The same facts a second later: the decision stands and nothing is left to write. What has to be told first (a new
    // position, a refusal) takes one pass more.
    let mut settled = (first, decision.clone());
    for _ in 0..4 {
        if !matches!(settled.1.act, Act::Record | Act::Refuse(_)) {
            break;
        }
        let next = row.decide(&settled.0);
        let status = project(&settled.0, stage, &next, occasion(5, 11));
        settled = (status, next);
    }
    let (status, decision) = settled;
    let told = !matches!(decision.act, Act::Record | Act::Refuse(_));
    assert!(told || decision.state == State::Contradictory, "{named}");
    let again = row.decide(&status);
    assert_eq!(again, decision, "{named}");
    let later = project(&status, stage, &again, occasion(5, 12));
    assert_eq!(later, status, "{named}");
}

/// The plain status of a position and every overlay that may lie over it.
fn overlaid(state: State) -> Vec<ImageBasedUpgradeStatus> {
    let plain = plain(state);
    let mut all = vec![plain.clone()];
    for (decision, stage) in refusals(state) {
        let told = project(&plain, stage, &decision, occasion(2, 5));
        let same = |known: &ImageBasedUpgradeStatus| known.conditions == told.conditions;
        if !all.iter().any(same) {
            all.push(told);
        }
    }
    let blocked = Stage::ALL.map(|stage| blocked(plain.clone(), stage));
    all.extend(
        blocked
            .into_iter()
            .filter(|status| parse(&status.conditions).state == state),
    );
    all
}

/// A small generator, so that every run is the same.
fn shuffled(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    usize::try_from(*seed >> 33).unwrap()
}

/// Checks all rows of a position; gives how many there are and how many combinations they stand for.
fn check_position(state: State) -> (u64, u64) {
    let (mut rows, mut combinations) = (0, 0);
    let mut seed = 1;
    for (side, status) in [Side::Origin, Side::Target]
        .into_iter()
        .flat_map(|side| overlaid(state).into_iter().map(move |s| (side, s)))
    {
        let Parsed { state: read, .. } = parse(&status.conditions);
        assert_eq!(read, state);
        let relevant = relevant(state, side);
        let others: Vec<usize> = (0..DIMENSIONS.len())
            .filter(|at| !relevant.contains(at))
            .collect();
        let stands_for: usize = others
            .iter()
            .map(|at| DIMENSIONS[*at].values.len())
            .product();
        let specs = REQUESTED.map(|requested| (requested, spec(requested)));
        for class in classes(relevant) {
            let known = facts(state, side, &class);
            let mut varied = class;
            for at in &others {
                varied[*at] = shuffled(&mut seed) % DIMENSIONS[*at].values.len();
            }
            let different = facts(state, side, &varied);
            let unasked = decide(
                &spec(Some("Nap")),
                &status.conditions,
                parse(&status.conditions),
                &known,
            );
            for (requested, spec) in &specs {
                let row = Row {
                    state,
                    side,
                    requested: *requested,
                    spec,
                    status: &status,
                    class: &class,
                    facts: &known,
                };
                let decision = row.decide(&status);
                record_changes_the_position_and_nothing_else_does(&row, &decision);
                listed_stages_are_the_table(&row, &decision);
                requests_lead_along_listed_stages(&row, &decision);
                a_told_refusal_stops_no_work(&row, &decision, &unasked);
                a_plan_belongs_to_its_position(&row, &decision);
                if let Act::Run(plan) = &decision.act {
                    a_plan_is_safe(&row, plan);
                }
                nobody_is_stuck(&row, &decision);
                status_reads_back_and_settles(&row, &decision);
                let same = decide(
                    spec,
                    &status.conditions,
                    parse(&status.conditions),
                    &different,
                );
                assert_eq!(decision, same, "{} and {varied:?}", row.named());
                rows += 1;
                combinations += u64::try_from(stands_for).unwrap();
            }
        }
    }
    (rows, combinations)
}

#[test]
fn every_combination_keeps_the_rules() {
    let counted: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let running: Vec<_> = State::ALL
            .chunks(8)
            .map(|states| {
                scope.spawn(|| {
                    states
                        .iter()
                        .copied()
                        .map(check_position)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let rows: u64 = counted.iter().map(|(rows, _)| rows).sum();
    let combinations: u64 = counted.iter().map(|(_, all)| all).sum();
    #[expect(
        clippy::disallowed_macros,
        clippy::print_stdout,
        reason = "the count is part of what the test shows"
    )]
    {
        println!("decisions checked: {rows} rows, standing for {combinations} combinations");
    }
    assert!(rows > 150_000, "{rows}");
}

/// In the middle of each stage, all the way: every position is passed, and a pass that changes nothing writes nothing.
#[test]
fn a_refusal_in_the_middle_of_work_is_told_and_cleared() {
    let status = plain(State::PrepInProgress);
    let facts = crate::sample::facts(Side::Origin);
    let asked = |stage: &str, status: &ImageBasedUpgradeStatus| {
        let conditions = &status.conditions;
        let decision = decide(&spec(Some(stage)), conditions, parse(conditions), &facts);
        let next = project(status, stage.parse().unwrap(), &decision, occasion(3, 3));
        (decision, next)
    };
    let (first, told) = asked("Upgrade", &status);
    let refusal = planner::Refusal::PreviousStageNotSucceeded;
    assert_eq!(first.act, Act::Refuse(refusal));
    assert_eq!(first.look_again, Some(1));
    let (second, _) = asked("Upgrade", &told);
    assert!(matches!(second.act, Act::Run(_)), "{:?}", second.act);
    let (third, cleared) = asked("Prep", &told);
    assert!(matches!(third.act, Act::Run(_)), "{:?}", third.act);
    assert_eq!(parse(&cleared.conditions).overlay, Overlay::None);
    let same = say(State::PrepInProgress, Side::Origin, &third.said.message);
    let plain = project(&status, Stage::Prep, &same, occasion(3, 3));
    let types = |status: &ImageBasedUpgradeStatus| crate::sample::shown(&status.conditions);
    assert_eq!(types(&cleared), types(&plain));
}
