//! One pass, and one run: observe, decide, project; then carry a plan out.
//!
//! Nothing here waits. The caller publishes what a pass wants published, hands its plan to a worker, and calls again
//! when the object changes, the run tells something, or the time to look again has come.

use std::sync::{Mutex, PoisonError};

use api::{ImageBasedUpgrade, ImageBasedUpgradeStatus, Stage, annotation, names};
use engine::{
    Event, EventSink, Header, Journal, JournalState, JournalStore, Outcome, RunId, RunIdError,
    RunView, StopToken,
};
use planner::check::{Subject, warnings};
use planner::{
    Act, ClusterKnowledge, Decision, ErrorKind, Facts, FallbackState, Occasion, Owner, Plan,
    PlanName, PrecachePolicy, RunFact, Side, State, Step, Why,
};

use crate::cluster_view::{ClusterView, Question};
use crate::journal_files::{JournalMemory, is_full};
use crate::latest::LatestRun;
use crate::observe::observe;
use crate::ports::{Announcement, ClusterFacts, Ports, Reserved, Severity};
use crate::run_names::RunNames;
use crate::steps::NodeWork;
use crate::{JournalFiles, PortError, PortResult, ProgressNote};

/// Journals of ended runs that are kept, to tell what happened.
const JOURNALS_KEPT: usize = 20;

/// The agent of one node.
pub struct Agent<'a> {
    ports: Ports<'a>,
    program: String,
    latest: LatestRun,
    names: RunNames,
    /// What the latest pass saw: journals say what their plan was made from.
    seen: Mutex<serde_json::Value>,
    cluster: ClusterView,
    precaching: PrecachePolicy,
}

/// What a pass asks of its caller, in this order.
#[derive(Debug)]
pub struct Pass {
    /// The decision, for logs and readers.
    pub decision: Decision,
    /// The new status. When there is one, nothing else is done in this pass: status first, effect next.
    pub publish: Option<ImageBasedUpgradeStatus>,
    /// The plan to carry out.
    pub run: Option<Plan>,
    /// [`Agent::ask_cluster`] is to be called, and a pass made behind it.
    pub ask_cluster: bool,
    /// The cluster has answered, and is waited for to become another one: its changes are worth watching.
    pub awaits_change: bool,
    /// Seconds until the next pass, if nothing happens before.
    pub look_again: Option<u64>,
}

impl<'a> Agent<'a> {
    /// An agent. `program` is its name and version: journals of any other one are not gone on with.
    pub fn new(ports: Ports<'a>, program: impl Into<String>) -> Self {
        Self {
            ports,
            program: program.into(),
            latest: LatestRun::default(),
            names: RunNames::default(),
            seen: Mutex::default(),
            cluster: ClusterView::default(),
            precaching: PrecachePolicy::default(),
        }
    }

    /// The same agent, precaching in this way.
    #[must_use]
    pub fn precaching(self, precaching: PrecachePolicy) -> Self {
        Self { precaching, ..self }
    }

    /// The latest run.
    pub fn latest(&self) -> &LatestRun {
        &self.latest
    }

