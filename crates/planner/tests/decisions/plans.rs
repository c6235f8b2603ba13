//! What the plans hold, and the texts around them that the enumeration does not look at.

use api::verdict::{Judge, Outcome};
use planner::{
    Act, ErrorKind, EvidenceFact, Facts, FailedBoot, FallbackState, Plan, PlanName, RunFact, Side,
    State, Step, VerdictFact, Why,
};

use crate::reachable::plain;
use crate::sample::{
    ORIGIN, TARGET, content, decided, deployment, facts, pin, spec, stateroot, target,
};

fn plan(state: State, stage: &str, facts: &Facts) -> Plan {
    let status = plain(state);
    let decision = decided(&spec(Some(stage)), &status.conditions, facts);
    match decision.act {
        Act::Run(plan) => plan,
        other => panic!("{state}: {other:?}"),
    }
}

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(Step::name).collect()
}

#[test]
fn prep_goes_from_the_reference_to_the_images() {
    let mut facts = facts(Side::Origin);
    let mut check = |change: fn(&mut Facts), name, steps: &[&str]| {
        change(&mut facts);
        let plan = plan(State::PrepInProgress, "Prep", &facts);
        assert_eq!(plan.name, name);
        assert_eq!(names(&plan), steps);
    };
    check(|_| {}, PlanName::InspectSeed, &["resolve-seed"]);
    check(
        |facts| facts.pin = Some(pin()),
        PlanName::FetchSeed,
        &[
            "reserve-space",
            "clear-stateroot",
            "ensure-stateroot",
            "fetch-seed",
        ],
    );
    check(
        |facts| facts.content = Some(content()),
        PlanName::InstallStateroot,
        &[
            "clear-stateroot",
            "import-commit",
            "ensure-stateroot",
            "deploy-stateroot",
            "unpack-var",
            "unpack-etc",
            "sync-stateroots",
            "record-target",
        ],
    );
    check(
        |facts| facts.target = Some(target(false)),
        PlanName::Precache,
        &["pin-images", "precache-images", "record-target"],
    );
}

/// The plan that installs the target of a seed with these kernel arguments.
fn installing(kernel_arguments: &[&str]) -> Plan {
    let mut facts = facts(Side::Origin);
    let content = planner::SeedContent {
        kernel_arguments: kernel_arguments
            .iter()
            .copied()
            .map(str::to_owned)
            .collect(),
        ..content()
    };
    (facts.pin, facts.content) = (Some(pin()), Some(content));
    plan(State::PrepInProgress, "Prep", &facts)
}

#[test]
fn the_target_is_deployed_with_the_seeds_arguments_behind_a_unique_one() {
    let plan = installing(&["quiet", "systemd.unified=1"]);
    let deploy = plan.steps.iter().find_map(|step| match step {
        Step::DeployStateroot {
            stateroot,
            commit,
            kernel_arguments,
            ..
        } => Some((stateroot.as_str(), commit.as_str(), kernel_arguments)),
        _ => None,
    });
    let (name, commit, arguments) = deploy.unwrap();
    assert_eq!((name, commit), (TARGET, "c".repeat(64).as_str()));
    assert_eq!(
        arguments,
        &[
            "ibu=4.17.4",
            "quiet",
            "systemd.unified=1",
            "panic=10",
            "systemd.watchdog_sec=180",
        ]
    );
    let Some(Step::RecordTarget { record }) = plan.steps.last() else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(record.deployment, None);
    assert!(!record.precached);
}

#[test]
fn what_a_seed_says_of_panics_and_watchdogs_stands() {
    let check = |seed: &[&str], expect: &[&str]| {
        let plan = installing(seed);
        let arguments = plan.steps.iter().find_map(|step| match step {
            Step::DeployStateroot {
                kernel_arguments, ..
            } => Some(kernel_arguments.clone()),
            _ => None,
        });
        assert_eq!(arguments.unwrap()[1..], *expect);
    };
    let watchdog = "systemd.watchdog_sec=180";
    check(&["panic=0"], &["panic=0", watchdog]);
    check(&["panic"], &["panic", watchdog]);
    check(
        &["systemd.watchdog_sec=off", "panic_on_oops=1"],
        &["systemd.watchdog_sec=off", "panic_on_oops=1", "panic=10"],
    );
    check(
        &["panic=1", "systemd.watchdog_sec=30"],
        &["panic=1", "systemd.watchdog_sec=30"],
    );
}

