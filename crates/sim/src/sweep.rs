//! Sweeps: what disturbs a walk, tried at every operation of it.
//!
//! Where power and kills are concerned, a walk is a chain of states of the machine; what a fault leaves depends on the
//! state alone. So each state is kept while the walk runs, and the walk is taken up from each as the fault leaves it. States
//! that two faults leave equal are taken up once, and both are counted.

use std::collections::HashSet;

use api::Stage;
use node::ErrorKind;

use crate::invariant::Guard;
use crate::machine::{Loss, Machine};
use crate::node::{Fault, Moment};
use crate::same::Essence;
use crate::site::{Request, Site};

/// What a power cut may leave of what was not durable.
const LOSSES: [Loss; 4] = [
    Loss::Everything,
    Loss::Nothing,
    Loss::Some(1),
    Loss::Some(2),
];

/// One request of a walk, and the machine that it is made on.
pub struct Segment {
    /// For reports.
    pub name: &'static str,
    /// The machine at rest before.
    pub start: Machine,
    /// The guard of the walk.
    pub guard: Guard,
    /// What the user asks for.
    pub request: Request,
}

/// An undisturbed segment.
pub struct Undisturbed {
    /// Every state on the way.
    pub moments: Vec<Moment>,
    /// What it ends as.
    pub essence: Essence,
    /// The machine at its end.
    pub end: Machine,
    /// The guard at its end.
    pub guard: Guard,
    /// Operations.
    pub operations: u64,
    /// Which of them are status writes.
    pub publishes: Vec<u64>,
    /// Reboots that the agent asks for on the way.
    pub reboots: u32,
    /// What happened.
    pub story: Vec<String>,
}

/// Counts of a sweep.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Operations at which the fault was tried.
    pub operations: u64,
    /// Pairs of operations (a kill's, and a power cut's in what follows it).
    pub pairs: u64,
    /// Distinct states that a fault left.
    pub states: u64,
    /// How many of them were taken up.
    pub runs: u64,
}

/// What a disturbed run did wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The invariant and how it was broken.
    pub what: String,
    /// Where the fault struck.
    pub at: String,
    /// What happened afterwards.
    pub story: Vec<String>,
}

/// What a run that is taken up depends on: fingerprints of disk and memory (0 after a power cut), number of the boot (run
/// names are made of it), and for the checks the reboots that were asked for. Clocks are left out: nothing compares them.
type State = (u64, u64, u32, u32);

/// A sweep with what it found.
#[derive(Default)]
pub struct Sweep {
    /// Counts.
    pub counts: Counts,
    /// What is wrong.
    pub failures: Vec<Failure>,
    visited: HashSet<State>,
    /// Of the states that a second fault leaves, one of this many is taken up; 0 = all.
    pub stride: u64,
}

impl Segment {
    fn site(&self) -> Site {
        let mut site = Site::resumed_within(self.start.clone(), self.guard.clone());
        site.ask(&self.request);
        site
    }

    /// The segment as it goes when nothing happens; `Err` = it does not go well even so.
    ///
    /// # Errors
    /// What is wrong, with the story.
    pub fn undisturbed(&self) -> Result<Undisturbed, String> {
        let mut site = self.site();
        site.arm(None);
        site.record();
        let driven = site.drive([]);
        let story = site.story().to_vec();
        let violations = site.node().violations();
        if driven.is_err() || !violations.is_empty() {
            return Err(format!(
                "{}: {driven:?} {violations:#?} {story:#?}",
                self.name
            ));
        }
        let end = site.machine();
        Ok(Undisturbed {
            moments: site.take_moments(),
            essence: Essence::of(&end),
            operations: site.node().operations(),
            publishes: site.node().publishes(),
            reboots: end.reboots() - self.start.reboots(),
            guard: site.guard(),
            end,
            story,
        })
    }
}

impl Sweep {
    /// Cuts the power at every operation of a segment, with every kind of loss.
    pub fn cut(&mut self, segment: &Segment, undisturbed: &Undisturbed) {
        for moment in &undisturbed.moments {
            self.counts.operations += moment.last - moment.first + 1;
            for loss in LOSSES {
                self.cut_at(segment, undisturbed, moment, loss, "");
            }
        }
    }

