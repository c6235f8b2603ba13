//! A world of named effects with a page cache and a disk, and a power switch.
//!
//! Every call of the engine (probe, apply, settle, create, append) is one moment. At the chosen
//! one the process dies; from then on no call has any effect, so that whatever the engine does
//! afterwards does not count.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::*;

pub(super) const PROGRAM: &str = "toy 1.0.0";

/// What happens at the chosen moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process dies before the call's effect.
    KillBefore,
    /// The process dies after the call's effect.
    KillAfter,
    /// Power goes before the effect: the page cache is lost.
    CutBefore,
    /// Power goes after the effect.
    CutAfter,
    /// Power goes inside; of an appended line half is there.
    CutInside,
    /// Power goes inside; of an appended line only the length is there, in zeros.
    CutZeros,
}

pub(super) const FAULTS: [Fault; 6] = [
    Fault::KillBefore,
    Fault::KillAfter,
    Fault::CutBefore,
    Fault::CutAfter,
    Fault::CutInside,
    Fault::CutZeros,
];

impl Fault {
    fn cut(self) -> bool {
        !matches!(self, Self::KillBefore | Self::KillAfter)
    }
    fn effective(self) -> bool {
        matches!(self, Self::KillAfter | Self::CutAfter)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Transient,
    Dead,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Put(pub String);

/// Effects by name, each with the number of times it was applied on top of itself.
pub(super) type Effects = BTreeMap<String, u32>;

#[derive(Default)]
pub(super) struct World {
    pub cache: RefCell<Effects>,
    pub disk: RefCell<Effects>,
    pub files: RefCell<BTreeMap<RunId, Vec<u8>>>,
    pub moments: Cell<usize>,
    pub applied: Cell<u32>,
    fault: Cell<Option<(usize, Fault)>>,
    dead: Cell<bool>,
}

impl World {
    /// Starts a new process that will die at `fault`.
    pub(super) fn boot(&self, fault: Option<(usize, Fault)>) {
        self.moments.set(0);
        self.dead.set(false);
        self.fault.set(fault);
    }

    pub(super) fn died(&self) -> bool {
        self.dead.get()
    }

    fn moment(&self, effect: impl Fn(Option<Fault>)) -> io::Result<()> {
        if self.dead.get() {
            return Err(io::Error::other("dead"));
        }
        let moment = self.moments.replace(self.moments.get() + 1);
        match self.fault.get() {
            Some((at, fault)) if at == moment => {
                effect(Some(fault));
                self.dead.set(true);
                if fault.cut() {
                    *self.cache.borrow_mut() = self.disk.borrow().clone();
                }
                Err(io::Error::other("dead"))
            }
            _ => {
                effect(None);
                Ok(())
            }
        }
    }
}

fn takes_effect(fault: Option<Fault>) -> bool {
    fault.is_none_or(Fault::effective)
}

impl JournalStore for World {
    fn create(&self, run: &RunId, content: &[u8]) -> io::Result<()> {
        self.moment(|fault| {
            if takes_effect(fault) {
                self.files
                    .borrow_mut()
                    .insert(run.clone(), content.to_vec());
            }
        })
    }

    fn append(&self, run: &RunId, line: &[u8]) -> io::Result<()> {
        if line.windows(13).any(|w| w == b"\"what\":\"done\"") && !self.dead.get() {
            // Settled before done: everything that is there is durable.
            assert_eq!(*self.cache.borrow(), *self.disk.borrow());
        }
        self.moment(|fault| {
            let written = match fault {
                None | Some(Fault::KillAfter | Fault::CutAfter) => line.to_vec(),
                Some(Fault::KillBefore | Fault::CutBefore) => Vec::new(),
                Some(Fault::CutInside) => line[..line.len() / 2].to_vec(),
                Some(Fault::CutZeros) => vec![0; line.len()],
            };
            self.files
                .borrow_mut()
                .get_mut(run)
                .unwrap()
                .extend(written);
        })
    }

    fn read(&self, run: &RunId) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.borrow().get(run).cloned())
    }

    fn list(&self) -> io::Result<Vec<RunId>> {
        Ok(self.files.borrow().keys().cloned().collect())
    }

    fn remove(&self, run: &RunId) -> io::Result<()> {
        self.moment(|fault| {
            if takes_effect(fault) {
                self.files.borrow_mut().remove(run);
            }
        })
    }
}

