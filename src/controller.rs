//! `controller`: passes on one thread, runs on another, the watch on a third.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use api::{ImageBasedUpgrade, names};
use cluster::{Awaited, Connection, Sighting};
use engine::StopToken;
use node::ports::{Cluster, Published};
use node::{Agent, ErrorKind, PortResult, Restored};
use planner::{Act, Plan, PlanName, PrecachePolicy, State, Why};

use crate::announcing::{Announced, Announcing};
use crate::background::{self, Background};
use crate::cli::{ApiServer, PROGRAM};
use crate::deletion;
use crate::endpoints;
use crate::gate::Gate;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::node_ports::NodePorts;
use crate::telling::{Telling, lost_worker};

/// Wait before asking again what failed in passing.
const RETRY: Duration = Duration::from_secs(1);

/// Pulls at a time that nobody needs more of: each is a process with some 60 MiB and up to six connections.
const MOST_PULLS: usize = 32;

/// How long a wish to upgrade stands before the cluster is asked a dozen questions for it: whoever corrects himself at once
/// is answered by an API server that is not busy with ours.
const SECOND_THOUGHTS: Duration = Duration::from_millis(100);

/// Passes for changes in the cluster come no more often than this.
const AT_MOST_EACH: Duration = Duration::from_millis(200);

/// How long a run may take to stop when the process is told to end: abort takes effect within five seconds, a pod has ten.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Why the pass thread looks again.
enum Nudge {
    /// The object as the watch saw it; `None` = there is none.
    Seen(Option<Box<ImageBasedUpgrade>>),
    /// The run tells something, or has ended.
    Run,
    /// The process shall end.
    End,
}

/// Runs until the process is told to end.
pub(crate) fn run(api: &ApiServer, endpoints: &endpoints::Arguments) -> Result<()> {
    let instance = host::Instance::acquire().context("becoming this node's only agent")?;
    let background = Background::start()?;
    let readers = Readers::default();
    endpoints::serve(
        background.handle(),
        endpoints,
        &readers.metrics,
        &readers.gate,
        &readers.health,
    );
    let (sender, nudges) = channel();
    listen_for_end(&background, sender.clone());
    let opened = NodePorts::open_patiently(api, &background, |wait| ended_within(&nudges, wait))?;
    let Some((ports, connection)) = opened else {
        return Ok(());
    };
    let agent = Agent::new(ports.ports(), PROGRAM).precaching(precaching());
    readers.metrics.follow(agent.latest().clone());
    readers.gate.ask_by(connection.clone());
    std::thread::scope(|scope| {
        let cluster = ports.cluster();
        let (live, lost) = (None, None);
        let watch = ChangeWatch {
            background: &background,
            connection: connection.clone(),
            task: None,
            changed: Arc::default(),
        };
        let mut passes = Passes {
            scope,
            watch,
            agent: &agent,
            cluster,
            readers: &readers,
            sender,
            live,
            lost,
            worked: true,
        };
        // The watch begins behind the restoration: what it tells first is the restored object.
        if passes.restore_patiently(&nudges) {
            follow(&background, connection, passes.sender.clone());
            passes.run(&nudges);
        }
        end(&agent);
    });
    drop(instance);
    Ok(())
}

/// How the environment wants images precached; a number that is none counts as not given (contract 3.8).
fn precaching() -> PrecachePolicy {
    let variable = |name: &str| std::env::var(name).ok();
    let usual = PrecachePolicy::default();
    let pulls = variable(names::ENV_PRECACHE_PULLS).and_then(|text| text.parse().ok());
    PrecachePolicy {
        pulls: pulls.unwrap_or(usual.pulls).clamp(1, MOST_PULLS),
        best_effort: variable(names::ENV_PRECACHE_BEST_EFFORT).as_deref() == Some("TRUE"),
    }
}

