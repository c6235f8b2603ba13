//! The plan of the target's first boot.

use api::names;
use api::reconfiguration::SeedReconfiguration;

use crate::step::{Plan, PlanName, Step};

/// What the first boot does, from the document that the origin left: first what needs no API server, then the signal that the
/// boot may go on, then the rest. Secrets stay in the document; steps that need them read it.
///
/// # Errors
/// The document lacks what a node cannot do without; the message names the field.
pub fn reconfigure(document: &SeedReconfiguration) -> Result<Plan, String> {
    let missing = |field: &str| {
        Err(format!(
            "{field} is empty in the exported configuration of this site"
        ))
    };
    if document.hostname.is_empty() || document.hostname == "localhost" {
        return missing("hostname");
    }
    if document.cluster_id.is_empty() {
        return missing("cluster_id");
    }
    if document.pull_secret.is_empty() {
        return missing("pull_secret");
    }
    Ok(Plan {
        name: PlanName::Reconfigure,
        steps: vec![
            Step::WritePullSecret,
            Step::RestoreConnections,
            Step::SetHostname {
                hostname: document.hostname.clone(),
            },
            Step::SignalReady,
            Step::StartUnit {
                unit: names::KUBELET_UNIT.to_owned(),
            },
            Step::AwaitApi,
            Step::SetClusterId {
                cluster_id: document.cluster_id.clone(),
            },
        ]
        .into_iter()
        .chain(ending())
        .collect(),
    })
}

/// What is left of the first boot where the document is removed already and nothing else tells what it said: a power cut came
/// behind the removal. The service manager still waits for its signal.
pub fn finish_reconfiguration() -> Plan {
    let steps = [Step::SignalReady].into_iter().chain(ending()).collect();
    Plan {
        name: PlanName::Reconfigure,
        steps,
    }
}

/// The end of the plan of the first boot. The unit stays enabled until nothing is left to remove: it is what goes on after a
/// power cut.
fn ending() -> [Step; 2] {
    [
        Step::RemoveReconfiguration,
        Step::DisableUnit {
            unit: names::POST_PIVOT_UNIT.to_owned(),
        },
    ]
}