    /// The ports.
    pub fn ports(&self) -> &Ports<'a> {
        &self.ports
    }

    /// One pass over the object as it is now.
    ///
    /// # Errors
    /// The node's own files cannot be read; try again.
    pub fn pass(&self, ibu: &ImageBasedUpgrade) -> PortResult<Pass> {
        let status = ibu.status.clone().unwrap_or_default();
        let parsed = planner::parse(&status.conditions);
        let uptime = self.ports.clock.uptime();
        let run = self.latest.fact(uptime);
        if !asks_cluster(parsed.state) {
            self.cluster.forget();
        }
        let cluster = self.cluster.knowledge(uptime);
        let mut facts = observe(&self.ports, ibu, parsed.state, run, self.run_id(), cluster)?;
        facts.images.policy = self.precaching;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = summary(&facts);
        let decision = planner::decide(&ibu.spec, &status.conditions, parsed, &facts);
        let requested = ibu.spec.stage().ok().flatten().unwrap_or(Stage::Idle);
        let occasion = Occasion {
            generation: ibu.metadata.generation.unwrap_or_default(),
            now: facts.now,
        };
        let projected = planner::project(&status, requested, &decision, occasion);
        if decision.act == Act::Wait(Why::OtherWork) {
            self.latest.stop();
        }
        // Behind the pivot and before finalize only health counts, and it is waited for.
        let question = match facts.side {
            Side::Target if parsed.state == State::UpgradeInProgress => Question::Health,
            _ if parsed.state == State::Finalizing => Question::Health,
            _ => Question::Facts,
        };
        let waits = decision.act == Act::Wait(Why::Cluster);
        let awaits_change = waits && facts.cluster != ClusterKnowledge::NotAsked;
        let ask_cluster = waits && self.cluster.begin(question, uptime);
        let changed = self.cluster.changed_again().filter(|_| waits);
        let look_again = match (decision.look_again, changed) {
            (Some(again), Some(changed)) => Some(again.min(changed)),
            (again, _) => again,
        };
        if ibu.status.as_ref() != Some(&projected) {
            return Ok(Pass {
                decision,
                publish: Some(projected),
                run: None,
                ask_cluster,
                awaits_change,
                look_again,
            });
        }
        let run = match &decision.act {
            Act::Run(plan) => Some(plan.clone()),
            _ => None,
        };
        if run
            .as_ref()
            .is_some_and(|plan| plan.name == PlanName::FetchSeed)
        {
            // What Prep goes on in spite of; `plan` tells it beforehand.
            for (check, text) in warnings(&Subject::of(&ibu.spec, &facts)) {
                tracing::warn!(check, "{text}");
            }
        }
        if run
            .as_ref()
            .is_some_and(|plan| plan.name == PlanName::Pivot)
            && let FallbackState::None(why) = &facts.fallback
        {
            tracing::warn!(
                why,
                "a new release that does not come up is not returned from by itself"
            );
        }
        if run.is_some()
            && let Some(warning) = &decision.said.warning
            && !matches!(facts.run, RunFact::Failed { .. })
        {
            // Once, not with every attempt; who carries the run out waits for it before the reboot.
            tracing::warn!("{warning}");
            self.ports.cluster.announce(Announcement {
                severity: Severity::Warning,
                reason: names::EVENT_ORIGIN_EXPIRED,
                note: warning.clone(),
            });
        }
        if run.is_some() {
            self.cluster.forget();
            if facts.cleanup_now {
                self.ports
                    .cluster
                    .annotate(annotation::MANUAL_CLEANUP_DONE, None)?;
            }
        }
        self.show_digest(ibu, parsed.state, &facts);
        Ok(Pass {
            decision,
            publish: None,
            run,
            ask_cluster,
            awaits_change,
            look_again,
        })
    }

    /// Shows on the object which digest the seed's reference was resolved to, from then until Idle. For readers only: that
    /// it cannot be written now holds nothing up, the next pass tries again.
    fn show_digest(&self, ibu: &ImageBasedUpgrade, state: State, facts: &Facts) {
        let digest = match state {
            State::PrepInProgress => Subject::of(&ibu.spec, facts)
                .pin
                .ok()
                .map(|pin| pin.digest.as_str()),
            State::Idle | State::Aborting | State::Finalizing => None,
            // What Prep has found out stands.
            _ => return,
        };
        let shown = ibu.metadata.annotations.get(annotation::SEED_DIGEST);
        if shown.map(String::as_str) == digest {
            return;
        }
        if let Err(error) = self.ports.cluster.annotate(annotation::SEED_DIGEST, digest) {
            let error = engine::error_chain(&error);
            tracing::debug!(error, "the seed's digest is not shown yet");
        }
    }

    /// Asks the cluster what the next pass has to know of it; takes as long as the API server does. Asks nothing if a pass
    /// has found since that nobody has a use for it.
    pub fn ask_cluster(&self) {
        let ports = &self.ports;
        let ask = |question| match question {
            Question::Facts => ports.cluster.facts(),
            Question::Health => ports.cluster.health().map(|health| ClusterFacts {
                health,
                ..ClusterFacts::default()
            }),
        };
        self.cluster.ask(ask, || ports.clock.uptime());
    }

    /// Something that makes the cluster healthy or not has changed: the next pass that waits for it asks again.
    pub fn cluster_changed(&self) {
        self.cluster.change();
    }

    /// Whether an answer of the cluster is being waited for.
    pub fn asks_cluster(&self) -> bool {
        self.cluster.is_asking()
    }

    /// The status of a decision is stored: a new position has no use for the run that led to it. Not earlier, because a
    /// position that nobody has seen yet is decided again, from the same run.
    pub fn stored(&self, decision: &Decision) {
        if decision.act != Act::Record {
            return;
        }
        // A run that is still under way belongs to the position that was left.
        self.latest.stop();
        if !keeps_run(decision.state) {
            self.latest.forget();
        }
    }

    /// Carries a plan out on this thread. `stop` is the token that [`LatestRun::begin`] gave for it; every event goes to
    /// the latest run's view and then to `events`.
    pub fn carry_out(
        &self,
        plan: &Plan,
        stop: &StopToken,
        events: &mut dyn EventSink,
    ) -> Outcome<ErrorKind> {
        let mut told = Told {
            latest: &self.latest,
            ports: &self.ports,
            noted: None,
            events,
        };
        let files = JournalFiles::new(self.ports.files);
        let mut outcome = self.attempt(&files, plan, stop, &mut told);
        // For this the space is kept: a full disk must not bar the way back.
        let barred = matches!(outcome, Outcome::JournalFailed { no_space: true, .. });
        if barred && plan.may_have_space() && self.gives_space() {
            outcome = self.attempt(&files, plan, stop, &mut told);
        }
        // Nor must a disk that keeps no journal: each step of these finds by itself what is done already.
        if let Outcome::JournalFailed { error, .. } = &outcome
            && plan.name.returns()
        {
            tracing::warn!(error, "going back without a journal");
            outcome = self.attempt(&JournalMemory::default(), plan, stop, &mut told);
        }
        self.latest.end(&outcome, self.ports.clock.uptime());
        outcome
    }

    fn attempt(
        &self,
        store: &dyn JournalStore,
        plan: &Plan,
        stop: &StopToken,
        told: &mut Told<'_, '_>,
    ) -> Outcome<ErrorKind> {
        match self.journal(store, plan, told) {
            Ok(mut journal) => {
                self.latest.look_back(journal.view());
                let mut work = NodeWork::new(self.ports);
                let now = || self.now();
                let outcome = engine::run(&mut work, &mut journal, told, stop, &now);
                self.close(&mut journal, &outcome, told);
                outcome
            }
            Err(error) => Outcome::JournalFailed {
                error: engine::error_chain(&error),
                no_space: is_full(&error),
            },
        }
    }

    /// Gives back the space that is kept; `false` = there was none, or it cannot be given back.
    fn gives_space(&self) -> bool {
        let machine = self.ports.machine;
        let kept = machine.reserved().unwrap_or_default() != Reserved::default();
        kept && machine.release().is_ok()
    }

    /// The journal to go on with, if the open one is of the very same plan, or a new one.
    fn journal<'s>(
        &self,
        store: &'s dyn JournalStore,
        plan: &Plan,
        events: &mut dyn EventSink,
    ) -> PortResult<Journal<'s, planner::Step>> {
        let unusable = |error: engine::JournalError| {
            PortError::new(ErrorKind::Transient, "keeping the journal of a run", error)
        };
        let unlisted = |error: std::io::Error| {
            PortError::new(ErrorKind::Transient, "listing the journals of runs", error)
        };
        let mut ended = Vec::new();
        for run in store.list().map_err(unlisted)? {
            if belongs_elsewhere(store, &run, plan.name) {
                continue;
            }
            match Journal::open(store, &run, &self.program) {
                Ok(journal) if matches!(journal.state(), JournalState::Closed { .. }) => {
                    ended.push(run);
                }
                Ok(journal) if journal.header().steps == plan.steps => return Ok(journal),
                Ok(mut journal) => {
                    let at = self.now();
                    let conclusion = engine::Conclusion::Interrupted;
                    journal.close(conclusion, events, at).map_err(unusable)?;
                    ended.push(run);
                }
                Err(error) if error.is_store() => return Err(unusable(error)),
                // Another program version's, or damaged: the work is planned anew from facts.
                Err(_) => engine::discard(store, &run, events, self.now()).map_err(unusable)?,
            }
        }
        let surplus = ended.len().saturating_sub(JOURNALS_KEPT - 1);
        for run in &ended[..surplus] {
            store.remove(run).map_err(unlisted)?;
        }
        let id = stamped(plan).map_or_else(|| self.run_id(), ToOwned::to_owned);
        let run: RunId = id.parse().map_err(|error: RunIdError| {
            PortError::new(ErrorKind::Permanent, "naming a run", error)
        })?;
        let header = Header::new::<NodeWork<'_>>(
            self.program.clone(),
            self.ports.clock.boot_id().0,
            run,
            plan.name.as_str(),
            self.now(),
            self.seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            plan.steps.clone(),
        );
        let journal = Journal::create(store, header).map_err(unusable)?;
        self.names.taken();
        Ok(journal)
    }

    /// A run that a decision will follow up on is not open any more; one that was stopped or failed in passing stays open
    /// and is resumed.
    fn close(
        &self,
        journal: &mut Journal<'_, planner::Step>,
        outcome: &Outcome<ErrorKind>,
        events: &mut dyn EventSink,
    ) {
        let fails = matches!(
            outcome,
            Outcome::Failed {
                kind: ErrorKind::Permanent | ErrorKind::Contradiction,
                ..
            }
        );
        if fails && let Err(error) = journal.close(engine::Conclusion::Failed, events, self.now()) {
            tracing::warn!(
                error = engine::error_chain(&error),
                "could not close a journal"
            );
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.ports.clock.now()).unwrap_or_default()
    }

    /// A name for the next run.
    fn run_id(&self) -> String {
        let store = JournalFiles::new(self.ports.files);
        self.names.next(&store, self.ports.clock)
    }
}

