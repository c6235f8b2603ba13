//! The boot loader's way back, on the simulated node: releases that do not come up, and what disturbs the way.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "the story is shown when a test fails")]

use api::{Stage, StaterootName};
use planner::State;
use sim::sweep::{Segment, Sweep};
use sim::{Machine, Request, Site};

const VARIABLES: &str = "/boot/grub2/grubenv";
const DROP_IN: &str = "/boot/grub2/custom.cfg";
const NOTE: &str = "var/lib/lca/boot-fallback.json";

fn target() -> StaterootName {
    "rhcos_4.17.4".parse().unwrap()
}

fn asked(site: &mut Site, stages: &[Stage]) {
    let driven = site.drive(stages.iter().copied().map(Request::stage));
    for line in site.story() {
        println!("{line}");
    }
    assert_eq!(driven, Ok(()));
    assert_eq!(site.node().violations(), Vec::<String>::new());
}

/// A site that has prepared the target.
fn prepared() -> Site {
    let mut site = Site::idle().unwrap();
    asked(&mut site, &[Stage::Prep]);
    site
}

fn nothing_is_armed(machine: &Machine) {
    let variables = machine.disk().text(VARIABLES);
    assert_eq!(variables, Some(""), "the boot loader's variables");
    assert!(machine.disk().get(DROP_IN).is_none());
    let own = format!("/{}/{NOTE}", machine.booted().stateroot);
    let notes = machine.disk().entries();
    let notes: Vec<_> = notes.filter(|(path, _)| path.ends_with(&own)).collect();
    assert!(notes.is_empty(), "{notes:?}");
}

fn told(site: &Site) -> String {
    let upgrade = node::ports::Cluster::upgrade(site.node()).unwrap().unwrap();
    let conditions = upgrade.status.unwrap().conditions;
    let told = conditions
        .iter()
        .find(|found| found.type_ == "UpgradeInProgress");
    told.unwrap().message.clone()
}

#[test]
fn a_release_that_does_not_come_up_is_returned_from_and_named() {
    let mut machine = prepared().machine();
    machine.break_release(&target());
    let mut site = Site::resumed(machine);
    asked(&mut site, &[Stage::Upgrade]);
    let machine = site.machine();
    assert_eq!(site.state(), State::UpgradeFailed);
    assert_eq!(machine.booted().stateroot.as_str(), "rhcos");
    assert_eq!(machine.reboots(), 1);
    let text = told(&site);
    assert!(
        text.starts_with("Uncontrolled rollback: rhcos_4.17.4-"),
        "{text}"
    );
    assert!(text.contains("did not come up in 3 attempts"), "{text}");
    nothing_is_armed(&machine);
    // Nobody tries again by himself, and the way to Idle leaves no trace.
    asked(&mut site, &[Stage::Idle]);
    assert_eq!(site.state(), State::Idle);
    let failed = "/sysroot/ostree/deploy/rhcos/var/lib/lca/failed-boot.json";
    assert!(site.machine().disk().get(failed).is_none());
}

#[test]
fn a_completed_upgrade_is_not_armed_any_more() {
    let mut site = prepared();
    asked(&mut site, &[Stage::Upgrade]);
    assert_eq!(site.state(), State::UpgradeCompleted);
    assert_eq!(site.machine().booted().stateroot, target());
    nothing_is_armed(&site.machine());
    asked(&mut site, &[Stage::Rollback]);
    assert_eq!(site.state(), State::RollbackCompleted);
    nothing_is_armed(&site.machine());
}

#[test]
fn a_look_at_the_old_release_undoes_no_completed_upgrade() {
    let mut site = prepared();
    asked(&mut site, &[Stage::Upgrade]);
    let mut machine = site.machine();
    machine.shut_down();
    machine.pick_release(&"rhcos".parse().unwrap());
    assert!(machine.power_on());
    let mut site = Site::resumed(machine);
    asked(&mut site, &[]);
    assert_eq!(site.machine().booted().stateroot.as_str(), "rhcos");
    assert_eq!(site.machine().default().unwrap().stateroot, target());
    // Whoever starts the node next finds the new release, complete.
    let mut machine = site.machine();
    machine.shut_down();
    assert!(machine.power_on());
    let mut site = Site::resumed(machine);
    asked(&mut site, &[]);
    assert_eq!(site.machine().booted().stateroot, target());
    assert_eq!(site.state(), State::UpgradeCompleted);
}

