//! Always back: what goes wrong behind the pivot ends on the old release by itself, and what has completed stays.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "the counts are shown")]

mod behind;

use std::collections::BTreeMap;

use api::{Stage, annotation, path};
use behind::{
    TARGET, disable, end, first_boot, first_boot_of_broken, first_boot_that_cannot_work, in_target,
    prepared, reboot, target_etc, target_file,
};
use engine::{Event, StopToken};
use node::{Agent, FirstBoot, PortError};
use planner::{ErrorKind, State};
use serde_json::Value;
use sim::{BROKEN, Essence, Fault, Guard, Loss, Machine, Moment, Node, Request, Site};

const ORIGIN: &str = "rhcos";
const YEAR: i64 = 365 * 86_400;

fn cut(machine: &mut Machine, guard: &mut Guard, loss: Loss) {
    machine.lose_power(loss);
    assert!(machine.power_on());
    guard.booted(machine);
}

/// Drives a site to its end, which has to be sound.
fn driven(name: &str, mut site: Site) -> Site {
    let result = site.drive([]);
    let story = site.story().join("\n    ");
    assert_eq!(result, Ok(()), "{name}\n    {story}");
    let violations = site.node().violations();
    assert!(
        violations.is_empty(),
        "{name}: {violations:#?}\n    {story}"
    );
    site
}

fn returned(name: &str, site: Site, reason: &str) -> Site {
    let before = site.machine().reboots();
    let site = driven(name, site);
    let (stateroot, state, text) = end(&site);
    println!("{name}: {stateroot} {state} {text:?}");
    assert_eq!(
        (stateroot.as_str(), state),
        (ORIGIN, State::UpgradeFailed),
        "{name}"
    );
    assert!(text.starts_with(reason), "{name}: {text:?}");
    assert!(site.machine().reboots() > before, "{name}");
    let kept = evidence(&site, &text);
    assert_eq!(kept, Ok(()), "{name}: {text:?}");
    site
}

/// Whether there is evidence on the disk, whole and without secrets, and the condition names it: one bundle where it is known which
/// upgrade it is of, and one for each boot that went back where it is not.
fn evidence(site: &Site, told: &str) -> Result<(), String> {
    let machine = site.machine();
    let disk = machine.disk();
    let names = disk.names("/containers/lca/evidence");
    let mut upgrades = Vec::new();
    for name in &names {
        let place = format!("/containers/lca/evidence/{name}");
        let text = disk.text(&format!("{place}/bundle.json"));
        let text = text.ok_or_else(|| format!("{name} is not whole: {:?}", disk.names(&place)))?;
        let bundle: Value = serde_json::from_str(text).unwrap();
        let parts = bundle["parts"].as_array().unwrap();
        for part in parts {
            let part = disk.text(&format!("{place}/{}", part.as_str().unwrap()));
            if part.is_none_or(|text| text.contains("simulated-secret")) {
                return Err(format!("{name}: {part:?}"));
            }
        }
        let has = |part: &str| parts.iter().any(|name| name == part);
        let told = |part: &str| bundle["missing"].to_string().contains(part);
        for part in ["verdict.json", "journal.txt"] {
            if !has(part) && !told(part) {
                return Err(format!("{name} has {parts:?} and misses no {part}"));
            }
        }
        upgrades.push(bundle["upgrade"].clone());
    }
    let last = names.last().ok_or("there is no evidence")?;
    let place = format!("; evidence: /var/lib/containers/lca/evidence/{last}");
    if !told.ends_with(&place) {
        return Err(format!("the condition names no {place:?}: {told:?}"));
    }
    if names.len() > 1 && upgrades.iter().any(|upgrade| !upgrade.is_null()) {
        return Err(format!("{names:?} are of {upgrades:?}"));
    }
    Ok(())
}

