//! Every fault at every operation of every plan, on the simulated node.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "the counts are shown")]

use std::collections::BTreeMap;

use api::Stage;
use node::ErrorKind;
use sim::sweep::{Failure, Segment, Sweep, Undisturbed};
use sim::{Entry, Essence, Guard, Loss, Machine, Moment, Request, Site};

/// What an abort need not take back: images that were pulled meanwhile, and the directory that held the journals.
const KEPT: [&str; 2] = ["/containers/storage/", "/rhcos/var/lib/lca"];

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
    let undisturbed = segment.undisturbed().unwrap();
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
    let (half, watched) = half_made(&prep.1.moments);
    let abort_half = segment("abort-half", &half, &watched, Stage::Idle);
    let littered = littered(&start, &prepared);
    let prep_over = segment("prep-over-leftovers", &littered, &guard, Stage::Prep);
    assert_eq!(
        prep.1.essence.differences(&prep_over.1.essence),
        Vec::<String>::new()
    );
    Walk {
        idle: abort.1.essence.clone(),
        segments: vec![
            prep, upgrade, finalize, rollback, returned, abort, abort_half, prep_over,
        ],
    }
}

/// A node that lost power while `/var` was being unpacked.
fn half_made(moments: &[Moment]) -> (Machine, Guard) {
    let unpacking = |moment: &&Moment| moment.operation.contains("unpack var");
    let moment = moments.iter().filter(unpacking).nth(3).unwrap();
    let (mut machine, mut guard) = (moment.machine.clone(), moment.guard.clone());
    machine.lose_power(Loss::Nothing);
    assert!(machine.power_on());
    guard.booted(&machine);
    (machine, guard)
}

/// A node with what is left of another seed's stateroot under the name that Prep wants: its claim, and files that must go.
fn littered(idle: &Machine, prepared: &Machine) -> Machine {
    let mut machine = idle.clone();
    let var = "/sysroot/ostree/deploy/rhcos_4.17.4/var";
    for (path, entry) in prepared.disk().below(var) {
        if let Entry::File(_, content) = entry {
            machine.tamper(path, content);
        }
    }
    machine.tamper(&format!("{var}/lib/only-in-the-other"), b"gone soon");
    machine.tamper(&format!("{var}/lib/lca/stateroot-claim"), b"sha256:another");
    machine
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
        // All of them take minutes: SIM_STRIDE=1.
        sweep.stride = std::env::var("SIM_STRIDE").map_or(12, |number| number.parse().unwrap());
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
    sweep("stop of prep", |sweep, walk, segment, undisturbed| {
        // What another seed left goes only once Prep has begun.
        let but = [KEPT[0], KEPT[1], "/rhcos_4.17.4", "/rhcos_4.17.4/"];
        match segment.name {
            "prep" => sweep.stop(segment, undisturbed, &[&walk.idle], &KEPT),
            "prep-over-leftovers" => sweep.stop(segment, undisturbed, &[&walk.idle], &but),
            _ => {}
        }
    });
}

#[test]
fn a_stop_at_every_operation_of_an_upgrade_ends_on_one_side_or_the_other() {
    sweep(
        "stop of the upgrade",
        |sweep, walk, segment, undisturbed| {
            if segment.name == "upgrade" {
                let end = |name: &str| {
                    let mut segments = walk.segments.iter();
                    &segments
                        .find(|(segment, _)| segment.name == name)
                        .unwrap()
                        .1
                        .essence
                };
                // Aborted; or too late for that, and the request stays behind in the origin's etcd; or behind the end of
                // the upgrade, where it finalizes.
                let ends = [&walk.idle, end("upgrade"), end("finalize")];
                let but = [KEPT[0], KEPT[1], "/rhcos/var/lib/etcd/upgrade"];
                sweep.stop(segment, undisturbed, &ends, &but);
            }
        },
    );
}

#[test]
fn a_lasting_error_at_every_operation_fails_the_stage_and_leaves_a_way_back() {
    sweep("permanent error", |sweep, walk, segment, undisturbed| {
        let kind = ErrorKind::Permanent;
        // A saved CR that could not be read is kept as evidence, and the side that was left may remember a failure.
        let quarantined = "/ibu.json.quarantined";
        let but = [
            KEPT[0],
            KEPT[1],
            quarantined,
            // A boot loader that cannot be asked is done without.
            "/boot-fallback.json",
            "/systemd/system/lca-boot-good.service",
            "/systemd/system/sysinit.target.d",
            "/10-lca-boot-good.conf",
            "/systemd/system/lca-emergency-return.service",
            "/systemd/system/emergency.target.d",
            "/systemd/system/rescue.target.d",
            "/10-lca-emergency-return.conf",
            "/rhcos_4.17.4/var/lib/etcd/upgrade",
        ];
        let but = if segment.name == "rollback" {
            &but[..]
        } else {
            &but[..11]
        };
        sweep.fail_for_good(segment, undisturbed, kind, &walk.idle, but);
    });
}
