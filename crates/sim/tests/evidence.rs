//! Evidence of failed boots: what is in a bundle, how long it stays, and what the old release seals by itself.
#![expect(clippy::unwrap_used, reason = "a test")]

use api::{ConditionType, Stage, StaterootName};
use engine::{Event, StepContext, StepRef, StopToken, Work};
use node::evidence::{KEPT, Kept, LIMIT, list};
use node::ports::{Clock, Cluster, Files, NodePath, Trace, Traces};
use node::steps::NodeWork;
use planner::{ErrorKind, State, Step};
use sim::{Fault, Guard, Machine, Node, Request, Site};

const PLACE: &str = "/containers/lca/evidence";

fn target() -> StaterootName {
    "rhcos_4.17.4".parse().unwrap()
}

/// Traces of any size.
struct Fixed(Vec<Trace>);

impl Traces for Fixed {
    fn left_by(&self, _release: &api::DeploymentId, _runs: bool) -> Vec<Trace> {
        self.0.clone()
    }
}

fn trace(name: &str, content: Result<&str, &str>) -> Trace {
    Trace {
        name: name.to_owned(),
        content: match content {
            Ok(text) => Ok(text.as_bytes().to_vec()),
            Err(why) => Err(why.to_owned()),
        },
    }
}

fn node() -> Node {
    let mut machine = sim::template::machine();
    machine.power_on();
    let guard = Guard::new(&machine);
    Node::new(machine, guard)
}

/// Seals evidence of the release that runs, as its boot `boot_id`.
fn seal(node: &Node, boot_id: &str, traces: Vec<Trace>) {
    seal_with(node, boot_id, &Fixed(traces));
}

fn seal_with(node: &Node, boot_id: &str, traces: &dyn Traces) {
    let ports = node::ports::Ports {
        traces,
        ..node.ports()
    };
    let deployments = ports.ostree.deployments().unwrap();
    let step = Step::SealEvidence {
        target: deployments
            .into_iter()
            .find(|found| found.booted)
            .unwrap()
            .id,
        boot_id: Some(boot_id.to_owned()),
        reason: "it failed, password=hunter2".to_owned(),
    };
    let place = StepRef {
        index: 0,
        name: step.name().to_owned(),
    };
    let (stop, mut events) = (StopToken::new(), |_: &Event| {});
    let context = StepContext::new(&stop, place, &mut events);
    let mut work = NodeWork::new(ports);
    if work.probe(&step, &context).unwrap() == engine::Presence::Absent {
        work.apply(&step, &context).unwrap();
    }
    work.settle(&step, &context).unwrap();
}

fn part(node: &Node, kept: &Kept, name: &str) -> Option<String> {
    let bytes = node.read(&kept.place.join(name), LIMIT + 1).unwrap();
    bytes.map(|bytes| String::from_utf8(bytes).unwrap())
}

fn only(node: &Node) -> Kept {
    let mut kept = list(node).unwrap();
    assert_eq!(kept.len(), 1, "{kept:#?}");
    kept.remove(0)
}