fn completed(name: &str, site: Site) -> Site {
    let site = driven(name, site);
    let (stateroot, state, _) = end(&site);
    println!("{name}: {stateroot} {state}");
    assert_eq!(
        (stateroot.as_str(), state),
        (TARGET, State::UpgradeCompleted),
        "{name}"
    );
    let machine = site.machine();
    let left = machine
        .cache()
        .get(&machine.path("/etc/systemd/system/lca-init-monitor.service"));
    assert!(left.is_none(), "{name}: the init monitor is still there");
    site
}

#[test]
fn what_goes_wrong_in_the_target_ends_on_the_origin() {
    let (start, guard) = prepared(|_| {});
    let timeout = "Rollback due to LCA Init Monitor timeout, after 30m0s";

    let (mut machine, watch) = first_boot(&start, &guard);
    let mut site = Site::resumed_within(machine.clone(), watch.clone());
    site.lose_controller();
    returned("agent gone", site, timeout);

    // The same with a configuration that is no good, and without one.
    let config = target_file(path::ROLLBACK_CONFIG);
    for (name, content) in [
        ("torn", b"{\"monitor_en".as_slice()),
        ("empty", b""),
        ("zeros", &[0; 9]),
    ] {
        let mut machine = machine.clone();
        machine.tamper(&config, content);
        let mut site = Site::resumed_within(machine, watch.clone());
        site.lose_controller();
        returned(&format!("agent gone, configuration {name}"), site, timeout);
    }

    for (name, seconds) in [("ahead", YEAR), ("back", -YEAR)] {
        let mut machine = machine.clone();
        machine.move_clock(seconds);
        let mut site = Site::resumed_within(machine.clone(), watch.clone());
        site.lose_controller();
        returned(&format!("agent gone, clock a year {name}"), site, timeout);
        completed(
            &format!("clock a year {name}"),
            Site::resumed_within(machine, watch.clone()),
        );
    }

    let saved = target_file(path::SAVED_IBU);
    let whole = machine.disk().content(&saved).unwrap().to_vec();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x80;
    let newer = String::from_utf8(whole.clone())
        .unwrap()
        .replace("lca.openshift.io/v1", "lca.openshift.io/v2");
    for (name, content) in [
        ("empty", Vec::new()),
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("bit-flipped", flipped),
        ("of a newer version", newer.into_bytes()),
    ] {
        let mut machine = machine.clone();
        machine.tamper(&saved, &content);
        let site = Site::resumed_within(machine, watch.clone());
        let reason = "Rollback due to upgrade failure: the saved ImageBasedUpgrade";
        returned(&format!("saved object {name}"), site, reason);
    }

    // The origin's own copy is lost as well: it reads the target's verdict.
    machine.tamper("/sysroot/ostree/deploy/rhcos/var/lib/lca/ibu.json", b"{");
    let mut watch = watch;
    watch.booted(&machine);
    let mut site = Site::resumed_within(machine, watch);
    site.lose_controller();
    returned("agent gone, origin's copy torn", site, timeout);
}

#[test]
fn a_first_boot_that_fails_for_good_leads_back_at_once() {
    let reason = "Rollback due to postpivot failure: planning the reconfiguration of this node: machine_networks of \
                  this site are IPv6 and its node_ips IPv4";
    let (start, guard) = prepared(|_| {});
    let (machine, watch) = first_boot_that_cannot_work(&start, &guard);
    returned(
        "first boot fails",
        Site::resumed_within(machine, watch),
        reason,
    );

    // Switched off, it is retried, and the deadline counts.
    let (start, guard) = prepared(disable(annotation::AUTO_ROLLBACK_POST_REBOOT_CONFIG));
    let (machine, watch) = first_boot_that_cannot_work(&start, &guard);
    let timeout = "Rollback due to LCA Init Monitor timeout, after 30m0s";
    returned(
        "first boot fails, post-reboot-config disabled",
        Site::resumed_within(machine, watch),
        timeout,
    );
}