/// Lets the run under way stop at its next chunk. One that does not is cut off: what it has done is in its journal, and a
/// kill at any moment must be survived anyway. One that waits for the reboot that ends this very process is not waited for.
fn end(agent: &Agent<'_>) {
    agent.latest().stop();
    let asked = Instant::now();
    let reboots = || {
        let view = agent.latest().view();
        view.current
            .and_then(|at| view.steps.get(at))
            .is_some_and(|step| step.name == "reboot")
    };
    while agent.latest().running() || agent.asks_cluster() {
        if reboots() || asked.elapsed() >= STOP_PATIENCE {
            tracing::info!("ending in the middle of work");
            std::process::exit(0);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the end was asked for meanwhile.
fn ended_within(nudges: &Receiver<Nudge>, wait: Duration) -> bool {
    matches!(
        nudges.recv_timeout(wait),
        Ok(Nudge::End) | Err(RecvTimeoutError::Disconnected)
    )
}

fn listen_for_end(background: &Background, sender: Sender<Nudge>) {
    background.handle().spawn(async move {
        background::end_signal().await;
        // The receiver lives as long as anything does.
        drop(sender.send(Nudge::End));
    });
}

fn follow(background: &Background, connection: Connection, sender: Sender<Nudge>) {
    background.handle().spawn(async move {
        let mut sightings = cluster::watch(connection);
        while let Some(sighting) = sightings.recv().await {
            match sighting {
                Sighting::Upgrade(ibu) => drop(sender.send(Nudge::Seen(ibu))),
                Sighting::Unreachable { reason, .. } => {
                    tracing::warn!(
                        reason,
                        "the API server cannot be reached; what is under way goes on"
                    );
                }
            }
        }
    });
}

/// Whoever looks at the agent from outside, besides through the object.
#[derive(Default)]
struct Readers {
    announced: Announced,
    metrics: Metrics,
    gate: Gate,
    health: Health,
}

/// Watches what is waited for as long as it is, and never else: at rest it would cost a connection.
struct ChangeWatch<'a> {
    background: &'a Background,
    connection: Connection,
    task: Option<(Awaited, tokio::task::JoinHandle<()>)>,
    /// Something has, since somebody last looked.
    changed: Arc<AtomicBool>,
}

impl ChangeWatch<'_> {
    fn set(&mut self, awaited: Option<Awaited>, sender: &Sender<Nudge>) {
        if self.task.as_ref().map(|(watched, _)| *watched) == awaited {
            return;
        }
        if let Some((_, task)) = self.task.take() {
            task.abort();
        }
        let Some(awaited) = awaited else { return };
        let (connection, sender) = (self.connection.clone(), sender.clone());
        let changed = Arc::clone(&self.changed);
        let watching = async move {
            let mut changes = cluster::watch_changes(&connection, awaited);
            while let Some(()) = changes.recv().await {
                changed.store(true, Ordering::Relaxed);
                drop(sender.send(Nudge::Run));
                // What changes meanwhile is one change: operators of a young cluster have much to tell.
                tokio::time::sleep(AT_MOST_EACH).await;
            }
        };
        self.task = Some((awaited, self.background.handle().spawn(watching)));
    }
}

struct Passes<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    watch: ChangeWatch<'scope>,
    agent: &'scope Agent<'env>,
    cluster: &'scope dyn Cluster,
    readers: &'scope Readers,
    sender: Sender<Nudge>,
    /// The newest object that is known.
    live: Option<Box<ImageBasedUpgrade>>,
    /// The object was deleted: what it was, until something stands in its place.
    lost: Option<Option<Box<ImageBasedUpgrade>>>,
    /// More than looking was done since the agent last came to rest.
    worked: bool,
}