    /// Kills the process at every operation of a segment, and cuts the power at every operation of what follows.
    pub fn kill_then_cut(&mut self, segment: &Segment, undisturbed: &Undisturbed) {
        for moment in &undisturbed.moments {
            let covered = moment.last - moment.first + 1;
            self.counts.operations += covered;
            let machine = moment.machine.clone();
            let (disk, memory) = (machine.disk.fingerprint(), machine.cache.fingerprint());
            if !self.is_new((disk, memory, machine.boot.number, machine.reboots)) {
                continue;
            }
            let at = format!("{}: killed at {}", segment.name, place(moment));
            let site = Site::resumed_within(machine, moment.guard.clone());
            let Some(moments) = self.take_up(site, segment, undisturbed, &at, true) else {
                continue;
            };
            for second in &moments {
                self.counts.pairs += covered * (second.last - second.first + 1);
                for loss in [Loss::Everything, Loss::Some(3)] {
                    let first = format!("killed at {}, then ", place(moment));
                    self.cut_at(segment, undisturbed, second, loss, &first);
                }
            }
        }
    }

    fn cut_at(
        &mut self,
        segment: &Segment,
        undisturbed: &Undisturbed,
        moment: &Moment,
        loss: Loss,
        before: &str,
    ) {
        let machine = &moment.machine;
        let (number, reboots) = (machine.boot.number, machine.reboots);
        // Told apart before anything is copied: most states have been there.
        let known = match loss {
            Loss::Everything => Some(machine.disk.fingerprint()),
            Loss::Nothing => Some(machine.cache.fingerprint()),
            Loss::Some(_) if !machine.has_unsynced() => Some(machine.disk.fingerprint()),
            Loss::Some(_) => None,
        };
        if known.is_some_and(|disk| self.visited.contains(&(disk, 0, number, reboots))) {
            return;
        }
        let mut machine = machine.clone();
        machine.lose_power(loss);
        if !self.is_new((machine.disk.fingerprint(), 0, number, reboots)) {
            return;
        }
        let second = !before.is_empty();
        if second && self.stride > 1 && !self.counts.states.is_multiple_of(self.stride) {
            return;
        }
        let place = place(moment);
        let at = format!("{}: {before}power cut ({loss:?}) at {place}", segment.name);
        if !machine.power_on() {
            self.say("bootable_always: nothing to start", &at, None);
            return;
        }
        let mut guard = moment.guard.clone();
        guard.booted(&machine);
        let site = Site::resumed_within(machine, guard);
        self.take_up(site, segment, undisturbed, &at, false);
    }

    /// Lets calls fail once, at every operation.
    pub fn fail(&mut self, segment: &Segment, undisturbed: &Undisturbed, kind: ErrorKind) {
        for at in 0..undisturbed.operations {
            self.counts.operations += 1;
            self.counts.states += 1;
            let mut site = segment.site();
            site.arm(Some(Fault::Error(at, kind)));
            let at = format!("{}: {kind:?} error at {at}", segment.name);
            self.take_up(site, segment, undisturbed, &at, false);
        }
    }

    /// Lets every status write conflict once.
    pub fn conflict(&mut self, segment: &Segment, undisturbed: &Undisturbed) {
        for at in &undisturbed.publishes {
            self.counts.operations += 1;
            self.counts.states += 1;
            let mut site = segment.site();
            site.arm(Some(Fault::Conflict(*at)));
            let at = format!("{}: conflict at {at}", segment.name);
            self.take_up(site, segment, undisturbed, &at, false);
        }
    }

    /// Lets the user ask for Idle at every operation, and the controller notice it before that operation's call goes on. The
    /// end must be one of `ends`, but for the paths that [`Essence::without`] takes.
    pub fn stop(
        &mut self,
        segment: &Segment,
        undisturbed: &Undisturbed,
        ends: &[&Essence],
        but: &[&str],
    ) {
        let ends: Vec<Essence> = ends.iter().map(|end| (*end).clone().without(but)).collect();
        for at in 0..undisturbed.operations {
            self.counts.operations += 1;
            self.counts.states += 1;
            let mut site = segment.site();
            site.arm(Some(Fault::Stop(at)));
            let at = format!("{}: stop at {at}", segment.name);
            self.end_of(&mut site, &at);
            let essence = Essence::of(&site.machine()).without(but);
            if !ends.contains(&essence) {
                let differences = ends.iter().map(|end| end.differences(&essence));
                let fewest = differences.min_by_key(Vec::len).unwrap_or_default();
                self.say(
                    &format!("same_end: {}", fewest.join("; ")),
                    &at,
                    Some(&site),
                );
            }
            let reboots = site.machine().reboots() - segment.start.reboots();
            if reboots > undisturbed.reboots {
                self.say(
                    &format!("reboots_exactly_once: {reboots}"),
                    &at,
                    Some(&site),
                );
            }
        }
    }

