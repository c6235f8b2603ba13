//! A site: one node, its user, and the processes that systemd would keep running there.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::channel;

use api::{ImageBasedUpgradeStatus, SeedImageRef, Stage, names};
use engine::{Event, Outcome, StopToken};
use node::ports::{Clock, Cluster, Published};
use node::{
    Agent, EarlyPorts, ErrorKind, FirstBoot, boot_good, first_boot_or_return, restore_saved,
};
use planner::{BootAct, Plan, PlanName, Side, State, Transition};

use crate::invariant::Guard;
use crate::machine::{Loss, Machine};
use crate::node::{Fault, Meeting, Moment, Node, Off, Told};
use crate::ports::{change, live};
use crate::template;

/// Name and version of the simulated program.
pub const PROGRAM: &str = "lifecycle-agent sim";
/// Passes after which a node that does not come to rest counts as stuck. An undisturbed upgrade takes fewer than 100.
const PASSES: u32 = 600;
/// Processes and boots after which it counts as stuck.
const LIVES: u32 = 40;

/// Seconds of the machine's own time after which it counts as stuck: much more than any deadline.
const LONGEST: u64 = 100_000;

/// What the user asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The stage.
    pub stage: Stage,
    /// The seed.
    pub image: &'static str,
}

impl Request {
    /// Asks for a stage, with the usual seed.
    pub fn stage(stage: Stage) -> Self {
        Self {
            stage,
            image: template::SEED,
        }
    }
}

/// One node and its user.
pub struct Site {
    node: Node,
    program: String,
    story: Vec<String>,
    states: Vec<State>,
    plans: Vec<Plan>,
    loss: Loss,
    controller_gone: bool,
    wish: Option<Wish>,
}

/// An annotation that the user sets when a position has been shown for a while.
#[derive(Clone, Copy, Debug)]
struct Wish {
    state: State,
    seconds: u64,
    key: &'static str,
}

/// A node does not come to rest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stuck(pub String);

impl Site {
    /// The usual node, switched on and at rest in Idle.
    ///
    /// # Errors
    /// It does not come to rest.
    pub fn idle() -> Result<Self, Stuck> {
        let mut machine = template::machine();
        machine.power_on();
        let mut site = Self::resumed(machine);
        site.drive([])?;
        site.watch_from_here();
        Ok(site)
    }

    /// A site whose node is this machine, running, without any process of the agent yet.
    pub fn resumed(machine: Machine) -> Self {
        let guard = Guard::new(&machine);
        Self {
            node: Node::new(machine, guard),
            program: PROGRAM.to_owned(),
            story: Vec::new(),
            states: Vec::new(),
            plans: Vec::new(),
            loss: Loss::Everything,
            controller_gone: false,
            wish: None,
        }
    }

    /// The same, watched over by the guard of a walk that began before.
    pub fn resumed_within(machine: Machine, guard: Guard) -> Self {
        let site = Self::resumed(machine);
        site.node.lock().guard = guard;
        site
    }

    /// The user asks for something now.
    pub fn ask(&mut self, request: &Request) {
        self.story
            .push(format!("-- stage {}", request.stage.as_str()));
        ask(&self.node, request);
    }

    /// Begins to watch over a walk: what is booted now is its origin.
    pub fn watch_from_here(&mut self) {
        let mut inner = self.node.lock();
        inner.guard = Guard::new(&inner.machine);
    }

