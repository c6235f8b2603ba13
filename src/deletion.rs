//! Somebody deleted the upgrade object: what stands in its place?

use api::ImageBasedUpgrade;
use planner::State;

/// Whether the deleted object has to come back as it was. In the middle of an upgrade it does: the node is in the state that
/// it speaks of. Idle needs no memory, and after a rollback that failed deleting is the user's way out (contract 2.2).
pub(crate) fn must_come_back(deleted: &ImageBasedUpgrade) -> bool {
    let conditions = deleted
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    let state = planner::parse(conditions.unwrap_or_default()).state;
    !matches!(
        state,
        State::Uninitialized | State::Idle | State::RollbackFailed
    )
}

#[cfg(test)]
mod tests {
    use api::{
        Condition, ConditionStatus, ConditionType, ImageBasedUpgradeStatus, Reason, Timestamp,
    };

    use super::*;

    fn check(conditions: &[(ConditionType, ConditionStatus, Reason)], comes_back: bool) {
        let conditions = conditions
            .iter()
            .map(|(type_, status, reason)| {
                Condition::new(*type_, *status, *reason, "", 1, Timestamp::default())
            })
            .collect();
        let status = Some(ImageBasedUpgradeStatus {
            conditions,
            ..Default::default()
        });
        let ibu = ImageBasedUpgrade {
            status,
            ..ImageBasedUpgrade::initial()
        };
        assert_eq!(must_come_back(&ibu), comes_back);
    }

    #[test]
    fn an_upgrade_under_way_comes_back_and_an_idle_one_does_not() {
        use ConditionStatus::{False, True};
        use ConditionType as Type;
        check(&[], false);
        check(&[(Type::Idle, True, Reason::Idle)], false);
        let busy = (Type::Idle, False, Reason::InProgress);
        check(
            &[busy, (Type::PrepInProgress, True, Reason::InProgress)],
            true,
        );
        check(
            &[busy, (Type::UpgradeCompleted, True, Reason::Completed)],
            true,
        );
        check(&[(Type::Idle, False, Reason::AbortFailed)], true);
        check(
            &[busy, (Type::RollbackCompleted, False, Reason::Failed)],
            false,
        );
    }
}