#[test]
fn a_target_of_any_seed_has_a_way_out_of_emergency_mode() {
    let mut site = prepared();
    asked(&mut site, &[Stage::Upgrade]);
    let machine = site.machine();
    let text = |name: &str| {
        let path = machine.path(&format!("/etc/systemd/system/{name}"));
        machine.cache().text(&path).map(ToOwned::to_owned)
    };
    // A boot whose mounts failed is none that is good.
    let good = text("lca-boot-good.service").unwrap();
    assert!(good.contains("\nRequires=local-fs.target\n"), "{good}");
    let out = text("lca-emergency-return.service").unwrap();
    assert!(out.contains("\nDefaultDependencies=no\n"), "{out}");
    // It must not be passed over where its first boot ends there: nothing has run in it, and this is what it was given.
    let (conditions, paths): (Vec<_>, Vec<_>) = out
        .lines()
        .filter_map(|line| line.strip_prefix("ConditionPathExists="))
        .map(|path| path.split_at(1))
        .unzip();
    assert!(conditions.iter().all(|mark| *mark == "|"), "{out}");
    let handed_over = include_str!("../../../tests/contract/handed-over.txt");
    for path in [
        "/var/lib/lca/ibu.json",
        "/var/lib/lca/autorollback_config.json",
    ] {
        let listed = path.replacen("/var", "0600 ", 1);
        assert!(handed_over.contains(&listed), "{path}");
        assert!(paths.contains(&path), "{path}: {paths:?}");
    }
    for target in ["emergency", "rescue"] {
        let wants = text(&format!("{target}.target.d/10-lca-emergency-return.conf"));
        assert_eq!(
            wants.unwrap(),
            "[Unit]\nWants=lca-emergency-return.service\n"
        );
    }
}

#[test]
fn a_target_that_fails_in_a_later_boot_is_returned_from_too() {
    // Between the first boot of the target and the end of the upgrade.
    let mut site = prepared();
    site.record();
    asked(&mut site, &[Stage::Upgrade]);
    let moments = site.take_moments();
    let first_boot = moments
        .iter()
        .filter(|moment| moment.machine.booted().stateroot == target())
        .find(|moment| moment.operation.starts_with("notified_ready"));
    let mut machine = first_boot.unwrap().machine.clone();
    machine.break_release(&target());
    machine.lose_power(sim::Loss::Everything);
    assert!(machine.power_on());
    assert_eq!(machine.booted().stateroot.as_str(), "rhcos");
    let mut site = Site::resumed(machine);
    asked(&mut site, &[]);
    assert_eq!(site.state(), State::UpgradeFailed);
    nothing_is_armed(&site.machine());
}

#[test]
fn a_node_without_such_a_boot_loader_upgrades_all_the_same() {
    let mut machine = prepared().machine();
    machine.remove("/boot/grub2/grub.cfg");
    let mut site = Site::resumed(machine);
    asked(&mut site, &[Stage::Upgrade, Stage::Idle]);
    assert_eq!(site.state(), State::Idle);
    assert_eq!(site.machine().booted().stateroot, target());
}

#[test]
fn a_seed_that_cannot_declare_its_boots_good_is_not_counted() {
    let mut machine = prepared().machine();
    machine.remove("/sysroot/ostree/deploy/rhcos_4.17.4/var/usrlocal/bin/lifecycle-agent");
    let mut site = Site::resumed(machine);
    let driven = site.drive([Request::stage(Stage::Upgrade)]);
    assert_eq!(driven, Ok(()));
    assert_eq!(site.state(), State::UpgradeCompleted);
    let arms = |step: &planner::Step| step.name() == "arm-fallback";
    assert!(!site.plans().iter().any(|plan| plan.steps.iter().any(arms)));
    nothing_is_armed(&site.machine());
}

#[test]
fn a_power_cut_on_the_way_back_from_a_broken_release_changes_nothing_in_the_end() {
    let site = prepared();
    let mut start = site.machine();
    start.break_release(&target());
    let segment = Segment {
        name: "upgrade-to-a-broken-release",
        start,
        guard: site.guard(),
        request: Request::stage(Stage::Upgrade),
    };
    let undisturbed = segment.undisturbed().unwrap();
    let mut sweep = Sweep::default();
    sweep.cut(&segment, &undisturbed);
    sweep.stride = 12;
    sweep.kill_then_cut(&segment, &undisturbed);
    println!("{:?}", sweep.counts);
    let failures = sweep.failures.iter().take(3);
    for failure in failures {
        println!(
            "{}\n  {}\n    {}",
            failure.what,
            failure.at,
            failure.story.join("\n    ")
        );
    }
    assert_eq!(sweep.failures.len(), 0);
    assert!(sweep.counts.operations > 50, "{:?}", sweep.counts);
}
