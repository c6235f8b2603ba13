//! Behind the pivot: nodes that are there, what is put in their way, and how they end.

use api::{ConditionType, ImageBasedUpgrade, Stage, annotation};
use planner::State;
use serde_json::{Value, json};
use sim::sweep::{Segment, Undisturbed};
use sim::{Guard, Machine, Moment, Request, Site};

pub(crate) const TARGET: &str = "rhcos_4.17.4";

/// A node behind Prep, with what the user wants of the automatic rollback.
pub(crate) fn prepared(change: impl FnOnce(&mut ImageBasedUpgrade)) -> (Machine, Guard) {
    let mut site = Site::idle().unwrap();
    site.drive([Request::stage(Stage::Prep)]).unwrap();
    assert_eq!(site.state(), State::PrepCompleted);
    let mut machine = site.machine();
    let file = machine.path("/var/lib/etcd/upgrade");
    let mut ibu: ImageBasedUpgrade =
        serde_json::from_slice(machine.disk().content(&file).unwrap()).unwrap();
    change(&mut ibu);
    machine.tamper(&file, &serde_json::to_vec(&ibu).unwrap());
    (machine, site.guard())
}

pub(crate) fn disable(key: &'static str) -> impl FnOnce(&mut ImageBasedUpgrade) {
    move |ibu| {
        let annotations = &mut ibu.metadata.annotations;
        annotations.insert(key.to_owned(), annotation::DISABLED.to_owned());
    }
}

/// The upgrade of a prepared node, undisturbed.
pub(crate) fn upgrade(machine: &Machine, guard: &Guard) -> Undisturbed {
    let segment = Segment {
        name: "upgrade",
        start: machine.clone(),
        guard: guard.clone(),
        request: Request::stage(Stage::Upgrade),
    };
    segment.undisturbed().unwrap()
}

pub(crate) fn in_target(moment: &&Moment) -> bool {
    moment.machine.booted().stateroot.as_str() == TARGET
}

/// The target's first boot, before any process of ours has done anything there.
pub(crate) fn first_boot(machine: &Machine, guard: &Guard) -> (Machine, Guard) {
    let upgrade = upgrade(machine, guard);
    let first = upgrade.moments.iter().find(in_target).unwrap();
    (first.machine.clone(), first.guard.clone())
}

/// A file of the target, which need not run.
pub(crate) fn target_file(absolute: &str) -> String {
    format!("/sysroot/ostree/deploy/{TARGET}{absolute}")
}

/// `/etc` of the prepared target.
pub(crate) fn target_etc(machine: &Machine, name: &str) -> String {
    let deployments = format!("/sysroot/ostree/deploy/{TARGET}/deploy");
    let names = machine.disk().names(&deployments);
    let deployed = names
        .iter()
        .find(|name| !name.ends_with(".origin"))
        .unwrap();
    format!("{deployments}/{deployed}/etc/{name}")
}

pub(crate) fn reboot(machine: &mut Machine, guard: &mut Guard) {
    machine.shut_down();
    assert!(machine.power_on());
    guard.booted(machine);
}

/// How a site ended: the stateroot that runs, the position, and the text of the in-progress condition.
pub(crate) fn end(site: &Site) -> (String, State, String) {
    let machine = site.machine();
    let stateroot = machine.booted().stateroot.to_string();
    let file = machine.path("/var/lib/etcd/upgrade");
    let text = machine
        .cache()
        .content(&file)
        .and_then(|bytes| serde_json::from_slice::<ImageBasedUpgrade>(bytes).ok())
        .and_then(|ibu| {
            let found = ibu.condition(ConditionType::UpgradeInProgress)?;
            Some(found.message.clone())
        });
    (stateroot, site.state(), text.unwrap_or_default())
}

/// The target's first boot with a document of the site in it that nothing can be made of.
pub(crate) fn first_boot_that_cannot_work(start: &Machine, guard: &Guard) -> (Machine, Guard) {
    let (mut machine, watch) = first_boot(start, guard);
    let path = target_file("/var/opt/openshift/cluster-configuration/manifest.json");
    let mut document: Value =
        serde_json::from_slice(machine.disk().content(&path).unwrap()).unwrap();
    document["machine_networks"] = json!(["2001:db8::/64"]);
    machine.tamper(&path, document.to_string().as_bytes());
    (machine, watch)
}

/// The moment of the pivot's reboot, without an undisturbed end to look at.
pub(crate) fn first_boot_of_broken(start: &Machine, guard: &Guard) -> (Machine, Guard) {
    let mut site = Site::resumed_within(start.clone(), guard.clone());
    site.ask(&Request::stage(Stage::Upgrade));
    site.record();
    let _ = site.drive([]);
    let moments = site.take_moments();
    let first = moments.iter().find(in_target).unwrap();
    (first.machine.clone(), first.guard.clone())
}
