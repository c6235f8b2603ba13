//! The init monitor: watches over a target until its upgrade has completed, and goes back when it does not.
//!
//! A process of its own, which needs nothing of the others: neither the controller nor the API server, the network or a saved
//! object that can be read. [`planner::watch_over`] decides; here is what it looks at, what it counts, and the way back.

use api::HandoverStamp;
use api::rollback_config::RollbackConfig;
use engine::EventSink;
use planner::{
    BOOT_LIMIT, ConfigFact, Disarmed, ErrorKind, MonitorAct, MonitorFacts, PlanName, VerdictFact,
    backoff, watch_over,
};
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::journal_files::is_full;
use crate::ports::{Files, NodePath, Ports, Root};
use crate::record::{self, Record};
use crate::{PortResult, boot_good, verdict, way_back};

/// Longest configuration that is read, bytes.
const LIMIT: u64 = 1 << 20;
/// Seconds after which the time spent is written down again: what a power cut can add to the deadline, at most, each of the few
/// times that boots are counted.
const SAVE_EVERY: u64 = 10;

/// Seconds of failing to go back, behind which the node reboots.
const START_OVER: u64 = 600;

/// What the monitor counts, across boots. Nothing of it comes from the wall clock.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Count {
    /// Boots of this release since the pivot.
    boots: u32,
    /// Id of the latest one.
    boot_id: String,
    /// Seconds that the boots before it lasted, as far as they were written down.
    before: u64,
    /// Seconds that it has lasted.
    uptime: u64,
}

/// When to look again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tick {
    /// After so many seconds.
    Again(u64),
    /// Never: the monitor has disarmed itself.
    Over(Disarmed),
}

/// What the monitor remembers between two looks; lost with its process.
#[derive(Clone, Debug, Default)]
pub struct MonitorMemory {
    count: Option<Count>,
    /// Uptime when the count was written down.
    saved: Option<u64>,
    /// A part of the space that is kept was given back for it.
    spent: bool,
    /// Uptime when somebody else's verdict to go back was first seen.
    seen_rollback: Option<u64>,
    /// Failed attempts to go back, and the uptime before which there is no other.
    attempts: u32,
    not_before: u64,
    /// Uptime when they began to fail.
    failing: Option<u64>,
    /// What was said last: told once.
    said: String,
}

/// The monitor of one boot.
pub struct InitMonitor<'m, 'a> {
    /// Carries the return out, with journals of its own; its ports need no API server.
    pub agent: &'m Agent<'a>,
    /// Asks the API server, for a few seconds at most, whether the upgrade's status says that it has completed. It is asked only
    /// where the verdict cannot be read.
    pub completed: &'m dyn Fn() -> Option<bool>,
    /// What it remembers.
    pub memory: &'m mut MonitorMemory,
}

impl InitMonitor<'_, '_> {
    /// Looks once, and does what follows. It does not fail: what does is told, and tried again without end.
    pub fn look(&mut self, events: &mut dyn EventSink) -> Tick {
        let uptime = self.agent.ports().clock.uptime();
        let count = self.count(uptime);
        let facts = self.observe(&count, uptime);
        match watch_over(&facts) {
            MonitorAct::Wait(seconds) => Tick::Again(seconds),
            MonitorAct::Disarm(why) => self.disarm(why),
            MonitorAct::Return(judge, reason) => {
                if uptime < self.memory.not_before {
                    return Tick::Again(1);
                }
                self.say("going back", &reason);
                let plan = PlanName::MonitorReturn;
                if let Err(error) = way_back::go_back(self.agent, plan, judge, &reason, events) {
                    self.say("going back failed", &engine::error_chain(&error));
                    self.start_over(uptime, count.boots);
                }
                let memory = &mut *self.memory;
                memory.attempts = memory.attempts.saturating_add(1);
                let wait = backoff(memory.attempts);
                let now = self.agent.ports().clock.uptime();
                memory.not_before = now.saturating_add(wait);
                // Meanwhile somebody else may have decided otherwise.
                Tick::Again(1)
            }
        }
    }

    /// A return that fails for long is left to the boot loader, where it counts; elsewhere it is tried from a few fresh boots, where
    /// what holds a lock is gone. Only behind a verdict: until then the upgrade may complete.
    fn start_over(&mut self, uptime: u64, boots: u32) {
        let since = *self.memory.failing.get_or_insert(uptime);
        if uptime < since.saturating_add(START_OVER) {
            return;
        }
        self.memory.failing = None;
        let ports = self.agent.ports();
        let decided = match verdict::read_own(ports) {
            Ok(verdict @ VerdictFact::Decided(_)) => verdict.rollback().is_some(),
            _ => false,
        };
        if !decided {
            return;
        }
        let told = boot_good::give_up(&ports.into());
        if let Err(error) = &told {
            let error = engine::error_chain(error);
            self.say("the boot loader cannot be told to go back", &error);
        }
        if !told.unwrap_or_default() && boots >= BOOT_LIMIT {
            return;
        }
        let Err(error) = ports.units.reboot("rollback");
        self.say("rebooting failed", &engine::error_chain(&error));
    }