#[test]
fn a_part_of_prep_that_fails_for_good_is_told_in_the_contracts_words() {
    let check = |plan, expected: &str| {
        let mut facts = facts(Side::Origin);
        facts.run = RunFact::Failed {
            plan,
            kind: ErrorKind::Permanent,
            error: "401 Unauthorized".to_owned(),
            attempt: 1,
            since: 0,
        };
        let status = plain(State::PrepInProgress);
        let decision = decided(&spec(Some("Prep")), &status.conditions, &facts);
        assert_eq!(decision.state, State::PrepFailed);
        let next = "; request stage Idle, correct it and request Prep again";
        assert_eq!(decision.said.message, format!("{expected}{next}"));
    };
    let job = "job-name: lca-prep-stateroot-setup, job-namespace: openshift-lifecycle-agent";
    check(
        PlanName::InspectSeed,
        "failed to validate seed image info: failed to get seed image labels: 401 Unauthorized",
    );
    check(
        PlanName::FetchSeed,
        &format!(
            "stateroot setup job failed to complete. {job}. failed to pull seed image: 401 Unauthorized"
        ),
    );
    check(
        PlanName::InstallStateroot,
        &format!("stateroot setup job failed to complete. {job}. 401 Unauthorized"),
    );
    check(
        PlanName::Precache,
        "precache job failed to complete. job-name: lca-prep-precache, job-namespace: openshift-lifecycle-agent. 401 Unauthorized",
    );
}

#[test]
fn the_pivot_leaves_everything_ready_before_its_commit_point() {
    let mut facts = facts(Side::Origin);
    facts.target = Some(target(true));
    facts.rollback_config.monitor_timeout = 77;
    let plan = plan(State::UpgradeInProgress, "Upgrade", &facts);
    assert_eq!(
        names(&plan),
        [
            "set-default",
            "check-target",
            "export-configuration",
            "write-rollback-config",
            "save-origin-copy",
            "save-handover",
            "ensure-boot-unit",
            "sync-stateroots",
            "arm-fallback",
            "set-default",
            "reboot",
        ]
    );
    for step in &plan.steps {
        match step {
            Step::SaveOriginCopy { stamp } | Step::SaveHandover { stamp, .. } => {
                assert_eq!(stamp.origin, deployment(ORIGIN));
                assert_eq!(stamp.target, deployment(TARGET));
                assert_eq!(
                    (stamp.run_id.as_str(), stamp.boot_id.as_str()),
                    ("run-1", "boot-1")
                );
            }
            Step::WriteRollbackConfig { stateroot, config } => {
                assert_eq!((stateroot.as_str(), config.monitor_timeout), (TARGET, 77));
            }
            Step::Reboot {
                reason,
                boot_id,
                otherwise,
            } => {
                assert_eq!((reason.as_str(), boot_id.as_str()), ("upgrade", "boot-1"));
                assert_eq!(*otherwise, Some(deployment(ORIGIN)));
            }
            Step::ArmFallback {
                origin,
                target,
                attempts,
                boot_id,
            } => {
                assert_eq!(*origin, deployment(ORIGIN));
                assert_eq!(*target, deployment(TARGET));
                assert_eq!((*attempts, boot_id.as_str()), (3, "boot-1"));
            }
            _ => {}
        }
    }
    let defaults = plan.steps.iter().filter_map(|step| match step {
        Step::SetDefault { deployment } => Some(deployment.clone()),
        _ => None,
    });
    let defaults: Vec<_> = defaults.collect();
    assert_eq!(defaults, [deployment(ORIGIN), deployment(TARGET)]);
}

#[test]
fn a_node_without_a_boot_fallback_pivots_all_the_same() {
    let mut facts = facts(Side::Origin);
    facts.target = Some(target(true));
    let with = names(&plan(State::UpgradeInProgress, "Upgrade", &facts));
    facts.fallback = FallbackState::None("there is no grub.cfg".to_owned());
    let without = names(&plan(State::UpgradeInProgress, "Upgrade", &facts));
    let ours = ["ensure-boot-unit", "arm-fallback"];
    let rest: Vec<_> = with
        .into_iter()
        .filter(|name| !ours.contains(name))
        .collect();
    assert_eq!(without, rest);
}