    /// The guard as it is now.
    pub fn guard(&self) -> Guard {
        self.node.lock().guard.clone()
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// A copy of the machine as it is now.
    pub fn machine(&self) -> Machine {
        self.node.machine()
    }

    /// What has been published and run, one line each.
    pub fn story(&self) -> &[String] {
        &self.story
    }

    /// The plans that have been begun, in order.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// The position that the live object shows.
    pub fn state(&self) -> State {
        let status = self.node.see(live).and_then(|ibu| ibu.status);
        state_of(&status.unwrap_or_default())
    }

    /// The user will set this annotation, once, when `state` has been shown for so many seconds; the controller sees it at once.
    pub fn annotate_in(&mut self, state: State, seconds: u64, key: &'static str) {
        self.wish = Some(Wish {
            state,
            seconds,
            key,
        });
    }

    /// From now on operations are counted from 0, and this happens at one of them.
    pub fn arm(&mut self, fault: Option<Fault>) {
        let mut inner = self.node.lock();
        inner.count = 0;
        inner.publishes.clear();
        inner.fault = fault;
    }

    /// From now on nobody starts the controller of any release but the one that the walk began from.
    pub fn lose_controller(&mut self) {
        self.controller_gone = true;
    }

    /// What a power cut takes away.
    pub fn lose(&mut self, loss: Loss) {
        self.loss = loss;
    }

    /// From now on every state of the machine is kept.
    pub fn record(&mut self) {
        self.node.lock().moments = Some(Vec::new());
    }

    /// The states since [`Self::record`].
    pub fn take_moments(&mut self) -> Vec<Moment> {
        self.node.lock().moments.take().unwrap_or_default()
    }

    /// Runs until nothing changes any more; then the next request is made, until all are and nothing changes.
    ///
    /// # Errors
    /// The node does not come to rest, or does not start.
    pub fn drive(&mut self, requests: impl IntoIterator<Item = Request>) -> Result<(), Stuck> {
        self.drive_within(requests, LONGEST, PASSES)
    }

    /// As [`Self::drive`] without requests, for so many seconds of the machine's own time.
    ///
    /// # Errors
    /// The node has not come to rest by then.
    pub fn drive_for(&mut self, seconds: u64) -> Result<(), Stuck> {
        // Something may be looked at every second, by a few passes.
        let looks = u32::try_from(seconds).unwrap_or(u32::MAX);
        let passes = PASSES.saturating_add(looks.saturating_mul(4));
        self.drive_within([], seconds, passes)
    }

    fn drive_within(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
        seconds: u64,
        passes: u32,
    ) -> Result<(), Stuck> {
        let mut requests: VecDeque<Request> = requests.into_iter().collect();
        let mut inner = self.node.lock();
        inner.until = inner.machine.now.saturating_add(seconds * 1000);
        drop(inner);
        self.node.lock().driver = Some(std::thread::current().id());
        for _ in 0..LIVES {
            let mut inner = self.node.lock();
            inner.off = None;
            // A process of its own, which ended with the others.
            (inner.monitor, inner.monitoring, inner.next_look) = Default::default();
            drop(inner);
            let ended = catch_unwind(AssertUnwindSafe(|| self.live(&mut requests, passes)));
            begin(&self.node, None);
            let payload = match ended {
                Ok(rested) => {
                    self.node.lock().check();
                    return rested;
                }
                Err(payload) => payload,
            };
            // A panic behind the power switch is the scope's, whose thread was refused.
            let off = match (payload.downcast_ref::<Off>(), self.node.lock().off) {
                (Some(off), _) => *off,
                (None, Some(off)) => off,
                (None, None) => resume_unwind(payload),
            };
            self.story.push(format!("-- {off:?}"));
            let mut inner = self.node.lock();
            match off {
                Off::Killed => continue,
                Off::PowerCut => {
                    let loss = self.loss;
                    inner.machine.lose_power(loss);
                }
                Off::Reboot => inner.machine.shut_down(),
                Off::TimeOver => return Err(Stuck("its time is over".to_owned())),
            }
            if !inner.machine.power_on() {
                return Err(Stuck("the boot loader finds nothing to start".to_owned()));
            }
            inner.version += 1;
            let machine = inner.machine.clone();
            inner.guard.booted(&machine);
        }
        Err(Stuck(format!("not at rest after {LIVES} processes")))
    }

    /// One life of the agent's processes: the first boot's unit, then the controller.
    fn live(&mut self, requests: &mut VecDeque<Request>, passes: u32) -> Result<(), Stuck> {
        // Borrowed apart from the story that is written meanwhile.
        let Self {
            node,
            program,
            story,
            states,
            plans,
            controller_gone,
            wish,
            ..
        } = self;
        if !node.see(|machine| machine.boot.early_over) {
            run_early_unit(node, story)?;
        }
        let unit = node.see(|machine| {
            let enabled = machine
                .cache
                .get(&machine.wants(names::POST_PIVOT_UNIT))
                .is_some();
            let begun = machine.boot.active.contains(names::POST_PIVOT_UNIT);
            (enabled || begun) && !machine.boot.first_boot_over
        });
        node.let_monitor_look();
        if unit {
            // If it sets the default, then to go back.
            begin(node, Some(PlanName::PostPivotReturn));
            run_first_boot(node, program, story);
            begin(node, None);
        }
        let origin = node.lock().guard.origin().stateroot.clone();
        let target = node.see(Machine::booted_stateroot) != origin;
        if *controller_gone && target {
            // Longer than the longest deadline that anybody here sets.
            loop {
                node.pause(1000);
            }
        }
        let agent = Agent::new(node.ports(), program.as_str());
        let mut passes = 0..passes;
        let mut pass_or_give_up = |story: &[String]| {
            let last = story.last().cloned().unwrap_or_default();
            passes
                .next()
                .map(drop)
                .ok_or_else(|| Stuck(format!("not at rest: {last}")))
        };
        loop {
            pass_or_give_up(story)?;
            let early = EarlyPorts::from(agent.ports());
            if boot_good(&early).is_ok() && node.ready() && restore_saved(agent.ports()).is_ok() {
                break;
            }
            node.pause(1000);
        }
        loop {
            pass_or_give_up(story)?;
            let ibu = match node.upgrade() {
                Ok(Some(ibu)) => ibu,
                Ok(None) => {
                    if node.ensure_upgrade().is_err() {
                        node.pause(1000);
                    }
                    continue;
                }
                Err(_) => {
                    node.pause(1000);
                    continue;
                }
            };
            let Ok(pass) = agent.pass(&ibu) else {
                node.pause(1000);
                continue;
            };
            if pass.ask_cluster {
                agent.ask_cluster();
            }
            if let Some(status) = pass.publish {
                match node.publish(&ibu, &status) {
                    Ok(Published::Stored(_)) => {
                        agent.stored(&pass.decision);
                        story.push(told(&status));
                        let from = state_of(&ibu.status.unwrap_or_default());
                        let to = state_of(&status);
                        node.lock().violations.extend(edge(from, to));
                        states.push(to);
                    }
                    Ok(Published::Conflict) => {}
                    Err(_) => node.pause(1000),
                }
            } else if let Some(plan) = pass.run {
                let stop = agent.latest().begin(plan.name);
                begin(node, Some(plan.name));
                let outcome = carry_out(node, &agent, &plan, &stop, story);
                begin(node, None);
                story.push(format!("ran {}: {outcome:?}", plan.name.as_str()));
                plans.push(plan);
            } else if pass.ask_cluster {
                continue;
            } else if let Some(seconds) = pass.look_again {
                rest(node, seconds, pass.decision.state, wish);
            } else if let Some(request) = requests.pop_front() {
                story.push(format!("-- stage {}", request.stage.as_str()));
                ask(node, &request);
            } else if node.see(live) == Some(ibu) {
                return Ok(());
            }
        }
    }

    /// The positions that were published, in order.
    pub fn states(&self) -> &[State] {
        &self.states
    }
}

/// The unit that declares boots good, started again by systemd when it fails.
fn run_early_unit(node: &Node, story: &mut Vec<String>) -> Result<(), Stuck> {
    for _ in 0..10 {
        match boot_good(&EarlyPorts::from(&node.ports())) {
            Ok(act) => {
                if act != BootAct::Nothing {
                    story.push(format!("early: {act:?}"));
                }
                node.alter(|machine| machine.boot.early_over = true);
                return Ok(());
            }
            Err(error) => story.push(format!("early: {}", engine::error_chain(&error))),
        }
        node.pause(1000);
    }
    Err(Stuck("the early unit does not end".to_owned()))
}

/// The unit of the first boot, started again by systemd when it fails, for as long as the drive lasts.
fn run_first_boot(node: &Node, program: &str, story: &mut Vec<String>) {
    loop {
        let agent = Agent::new(node.ports(), program);
        match first_boot_or_return(&agent, &StopToken::new(), &mut |_: &Event| {}) {
            Ok(FirstBoot::NothingToDo | FirstBoot::Done) => {
                story.push("first boot over".to_owned());
                node.alter(|machine| {
                    machine.boot.active.remove(names::POST_PIVOT_UNIT);
                    machine.boot.first_boot_over = true;
                });
                return;
            }
            Ok(FirstBoot::Stopped) => story.push("first boot: stopped".to_owned()),
            Err(error) => {
                let error = engine::error_chain(&error);
                story.push(format!("first boot: {error}"));
            }
        }
        node.pause(1000);
    }
}

fn state_of(status: &ImageBasedUpgradeStatus) -> State {
    planner::parse(&status.conditions).state
}

/// Named check `only_edges_of_the_table`: a published position follows from the one before by a request that the
/// transition table knows, or as the outcome of its work.
fn edge(from: State, to: State) -> Option<String> {
    let outcome = match from {
        State::PrepInProgress => matches!(to, State::PrepFailed | State::PrepCompleted),
        State::UpgradeInProgress => matches!(to, State::UpgradeFailed | State::UpgradeCompleted),
        State::RollbackInProgress => matches!(to, State::RollbackFailed | State::RollbackCompleted),
        State::RollbackFailed => to == State::RollbackCompleted,
        State::Aborting => matches!(to, State::AbortFailed | State::Idle),
        State::Finalizing => matches!(to, State::FinalizeFailed | State::Idle),
        State::AbortFailed | State::FinalizeFailed => to == State::Idle,
        _ => false,
    };
    let sides = [Side::Origin, Side::Target];
    let asked = sides.into_iter().any(|side| {
        let mut stages = Stage::ALL.into_iter();
        stages.any(|stage| planner::transition(from, side, stage) == Transition::Move(to))
    });
    let fine = from == to || outcome || asked;
    (!fine).then(|| format!("only_edges_of_the_table: from {from} to {to}"))
}

/// What runs now, for the guard.
fn begin(node: &Node, plan: Option<PlanName>) {
    node.lock().plan = plan;
}

/// Carries a plan out; where the user will ask for something else meanwhile, on a thread of its own as the product does, with
/// the controller's passes at exactly that operation.
fn carry_out(
    node: &Node,
    agent: &Agent<'_>,
    plan: &Plan,
    stop: &StopToken,
    story: &mut Vec<String>,
) -> Outcome<ErrorKind> {
    let asks = matches!(node.lock().fault, Some(Fault::Stop(_)));
    if !asks {
        return agent.carry_out(plan, stop, &mut |_: &Event| {});
    }
    let (there, hears) = channel();
    let (go_on, waits) = channel();
    node.lock().meeting = Some(Meeting {
        there: there.clone(),
        go_on: waits,
    });
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let outcome = agent.carry_out(plan, stop, &mut |_: &Event| {});
            there.send(Told::Over).ok();
            outcome
        });
        if let Ok(Told::Asked) = hears.recv() {
            while let Ok(Some(ibu)) = node.upgrade()
                && let Ok(pass) = agent.pass(&ibu)
                && let Some(status) = pass.publish
                && let Ok(Published::Stored(_)) = node.publish(&ibu, &status)
            {
                agent.stored(&pass.decision);
                story.push(format!("(meanwhile) {}", told(&status)));
            }
            go_on.send(()).ok();
        }
        node.lock().meeting = None;
        worker.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Waits for the time to look again, or until the user writes.
