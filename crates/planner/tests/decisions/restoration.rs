//! Does a saved upgrade object count?

use api::HandoverStamp;
use planner::{Saved, Verdict, restore};

use crate::sample::{ORIGIN, TARGET, deployment, stateroot};

#[derive(Debug, PartialEq)]
enum Expected {
    Restore,
    Ignore,
    Quarantine(&'static str),
}

fn stamp() -> HandoverStamp {
    HandoverStamp {
        format: api::handover::FORMAT,
        run_id: "run-1".to_owned(),
        boot_id: "boot-1".to_owned(),
        origin: deployment(ORIGIN),
        target: deployment(TARGET),
    }
}

#[test]
fn a_stamped_object_counts_for_its_own_pivot_only() {
    use Expected::{Ignore, Quarantine, Restore};
    let other = "rhcos_4.18.1";
    for (booted, boot_id, tried, says_more, expected) in [
        (TARGET, "boot-2", false, false, Restore),
        (TARGET, "boot-2", true, true, Restore),
        // Written for a pivot that has not happened, and yet its target runs.
        (
            TARGET,
            "boot-1",
            true,
            true,
            Quarantine("saved in this boot (boot-1)"),
        ),
        // The origin's copy: it counts when the target was really tried, or when more was written into it meanwhile.
        (ORIGIN, "boot-2", false, false, Ignore),
        (ORIGIN, "boot-2", true, false, Restore),
        (ORIGIN, "boot-2", false, true, Restore),
        // The agent was restarted before the reboot.
        (ORIGIN, "boot-1", true, true, Ignore),
        (ORIGIN, "boot-1", false, false, Ignore),
        (other, "boot-2", true, true, Quarantine("rhcos_4.18.1")),
    ] {
        let stamp = stamp();
        let target = stateroot(TARGET);
        let stateroots = [stateroot(ORIGIN), stateroot(TARGET)];
        let booted = deployment(booted);
        let verdict = restore(&Saved {
            stamp: Some(&stamp),
            target: Some(&target),
            says_more,
            booted: &booted,
            boot_id,
            stateroots: &stateroots,
            tried,
        });
        check(
            verdict,
            &expected,
            &format!("{booted} {boot_id} {tried} {says_more}"),
        );
    }
}

/// Its machine configuration may have made another one before anybody restored anything.
#[test]
fn any_deployment_of_the_target_is_the_target() {
    let stamp = stamp();
    let mut booted = deployment(TARGET);
    booted.checksum = "c".repeat(64);
    booted.serial = 1;
    let target = stateroot(TARGET);
    let verdict = restore(&Saved {
        stamp: Some(&stamp),
        target: Some(&target),
        says_more: false,
        booted: &booted,
        boot_id: "boot-2",
        stateroots: &[stateroot(ORIGIN), stateroot(TARGET)],
        tried: false,
    });
    assert_eq!(verdict, Verdict::Restore);
}

#[test]
fn an_object_without_stamp_counts_when_its_target_is_here() {
    use Expected::{Quarantine, Restore};
    for (booted, target, expected) in [
        (TARGET, Some(TARGET), Restore),
        (ORIGIN, Some(TARGET), Restore),
        (ORIGIN, Some("rhcos_4.18.1"), Quarantine("rhcos_4.18.1")),
        (ORIGIN, None, Quarantine("no seed version")),
    ] {
        let target = target.map(stateroot);
        let stateroots = [stateroot(ORIGIN), stateroot(TARGET)];
        let booted = deployment(booted);
        let verdict = restore(&Saved {
            stamp: None,
            target: target.as_ref(),
            says_more: false,
            booted: &booted,
            boot_id: "boot-1",
            stateroots: &stateroots,
            tried: false,
        });
        check(verdict, &expected, &format!("{booted} {target:?}"));
    }
}

fn check(verdict: Verdict, expected: &Expected, what: &str) {
    match (verdict, expected) {
        (Verdict::Restore, Expected::Restore) | (Verdict::Ignore, Expected::Ignore) => {}
        (Verdict::Quarantine(why), Expected::Quarantine(part)) => {
            assert!(why.contains(part), "{what}: {why}");
        }
        (verdict, expected) => panic!("{what}: {verdict:?}, expected {expected:?}"),
    }
}