#[test]
fn a_release_that_did_not_boot_is_named() {
    let mut facts = facts(Side::Origin);
    facts.target = Some(target(true));
    facts.failed_boot = Some(FailedBoot {
        target: deployment(TARGET),
        attempts: Some(3),
        boot_id: "boot-2".to_owned(),
    });
    let status = plain(State::UpgradeInProgress);
    let decision = decided(&spec(Some("Upgrade")), &status.conditions, &facts);
    assert_eq!(decision.state, State::UpgradeFailed);
    let target = deployment(TARGET);
    assert_eq!(
        decision.said.message,
        format!(
            "Uncontrolled rollback: {target} did not come up in 3 attempts and the boot loader started this release \
             again"
        )
    );
}

#[test]
fn where_an_upgrade_has_ended_nothing_stays_armed() {
    let armed = || FallbackState::Armed {
        entry: "ostree-1".to_owned(),
        left: 3,
    };
    let check = |state, side, steps: &[&str]| {
        let mut facts = facts(side);
        let status = plain(state);
        let act = |facts: &Facts| decided(&spec(Some("Upgrade")), &status.conditions, facts).act;
        assert_eq!(act(&facts), Act::Nothing);
        facts.fallback = armed();
        let plan = match act(&facts) {
            Act::Run(plan) => plan,
            other => panic!("{state}: {other:?}"),
        };
        assert_eq!(
            (plan.name, names(&plan)),
            (PlanName::Disarm, steps.to_vec())
        );
        let run = |since| RunFact::Failed {
            plan: PlanName::Disarm,
            kind: ErrorKind::Permanent,
            error: "no".to_owned(),
            attempt: 1,
            since,
        };
        facts.run = run(29);
        assert_eq!(act(&facts), Act::Nothing);
        facts.run = run(30);
        assert_eq!(act(&facts), Act::Run(plan));
    };
    check(State::UpgradeCompleted, Side::Target, &["disarm-fallback"]);
    let back = ["set-default", "disarm-fallback"];
    check(State::UpgradeFailed, Side::Origin, &back);
    // There it goes back, which disarms on its way.
    let mut facts = facts(Side::Target);
    facts.fallback = armed();
    let status = plain(State::UpgradeFailed);
    match decided(&spec(Some("Upgrade")), &status.conditions, &facts).act {
        Act::Run(plan) => {
            assert_eq!(plan.name, PlanName::AutomaticReturn);
            assert!(names(&plan).contains(&"disarm-fallback"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_switch_that_led_nowhere_is_taken_back_where_nothing_counts_boots() {
    let mut facts = facts(Side::Origin);
    let status = plain(State::UpgradeFailed);
    let act = |facts: &Facts| decided(&spec(Some("Upgrade")), &status.conditions, facts).act;
    facts.target = Some(target(true));
    facts.default = Some(deployment(TARGET));
    match act(&facts) {
        Act::Run(plan) => {
            let name = PlanName::Disarm;
            assert_eq!((plan.name, names(&plan)), (name, vec!["set-default"]));
        }
        other => panic!("{other:?}"),
    }
    facts.verdict = crate::sample::verdict(Outcome::Completed, Judge::Controller);
    assert_eq!(act(&facts), Act::Nothing);
}

#[test]
fn the_old_release_seals_what_the_failed_one_could_not() {
    let mut facts = facts(Side::Origin);
    let status = plain(State::UpgradeFailed);
    let stage = spec(Some("Upgrade"));
    let decide = |facts: &Facts| decided(&stage, &status.conditions, facts);
    let quiet = decide(&facts);
    facts.evidence = EvidenceFact::Due(deployment(TARGET));
    let step = |reason: &str| Step::SealEvidence {
        target: deployment(TARGET),
        boot_id: None,
        reason: reason.to_owned(),
    };
    let wanted = Act::Run(Plan {
        name: PlanName::SealEvidence,
        steps: vec![step(&quiet.said.message)],
    });
    let run = |kind, since| RunFact::Failed {
        plan: PlanName::SealEvidence,
        kind,
        error: "no".to_owned(),
        attempt: 1,
        since,
    };
    let of = |plan| RunFact::Completed { plan };
    for (fact, expect) in [
        (RunFact::None, &wanted),
        (of(PlanName::Disarm), &wanted),
        // Not sealed all the same: it was told, and nothing depends on it.
        (of(PlanName::SealEvidence), &Act::Nothing),
        (run(ErrorKind::Permanent, 29), &Act::Nothing),
        (run(ErrorKind::Permanent, 30), &wanted),
    ] {
        facts.run = fact;
        assert_eq!(decide(&facts).act, *expect, "{:?}", facts.run);
    }
    // The way back comes first.
    facts.run = RunFact::None;
    facts.fallback = FallbackState::Armed {
        entry: "ostree-1".to_owned(),
        left: 3,
    };
    let disarm = plan(State::UpgradeFailed, "Upgrade", &facts);
    assert_eq!(disarm.name, PlanName::Disarm);
    // Idle before it was done: nothing of the failed release is removed earlier.
    let abort = plan(State::Aborting, "Idle", &facts);
    let at = |wanted: &Step| abort.steps.iter().position(|step| step == wanted);
    let sealed = at(&step("Uncontrolled rollback")).unwrap();
    let stateroot = stateroot(TARGET);
    let undeployed = at(&Step::UndeployStateroot { stateroot }).unwrap();
    assert!(sealed < undeployed, "{:?}", names(&abort));
    facts.evidence = EvidenceFact::None;
    let without = plan(State::Aborting, "Idle", &facts);
    assert!(!names(&without).contains(&"seal-evidence"));
}

#[test]
fn a_failed_upgrade_names_its_evidence_once() {
    let mut facts = facts(Side::Origin);
    let mut status = plain(State::UpgradeFailed);
    let stage = spec(Some("Upgrade"));
    let before = decided(&stage, &status.conditions, &facts).said.message;
    for place in ["/place/0001-a", "/place/0001-a", "/place/0002-a"] {
        facts.evidence = EvidenceFact::Sealed(place.to_owned());
        let decision = decided(&stage, &status.conditions, &facts);
        assert_eq!(decision.act, Act::Nothing);
        let expect = format!("{before}; evidence: {place}");
        assert_eq!(decision.said.message, expect);
        let upgrade = api::Stage::Upgrade;
        status = planner::project(&status, upgrade, &decision, crate::sample::occasion(1, 1));
        assert_eq!(planner::failure_text(&status, upgrade), Some(&*expect));
    }
    // In the target it is none of anybody's texts yet.
    facts.side = Side::Target;
    facts.evidence = EvidenceFact::Sealed("/place/0003-a".to_owned());
    facts.returns = false;
    let text = decided(&stage, &status.conditions, &facts).said.message;
    assert!(!text.contains("0003"), "{text}");
}

#[test]
fn the_return_leads_to_exactly_the_recorded_origin() {
    let mut facts = facts(Side::Target);
    let completed = crate::sample::verdict(Outcome::Completed, Judge::Controller);
    for (state, verdict) in [
        (State::RollbackInProgress, VerdictFact::None),
        (State::RollbackInProgress, completed.clone()),
        (State::RollbackFailed, completed),
    ] {
        let decided = verdict == VerdictFact::None;
        facts.verdict = verdict;
        let plan = plan(state, "Rollback", &facts);
        // Before the completion it is the user's verdict; a completed upgrade has one that stays.
        let steps = match plan.steps.split_first() {
            Some((Step::RecordVerdict { outcome, judge, .. }, rest)) if decided => {
                assert_eq!((*outcome, *judge), (Outcome::Rollback, Judge::User));
                rest
            }
            _ => {
                assert!(!decided, "{:?}", plan.steps);
                &plan.steps
            }
        };
        let [
            Step::SaveHandover {
                stateroot: into,
                stamp,
            },
            Step::SyncStateroots { stateroots, .. },
            Step::ReleaseSpace { may_fail: true },
            Step::RefillFallback,
            Step::SetDefault {
                deployment: default,
            },
            Step::DisarmFallback { may_fail: true },
            Step::Reboot {
                reason, otherwise, ..
            },
        ] = steps
        else {
            panic!("{:?}", plan.steps);
        };
        assert_eq!(into.as_str(), ORIGIN);
        assert_eq!(stateroots, &[stateroot(TARGET), stateroot(ORIGIN)]);
        assert_eq!(*default, deployment(ORIGIN));
        assert_eq!((reason.as_str(), otherwise), ("rollback", &None));
        // Read the other way round: the return's origin is where it starts in the stamp's words too.
        assert_eq!(
            (&stamp.origin, &stamp.target),
            (default, &deployment(TARGET))
        );
    }
}

#[test]
fn cleaning_up_removes_what_is_not_booted_and_the_records_last() {
    for (state, side, booted, gone) in [
        (State::Aborting, Side::Origin, ORIGIN, TARGET),
        (State::AbortFailed, Side::Origin, ORIGIN, TARGET),
        (State::Finalizing, Side::Target, TARGET, ORIGIN),
        (State::Finalizing, Side::Origin, ORIGIN, TARGET),
    ] {
        let mut facts = facts(side);
        // As behind a switch that has not led to a reboot.
        facts.default = Some(deployment(gone));
        let plan = plan(state, "Idle", &facts);
        let disarm = (side == Side::Target).then(|| Step::DisarmMonitor {
            unit: "lca-init-monitor.service".to_owned(),
        });
        let head = [
            Step::SetDefault {
                deployment: deployment(booted),
            },
            Step::DisarmFallback { may_fail: false },
            Step::ReleaseSpace { may_fail: false },
        ];
        let rest = [
            Step::DiscardSeed,
            Step::UnpinImages,
            Step::UndeployStateroot {
                stateroot: stateroot(gone),
            },
            Step::RemoveStateroot {
                stateroot: stateroot(gone),
            },
            Step::PruneRepository,
            Step::RemoveRecords,
        ];
        let expected: Vec<Step> = head.into_iter().chain(disarm).chain(rest).collect();
        assert_eq!(plan.steps, expected, "{state}");
        // Somebody has staged another deployment of what runs: it stays.
        let mut staged = deployment(booted);
        staged.serial += 1;
        facts.default = Some(staged);
        let plan = crate::plans::plan(state, "Idle", &facts);
        assert_eq!(plan.steps, expected[1..], "{state}");
    }
}

#[test]
fn a_note_about_the_booted_deployment_does_not_grow() {
    let mut facts = facts(Side::Origin);
    facts.booted = Err("the sysroot cannot be read".to_owned());
    let mut status = plain(State::Aborting);
    for pass in 1..4 {
        let decision = decided(&spec(Some("Idle")), &status.conditions, &facts);
        assert_eq!(decision.act, Act::Wait(Why::Booted));
        let text = "Aborting. the sysroot cannot be read";
        assert_eq!(decision.said.message, text, "pass {pass}");
        status = planner::project(
            &status,
            api::Stage::Idle,
            &decision,
            crate::sample::occasion(1, pass),
        );
    }
}

#[test]
fn a_stage_that_nobody_knows_stops_no_work() {
    let mut facts = facts(Side::Origin);
    facts.pin = Some(pin());
    let known = plan(State::PrepInProgress, "Prep", &facts);
    assert_eq!(plan(State::PrepInProgress, "Nap", &facts), known);
}

/// Whoever reboots while a cluster is waited for is to come back to what runs now.
#[test]
fn a_switch_without_its_reboot_is_taken_back_before_anything_else() {
    let mut facts = facts(Side::Origin);
    facts.target = Some(target(true));
    facts.default = Some(deployment(TARGET));
    facts.cluster = planner::ClusterKnowledge::NotAsked;
    let plan = plan(State::UpgradeInProgress, "Upgrade", &facts);
    let deployment = deployment(ORIGIN);
    assert_eq!(plan.name, PlanName::Pivot);
    // What the boot loader was armed with would lead to the target now.
    assert_eq!(
        plan.steps,
        [
            Step::SetDefault { deployment },
            Step::DisarmFallback { may_fail: false }
        ]
    );
}

/// Nobody there would give back what Prep has taken.
#[test]
fn a_target_without_our_program_is_handed_nothing_of_ours() {
    let mut facts = facts(Side::Origin);
    facts.target = Some(target(true));
    let given = |facts: &Facts| {
        let plan = plan(State::UpgradeInProgress, "Upgrade", facts);
        assert_eq!(plan.name, PlanName::Pivot);
        let at = |wanted: &str| plan.steps.iter().position(|step| step.name() == wanted);
        let sync = at("sync-stateroots");
        let before = |name: &str| at(name).is_some() && at(name) < sync;
        (before("discard-seed"), before("release-space"))
    };
    assert_eq!(given(&facts), (false, false));
    facts.foreign_target = true;
    assert_eq!(given(&facts), (true, true));
}
