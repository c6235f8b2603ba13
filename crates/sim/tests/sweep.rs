//! Every fault at every operation of every plan, on the simulated node.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "the counts are shown")]

use std::collections::BTreeMap;

use api::Stage;
use node::ErrorKind;
use sim::sweep::{Failure, Segment, Sweep, Undisturbed};
use sim::{Essence, Guard, Machine, Request, Site};

/// What an abort need not take back: images that were pulled meanwhile, and the directory that held the journals.
const KEPT: [&str; 2] = ["/containers/storage", "/rhcos/var/lib/lca"];

struct Walk {
    idle: Essence,
    segments: Vec<(Segment, Undisturbed)>,
}

fn segment(
    name: &'static str,
    start: &Machine,
    guard: &Guard,
    stage: Stage,
) -> (Segment, Undisturbed) {
    let segment = Segment {
        name,
        start: start.clone(),
        guard: guard.clone(),
        request: Request::stage(stage),
    };
    let undisturbed = segment
        .undisturbed()
        .unwrap_or_else(|text| panic!("{text}"));
    (segment, undisturbed)
}

/// Every plan there is: Prep's four, the pivot, the reconfiguration, the return, abort and finalize.
fn walk() -> Walk {
    let site = Site::idle().unwrap();
    let (start, guard) = (site.machine(), site.guard());
    let prep = segment("prep", &start, &guard, Stage::Prep);
    let (prepared, watch) = (prep.1.end.clone(), prep.1.guard.clone());
    let upgrade = segment("upgrade", &prepared, &watch, Stage::Upgrade);
    let (upgraded, after) = (upgrade.1.end.clone(), upgrade.1.guard.clone());
    let rollback = segment("rollback", &upgraded, &after, Stage::Rollback);
    let returned = segment(
        "finalize-rollback",
        &rollback.1.end,
        &rollback.1.guard,
        Stage::Idle,
    );
    let finalize = segment("finalize", &upgraded, &after, Stage::Idle);
    let abort = segment("abort", &prepared, &watch, Stage::Idle);
    Walk {
        idle: abort.1.essence.clone(),
        segments: vec![prep, upgrade, finalize, rollback, returned, abort],
    }
}

fn report(name: &str, sweep: &Sweep) {
    let failures = sweep.failures.len();
    println!("{name}: {:?}, {failures} failures", sweep.counts);
    let mut kinds: BTreeMap<&str, Vec<&Failure>> = BTreeMap::new();
    for failure in &sweep.failures {
        kinds.entry(&failure.what).or_default().push(failure);
    }
    for (what, failures) in kinds.iter().take(12) {
        println!("{} times {what}", failures.len());
        println!(
            "  {}\n    {}\n",
            failures[0].at,
            failures[0].story.join("\n    ")
        );
    }
    assert_eq!(failures, 0, "{name}");
}

fn sweep(name: &str, mut each: impl FnMut(&mut Sweep, &Walk, &Segment, &Undisturbed)) {
    let walk = walk();
    let mut sweep = Sweep::default();
    for (segment, undisturbed) in &walk.segments {
        each(&mut sweep, &walk, segment, undisturbed);
    }
    assert!(sweep.counts.operations > 15, "{:?}", sweep.counts);
    report(name, &sweep);
}

#[test]
fn a_power_cut_at_every_operation_changes_nothing_in_the_end() {
    sweep("power cut", |sweep, _, segment, undisturbed| {
        sweep.cut(segment, undisturbed)
    });
}

#[test]
fn a_kill_and_then_a_power_cut_at_every_operation_change_nothing_in_the_end() {
    sweep("kill, then power cut", |sweep, _, segment, undisturbed| {
        sweep.stride = std::env::var("STRIDE").map_or(10, |n| n.parse().unwrap());
        sweep.kill_then_cut(segment, undisturbed);
    });
}

#[test]
fn a_passing_error_at_every_operation_changes_nothing_in_the_end() {
    sweep("transient error", |sweep, _, segment, undisturbed| {
        sweep.fail(segment, undisturbed, ErrorKind::Transient);
    });
}

#[test]
fn a_conflict_at_every_status_write_changes_nothing_in_the_end() {
    sweep("conflict", |sweep, _, segment, undisturbed| {
        sweep.conflict(segment, undisturbed)
    });
}

#[test]
fn a_stop_at_every_operation_of_prep_leaves_what_was_there_before() {
    sweep("stop", |sweep, walk, segment, undisturbed| {
        if segment.name == "prep" {
            sweep.stop(segment, undisturbed, &walk.idle, &KEPT);
        }
    });
}