    /// The count as of now: this boot is counted before anything is decided, durably where the disk lets us.
    fn count(&mut self, uptime: u64) -> Count {
        let boot_id = self.agent.ports().clock.boot_id().0;
        let mut count = match self.memory.count.take() {
            Some(count) => count,
            None => match self.counted(&boot_id) {
                Ok(count) => count,
                // In passing: what is known counts until it is known, and nothing is written over it.
                Err(unknown) => return unknown,
            },
        };
        count.uptime = count.uptime.max(uptime);
        let saved = self.memory.saved;
        if saved.is_none_or(|saved| uptime >= saved.saturating_add(SAVE_EVERY)) {
            match self.save(&count) {
                Ok(()) => self.memory.saved = Some(uptime),
                Err(error) => self.say("counting failed", &engine::error_chain(&error)),
            }
        }
        self.memory.count = Some(count.clone());
        count
    }

    /// The count that earlier boots left, with this one. A damaged one makes this the last boot: how many there were is not known.
    /// `Err` where it cannot be read just now: what is known of this boot alone.
    fn counted(&mut self, boot_id: &str) -> Result<Count, Count> {
        let ports = self.agent.ports();
        let first = Count {
            boots: 1,
            boot_id: boot_id.to_owned(),
            before: 0,
            uptime: 0,
        };
        match record::read::<Count>(ports.files, Record::InitMonitor) {
            Ok(None) => Ok(first),
            Ok(Some(count)) if count.boot_id == boot_id => Ok(count),
            Ok(Some(count)) => Ok(Count {
                boots: count.boots.saturating_add(1),
                before: count.before.saturating_add(count.uptime),
                ..first
            }),
            Err(error) if matches!(error.kind(), ErrorKind::Transient | ErrorKind::Busy) => {
                self.say("the count cannot be read", &engine::error_chain(&error));
                let uptime = ports.clock.uptime();
                Err(Count { uptime, ..first })
            }
            Err(error) => {
                self.say("the count is lost", &engine::error_chain(&error));
                Ok(Count {
                    boots: BOOT_LIMIT,
                    ..first
                })
            }
        }
    }

    fn save(&mut self, count: &Count) -> PortResult<()> {
        let ports = self.agent.ports();
        // Nothing is left behind on a node that nothing led to.
        if !handed_over(ports) {
            return Ok(());
        }
        match record::write(ports.files, Record::InitMonitor, count) {
            // That this boot was one is worth a part of the space which is kept for the way back, once, and the seconds that it
            // has lasted are not: whatever fills the disk would have it all by the time it is needed.
            Err(error) if is_full(&error) && !self.memory.spent => {
                self.memory.spent = true;
                ports.machine.release_part()?;
                record::write(ports.files, Record::InitMonitor, count)
            }
            written => written,
        }
    }

    fn observe(&mut self, count: &Count, uptime: u64) -> MonitorFacts {
        let verdict = match verdict::read_own(self.agent.ports()) {
            Ok(verdict) => verdict,
            // In passing; until the deadline it may be read yet.
            Err(error) => {
                self.say("the verdict cannot be read", &engine::error_chain(&error));
                VerdictFact::None
            }
        };
        let status_completed = match verdict {
            VerdictFact::Unreadable(_) => (self.completed)(),
            _ => None,
        };
        let seen_rollback = match &verdict {
            VerdictFact::Decided(_) if !verdict.is_completed() => {
                let seen = *self.memory.seen_rollback.get_or_insert(uptime);
                uptime.saturating_sub(seen)
            }
            _ => 0,
        };
        let ports = self.agent.ports();
        MonitorFacts {
            handed_over: handed_over(ports),
            config: config(ports.files),
            verdict,
            status_completed,
            boots: count.boots,
            spent: count.before.saturating_add(count.uptime),
            seen_rollback,
        }
    }

    fn disarm(&mut self, why: Disarmed) -> Tick {
        let ports = self.agent.ports();
        let settled = verdict::read_own(ports).and_then(|found| verdict::settle(ports, &found));
        let disabled = settled
            .and_then(|()| ports.units.disable(api::names::INIT_MONITOR_UNIT))
            .and_then(|()| ports.files.sync(&Root::Booted));
        match disabled {
            Ok(()) => Tick::Over(why),
            // What is not there needs no disabling.
            Err(error) if error.kind() == ErrorKind::Permanent => Tick::Over(why),
            Err(error) => {
                self.say("disarming failed", &engine::error_chain(&error));
                Tick::Again(1)
            }
        }
    }

    fn say(&mut self, what: &str, why: &str) {
        let text = format!("{what}: {why}");
        if self.memory.said != text {
            tracing::warn!(why, "init monitor: {what}");
            self.memory.said = text;
        }
    }
}

/// The configuration of the automatic rollback, as far as it can be known.
pub(crate) fn config(files: &dyn Files) -> ConfigFact {
    let path = NodePath::booted(api::path::ROLLBACK_CONFIG);
    match files.read(&path, LIMIT) {
        Ok(None) => ConfigFact::Missing,
        Ok(Some(bytes)) => match serde_json::from_slice::<RollbackConfig>(&bytes) {
            Ok(config) => ConfigFact::Known(config),
            Err(error) => ConfigFact::Unreadable(error.to_string()),
        },
        Err(error) => ConfigFact::Unreadable(engine::error_chain(&error)),
    }
}

/// Whether anything says that an upgrade led here. What cannot even be looked for counts as there.
pub(crate) fn handed_over(ports: &Ports<'_>) -> bool {
    let handover: PortResult<Option<HandoverStamp>> = record::read(ports.files, Record::Handover);
    let paths = [
        NodePath::booted(api::path::SAVED_IBU),
        NodePath::booted(api::path::ROLLBACK_CONFIG),
        Record::InitMonitor.path(),
    ];
    !matches!(handover, Ok(None))
        || paths
            .iter()
            .any(|path| !matches!(ports.files.kind(path), Ok(None)))
}
