//! The table "What the user may switch off" of `docs/rollback.md`, cell by cell: each annotation, each failure, what becomes of the
//! node.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "each cell is shown")]

mod behind;

use api::{annotation, path};
use behind::{
    TARGET, disable, end, first_boot, first_boot_of_broken, first_boot_that_cannot_work, prepared,
    reboot, target_etc, target_file,
};
use node::ErrorKind;
use planner::State;
use serde_json::{Value, json};
use sim::{BROKEN, Fault, Guard, Machine, Site};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rollback.md");

/// What becomes of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// It goes back as soon as the failure is known.
    Back,
    /// It goes back when the time that it has is over.
    BackAtTheDeadline,
    /// It stays, far beyond that.
    Stays,
}

/// As a cell says it; `same` is the first column's.
fn fate(cell: &str, first: Option<Fate>) -> Fate {
    match cell {
        "same" => first.unwrap(),
        _ if cell.contains("deadline") => Fate::BackAtTheDeadline,
        _ if cell.starts_with("back") => Fate::Back,
        _ if cell.starts_with("stays") || cell.ends_with("without end") => Fate::Stays,
        _ => panic!("not understood: {cell}"),
    }
}

/// The columns: the annotation whose value is `Disabled`.
const COLUMNS: [Option<&str>; 4] = [
    None,
    Some(annotation::AUTO_ROLLBACK_POST_REBOOT_CONFIG),
    Some(annotation::AUTO_ROLLBACK_INIT_MONITOR),
    Some(annotation::AUTO_ROLLBACK_UPGRADE_COMPLETION),
];

/// A site in its first boot of the target, where this goes wrong.
fn going_wrong(failure: &str, mut start: Machine, guard: &Guard) -> Site {
    let resumed = |(machine, guard): (Machine, Guard)| Site::resumed_within(machine, guard);
    match failure {
        "first boot's service fails for good" => {
            resumed(first_boot_that_cannot_work(&start, guard))
        }
        "first boot's service fails in passing" => {
            let mut site = resumed(first_boot(&start, guard));
            let (call, left) = ("set_cluster_id", u32::MAX);
            let kind = ErrorKind::Transient;
            site.arm(Some(Fault::Refuse { call, left, kind }));
            site
        }
        "API server never up, agent dead" => {
            start.tamper(&target_etc(&start, BROKEN), b"");
            let mut site = resumed(first_boot_of_broken(&start, guard));
            site.lose_controller();
            site
        }
        "rebooted more than five times" => {
            let (mut machine, mut watch) = first_boot(&start, guard);
            for _ in 0..5 {
                let mut site = Site::resumed_within(machine, watch.clone());
                site.lose_controller();
                assert!(site.drive_for(3).is_err());
                machine = site.machine();
                reboot(&mut machine, &mut watch);
            }
            let mut site = Site::resumed_within(machine, watch);
            // It would complete otherwise where it may stay.
            site.lose_controller();
            site
        }
        "saved object cannot be used" => {
            let (mut machine, watch) = first_boot(&start, guard);
            machine.tamper(&target_file(path::SAVED_IBU), b"{");
            Site::resumed_within(machine, watch)
        }
        "health is never reached" => {
            let (mut machine, watch) = first_boot(&start, guard);
            machine.sicken_release(&TARGET.parse().unwrap());
            Site::resumed_within(machine, watch)
        }
        "upgrade failed in the new release" => {
            let (mut machine, watch) = first_boot(&start, guard);
            fail_upgrade(&mut machine);
            Site::resumed_within(machine, watch)
        }
        other => panic!("nobody knows how to do it: {other}"),
    }
}

/// The object that travels says that the upgrade has failed.
fn fail_upgrade(machine: &mut Machine) {
    let saved = target_file(path::SAVED_IBU);
    let mut object: Value =
        serde_json::from_slice(machine.disk().content(&saved).unwrap()).unwrap();
    let conditions = object["status"]["conditions"].as_array_mut().unwrap();
    let mut failed = conditions
        .iter()
        .find(|condition| condition["type"] == "UpgradeInProgress")
        .unwrap()
        .clone();
    conditions.retain(|condition| condition["type"] == "Idle");
    failed["status"] = json!("False");
    failed["reason"] = json!("Failed");
    failed["message"] = json!("it went wrong");
    let mut completed = failed.clone();
    completed["type"] = json!("UpgradeCompleted");
    completed["message"] = json!("Upgrade failed");
    conditions.extend([completed, failed]);
    machine.tamper(&saved, object.to_string().as_bytes());
}

/// Longer than any deadline here, seconds.
const LONG: u64 = 2 * 3600;

fn fate_of(site: &mut Site) -> Result<Fate, String> {
    let mut driven = site.drive_for(LONG);
    if driven.is_ok() && end(site).0 == TARGET {
        // The controller is at rest; time goes on.
        site.lose_controller();
        driven = site.drive_for(LONG);
    }
    let violations = site.node().violations();
    if !violations.is_empty() {
        return Err(format!("{violations:?}"));
    }
    let (stateroot, state, text) = end(site);
    if stateroot == TARGET && state == State::UpgradeCompleted {
        return Err("it has completed".to_owned());
    }
    match (stateroot == TARGET, driven) {
        (true, Err(stuck)) if stuck.0 == "its time is over" => return Ok(Fate::Stays),
        (_, Err(stuck)) => return Err(stuck.0),
        (true, Ok(())) => return Err(format!("time stands still: {state}")),
        (false, Ok(())) => {}
    }
    if state != State::UpgradeFailed {
        return Err(format!("{state}: {text}"));
    }
    Ok(if text.contains("LCA Init Monitor timeout") {
        Fate::BackAtTheDeadline
    } else {
        Fate::Back
    })
}

#[test]
fn every_cell_of_the_page_is_so() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let mut lines = page
        .lines()
        .skip_while(|line| !line.starts_with("| What goes wrong"));
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    let head = cells(lines.next().unwrap());
    for (cell, key) in head[1..].iter().zip(COLUMNS) {
        let named = key.map_or("none `Disabled`".to_owned(), |key| {
            format!("`{}`", key.rsplit('/').next().unwrap())
        });
        assert_eq!(*cell, named);
    }
    let rows: Vec<_> = lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    assert_eq!(rows.len(), 7);
    let mut wrong = Vec::new();
    for (key, column) in COLUMNS.into_iter().zip(1..) {
        let (start, guard) = match key {
            None => prepared(|_| {}),
            Some(key) => prepared(disable(key)),
        };
        for row in &rows {
            let first = (column > 1).then(|| fate(&row[1], None));
            let expected = fate(&row[column], first);
            let mut site = going_wrong(&row[0], start.clone(), &guard);
            let found = fate_of(&mut site);
            println!("{}, {key:?}: {found:?}", row[0]);
            if found != Ok(expected) {
                let story = site.story();
                let last = story[story.len().saturating_sub(6)..].join("\n    ");
                wrong.push(format!(
                    "{}, {key:?}: {found:?}, the page says {expected:?}\n    {last}",
                    row[0]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
