//! What the plans hold, and the texts around them that the enumeration does not look at.

use api::reconfiguration::SeedReconfiguration;
use api::verdict::{Judge, Outcome};
use planner::{
    Act, ErrorKind, Facts, Plan, PlanName, RunFact, Side, State, Step, VerdictFact, Why,
    reconfigure,
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

#[test]
fn the_target_is_deployed_with_the_seeds_arguments_behind_a_unique_one() {
    let mut facts = facts(Side::Origin);
    (facts.pin, facts.content) = (Some(pin()), Some(content()));
    let plan = plan(State::PrepInProgress, "Prep", &facts);
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
    assert_eq!(arguments, &["ibu=4.17.4", "quiet", "systemd.unified=1"]);
    let Some(Step::RecordTarget { record }) = plan.steps.last() else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(record.deployment, None);
    assert!(!record.precached);
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
            "sync-stateroots",
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
            Step::Reboot { reason, boot_id } => {
                assert_eq!((reason.as_str(), boot_id.as_str()), ("upgrade", "boot-1"));
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
            Step::SyncStateroots { stateroots },
            Step::SetDefault {
                deployment: default,
            },
            Step::Reboot { reason, .. },
        ] = steps
        else {
            panic!("{:?}", plan.steps);
        };
        assert_eq!(into.as_str(), ORIGIN);
        assert_eq!(stateroots, &[stateroot(TARGET), stateroot(ORIGIN)]);
        assert_eq!(*default, deployment(ORIGIN));
        assert_eq!(reason, "rollback");
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
        let plan = plan(state, "Idle", &facts(side));
        let disarm = (side == Side::Target).then(|| Step::DisarmMonitor {
            unit: "lca-init-monitor.service".to_owned(),
        });
        let head = [
            Step::SetDefault {
                deployment: deployment(booted),
            },
            Step::ReleaseSpace,
        ];
        let rest = [
            Step::UndeployStateroot {
                stateroot: stateroot(gone),
            },
            Step::RemoveStateroot {
                stateroot: stateroot(gone),
            },
            Step::PruneRepository,
            Step::DiscardSeed,
            Step::UnpinImages,
            Step::RemoveRecords,
        ];
        let expected: Vec<Step> = head.into_iter().chain(disarm).chain(rest).collect();
        assert_eq!(plan.steps, expected, "{state}");
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

#[test]
fn the_first_boot_needs_a_name_an_identity_and_a_pull_secret() {
    let whole = || SeedReconfiguration {
        hostname: "node".to_owned(),
        cluster_id: "6c0e".to_owned(),
        pull_secret: "{}".to_owned().into(),
        ..SeedReconfiguration::default()
    };
    let check = |change: fn(&mut SeedReconfiguration), field: &str| {
        let mut document = whole();
        change(&mut document);
        let error = reconfigure(&document).unwrap_err();
        let expected = format!("{field} is empty in the exported configuration of this site");
        assert_eq!(error, expected);
    };
    check(|document| document.hostname.clear(), "hostname");
    check(
        |document| document.hostname = "localhost".to_owned(),
        "hostname",
    );
    check(|document| document.cluster_id.clear(), "cluster_id");
    check(
        |document| document.pull_secret = String::new().into(),
        "pull_secret",
    );

    let plan = reconfigure(&whole()).unwrap();
    assert_eq!(plan.name, PlanName::Reconfigure);
    assert_eq!(
        names(&plan),
        [
            "write-pull-secret",
            "restore-connections",
            "set-hostname",
            "signal-ready",
            "start-unit",
            "await-api",
            "set-cluster-id",
            "remove-reconfiguration",
            "disable-unit",
        ]
    );
}