#[test]
fn a_bundle_has_no_secrets_and_says_what_is_missing() {
    let node = node();
    let verdict = NodePath::booted(api::path::VERDICT);
    node.replace(&verdict, br#"{"token":"abc","outcome":"rollback"}"#, 0o600)
        .unwrap();
    let journal = "systemd: starting\nkubelet: Authorization: Bearer abcdefghijkl\n";
    seal(
        &node,
        "b1",
        vec![
            trace("journal.txt", Ok(journal)),
            trace("kernel.txt", Ok("")),
            trace("units.txt", Err("listing units: no bus")),
        ],
    );
    let kept = only(&node);
    assert_eq!(kept.bundle.reason, "it failed, password=[redacted]");
    assert_eq!(kept.bundle.parts, ["verdict.json", "journal.txt"]);
    assert_eq!(kept.bundle.missing, ["units.txt: listing units: no bus"]);
    let verdict = part(&node, &kept, "verdict.json").unwrap();
    assert_eq!(verdict, r#"{"token":"[redacted]","outcome":"rollback"}"#);
    let journal = part(&node, &kept, "journal.txt").unwrap();
    assert!(journal.starts_with("systemd: starting\n"), "{journal}");
    assert!(!journal.contains("abcdefghijkl"), "{journal}");
    assert_eq!(kept.bundle.bytes, (verdict.len() + journal.len()) as u64);
    assert_eq!(part(&node, &kept, "kernel.txt"), None);
}

#[test]
fn a_bundle_is_bounded_and_keeps_the_end() {
    let node = node();
    let line = format!("{}\n", "x".repeat(99));
    let long = line.repeat(100_000) + "the end\n";
    let runs = NodePath::booted(node::RUNS);
    for run in 0..20 {
        let name = format!("{run:02}.jsonl");
        node.replace(&runs.join(&name), line.repeat(3_000).as_bytes(), 0o600)
            .unwrap();
    }
    let traces = ["journal.txt", "kernel.txt", "units.txt"];
    let traces = traces.map(|name| trace(name, Ok(&long)));
    seal(&node, "b1", traces.to_vec());
    let kept = only(&node);
    let mut sum = 0;
    for name in &kept.bundle.parts {
        sum += part(&node, &kept, name).unwrap().len() as u64;
    }
    assert_eq!(sum, kept.bundle.bytes);
    assert!(sum <= LIMIT, "{sum}");
    let journal = part(&node, &kept, "journal.txt").unwrap();
    assert!(journal.ends_with("the end\n") && journal.starts_with('x'));
    assert_eq!((journal.len() - "the end\n".len()) % line.len(), 0);
    assert!(journal.len() > 3 << 20, "{}", journal.len());
    // The latest runs.
    assert!(kept.bundle.parts.contains(&"19.jsonl".to_owned()));
    assert!(!kept.bundle.parts.contains(&"00.jsonl".to_owned()));
    let told = kept.bundle.missing.iter();
    assert!(
        told.into_iter()
            .any(|text| text.starts_with("journal.txt: its first "))
    );
}

#[test]
fn the_latest_three_stay_and_what_was_interrupted_goes() {
    let node = node();
    let journal = |text| vec![trace("journal.txt", Ok(text))];
    for boot in ["b1", "b2", "b3"] {
        seal(&node, boot, journal(boot));
        // Again, as after a kill: nothing is added.
        seal(&node, boot, journal("again"));
    }
    let boots = |node: &Node| -> Vec<String> {
        let kept = list(node).unwrap();
        kept.into_iter()
            .map(|kept| kept.bundle.boot_id.unwrap())
            .collect()
    };
    assert_eq!(boots(&node), ["b1", "b2", "b3"]);
    assert_eq!(
        part(&node, &list(&node).unwrap()[0], "journal.txt").unwrap(),
        "b1"
    );
    // Interrupted ones have no manifest, or half of one.
    let place = NodePath::shared("evidence");
    for (name, content) in [
        ("0009-x/journal.txt", "half"),
        ("0010-x/bundle.json", "{\"for"),
    ] {
        node.replace(&place.join(name), content.as_bytes(), 0o600)
            .unwrap();
    }
    node.replace(&place.join("mine.txt"), b"of somebody else", 0o600)
        .unwrap();
    seal(&node, "b4", journal("b4"));
    assert_eq!(boots(&node), ["b2", "b3", "b4"]);
    assert_eq!(boots(&node).len(), KEPT);
    let names = node.list(&place).unwrap();
    assert_eq!(
        names,
        ["0002-rhcos", "0003-rhcos", "0004-rhcos", "mine.txt"]
    );
}

#[test]
fn two_never_seal_at_a_time() {
    let node = node();
    let lock = NodePath::booted("/run/lifecycle-agent-evidence.lock");
    // The other one has begun.
    let half = NodePath::shared("evidence/0001-rhcos/journal.txt");
    node.replace(&half, b"half", 0o600).unwrap();
    let held = node.hold(&lock).unwrap();
    assert!(held.is_some());
    seal(&node, "b1", vec![trace("journal.txt", Ok("mine"))]);
    assert_eq!(node.read(&half, 10).unwrap().unwrap(), b"half");
    assert_eq!(list(&node).unwrap(), []);
    drop(held);
    seal(&node, "b1", vec![trace("journal.txt", Ok("mine"))]);
    assert_eq!(only(&node).bundle.parts, ["journal.txt"]);
}

#[test]
fn sealing_takes_no_more_than_its_time_and_no_panic_passes() {
    struct Slow<'a>(&'a Node);
    impl Traces for Slow<'_> {
        fn left_by(&self, _release: &api::DeploymentId, _runs: bool) -> Vec<Trace> {
            self.0.pause(26_000);
            vec![trace("journal.txt", Ok("late"))]
        }
    }
    struct Broken;
    impl Traces for Broken {
        fn left_by(&self, _release: &api::DeploymentId, _runs: bool) -> Vec<Trace> {
            std::panic::resume_unwind(Box::new("broken"))
        }
    }
    let node = node();
    seal_with(&node, "b1", &Broken);
    assert_eq!(list(&node).unwrap(), []);
    seal_with(&node, "b1", &Slow(&node));
    let missing = only(&node).bundle.missing;
    assert_eq!(missing, ["journal.txt: sealing has taken too long already"]);
}