/// Carries out steps on the world.
pub(super) struct Hands<'w> {
    pub world: &'w World,
    /// Fail to apply this step so many times.
    pub failures: BTreeMap<String, u32>,
    /// Ask this token to stop inside the apply of this step.
    pub stop_in: Option<(String, StopToken)>,
}

impl<'w> Hands<'w> {
    pub(super) fn new(world: &'w World) -> Self {
        Self {
            world,
            failures: BTreeMap::new(),
            stop_in: None,
        }
    }
}

fn dead(error: io::Error) -> StepError<Kind> {
    StepError::new(Kind::Dead, error)
}

impl Work for Hands<'_> {
    type Step = Put;
    type Kind = Kind;

    fn name(_: &Put) -> &'static str {
        "put"
    }

    fn probe(&mut self, step: &Put, _: &StepContext<'_>) -> Result<Presence, StepError<Kind>> {
        self.world.moment(|_| ()).map_err(dead)?;
        let present = self.world.cache.borrow().contains_key(&step.0);
        Ok(if present {
            Presence::Present
        } else {
            Presence::Absent
        })
    }

    fn apply(&mut self, step: &Put, context: &StepContext<'_>) -> Result<(), StepError<Kind>> {
        context.progress(Progress {
            done: 1,
            total: Some(1),
            unit: Unit::Items,
            object: step.0.clone(),
        });
        if let Some((name, token)) = &self.stop_in
            && *name == step.0
        {
            token.stop();
            assert!(context.stopped());
            return Err(StepError::new(Kind::Transient, "gave up"));
        }
        if let Some(left) = self.failures.get_mut(&step.0)
            && *left > 0
        {
            *left -= 1;
            return Err(StepError::new(Kind::Transient, "no luck"));
        }
        let effect = |fault| {
            if takes_effect(fault) {
                *self
                    .world
                    .cache
                    .borrow_mut()
                    .entry(step.0.clone())
                    .or_default() += 1;
                self.world.applied.set(self.world.applied.get() + 1);
            }
        };
        self.world.moment(effect).map_err(dead)
    }

    fn settle(&mut self, step: &Put, _: &StepContext<'_>) -> Result<(), StepError<Kind>> {
        let effect = |fault| {
            if takes_effect(fault)
                && let Some(count) = self.world.cache.borrow().get(&step.0)
            {
                self.world.disk.borrow_mut().insert(step.0.clone(), *count);
            }
        };
        self.world.moment(effect).map_err(dead)
    }
}

pub(super) fn run_id() -> RunId {
    "prep-1".parse().unwrap()
}

pub(super) fn header(steps: &[&str]) -> Header<Put> {
    let steps = steps.iter().map(|name| Put((*name).to_owned())).collect();
    let facts = serde_json::json!({ "booted": "a" });
    Header::new::<Hands>(PROGRAM, "boot-1", run_id(), "prep", 100, facts, steps)
}

/// Opens the run's journal, or begins it if a crash was faster.
pub(super) fn take_up<'w>(
    world: &'w World,
    steps: &[&str],
) -> Result<Journal<'w, Put>, JournalError> {
    match Journal::open(world, &run_id(), PROGRAM) {
        Err(JournalError::Missing { .. }) => Journal::create(world, header(steps)),
        other => other,
    }
}

/// One process: takes the run up and carries it out, unless it dies. Returns the events told.
pub(super) fn live(hands: &mut Hands<'_>, steps: &[&str]) -> (Option<Outcome<Kind>>, Vec<Event>) {
    let mut events = Vec::new();
    let outcome = match take_up(hands.world, steps) {
        Ok(mut journal) => Some(go(hands, &mut journal, &mut events, &StopToken::new())),
        Err(JournalError::Store { .. }) => None,
        Err(other) => panic!("{}", error_chain(&other)),
    };
    (outcome.filter(|_| !hands.world.died()), events)
}

pub(super) fn go(
    hands: &mut Hands<'_>,
    journal: &mut Journal<'_, Put>,
    events: &mut dyn EventSink,
    stop: &StopToken,
) -> Outcome<Kind> {
    let clock = Cell::new(1000);
    run(hands, journal, events, stop, &|| {
        clock.replace(clock.get() + 1)
    })
}