fn rest(node: &Node, seconds: u64, state: State, wish: &mut Option<Wish>) {
    let due = wish.filter(|wish| wish.state == state && wish.seconds <= seconds);
    let Some(due) = due else {
        return node.pause(seconds * 1000);
    };
    *wish = None;
    node.pause(due.seconds * 1000);
    node.alter(|machine| {
        change(machine, |ibu| {
            let annotations = &mut ibu.metadata.annotations;
            annotations.insert(due.key.to_owned(), String::new());
        });
    });
}

/// The user writes the spec.
fn ask(node: &Node, request: &Request) {
    node.alter(|machine| {
        change(machine, |ibu| {
            ibu.spec.stage = Some(request.stage.as_str().to_owned());
            ibu.spec.seed_image_ref = Some(SeedImageRef {
                version: template::TARGET.to_owned(),
                image: request.image.to_owned(),
                pull_secret_ref: None,
            });
        });
    });
}

/// What `kubectl get` shows of a status.
fn told(status: &ImageBasedUpgradeStatus) -> String {
    let next: Vec<&str> = status
        .valid_next_stages
        .iter()
        .map(|stage| stage.as_str())
        .collect();
    status.conditions.last().map_or_else(String::new, |last| {
        let (kind, reason, message) = (&last.type_, &last.reason, &last.message);
        format!("{kind}={:?} {reason}: {message} {next:?}", last.status)
    })
}