impl<'scope> Passes<'scope, '_> {
    /// Restores a saved object, however long the API server is away. `false` = the process shall end.
    fn restore_patiently(&self, nudges: &Receiver<Nudge>) -> bool {
        let mut told = String::new();
        while let Err(error) = self.restore() {
            let error = engine::error_chain(&error);
            // The same each second would be all that is left in the node's journal.
            if told != error {
                tracing::warn!(
                    error,
                    "restoring the saved upgrade object failed, trying again"
                );
                told = error;
            }
            if ended_within(nudges, RETRY) {
                return false;
            }
        }
        true
    }

    fn run(&mut self, nudges: &Receiver<Nudge>) {
        let mut wait = None;
        loop {
            match next(nudges, wait) {
                Err(()) | Ok(Some(Nudge::End)) => return,
                Ok(Some(Nudge::Seen(seen))) => self.see(seen),
                Ok(None | Some(Nudge::Run)) => {}
            }
            wait = self.readers.health.during(|| {
                if self.lost.is_some() {
                    self.bring_back()
                } else {
                    self.pass()
                }
            });
        }
    }

    fn restore(&self) -> PortResult<()> {
        // On nodes without the early unit this is the first that looks.
        match node::boot_good(&self.agent.ports().into()) {
            Ok(act) => crate::boot_good::tell(&act),
            // It may never succeed; the upgrade object says more than the boot loader, and is not kept waiting for it.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Permanent | ErrorKind::Contradiction
                ) =>
            {
                let error = engine::error_chain(&error);
                tracing::error!(error, "the boot loader's way back cannot be looked after");
            }
            Err(error) => return Err(error),
        }
        match node::restore_saved(self.agent.ports())? {
            Restored::Nothing => {}
            Restored::Restored => tracing::info!("restored the saved upgrade object"),
            Restored::Ignored => {
                tracing::info!("the saved upgrade object speaks of a return that has not happened");
            }
            Restored::Quarantined(why) => tracing::warn!(why, "put the saved upgrade object aside"),
        }
        Ok(())
    }

    fn see(&mut self, seen: Option<Box<ImageBasedUpgrade>>) {
        let Some(seen) = seen else {
            self.lost = Some(self.live.take().or(self.lost.take().flatten()));
            return;
        };
        self.readers.health.saw_object();
        match &self.live {
            // Deleted and made anew between two looks.
            Some(live)
                if live.metadata.uid != seen.metadata.uid && deletion::must_come_back(live) =>
            {
                self.lost = Some(self.live.take());
            }
            // On its way when our own write was answered.
            Some(live) if is_older(&seen, live) => {}
            _ => {
                self.live = Some(seen);
                self.lost = None;
            }
        }
    }

    /// Makes what has to stand in a deleted object's place; the watch brings it.
    fn bring_back(&mut self) -> Option<Duration> {
        let deleted = self.lost.as_ref().and_then(Option::as_deref);
        let made = match deleted.filter(|deleted| deletion::must_come_back(deleted)) {
            Some(deleted) => {
                tracing::warn!(
                    "the upgrade object was deleted in the middle of an upgrade: bringing it back"
                );
                self.cluster.restore_upgrade(deleted)
            }
            None => self.cluster.ensure_upgrade(),
        };
        match made {
            Ok(()) => {
                self.lost = None;
                None
            }
            Err(error) => {
                let error = engine::error_chain(&error);
                tracing::warn!(error, "making the upgrade object failed, trying again");
                Some(RETRY)
            }
        }
    }

    /// One pass; how long until the next one, if nothing happens before.
    fn pass(&mut self) -> Option<Duration> {
        let live = self.live.as_deref()?;
        if self.watch.changed.swap(false, Ordering::Relaxed) {
            self.agent.cluster_changed();
        }
        let pass = match self.agent.pass(live) {
            Ok(pass) => pass,
            Err(error) => {
                tracing::warn!(
                    error = engine::error_chain(&error),
                    "looking at the node failed, trying again"
                );
                return Some(RETRY);
            }
        };
        self.readers.metrics.enter(pass.decision.state);
        tracing::debug!(state = %pass.decision.state, act = ?pass.decision.act, "pass");
        let awaited = match pass.decision.act {
            Act::Wait(Why::Peer) => Some(Awaited::Peer),
            // Not while it is asked: an answer comes sooner than a watch.
            Act::Wait(Why::Cluster) if pass.awaits_change => Some(Awaited::Health),
            _ => None,
        };
        self.watch.set(awaited, &self.sender);
        if pass.ask_cluster {
            self.ask_cluster();
        }
        if let Some(status) = &pass.publish {
            self.worked = true;
            return match self.cluster.publish(live, status) {
                Ok(Published::Stored(stored)) => {
                    let message = pass.decision.said.message.as_str();
                    tracing::info!(state = %pass.decision.state, message, "status");
                    self.agent.stored(&pass.decision);
                    self.live = Some(stored);
                    // Status first, effect next.
                    Some(Duration::ZERO)
                }
                // The watch brings what somebody else wrote.
                Ok(Published::Conflict) => Some(RETRY),
                Err(error) => {
                    let error = engine::error_chain(&error);
                    tracing::warn!(error, "publishing the status failed, trying again");
                    Some(RETRY)
                }
            };
        }
        if let Some(plan) = pass.run {
            self.start(plan);
        } else if pass.decision.state == State::Idle && pass.decision.act == Act::Nothing {
            self.rest();
        }
        pass.look_again.map(Duration::from_secs)
    }

    /// Gives back what only work needs, once behind each work.
    fn rest(&mut self) {
        if std::mem::take(&mut self.worked)
            && let Err(error) = host::release_text()
        {
            tracing::debug!(%error, "no memory given back");
        }
    }

    /// Asks the cluster on a thread of its own: passes go on meanwhile.
    fn ask_cluster(&self) {
        let (agent, sender) = (self.agent, self.sender.clone());
        self.scope.spawn(move || {
            std::thread::sleep(SECOND_THOUGHTS);
            if catch_unwind(AssertUnwindSafe(|| agent.ask_cluster())).is_err() {
                tracing::error!("asking the cluster panicked");
            }
            drop(sender.send(Nudge::Run));
        });
    }

    /// Hands a plan to a worker of its own.
    fn start(&self, plan: Plan) {
        if self.agent.latest().running() {
            return;
        }
        let stop = self.agent.latest().begin(plan.name);
        let (agent, cluster, readers) = (self.agent, self.cluster, self.readers);
        let sender = self.sender.clone();
        self.scope.spawn(move || {
            let name = plan.name;
            let work = || carry_out(agent, cluster, readers, &plan, &stop, &sender);
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                agent
                    .latest()
                    .end(&lost_worker(name.as_str()), agent.ports().clock.uptime());
            }
            drop(sender.send(Nudge::Run));
        });
    }
}