    /// Lets calls fail once and for good, at every operation. The node must reach the segment's end all the same, or say
    /// that the stage failed and get back to `aborted` when the user asks for Idle.
    pub fn fail_for_good(
        &mut self,
        segment: &Segment,
        undisturbed: &Undisturbed,
        kind: ErrorKind,
        aborted: &Essence,
        but: &[&str],
    ) {
        for at in 0..undisturbed.operations {
            self.counts.operations += 1;
            self.counts.states += 1;
            let mut site = segment.site();
            site.arm(Some(Fault::Error(at, kind)));
            let at = format!("{}: {kind:?} error at {at}", segment.name);
            let driven = site.drive([]);
            let target = site.machine().booted().stateroot != segment.guard.origin().stateroot;
            let way_back: &[Stage] = match site.state() {
                planner::State::PrepFailed => &[Stage::Idle],
                planner::State::UpgradeFailed if target => &[Stage::Rollback, Stage::Idle],
                planner::State::UpgradeFailed => &[Stage::Idle],
                _ => &[],
            };
            if driven.is_err() || way_back.is_empty() {
                let end = undisturbed.essence.clone().without(but);
                self.end(&mut site, &end, but, &at);
                continue;
            }
            for stage in way_back {
                site.ask(&Request::stage(*stage));
                self.end_of(&mut site, &at);
            }
            self.end(&mut site, &aborted.clone().without(but), but, &at);
        }
    }

    /// Drives a disturbed site to the segment's end and compares.
    fn take_up(
        &mut self,
        mut site: Site,
        segment: &Segment,
        undisturbed: &Undisturbed,
        at: &str,
        record: bool,
    ) -> Option<Vec<Moment>> {
        let before = site.machine();
        if record {
            site.record();
        }
        self.end(&mut site, &undisturbed.essence, &[], at);
        let reboots = site.machine().reboots() - segment.start.reboots();
        // Cut off behind the switch, the machine comes up on the other side without the agent's reboot; or, where that does not
        // come up, on this one again, with the other still the default.
        let default = |machine: &Machine| Machine::entries(&machine.disk).into_iter().next();
        let switched = before.booted() != segment.start.booted()
            || before.boot.number > segment.start.boot.number
                && default(&before) != default(&segment.start);
        let exact =
            reboots == undisturbed.reboots || switched && reboots + 1 == undisturbed.reboots;
        if !exact {
            let text = format!(
                "reboots_exactly_once: {reboots}, not {}",
                undisturbed.reboots
            );
            self.say(&text, at, Some(&site));
        }
        record.then(|| site.take_moments())
    }

    fn end(&mut self, site: &mut Site, expected: &Essence, but: &[&str], at: &str) {
        self.end_of(site, at);
        let essence = Essence::of(&site.machine()).without(but);
        if essence != *expected {
            let differences = expected.differences(&essence);
            self.say(
                &format!("same_end: {}", differences.join("; ")),
                at,
                Some(site),
            );
        }
    }

    /// Drives a site until it rests.
    fn end_of(&mut self, site: &mut Site, at: &str) {
        self.counts.runs += 1;
        let driven = site.drive([]);
        if let Err(stuck) = driven {
            self.say(&format!("stuck: {}", stuck.0), at, Some(site));
        }
        if let Some(first) = site.node().violations().first() {
            self.say(first, at, Some(site));
        }
    }

    fn say(&mut self, what: &str, at: &str, site: Option<&Site>) {
        self.failures.push(Failure {
            what: what.to_owned(),
            at: at.to_owned(),
            story: site.map_or_else(Vec::new, |site| site.story().to_vec()),
        });
    }

    /// Whether this state was not taken up before; counts it if so.
    fn is_new(&mut self, state: State) -> bool {
        let new = self.visited.insert(state);
        self.counts.states += u64::from(new);
        new
    }
}

fn place(moment: &Moment) -> String {
    format!(
        "operations {}..={} ({})",
        moment.first, moment.last, moment.operation
    )
}