#[test]
fn a_first_boot_that_cannot_begin_is_judged_like_one_that_failed() {
    let judged = |machine: Machine, guard: Guard| {
        let node = Node::new(machine, guard);
        let agent = Agent::new(node.ports(), "test");
        // Nothing is carried out: what is judged is told by how it ends.
        let stop = StopToken::new();
        stop.stop();
        let error = PortError::plain(ErrorKind::Permanent, "a bad kubeconfig");
        node::return_from_first_boot(&agent, error, &stop, &mut |_: &Event| {})
    };
    let (start, guard) = prepared(|_| {});
    let origin = judged(start.clone(), guard.clone());
    assert_eq!(origin.unwrap(), FirstBoot::NothingToDo);
    let (machine, watch) = first_boot(&start, &guard);
    assert_eq!(judged(machine, watch).unwrap(), FirstBoot::Stopped);
    let (start, guard) = prepared(disable(annotation::AUTO_ROLLBACK_POST_REBOOT_CONFIG));
    let (machine, watch) = first_boot(&start, &guard);
    let error = judged(machine, watch).unwrap_err();
    assert!(error.to_string().contains("a bad kubeconfig"), "{error}");
}

#[test]
fn an_api_server_that_never_comes_up_leads_back_at_the_deadline() {
    let (mut start, guard) = prepared(|ibu| {
        ibu.spec.auto_rollback_on_failure = Some(api::AutoRollbackOnFailure {
            init_monitor_timeout_seconds: Some(120),
        });
    });
    let broken = target_etc(&start, BROKEN);
    start.tamper(&broken, b"");
    let (machine, watch) = first_boot_of_broken(&start, &guard);
    let timeout = "Rollback due to LCA Init Monitor timeout, after 2m0s";
    let site = returned(
        "no API server",
        Site::resumed_within(machine.clone(), watch.clone()),
        timeout,
    );
    assert_eq!(site.machine().reboots(), machine.reboots() + 1);

    // Nobody watches: the user's wish.
    let (mut start, guard) = prepared(disable(annotation::AUTO_ROLLBACK_INIT_MONITOR));
    start.tamper(&target_etc(&start, BROKEN), b"");
    let (machine, watch) = first_boot_of_broken(&start, &guard);
    let mut site = Site::resumed_within(machine, watch);
    site.lose_controller();
    assert!(site.drive_for(4 * 3600).is_err());
    assert_eq!(end(&site).0, TARGET);
}

#[test]
fn boots_are_counted_and_clean_ones_too() {
    let (start, guard) = prepared(|_| {});
    for (reboots, returns) in [(2, false), (4, false), (5, true)] {
        for clean in [true, false] {
            let (mut machine, mut watch) = first_boot(&start, &guard);
            for _ in 0..reboots {
                // The monitor of each boot has to have counted it.
                let mut site = Site::resumed_within(machine, watch.clone());
                site.lose_controller();
                assert!(site.drive_for(3).is_err());
                machine = site.machine();
                if clean {
                    reboot(&mut machine, &mut watch);
                } else {
                    cut(&mut machine, &mut watch, Loss::Everything);
                }
            }
            let name = format!("{reboots} reboots, clean: {clean}");
            let site = Site::resumed_within(machine, watch);
            if returns {
                let reason = "Rollback due to LCA Init Monitor: not completed within 5 boots";
                returned(&name, site, reason);
            } else {
                completed(&name, site);
            }
        }
    }
}

/// The time that a boot lasted counts in the next one, so that no reboot and no power cut extends the deadline.
#[test]
fn power_cuts_do_not_extend_the_deadline() {
    let (start, guard) = prepared(|_| {});
    let (mut machine, mut watch) = first_boot(&start, &guard);
    let mut ran = 0;
    for part in [700, 700] {
        let mut site = Site::resumed_within(machine, watch.clone());
        site.lose_controller();
        assert!(site.drive_for(part).is_err());
        ran += part;
        machine = site.machine();
        cut(&mut machine, &mut watch, Loss::Everything);
    }
    let mut site = Site::resumed_within(machine, watch);
    site.lose_controller();
    // 1,800 s less what the two boots lasted, and what they had not written down yet.
    assert!(site.drive_for(1800 - ran + 40).is_ok());
    assert_eq!(end(&site).0, ORIGIN);
}

