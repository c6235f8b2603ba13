//! The init monitor as a process beside the others: it looks whenever time passes, as long as its unit runs.

use engine::Event;
use node::ports::Clock;
use node::{Agent, InitMonitor, Tick};
use planner::{PlanName, tells_completion};

use crate::node::Node;
use crate::ports::live;
use crate::site::PROGRAM;

impl Node {
    /// Lets the monitor look, if its unit runs and its time has come. A return that it carries out ends the machine's boot.
    pub(crate) fn let_monitor_look(&self) {
        let uptime = self.uptime();
        let mut inner = self.lock();
        let runs = inner
            .machine
            .boot
            .active
            .contains(api::names::INIT_MONITOR_UNIT);
        // On any other thread the product runs on beside it, and nothing there ends with the power.
        let here = inner.driver == Some(std::thread::current().id());
        if !runs || !here || inner.monitoring || inner.off.is_some() || uptime < inner.next_look {
            return;
        }
        inner.monitoring = true;
        let plan = inner.plan.replace(PlanName::MonitorReturn);
        let mut memory = std::mem::take(&mut inner.monitor);
        drop(inner);
        let agent = Agent::new(self.ports(), PROGRAM);
        let completed = || {
            let status = self.see(|machine| machine.api_answers().then(|| live(machine)));
            let conditions = status??.status?.conditions;
            Some(tells_completion(&conditions))
        };
        let tick = InitMonitor {
            agent: &agent,
            completed: &completed,
            memory: &mut memory,
        }
        .look(&mut |_: &Event| {});
        let mut inner = self.lock();
        (inner.monitor, inner.plan, inner.monitoring) = (memory, plan, false);
        match tick {
            Tick::Again(seconds) => inner.next_look = uptime + seconds,
            Tick::Over(_) => {
                inner.version += 1;
                inner
                    .machine
                    .boot
                    .active
                    .remove(api::names::INIT_MONITOR_UNIT);
            }
        }
    }
}
