//! Idle: what abort and finalize do when they fail, and what they leave alone.
#![expect(clippy::unwrap_used, reason = "a test")]

use api::{Stage, annotation, names};
use node::ErrorKind;
use planner::{PlanName, State};
use sim::{Essence, Fault, Machine, Request, Site};

/// How a clean-up is reached, and what it is called.
struct Way {
    stages: &'static [Stage],
    plan: PlanName,
    failed: State,
}

const WAYS: [Way; 3] = [
    Way {
        stages: &[Stage::Prep],
        plan: PlanName::Abort,
        failed: State::AbortFailed,
    },
    Way {
        stages: &[Stage::Prep, Stage::Upgrade],
        plan: PlanName::Finalize,
        failed: State::FinalizeFailed,
    },
    Way {
        stages: &[Stage::Prep, Stage::Upgrade, Stage::Rollback],
        plan: PlanName::Finalize,
        failed: State::FinalizeFailed,
    },
];

impl Way {
    /// A site in front of this clean-up.
    fn site(&self) -> Site {
        let mut site = Site::idle().unwrap();
        site.drive(self.stages.iter().copied().map(Request::stage))
            .unwrap();
        site
    }

    fn attempts(&self, site: &Site) -> usize {
        let plans = site.plans().iter();
        plans.filter(|plan| plan.name == self.plan).count()
    }
}

/// How often removing a stateroot fails.
fn refuse(left: u32, kind: ErrorKind) -> Option<Fault> {
    let call = "remove_stateroot";
    Some(Fault::Refuse { call, left, kind })
}

fn idle(site: &mut Site) {
    let driven = site.drive([Request::stage(Stage::Idle)]);
    assert_eq!(driven, Ok(()), "{:#?}", site.story());
    assert_eq!(site.state(), State::Idle);
    assert_eq!(site.node().violations(), Vec::<String>::new());
}

/// The end of an undisturbed clean-up, without images and journals.
fn essence(site: &Site) -> Essence {
    let kept = ["/containers/storage/", "/var/lib/lca"];
    Essence::of(&site.machine()).without(&kept)
}

#[test]
fn what_fails_three_times_recovers_alone() {
    for way in &WAYS {
        let mut undisturbed = way.site();
        idle(&mut undisturbed);
        let end = essence(&undisturbed);
        for kind in [
            ErrorKind::Permanent,
            ErrorKind::Contradiction,
            ErrorKind::Transient,
            ErrorKind::Busy,
        ] {
            let mut site = way.site();
            site.arm(refuse(3, kind));
            let before = site.states().len();
            idle(&mut site);
            assert_eq!(way.attempts(&site), 4, "{kind:?}");
            let shown = |site: &Site| site.states()[before..].contains(&way.failed);
            assert!(shown(&site), "{kind:?}: {:#?}", site.story());
            // What may pass is waited for without a word of failure at first.
            let mut passing = way.site();
            passing.arm(refuse(2, kind));
            idle(&mut passing);
            let lasts = matches!(kind, ErrorKind::Permanent | ErrorKind::Contradiction);
            assert_eq!(shown(&passing), lasts, "{kind:?}: {:#?}", passing.story());
            assert_eq!(end.differences(&essence(&site)), Vec::<String>::new());
            let told = "injected: remove_stateroot";
            assert!(site.story().iter().any(|line| line.contains(told)));
        }
    }
}

/// The annotation means now, and is taken off; any other one is looked at and changes nothing.
#[test]
fn a_manual_cleanup_is_tried_at_once() {
    for way in &WAYS {
        for (key, attempts, left) in [
            (annotation::MANUAL_CLEANUP_DONE, 2, false),
            (annotation::TRIGGER_RECONCILE, 1, true),
        ] {
            let mut site = way.site();
            site.arm(refuse(1, ErrorKind::Permanent));
            site.annotate_in(way.failed, 5, key);
            site.ask(&Request::stage(Stage::Idle));
            // Not long enough for the attempt that comes by itself. Right behind a boot operators are waited for first.
            let booted_now = way.stages.contains(&Stage::Rollback);
            let driven = site.drive_for(if booted_now { 45 } else { 25 });
            assert_eq!(way.attempts(&site), attempts, "{key}: {:#?}", site.story());
            assert_eq!(driven.is_ok(), !left, "{key}");
            assert_eq!(has_annotation(&site.machine(), key), left, "{key}");
            idle(&mut site);
        }
    }
}

