//! Damaged records: whatever stands in them, the node comes to rest, keeps both sides bootable and has a way back.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "the counts are shown")]

use api::{Stage, path};
use node::record::Record;
use planner::State;
use sim::sweep::Segment;
use sim::{Guard, Machine, Moment, Request, Site};

/// At most so many truncations, and so many flips, of one file.
const EACH: usize = 20;

/// Every truncation and every flipped byte, thinned out evenly where a file is long.
fn damages(content: &[u8]) -> Vec<(String, Vec<u8>)> {
    let step = (content.len() / EACH).max(1);
    let cut = (0..content.len())
        .step_by(step)
        .map(|at| (format!("cut to {at} bytes"), content[..at].to_vec()));
    let flip = (0..content.len()).step_by(step).map(|at| {
        let mut flipped = content.to_vec();
        flipped[at] ^= 0x11;
        (format!("byte {at} flipped"), flipped)
    });
    let zeros = std::iter::once(("zeros".to_owned(), vec![0; content.len()]));
    cut.chain(flip).chain(zeros).collect()
}

/// Files whose damage must not matter, as the running system names them.
fn files(machine: &Machine) -> Vec<String> {
    let mut files: Vec<String> = Record::ALL
        .iter()
        .map(|record| machine.path(&record.path().rel))
        .collect();
    files.push(machine.path(path::SAVED_IBU));
    let runs = machine.path(node::RUNS);
    let journals = machine.cache().names(&runs);
    // The newest may be open.
    files.extend(journals.last().map(|name| format!("{runs}/{name}")));
    files
}

struct Tried {
    runs: usize,
    wrong: Vec<String>,
}

impl Tried {
    /// Damages every record of a machine, one at a time, and lets the node start.
    fn damage(&mut self, place: &str, machine: &Machine, guard: &Guard) {
        for file in files(machine) {
            let Some(content) = machine.disk().content(&file).cloned() else {
                continue;
            };
            for (how, damaged) in damages(&content) {
                let mut machine = machine.clone();
                machine.tamper(&file, &damaged);
                self.start(&format!("{place}: {file} {how}"), machine, guard);
            }
        }
    }

    fn start(&mut self, place: &str, machine: Machine, guard: &Guard) {
        self.runs += 1;
        let before = machine.reboots();
        let mut guard = guard.clone();
        guard.forget_verdicts();
        let mut site = Site::resumed_within(machine, guard);
        let mut say = |site: &Site, text: String| {
            let story = site.story().join("\n    ");
            self.wrong.push(format!("{place}: {text}\n    {story}"));
        };
        if let Err(stuck) = site.drive([]) {
            return say(&site, format!("{stuck:?}"));
        }
        if site.machine().reboots() > before + 1 {
            return say(&site, "rebooted more than once".to_owned());
        }
        // The documented way back from where it rests.
        let exit: &[Stage] = match site.state() {
            State::Idle => &[],
            State::UpgradeFailed | State::Contradictory
                if site.machine().booted().stateroot.as_str() != "rhcos" =>
            {
                &[Stage::Rollback, Stage::Idle]
            }
            _ => &[Stage::Idle],
        };
        let exits = exit.iter().copied().map(Request::stage);
        if let Err(stuck) = site.drive(exits) {
            return say(&site, format!("no way back: {stuck:?}"));
        }
        let violations = site.node().violations();
        if let Some(first) = violations.first() {
            return say(&site, first.clone());
        }
        if site.state() != State::Idle {
            say(&site, format!("ends in {}", site.state()));
        }
    }
}

fn segment(
    name: &'static str,
    start: &Machine,
    guard: &Guard,
    stage: Stage,
) -> (Machine, Guard, Vec<Moment>) {
    let segment = Segment {
        name,
        start: start.clone(),
        guard: guard.clone(),
        request: Request::stage(stage),
    };
    let undisturbed = segment.undisturbed().unwrap();
    (undisturbed.end, undisturbed.guard, undisturbed.moments)
}

#[test]
fn torn_records_detected_and_safe_choice() {
    let site = Site::idle().unwrap();
    let (prepared, guard, prep) = segment("prep", &site.machine(), &site.guard(), Stage::Prep);
    let (upgraded, after, upgrade) = segment("upgrade", &prepared, &guard, Stage::Upgrade);
    let mut tried = Tried {
        runs: 0,
        wrong: Vec::new(),
    };
    tried.damage("prepared", &prepared, &guard);
    tried.damage("upgraded", &upgraded, &after);
    // In the middle: whenever a step was recorded as done.
    for (name, moments) in [("prep", &prep), ("upgrade", &upgrade)] {
        let done = moments
            .iter()
            .filter(|moment| moment.operation.starts_with("appended"));
        for moment in done.step_by(8) {
            let place = format!("{name} at {}", moment.first);
            tried.damage(&place, &moment.machine, &moment.guard);
        }
    }
    println!(
        "{} damaged records, {} wrong",
        tried.runs,
        tried.wrong.len()
    );
    for wrong in tried.wrong.iter().take(12) {
        println!("{wrong}\n");
    }
    assert!(tried.runs > 500);
    assert_eq!(tried.wrong.len(), 0);
}