/// What was found, by what is wrong.
#[derive(Default)]
struct Found {
    runs: usize,
    completed: usize,
    returned: usize,
    wrong: BTreeMap<String, (usize, String)>,
}

impl Found {
    fn drive(&mut self, at: &str, mut site: Site) -> Site {
        self.runs += 1;
        let result = site.drive([]);
        let (stateroot, state, text) = end(&site);
        match (stateroot.as_str(), state) {
            (TARGET, State::UpgradeCompleted) => self.completed += 1,
            (ORIGIN, State::UpgradeFailed) if text.starts_with("Rollback due to ") => {
                self.returned += 1;
                if let Err(wrong) = evidence(&site, &text) {
                    self.say(at, &site, wrong);
                }
            }
            _ => self.say(at, &site, format!("ends in {stateroot} {state} {text:?}")),
        }
        if let Err(stuck) = result {
            self.say(at, &site, format!("{stuck:?}"));
        }
        if let Some(first) = site.node().violations().first() {
            self.say(at, &site, first.clone());
        }
        site
    }

    fn say(&mut self, at: &str, site: &Site, what: String) {
        let story = site.story().join("\n    ");
        let entry = self
            .wrong
            .entry(what)
            .or_insert_with(|| (0, format!("{at}\n    {story}")));
        entry.0 += 1;
    }

    fn report(&self, name: &str) {
        println!(
            "{name}: {} runs, {} completed, {} returned, {} wrong",
            self.runs,
            self.completed,
            self.returned,
            self.wrong.len()
        );
        for (what, (times, at)) in self.wrong.iter().take(8) {
            println!("{times} times {what}\n  {at}\n");
        }
        assert!(self.wrong.is_empty(), "{name}");
    }
}

/// The deadline passes at every operation of the first boot and of the completion, so that the monitor and whoever is at work
/// decide at the same time: one of them wins, and both know who.
#[test]
fn a_deadline_at_every_operation_has_one_winner() {
    let (start, guard) = prepared(|_| {});
    let (machine, watch) = first_boot(&start, &guard);
    let mut site = Site::resumed_within(machine.clone(), watch.clone());
    // Never: what is not armed counts less than the runs that follow.
    site.arm(Some(Fault::Deadline(u64::MAX)));
    let site = completed("undisturbed", site);
    let mut found = Found::default();
    for at in 0..site.node().operations() {
        let mut site = Site::resumed_within(machine.clone(), watch.clone());
        site.arm(Some(Fault::Deadline(at)));
        found.drive(&format!("deadline at {at}"), site);
    }
    found.report("deadline");
    assert!(
        found.completed > 5 && found.returned > 50,
        "{} {}",
        found.completed,
        found.returned
    );
}

/// The same, and the power goes at one of the operations behind it.
#[test]
fn a_power_cut_behind_every_deadline_has_one_winner() {
    let (start, guard) = prepared(|_| {});
    let (machine, watch) = first_boot(&start, &guard);
    let mut site = Site::resumed_within(machine.clone(), watch.clone());
    // Never: what is not armed counts less than the runs that follow.
    site.arm(Some(Fault::Deadline(u64::MAX)));
    let operations = completed("undisturbed", site).node().operations();
    let mut found = Found::default();
    // Thinned out: all of them take minutes.
    let stride = std::env::var("SIM_STRIDE").map_or(7, |text| text.parse().unwrap());
    for at in (0..operations).step_by(stride) {
        let mut site = Site::resumed_within(machine.clone(), watch.clone());
        site.arm(Some(Fault::Deadline(at)));
        site.record();
        let mut site = found.drive(&format!("deadline at {at}"), site);
        let moments = site.take_moments();
        for moment in moments
            .iter()
            .filter(|moment| moment.first >= at)
            .step_by(stride)
        {
            for loss in [Loss::Everything, Loss::Nothing, Loss::Some(5)] {
                let (mut machine, mut guard) = (moment.machine.clone(), moment.guard.clone());
                cut(&mut machine, &mut guard, loss);
                let place = format!(
                    "deadline at {at}, cut at {} ({}) {loss:?}",
                    moment.first, moment.operation
                );
                found.drive(&place, Site::resumed_within(machine, guard));
            }
        }
    }
    found.report("deadline, then power cut");
}