/// Positions whose decisions look at the cluster.
fn asks_cluster(state: State) -> bool {
    matches!(
        state,
        State::PrepInProgress | State::UpgradeInProgress | State::Finalizing
    )
}

/// Whether a journal belongs to another process that keeps some in this directory: the first boot's service, the init monitor and
/// the controller leave each other's alone. One whose plan nobody knows is the controller's; one that cannot be read is left alone
/// by all: the same plan begins anew.
fn belongs_elsewhere(store: &dyn JournalStore, run: &RunId, plan: PlanName) -> bool {
    let view = match store.read(run) {
        Ok(bytes) => bytes.and_then(|bytes| RunView::from_journal(&bytes).ok()),
        Err(error) => {
            let (run, error) = (run.as_str(), engine::error_chain(&error));
            tracing::warn!(run, error, "a journal cannot be read");
            return true;
        }
    };
    let owner = |name: &str| PlanName::parse(name).map_or(Owner::Controller, PlanName::owner);
    view.is_some_and(|view| owner(&view.plan_name) != plan.owner())
}

/// The id that a plan's own documents name its run by.
fn stamped(plan: &Plan) -> Option<&str> {
    plan.steps.iter().find_map(|step| match step {
        Step::SaveHandover { stamp, .. } | Step::SaveOriginCopy { stamp } => {
            Some(stamp.run_id.as_str())
        }
        _ => None,
    })
}

