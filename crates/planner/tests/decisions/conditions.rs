//! The arrays of the contract's 2.4: order, texts, times and generations.

use api::{ImageBasedUpgradeStatus, Stage};
use planner::{Side, State, mark_uncontrolled_return, project};

use crate::sample::{occasion, say, shown, time, walked};

const IN_PROGRESS: &str = "In progress";

const TO_PREP: [(State, Stage, &str); 2] = [
    (State::Idle, Stage::Idle, "Idle"),
    (State::PrepInProgress, Stage::Prep, IN_PROGRESS),
];

fn path(rest: &[(State, Stage, &'static str)]) -> Vec<(State, Stage, &'static str)> {
    TO_PREP.iter().chain(rest).copied().collect()
}

fn prepared(rest: &[(State, Stage, &'static str)]) -> Vec<(State, Stage, &'static str)> {
    let done = "Prep stage completed successfully";
    let mut all = path(&[
        (State::PrepCompleted, Stage::Prep, done),
        (State::UpgradeInProgress, Stage::Upgrade, IN_PROGRESS),
    ]);
    all.extend(rest);
    all
}

#[test]
fn arrays_are_the_contracts() {
    use Stage::{Idle, Prep, Rollback, Upgrade};
    let check = |path: &[(State, Stage, &str)], expected: &[&str]| {
        assert_eq!(shown(&walked(path).conditions), expected, "{path:?}");
    };
    let busy = "Idle False InProgress \"In progress\"";
    let prep_ended = "PrepInProgress False Completed \"Prep completed\"";
    let prep_done = "PrepCompleted True Completed \"Prep stage completed successfully\"";
    let upgrade_ended = "UpgradeInProgress False Completed \"Upgrade completed\"";
    let upgrade_done = "UpgradeCompleted True Completed \"Upgrade completed\"";
    let given_up = "UpgradeCompleted False Failed \"Rollback requested\"";
    let given_up_too = "UpgradeInProgress False Failed \"Rollback requested\"";
    let returning = "RollbackInProgress True InProgress \"Initiating rollback\"";

    check(&TO_PREP[..1], &["Idle True Idle \"Idle\""]);
    check(
        &TO_PREP,
        &[busy, "PrepInProgress True InProgress \"In progress\""],
    );
    check(
        &path(&[(State::PrepInProgress, Prep, "Precache job in progress")]),
        &[
            busy,
            "PrepInProgress True InProgress \"Precache job in progress\"",
        ],
    );
    check(
        &path(&[(
            State::PrepCompleted,
            Prep,
            "Prep stage completed successfully",
        )]),
        &[busy, prep_ended, prep_done],
    );
    check(
        &path(&[(State::PrepFailed, Prep, "why")]),
        &[
            busy,
            "PrepCompleted False Failed \"Prep failed\"",
            "PrepInProgress False Failed \"why\"",
        ],
    );
    check(
        &path(&[
            (State::PrepFailed, Prep, "why"),
            (State::Aborting, Idle, "Aborting"),
        ]),
        &[
            "PrepCompleted False Failed \"Prep failed\"",
            "PrepInProgress False Failed \"why\"",
            "Idle False Aborting \"Aborting\"",
        ],
    );
    check(
        &path(&[
            (State::Aborting, Idle, "Aborting"),
            (State::AbortFailed, Idle, "why not"),
        ]),
        &[
            "PrepInProgress True InProgress \"In progress\"",
            "Idle False AbortFailed \"why not\"",
        ],
    );
    check(
        &path(&[
            (State::Aborting, Idle, "Aborting"),
            (State::Idle, Idle, "Idle"),
        ]),
        &["Idle True Idle \"Idle\""],
    );
    check(
        &prepared(&[(State::UpgradeInProgress, Upgrade, "Backing up")]),
        &[
            busy,
            prep_ended,
            prep_done,
            "UpgradeInProgress True InProgress \"Backing up\"",
        ],
    );
    check(
        &prepared(&[(State::UpgradeFailed, Upgrade, "why")]),
        &[
            busy,
            prep_ended,
            prep_done,
            "UpgradeCompleted False Failed \"Upgrade failed\"",
            "UpgradeInProgress False Failed \"why\"",
        ],
    );
    check(
        &prepared(&[(State::UpgradeCompleted, Upgrade, "Upgrade completed")]),
        &[busy, prep_ended, prep_done, upgrade_ended, upgrade_done],
    );
    let back = (State::RollbackInProgress, Rollback, "Initiating rollback");
    // Updated in place after success; otherwise they move behind what was last, in the order in which they are set.
    check(
        &prepared(&[
            (State::UpgradeCompleted, Upgrade, "Upgrade completed"),
            back,
        ]),
        &[
            busy,
            prep_ended,
            prep_done,
            given_up_too,
            given_up,
            returning,
        ],
    );
    check(
        &prepared(&[back]),
        &[
            busy,
            prep_ended,
            prep_done,
            given_up,
            given_up_too,
            returning,
        ],
    );
    let rest = [busy, prep_ended, prep_done, given_up, given_up_too];
    let with =
        |last: &[&'static str]| -> Vec<&'static str> { rest.iter().chain(last).copied().collect() };
    check(
        &prepared(&[back, (State::RollbackFailed, Rollback, "why")]),
        &with(&[
            "RollbackCompleted False Failed \"Rollback failed\"",
            "RollbackInProgress False Failed \"why\"",
        ]),
    );
    let returned = (State::RollbackCompleted, Rollback, "Rollback completed");
    let ended = [
        "RollbackInProgress False Completed \"Rollback completed\"",
        "RollbackCompleted True Completed \"Rollback completed\"",
    ];
    check(&prepared(&[back, returned]), &with(&ended));
    check(
        &prepared(&[back, (State::RollbackFailed, Rollback, "why"), returned]),
        // Only the completed condition flips, so it alone moves.
        &with(&ended),
    );
    check(
        &prepared(&[
            back,
            returned,
            (State::Finalizing, Idle, "Finalizing"),
            (State::FinalizeFailed, Idle, "why not"),
        ]),
        &[
            &with(&ended)[1..],
            &["Idle False FinalizeFailed \"why not\""],
        ]
        .concat(),
    );
}

#[test]
fn the_origins_copy_tells_of_an_uncontrolled_rollback() {
    let mut status = walked(&prepared(&[]));
    mark_uncontrolled_return(&mut status, 7, time(50));
    let last = shown(&status.conditions).split_off(3);
    assert_eq!(
        last,
        [
            "UpgradeCompleted False Failed \"Upgrade failed\"",
            "UpgradeInProgress False Failed \"Uncontrolled rollback\"",
        ]
    );
    assert_eq!(status.valid_next_stages, [Stage::Idle]);
    let text = planner::failure_text(&status, Stage::Upgrade);
    assert_eq!(text, Some("Uncontrolled rollback"));
    assert_eq!(planner::failure_text(&status, Stage::Prep), None);
    assert_eq!(planner::failure_text(&status, Stage::Rollback), None);
}

/// `Type since generation` of every condition, seconds since the walk's beginning.
fn times(status: &ImageBasedUpgradeStatus) -> Vec<(String, i64, i64)> {
    let start = time(0).unix();
    let of = |c: &api::Condition| {
        (
            c.type_.clone(),
            c.last_transition_time.unix() - start,
            c.observed_generation.unwrap(),
        )
    };
    status.conditions.iter().map(of).collect()
}

#[test]
fn times_follow_status_changes_and_generations_follow_the_requested_stage() {
    let check = |status: &ImageBasedUpgradeStatus, expected: &[(&str, i64, i64)]| {
        let expected: Vec<_> = expected
            .iter()
            .map(|(type_, since, generation)| ((*type_).to_owned(), *since, *generation))
            .collect();
        assert_eq!(times(status), expected);
    };
    // One second and one generation per position.
    let running = walked(&TO_PREP);
    check(&running, &[("Idle", 2, 2), ("PrepInProgress", 2, 2)]);
    let prep = say(State::PrepInProgress, Side::Origin, "further");
    let further = project(&running, Stage::Prep, &prep, occasion(3, 10));
    check(&further, &[("Idle", 2, 2), ("PrepInProgress", 2, 3)]);
    assert_eq!(further.observed_generation, Some(3));
    // Nothing but the generation has changed.
    let seen = project(&further, Stage::Prep, &prep, occasion(4, 11));
    check(&seen, &[("Idle", 2, 2), ("PrepInProgress", 2, 4)]);
    assert_eq!(seen.observed_generation, Some(4));
    let done = say(State::PrepCompleted, Side::Origin, "done");
    let done = project(&seen, Stage::Prep, &done, occasion(4, 12));
    check(
        &done,
        &[
            ("Idle", 2, 2),
            ("PrepInProgress", 12, 4),
            ("PrepCompleted", 12, 4),
        ],
    );
    let aborting = say(State::Aborting, Side::Origin, "Aborting");
    let aborting = project(&done, Stage::Idle, &aborting, occasion(5, 13));
    check(
        &aborting,
        &[
            ("PrepInProgress", 12, 4),
            ("PrepCompleted", 12, 4),
            ("Idle", 13, 5),
        ],
    );
    // Last already and not flipped: it stays where it is, with its time.
    let failed = say(State::AbortFailed, Side::Origin, "why not");
    let failed = project(&aborting, Stage::Idle, &failed, occasion(5, 14));
    assert_eq!(times(&failed), times(&aborting));
    let idle = say(State::Idle, Side::Origin, "Idle");
    let idle = project(&failed, Stage::Idle, &idle, occasion(5, 15));
    check(&idle, &[("Idle", 15, 5)]);
}

#[test]
fn the_rollback_window_ends_with_idle_and_rollback() {
    let set = |state| {
        let mut status = crate::reachable::plain(State::UpgradeCompleted);
        status.rollback_availability_expiration = Some(time(1000));
        let decision = say(state, Side::Target, "m");
        project(&status, Stage::Idle, &decision, occasion(2, 2)).rollback_availability_expiration
    };
    for (state, kept) in [
        (State::UpgradeCompleted, true),
        (State::Finalizing, true),
        (State::FinalizeFailed, true),
        (State::RollbackInProgress, false),
        (State::Idle, false),
    ] {
        assert_eq!(set(state).is_some(), kept, "{state}");
    }
}

/// What was done stands in `PrepInProgress` from the end of Prep on, and nothing that follows wipes it out.
#[test]
fn finished_work_is_told_for_as_long_as_its_condition_stands() {
    let mut decision = say(
        State::PrepCompleted,
        Side::Origin,
        "Prep stage completed successfully",
    );
    decision.said.work = Some("Prep completed: total: 3 (pulled: 1, skipped: 2, failed: 0)".into());
    let before = walked(&TO_PREP);
    let after = project(&before, Stage::Prep, &decision, occasion(2, 9));
    let told = "PrepInProgress False Completed \"Prep completed: total: 3 (pulled: 1, skipped: 2, failed: 0)\"";
    let check = |status: &ImageBasedUpgradeStatus| {
        assert!(
            shown(&status.conditions).contains(&told.to_owned()),
            "{:?}",
            status.conditions
        );
    };
    check(&after);
    // The same position again, with nothing new to say.
    let silent = say(
        State::PrepCompleted,
        Side::Origin,
        "Prep stage completed successfully",
    );
    let again = project(&after, Stage::Prep, &silent, occasion(2, 10));
    assert_eq!(again, after);
    let upgrading = say(State::UpgradeInProgress, Side::Origin, IN_PROGRESS);
    check(&project(
        &again,
        Stage::Upgrade,
        &upgrading,
        occasion(3, 11),
    ));
}
