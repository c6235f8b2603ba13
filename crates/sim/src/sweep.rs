//! Sweeps: what disturbs a walk, tried at every operation of it.
//!
//! Where power and kills are concerned, a walk is a chain of states of the machine; what a fault leaves depends on the
//! state alone. So each state is kept while the walk runs, and the walk is taken up from each as the fault leaves it. States
//! that two faults leave equal are taken up once, and both are counted.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

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
    /// Distinct states, each taken up once.
    pub runs: u64,
}

/// A sweep with what it found.
#[derive(Default)]
pub struct Sweep {
    /// Counts.
    pub counts: Counts,
    /// What is wrong, each with where the fault struck.
    pub failures: Vec<String>,
    visited: HashSet<u64>,
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
            if !self.is_new(&machine, true) {
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
        let mut machine = moment.machine.clone();
        machine.lose_power(loss);
        if !self.is_new(&machine, false) {
            return;
        }
        let place = place(moment);
        let at = format!("{}: {before}power cut ({loss:?}) at {place}", segment.name);
        if !machine.power_on() {
            self.failures.push(format!("{at}: nothing to start"));
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
            self.counts.runs += 1;
            let mut site = segment.site();
            site.arm(Some(Fault::Error(at, kind)));
            let at = format!("{}: {kind:?} error at {at}", segment.name);
            self.take_up(site, segment, undisturbed, &at, false);
        }
    }

    /// Lets every status write conflict once.
    pub fn conflict(&mut self, segment: &Segment, undisturbed: &Undisturbed) {
        for at in 0..undisturbed.operations {
            self.counts.operations += 1;
            self.counts.runs += 1;
            let mut site = segment.site();
            site.arm(Some(Fault::Conflict(at)));
            let at = format!("{}: conflict at {at}", segment.name);
            self.take_up(site, segment, undisturbed, &at, false);
        }
    }

    /// Lets the user ask for Idle at every operation; the end must be `aborted`.
    pub fn stop(&mut self, segment: &Segment, undisturbed: &Undisturbed, aborted: &Essence) {
        for at in 0..undisturbed.operations {
            self.counts.operations += 1;
            self.counts.runs += 1;
            let mut site = segment.site();
            site.arm(Some(Fault::Stop(at)));
            let at = format!("{}: stop at {at}", segment.name);
            self.end(&mut site, &[aborted], &at);
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
        self.end(&mut site, &[&undisturbed.essence], at);
        let reboots = site.machine().reboots() - segment.start.reboots();
        // Cut off behind the switch, the machine comes up on the other side without the agent's reboot.
        let switched = before.booted() != segment.start.booted();
        let exact =
            reboots == undisturbed.reboots || switched && reboots + 1 == undisturbed.reboots;
        if !exact {
            let expected = undisturbed.reboots;
            self.failures.push(format!(
                "reboots_exactly_once: {at}: {reboots}, not {expected}"
            ));
        }
        record.then(|| site.take_moments())
    }

    fn end(&mut self, site: &mut Site, expected: &[&Essence], at: &str) {
        let driven = site.drive([]);
        let story = || site.story().join("\n    ");
        if let Err(stuck) = driven {
            self.failures
                .push(format!("{at}: {stuck:?}\n    {}", story()));
        }
        let violations = site.node().violations();
        if let Some(first) = violations.first() {
            self.failures
                .push(format!("{at}: {first}\n    {}", story()));
        }
        let essence = Essence::of(&site.machine());
        if !expected.contains(&&essence) {
            let differences = expected
                .iter()
                .map(|expected| expected.differences(&essence));
            let fewest = differences
                .min_by_key(Vec::len)
                .unwrap_or_default()
                .join("\n    ");
            self.failures.push(format!(
                "same_end: {at}:\n    {fewest}\n  story\n    {}",
                story()
            ));
        }
    }

    /// Whether this state was not taken up before; counts it if so.
    fn is_new(&mut self, machine: &Machine, in_memory: bool) -> bool {
        let mut hasher = DefaultHasher::new();
        machine.disk.hash(&mut hasher);
        // Names of runs come from it.
        machine.boot.number.hash(&mut hasher);
        machine.reboots.hash(&mut hasher);
        if in_memory {
            machine.cache.hash(&mut hasher);
            machine.boot.hash(&mut hasher);
        }
        let new = self.visited.insert(hasher.finish());
        self.counts.runs += u64::from(new);
        new
    }
}

fn place(moment: &Moment) -> String {
    format!(
        "operations {}..={} ({})",
        moment.first, moment.last, moment.operation
    )
}
