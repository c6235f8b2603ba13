//! Every fault at every operation of every plan, on the simulated node.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "the counts are shown")]

use api::Stage;
use node::ErrorKind;
use sim::sweep::{Segment, Sweep, Undisturbed};
use sim::{Essence, Guard, Machine, Request, Site};

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
    println!(
        "{name}: {:?}, {} failures",
        sweep.counts,
        sweep.failures.len()
    );
    for failure in sweep.failures.iter().take(6) {
        println!("{failure}\n");
    }
    assert!(
        sweep.failures.is_empty(),
        "{name}: {} failures",
        sweep.failures.len()
    );
}

fn sweep(name: &str, mut each: impl FnMut(&mut Sweep, &Walk, &Segment, &Undisturbed)) {
    let walk = walk();
    let mut sweep = Sweep::default();
    for (segment, undisturbed) in &walk.segments {
        each(&mut sweep, &walk, segment, undisturbed);
    }
    assert!(sweep.counts.operations > 500, "{:?}", sweep.counts);
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
            sweep.stop(segment, undisturbed, &walk.idle);
        }
    });
}