fn has_annotation(machine: &Machine, key: &str) -> bool {
    let stateroot = &machine.booted().stateroot;
    let path = format!("/sysroot/ostree/deploy/{stateroot}/var/lib/etcd/upgrade");
    let content = machine.disk().content(&path).unwrap();
    let object: api::ImageBasedUpgrade = serde_json::from_slice(content).unwrap();
    object.metadata.annotations.contains_key(key)
}

/// Nor is it where it is the only other one that is left, and could boot.
#[test]
fn a_foreign_deployment_survives() {
    for way in &WAYS {
        let mut start = Site::idle().unwrap().machine();
        start.deploy_foreign(&"another".parse().unwrap());
        let mut site = Site::resumed(start);
        site.drive(way.stages.iter().copied().map(Request::stage))
            .unwrap();
        idle(&mut site);
        let kept = "/sysroot/ostree/deploy/another/var/lib/kept";
        let content = site
            .machine()
            .disk()
            .content(kept)
            .map(|content| content.to_vec());
        let told = (way.plan, site.story());
        assert_eq!(content.as_deref(), Some(&b"somebody's"[..]), "{told:#?}");
    }
}

/// What this upgrade has not made is not its to remove, whatever it is called.
#[test]
fn foreign_stateroots_survive() {
    let foreign = [
        "/sysroot/ostree/deploy/rhcos_4.15.1/var/lib/kept",
        "/sysroot/ostree/deploy/another/var/file",
    ];
    for way in &WAYS {
        let mut start = Site::idle().unwrap().machine();
        for path in foreign {
            start.tamper(path, b"somebody's");
        }
        let mut site = Site::resumed(start);
        site.drive(way.stages.iter().copied().map(Request::stage))
            .unwrap();
        idle(&mut site);
        for path in foreign {
            let machine = site.machine();
            assert_eq!(
                machine.disk().content(path),
                Some(&b"somebody's"[..].into())
            );
        }
    }
}

/// Without exactly one deployment that is known to be booted nothing is removed, and nothing else is done either.
#[test]
fn nothing_is_removed_where_nobody_knows_what_is_booted() {
    for way in &WAYS {
        let mut machine = way.site().machine();
        machine.hide_booted();
        let before = Essence::of(&machine).without(&["/lib/etcd/upgrade"]);
        let mut site = Site::resumed(machine);
        site.ask(&Request::stage(Stage::Idle));
        assert!(site.drive_for(300).is_err());
        assert_eq!(site.plans(), []);
        let after = Essence::of(&site.machine()).without(&["/lib/etcd/upgrade"]);
        assert_eq!(before.differences(&after), Vec::<String>::new());
    }
}

/// A rollback that comes too late for the old release's certificates goes on, and says so where it outlives the reboot too.
#[test]
fn a_late_rollback_warns_once() {
    for (late, warnings) in [(false, 0), (true, 1)] {
        let mut machine = WAYS[1].site().machine();
        if late {
            machine.move_clock(10 * 365 * 86_400);
        }
        let mut site = Site::resumed(machine);
        // The second attempt does not say it again.
        let call = "sync";
        site.arm(Some(Fault::Refuse {
            call,
            left: 1,
            kind: ErrorKind::Transient,
        }));
        site.drive([Request::stage(Stage::Rollback)]).unwrap();
        assert_eq!(site.state(), State::RollbackCompleted);
        let told = site.node().announced();
        let told = told
            .iter()
            .filter(|told| told.reason == names::EVENT_ORIGIN_EXPIRED);
        assert_eq!(told.count(), warnings, "{:#?}", site.story());
    }
}
