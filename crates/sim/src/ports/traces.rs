//! What boots leave behind: the logs that power-on writes, and a secret among them.

use api::DeploymentId;
use node::ports::{Trace, Traces};

use crate::machine::stateroot_directory;
use crate::node::Node;

impl Traces for Node {
    fn left_by(&self, release: &DeploymentId, runs: bool) -> Vec<Trace> {
        let part = |name: &str, content: String| Trace {
            name: name.to_owned(),
            content: match self.operation("traces", &name) {
                Ok(()) => Ok(content.into_bytes()),
                Err(error) => Err(error.to_string()),
            },
        };
        let (journal, units) = self.see(|machine| {
            let log = format!(
                "{}/var/log/journal",
                stateroot_directory(&release.stateroot)
            );
            let mut journal = String::new();
            for name in machine.cache.names(&log) {
                let text = machine.cache.text(&format!("{log}/{name}"));
                journal.extend([name.as_str(), ": ", text.unwrap_or_default()]);
            }
            journal.push_str("token=simulated-secret\n");
            let active = machine.boot.active.iter();
            let units: String = active.map(|unit| format!("{unit} active\n")).collect();
            (journal, units)
        });
        let mut parts = vec![part("journal.txt", journal)];
        if runs {
            parts.push(part("units.txt", units));
        }
        parts
    }
}