/// Kills and power cuts at every operation of each automatic return: the same end.
#[test]
fn a_return_that_is_cut_short_goes_on() {
    let (start, guard) = prepared(|_| {});
    let by_post_pivot = first_boot_that_cannot_work(&start, &guard);

    let (mut torn, watch) = first_boot(&start, &guard);
    torn.tamper(&target_file(path::SAVED_IBU), b"");
    let by_controller = (torn, watch);

    // Near its deadline.
    let (machine, watch) = first_boot(&start, &guard);
    let mut site = Site::resumed_within(machine, watch.clone());
    site.lose_controller();
    assert!(site.drive_for(1760).is_err());
    let by_monitor = (site.machine(), watch);

    let mut found = Found::default();
    for (name, (machine, guard), gone) in [
        ("post-pivot", by_post_pivot, false),
        ("controller", by_controller, false),
        ("monitor", by_monitor, true),
    ] {
        let resumed = |machine: Machine, guard: Guard| {
            let mut site = Site::resumed_within(machine, guard);
            if gone {
                site.lose_controller();
            }
            site
        };
        let mut site = resumed(machine, guard);
        site.arm(None);
        site.record();
        let mut site = found.drive(name, site);
        let expected = Essence::of(&site.machine()).without(&KEPT);
        let moments = site.take_moments();
        println!(
            "{name}: {} moments, {} operations",
            moments.len(),
            site.node().operations()
        );
        for moment in &moments {
            let place = format!("{name} at {} ({})", moment.first, moment.operation);
            let mut after = vec![(
                format!("{place}, killed"),
                moment.machine.clone(),
                moment.guard.clone(),
            )];
            for loss in [
                Loss::Everything,
                Loss::Nothing,
                Loss::Some(1),
                Loss::Some(2),
            ] {
                let (mut machine, mut guard) = (moment.machine.clone(), moment.guard.clone());
                cut(&mut machine, &mut guard, loss);
                after.push((format!("{place}, cut {loss:?}"), machine, guard));
            }
            for (at, machine, guard) in after {
                let site = found.drive(&at, resumed(machine, guard));
                let differences =
                    expected.differences(&Essence::of(&site.machine()).without(&KEPT));
                if !differences.is_empty() {
                    found.say(&at, &site, format!("same_end: {}", differences.join("; ")));
                }
            }
        }
    }
    found.report("returns cut short");
}

/// Whatever fails while evidence is sealed, for one moment or for good: the node goes back, and the old release seals what the new
/// one could not.
#[test]
fn evidence_that_cannot_be_sealed_bars_nothing() {
    let (start, guard) = prepared(|_| {});
    let (machine, watch) = first_boot_that_cannot_work(&start, &guard);
    let mut site = Site::resumed_within(machine.clone(), watch.clone());
    site.arm(None);
    site.record();
    let mut site = returned("undisturbed", site, "Rollback due to postpivot failure");
    let moments = site.take_moments();
    let seals = |moment: &&Moment| {
        let at = &moment.operation;
        in_target(moment) && (at.contains("lca/evidence") || at.starts_with("traces"))
    };
    let first = moments.iter().find(seals).unwrap().first;
    let last = moments.iter().rfind(seals).unwrap().last;
    println!("operations {first} to {last}");
    assert!(last > first + 20, "{first} {last}");
    let mut found = Found::default();
    for at in first..=last {
        for kind in [ErrorKind::Permanent, ErrorKind::Transient] {
            let mut site = Site::resumed_within(machine.clone(), watch.clone());
            site.arm(Some(Fault::Error(at, kind)));
            let site = found.drive(&format!("{kind:?} error at {at}"), site);
            let reboots = site.machine().reboots() - machine.reboots();
            if reboots != 1 {
                found.say(&format!("{at}"), &site, format!("{reboots} reboots"));
            }
        }
    }
    found.report("errors while sealing");
    assert_eq!(found.returned, found.runs);
}

