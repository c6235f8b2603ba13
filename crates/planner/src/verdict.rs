//! What is known of the verdict on an upgrade behind its pivot, and the plans that follow from one.

use api::verdict::{Judge, Outcome, Verdict};
use api::{DeploymentId, names};

use crate::facts::Facts;
use crate::step::{Plan, PlanName, Step};
use crate::upgrade::leads_elsewhere;

/// What stands in the verdict's file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum VerdictFact {
    /// There is none: nobody has decided.
    #[default]
    None,
    /// It was decided.
    Decided(Verdict),
    /// There is one that cannot be read, and why. Behind a pivot what is not known means: go back. Only who knows from the
    /// upgrade's status that it has completed leaves it at that.
    Unreadable(String),
}

impl VerdictFact {
    /// The target stays.
    pub fn is_completed(&self) -> bool {
        matches!(self, Self::Decided(verdict) if verdict.outcome == Outcome::Completed)
    }

    /// The node goes back: who said so, and why. An unreadable verdict is taken up by the controller.
    pub fn rollback(&self) -> Option<(Judge, String)> {
        match self {
            Self::Decided(verdict) if verdict.outcome == Outcome::Rollback => {
                Some((verdict.judge, verdict.reason.clone()))
            }
            Self::Unreadable(error) => {
                let reason = format!(
                    "{}the verdict on this upgrade cannot be read: {error}",
                    api::message::ROLLBACK_BY_FAILURE_PREFIX
                );
                Some((Judge::Controller, reason))
            }
            Self::None | Self::Decided(_) => None,
        }
    }
}

/// The upgrade has completed: the marker that all others obey, durable before any status says so. What stays is what boots next,
/// whatever has happened to the default meanwhile.
pub(crate) fn complete(facts: &Facts) -> Plan {
    let booted = facts.booted.as_ref().ok();
    let default = booted.filter(|booted| leads_elsewhere(facts, booted));
    let default = default.map(|booted| Step::SetDefault {
        deployment: booted.clone(),
    });
    let verdict = Step::RecordVerdict {
        outcome: Outcome::Completed,
        judge: Judge::Controller,
        reason: api::message::UPGRADE_COMPLETED.to_owned(),
    };
    Plan {
        name: PlanName::Complete,
        steps: default.into_iter().chain([verdict]).collect(),
    }
}

/// Nobody watches over a completed upgrade.
pub(crate) fn disarm_monitor() -> Step {
    Step::DisarmMonitor {
        unit: names::INIT_MONITOR_UNIT.to_owned(),
    }
}

/// Who goes back without being asked to, where to and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Return {
    /// Who carries it out; each has journals of its own.
    pub plan: PlanName,
    /// Who decided.
    pub judge: Judge,
    /// Why.
    pub reason: String,
    /// What runs.
    pub booted: DeploymentId,
    /// What shall run.
    pub origin: DeploymentId,
    /// Id of this boot.
    pub boot_id: String,
}

/// The way back that nobody asked for: the verdict, then the origin's own copy of the upgrade object, which says why and is worth
/// having but bars nothing (C 9.3), then the evidence, which bars nothing either, then as any return. Nothing of it asks the API server. Planned anew it is the same plan.
pub fn automatic_return(wanted: Return) -> Plan {
    let Return {
        plan,
        judge,
        reason,
        booted,
        origin,
        boot_id,
    } = wanted;
    let reason = api::verdict::bounded(&reason);
    Plan {
        name: plan,
        steps: vec![
            Step::RecordVerdict {
                outcome: Outcome::Rollback,
                judge,
                reason: reason.clone(),
            },
            Step::TellOrigin {
                origin: origin.stateroot.clone(),
                target: booted.clone(),
                reason: reason.clone(),
            },
            // Nothing that follows leads anywhere else, and none of it waits for more than a few seconds of this.
            Step::SealEvidence {
                target: booted.clone(),
                boot_id: Some(boot_id.clone()),
                reason,
            },
            Step::SyncStateroots {
                stateroots: vec![booted.stateroot, origin.stateroot.clone()],
                shared: false,
            },
            // What is kept is kept for this: the switch writes to /boot.
            Step::ReleaseSpace { may_fail: true },
            // The switch makes it name the target: only with attempts left does the boot loader go by the default. Until then it
            // leads home.
            Step::RefillFallback,
            Step::SetDefault { deployment: origin },
            Step::DisarmFallback { may_fail: true },
            Step::Reboot {
                reason: "rollback".to_owned(),
                boot_id,
                otherwise: None,
            },
        ],
    }
}
