//! Where the time of a simulated upgrade went, by what its node keeps.
#![expect(clippy::unwrap_used, reason = "a test")]

use api::{Stage, StaterootName, Timestamp};
use node::RUNS;
use node::ports::{Clock, Cluster, Files, NodePath};
use node::timeline::{Journals, Timeline};
use sim::{Request, Site};

fn there() -> Site {
    let mut site = Site::idle().unwrap();
    let stages = [Stage::Prep, Stage::Upgrade];
    site.drive(stages.map(Request::stage)).unwrap();
    site
}

fn timeline(site: &Site) -> Timeline {
    // Of a copy, whose time is not over.
    let site = Site::resumed(site.machine());
    let node = site.node();
    let others: Vec<StaterootName> = vec!["rhcos".parse().unwrap()];
    let journals = Journals::read(node, &others);
    let ibu = node.upgrade().unwrap().unwrap();
    let history = ibu.status.unwrap_or_default().history;
    let now = Timestamp::from_unix(node.now());
    Timeline::of(&history, journals, now, &node.boot_id().0)
}

#[test]
fn an_upgrade_is_told_across_its_pivot() {
    let told = timeline(&there());
    assert_eq!(told.problems, Vec::<String>::new());
    let stages: Vec<&str> = told.stages.iter().map(|one| one.stage.as_str()).collect();
    assert_eq!(stages, ["Prep", "Upgrade"], "{told:#?}");
    let upgrade = &told.stages[1];
    let phases: Vec<&str> = upgrade
        .phases
        .iter()
        .map(|one| one.phase.as_str())
        .collect();
    assert_eq!(phases, ["PrePivot", "", "PostPivot"], "{told:#?}");
    assert!(!upgrade.open);
    assert!(upgrade.split.rebooting > 0, "{told:#?}");
    let steps = upgrade.phases.iter().flat_map(|phase| &phase.stretches);
    let steps: Vec<&str> = steps.map(|one| one.step.as_str()).collect();
    for step in [
        "export-configuration",
        "reboot",
        "await-api",
        "record-verdict",
    ] {
        assert!(steps.contains(&step), "{step}: {steps:?}");
    }
    let split = upgrade.split;
    let all = split.working + split.awaiting + split.waiting + split.rebooting;
    assert_eq!(all, upgrade.seconds, "{told:#?}");
}

#[test]
fn of_damaged_journals_the_rest_is_told() {
    let site = there();
    let whole = timeline(&site);
    let runs = site.node().list(&NodePath::booted(RUNS)).unwrap();
    let runs: Vec<&String> = runs.iter().filter(|run| run.ends_with(".jsonl")).collect();
    assert!(runs.len() >= 2, "{runs:?}");
    for cut in [1, 9, 40] {
        let mut machine = site.machine();
        let paths: Vec<String> = runs
            .iter()
            .map(|run| machine.path(&format!("{RUNS}/{run}")))
            .collect();
        let content = |path: &str| machine.cache().text(path).unwrap_or_default().to_owned();
        let torn = content(&paths[0]);
        let damaged = content(&paths[1]).replacen("\"sum\":\"", "\"sum\":\"x", 1);
        machine.tamper(&paths[0], &torn.as_bytes()[..torn.len() - cut]);
        machine.tamper(&paths[1], damaged.as_bytes());
        let told = timeline(&Site::resumed(machine));
        assert_eq!(told.problems.len(), 2, "{:?}", told.problems);
        assert!(told.problems[0].ends_with("is torn: its last line is missing"));
        assert!(
            told.problems[1].contains("corrupt at line 1"),
            "{:?}",
            told.problems
        );
        // What other journals tell is there as before.
        assert_eq!(told.stages[0], whole.stages[0]);
        assert_eq!(told.stages[1].phases[0], whole.stages[1].phases[0]);
    }
}