/// Bundles on the disk: names, and whether the old release sealed them.
fn on_disk(machine: &Machine) -> Vec<(String, bool)> {
    let disk = machine.disk();
    let names = disk.names(PLACE).into_iter();
    let read = |name: String| {
        let text = disk.text(&format!("{PLACE}/{name}/bundle.json")).unwrap();
        let bundle: serde_json::Value = serde_json::from_str(text).unwrap();
        (name, bundle["bootId"].is_null())
    };
    names.map(read).collect()
}

fn told(site: &Site) -> String {
    let upgrade = site.node().upgrade().unwrap().unwrap();
    let told = upgrade.condition(ConditionType::UpgradeInProgress).unwrap();
    told.message.clone()
}

fn driven(site: &mut Site, stages: &[Stage]) {
    let result = site.drive(stages.iter().copied().map(Request::stage));
    assert_eq!(result, Ok(()), "{:#?}", site.story());
    assert_eq!(site.node().violations(), Vec::<String>::new());
}

/// A node that has prepared a release that does not come up.
fn broken() -> Site {
    let mut site = Site::idle().unwrap();
    driven(&mut site, &[Stage::Prep]);
    let mut machine = site.machine();
    machine.break_release(&target());
    Site::resumed(machine)
}

#[test]
fn a_boot_that_ran_none_of_our_code_is_sealed_by_the_old_release() {
    let mut site = broken();
    driven(&mut site, &[Stage::Upgrade]);
    assert_eq!(site.state(), State::UpgradeFailed);
    let sealed = [("0001-rhcos_4.17.4".to_owned(), true)];
    assert_eq!(on_disk(&site.machine()), sealed);
    let text = told(&site);
    assert!(text.starts_with("Uncontrolled rollback: "), "{text}");
    let place = "; evidence: /var/lib/containers/lca/evidence/0001-rhcos_4.17.4";
    assert!(text.ends_with(place), "{text}");
    let failed = format!("{PLACE}/0001-rhcos_4.17.4/failed-boot.json");
    assert!(site.machine().disk().get(&failed).is_some());
    // It outlives what it is of, and is not made again.
    driven(&mut site, &[Stage::Idle]);
    assert_eq!(site.state(), State::Idle);
    let machine = site.machine();
    let stateroot = format!("/sysroot/ostree/deploy/{}", target());
    assert!(machine.disk().get(&stateroot).is_none());
    assert_eq!(on_disk(&machine), sealed);
}

/// Whatever fails while the old release seals: the user's way to Idle is open, and what was not sealed before is tried once more before
/// anything of the new release is removed.
#[test]
fn what_cannot_be_sealed_does_not_keep_the_old_release_from_idle() {
    let mut site = broken();
    site.ask(&Request::stage(Stage::Upgrade));
    site.arm(None);
    site.record();
    driven(&mut site, &[]);
    let moments = site.take_moments();
    let seals =
        |operation: &str| operation.contains("lca/evidence") || operation.starts_with("traces");
    let first = moments
        .iter()
        .find(|moment| seals(&moment.operation))
        .unwrap()
        .first;
    let last = moments
        .iter()
        .rfind(|moment| seals(&moment.operation))
        .unwrap()
        .last;
    let mut tried = 0;
    for at in (first..=last).step_by(3) {
        let mut site = broken();
        site.ask(&Request::stage(Stage::Upgrade));
        site.arm(Some(Fault::Error(at, ErrorKind::Permanent)));
        driven(&mut site, &[]);
        assert_eq!(site.state(), State::UpgradeFailed, "{at}");
        driven(&mut site, &[Stage::Idle]);
        assert_eq!(site.state(), State::Idle, "{at}");
        assert_eq!(on_disk(&site.machine()).len(), 1, "{at}");
        tried += 1;
    }
    assert!(tried > 5, "{tried}");
}

#[test]
fn a_partition_that_stays_full_keeps_the_old_release_from_nothing() {
    let mut machine = broken().machine();
    machine.fill_shared();
    let mut site = Site::resumed(machine);
    driven(&mut site, &[Stage::Upgrade]);
    assert_eq!(site.state(), State::UpgradeFailed);
    let text = told(&site);
    assert!(!text.contains("; evidence: "), "{text}");
    driven(&mut site, &[Stage::Idle]);
    assert_eq!(site.state(), State::Idle);
    assert_eq!(on_disk(&site.machine()), []);
}