/// Not even a partition that stays full: there is no evidence, and nothing waits for it.
#[test]
fn a_full_shared_partition_bars_no_way_back() {
    let (start, guard) = prepared(|_| {});
    let by_post_pivot = first_boot_that_cannot_work(&start, &guard);
    let by_monitor = first_boot(&start, &guard);
    for (gone, (mut machine, watch)) in [(false, by_post_pivot), (true, by_monitor)] {
        machine.fill_shared();
        let mut site = Site::resumed_within(machine.clone(), watch);
        if gone {
            site.lose_controller();
        }
        // The monitor's deadline, or nothing but the way.
        let limit = if gone { 1900 } else { 120 };
        assert_eq!(site.drive_for(limit), Ok(()), "{:#?}", site.story());
        assert_eq!(site.node().violations(), Vec::<String>::new());
        let (stateroot, state, text) = end(&site);
        assert_eq!((stateroot.as_str(), state), (ORIGIN, State::UpgradeFailed));
        assert!(text.starts_with("Rollback due to "), "{text}");
        assert!(!text.contains("; evidence: "), "{text}");
        assert_eq!(site.machine().reboots(), machine.reboots() + 1);
        assert_eq!(site.drive([Request::stage(Stage::Idle)]), Ok(()));
        assert_eq!(site.state(), State::Idle);
    }
}

/// Nothing that a way back can do without bars it, however long it fails.
#[test]
fn what_a_return_can_do_without_bars_none() {
    let (start, guard) = prepared(|_| {});
    let by_post_pivot = first_boot_that_cannot_work(&start, &guard);
    let by_monitor = first_boot(&start, &guard);
    for broken in [
        "read /var/lib/lca/handover.json",
        "deploy/rhcos/var/lib/lca/ibu.json",
        "/var/lib/lca/runs",
        "lca/evidence",
        "traces",
        "/var/lib/lca/init-monitor.json",
    ] {
        for (gone, (machine, watch)) in [(false, &by_post_pivot), (true, &by_monitor)] {
            let mut site = Site::resumed_within(machine.clone(), watch.clone());
            if gone {
                site.lose_controller();
            }
            site.arm(Some(Fault::Broken(broken)));
            // It may fail in the origin as well, which then does not come to rest.
            let driven = site.drive_for(2000);
            let machine = site.machine();
            let struck = site.node().struck();
            println!("{broken}, agent gone: {gone}: {struck} times, {driven:?}");
            assert!(struck > 0, "{broken}, agent gone: {gone}: never met");
            assert_eq!(
                machine.booted().stateroot.as_str(),
                ORIGIN,
                "{broken}, agent gone: {gone}: {:#?}",
                site.story()
            );
        }
    }
}

/// A return that keeps failing is left to the boot loader.
#[test]
fn a_return_that_fails_for_good_ends_by_the_boot_loader() {
    let (start, guard) = prepared(|_| {});
    let (machine, watch) = first_boot(&start, &guard);
    let mut site = Site::resumed_within(machine, watch);
    site.lose_controller();
    site.arm(Some(Fault::Broken("set_default rhcos-")));
    // It fails on the origin as well, which then does not come to rest.
    let driven = site.drive_for(20_000);
    let machine = site.machine();
    println!("{driven:?}, {} reboots", machine.reboots());
    assert_eq!(machine.reboots(), 2, "{:#?}", site.story());
    assert!(site.node().struck() > 0);
    assert_eq!(
        machine.booted().stateroot.as_str(),
        ORIGIN,
        "{:#?}",
        site.story()
    );
    assert_eq!(site.node().violations(), Vec::<String>::new());
}

/// What a kept failure may differ in: what was put aside, the side that was left, and when it had last decided.
const KEPT: [&str; 3] = ["/ibu.json.quarantined", "/rhcos_4.17.4/", "/rhcos_4.17.4"];
