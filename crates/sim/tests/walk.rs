//! Whole walks on the simulated node.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "the story is shown when a test fails")]

use api::Stage;
use planner::State;
use sim::{Request, Site};

fn walk(stages: &[Stage]) -> Site {
    let mut site = Site::idle().unwrap();
    site.arm(None);
    let driven = site.drive(stages.iter().copied().map(Request::stage));
    for line in site.story() {
        println!("{line}");
    }
    println!("{} operations", site.node().operations());
    assert_eq!(driven, Ok(()));
    assert_eq!(site.node().violations(), Vec::<String>::new());
    site
}

#[test]
fn an_upgrade_goes_from_idle_to_idle_with_one_reboot() {
    let site = walk(&[Stage::Prep, Stage::Upgrade, Stage::Idle]);
    assert_eq!(site.state(), State::Idle);
    let machine = site.machine();
    assert_eq!(machine.booted().stateroot.as_str(), "rhcos_4.17.4");
    assert_eq!(machine.reboots(), 1);
    let reached: Vec<State> = deduplicated(site.states());
    assert_eq!(
        reached,
        [
            State::Idle,
            State::PrepInProgress,
            State::PrepCompleted,
            State::UpgradeInProgress,
            State::UpgradeCompleted,
            State::Finalizing,
            State::Idle
        ]
    );
}

#[test]
fn a_rollback_returns_to_the_origin() {
    let site = walk(&[Stage::Prep, Stage::Upgrade, Stage::Rollback, Stage::Idle]);
    assert_eq!(site.state(), State::Idle);
    assert_eq!(site.machine().booted().stateroot.as_str(), "rhcos");
    assert_eq!(site.machine().reboots(), 2);
}

#[test]
fn an_abort_leaves_what_was_there_before() {
    let site = walk(&[Stage::Prep, Stage::Idle]);
    assert_eq!(site.state(), State::Idle);
    assert_eq!(site.machine().reboots(), 0);
}

fn deduplicated(states: &[State]) -> Vec<State> {
    let mut states = states.to_vec();
    states.dedup();
    states
}