/// The facts that place a run: for people who read its journal.
fn summary(facts: &Facts) -> serde_json::Value {
    let id = |id: &api::DeploymentId| id.to_string();
    serde_json::json!({
        "booted": facts.booted.as_ref().map_or_else(String::clone, id),
        "default": facts.default.as_ref().map(id),
        "origin": facts.origin.as_ref().map(id),
        "target": facts.target.as_ref().map(|target| target.stateroot.as_str()),
        "removable": facts.removable.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
    })
}

/// Positions whose entering is itself an outcome of the latest run, and that go on from it.
fn keeps_run(state: State) -> bool {
    matches!(
        state,
        State::AbortFailed | State::FinalizeFailed | State::RollbackFailed
    )
}

/// How often the progress of a step is noted for whoever looks when this process or the API server is gone, in seconds.
const NOTE_EVERY: u64 = 5;

/// Tells an event to the latest run's view first, so that whoever is told next sees it there.
struct Told<'e, 'p> {
    latest: &'e LatestRun,
    ports: &'e Ports<'p>,
    /// When progress was last noted, in seconds of the uptime.
    noted: Option<u64>,
    events: &'e mut dyn EventSink,
}

impl Told<'_, '_> {
    fn note(&mut self, uptime: u64) {
        if self.noted.is_some_and(|last| uptime < last + NOTE_EVERY) {
            return;
        }
        self.noted = Some(uptime);
        let now = u64::try_from(self.ports.clock.now()).unwrap_or_default();
        let Some(note) = ProgressNote::of(&self.latest.view(), now) else {
            return;
        };
        if let Err(error) = note.leave(self.ports.files) {
            tracing::debug!(error = engine::error_chain(&error), "progress not noted");
        }
    }
}

impl EventSink for Told<'_, '_> {
    fn record(&mut self, event: &Event) {
        let uptime = self.ports.clock.uptime();
        self.latest.record(event, uptime);
        self.events.record(event);
        if let Event::StepProgress { .. } = event {
            self.note(uptime);
        }
    }
}