fn carry_out(
    agent: &Agent<'_>,
    cluster: &dyn Cluster,
    readers: &Readers,
    plan: &Plan,
    stop: &StopToken,
    sender: &Sender<Nudge>,
) {
    let note = match plan.name {
        PlanName::Pivot => Some(api::message::EVENT_REBOOT_FOR_UPGRADE),
        PlanName::Return | PlanName::AutomaticReturn => {
            Some(api::message::EVENT_REBOOT_FOR_ROLLBACK)
        }
        _ => None,
    };
    let attempt = agent.latest().attempts() + 1;
    let announcing = Announcing::new(cluster, &readers.announced, note, attempt);
    let nudge = || drop(sender.send(Nudge::Run));
    let mut telling = Telling::new(announcing, readers.metrics.clone(), nudge);
    let outcome = agent.carry_out(plan, stop, &mut telling);
    tracing::debug!(?outcome, plan = plan.name.as_str(), "run ended");
}

/// Whether one version of the object is older than another. Versions of one object count up (the API server's rules for
/// `resourceVersion` permit comparing them since Kubernetes 1.35, and etcd's have always been numbers); what is none compares
/// as new.
fn is_older(seen: &ImageBasedUpgrade, live: &ImageBasedUpgrade) -> bool {
    let number =
        |ibu: &ImageBasedUpgrade| ibu.metadata.resource_version.as_ref()?.parse::<u64>().ok();
    seen.metadata.uid == live.metadata.uid
        && matches!((number(seen), number(live)), (Some(seen), Some(live)) if seen < live)
}

/// The next nudge. Of several that wait only the newest sighting counts, so that a burst costs one pass.
fn next(nudges: &Receiver<Nudge>, wait: Option<Duration>) -> Result<Option<Nudge>, ()> {
    let first = match wait {
        None => nudges.recv().map_err(drop)?,
        Some(wait) => match nudges.recv_timeout(wait) {
            Ok(nudge) => nudge,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => return Err(()),
        },
    };
    let mut newest = first;
    while let Ok(nudge) = nudges.try_recv() {
        newest = match (newest, nudge) {
            (Nudge::End, _) | (_, Nudge::End) => Nudge::End,
            (seen @ Nudge::Seen(_), Nudge::Run) => seen,
            (_, later) => later,
        };
    }
    Ok(Some(newest))
}
