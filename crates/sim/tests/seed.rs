//! Which seed is installed: the one that was resolved, and only if it is signed where it must be.
#![expect(clippy::unwrap_used, reason = "a test")]

use api::{Stage, annotation};
use node::ports::Cluster;
use planner::{Plan, SeedPin, SeedSignature, State, Step};
use sim::template::{OTHER_SEED, SEED};
use sim::{Machine, Request, Site};

const KEY: &str = "AAAA";

fn shown(site: &Site) -> Option<String> {
    let ibu = site.node().upgrade().unwrap().unwrap();
    ibu.metadata
        .annotations
        .get(annotation::SEED_DIGEST)
        .cloned()
}

/// The pin of the latest plan that fetches.
fn fetched(plans: &[Plan]) -> Option<SeedPin> {
    let steps = plans.iter().rev().flat_map(|plan| &plan.steps);
    let mut pins = steps.filter_map(|step| match step {
        Step::FetchSeed { pin, .. } => Some(pin.clone()),
        _ => None,
    });
    pins.next()
}

fn prep(site: &mut Site) {
    site.drive([Request::stage(Stage::Prep)]).unwrap();
}

/// The digest that Prep installs from the registry of this machine.
fn installed(machine: Machine) -> String {
    let mut site = Site::resumed(machine);
    prep(&mut site);
    assert_eq!(site.state(), State::PrepCompleted);
    let digest = fetched(site.plans()).unwrap().digest.to_string();
    assert_eq!(shown(&site), Some(digest.clone()));
    digest
}

#[test]
fn a_tag_that_moves_behind_the_resolving_changes_nothing_until_idle() {
    let machine = Site::idle().unwrap().machine();
    let first = installed(machine.clone());
    let mut moved = machine.clone();
    moved.move_tag(SEED, OTHER_SEED);
    let second = installed(moved);
    assert_ne!(first, second);

    let mut site = Site::resumed(machine);
    site.record();
    prep(&mut site);
    let moments = site.take_moments();
    let resolved = site.node().upgrade().unwrap().unwrap();
    assert!(resolved.status.is_some());
    let mut moments_resolved = 0;
    // Each tenth moment of a Prep, from that on in which the digest was known.
    for moment in moments.into_iter().step_by(10) {
        let mut machine = moment.machine;
        let pin = machine.path("/var/lib/lca/workspace/seed-pin.json");
        if machine.cache().text(&pin).is_none() {
            continue;
        }
        moments_resolved += 1;
        machine.move_tag(SEED, OTHER_SEED);
        let mut site = Site::resumed_within(machine, moment.guard);
        site.drive([]).unwrap();
        assert_eq!(
            site.state(),
            State::PrepCompleted,
            "at {}",
            moment.operation
        );
        assert_eq!(shown(&site), Some(first.clone()), "at {}", moment.operation);
        assert!(fetched(site.plans()).is_none_or(|pin| pin.digest.as_str() == first));
        assert_eq!(site.node().violations(), Vec::<String>::new());
    }
    assert!(moments_resolved > 5, "{moments_resolved}");

    // From Idle on the reference is asked about anew.
    let mut machine = site.machine();
    machine.move_tag(SEED, OTHER_SEED);
    let mut site = Site::resumed(machine);
    site.drive([Request::stage(Stage::Idle)]).unwrap();
    assert_eq!((site.state(), shown(&site)), (State::Idle, None));
    prep(&mut site);
    assert_eq!(shown(&site), Some(second));
}

#[test]
fn the_digest_is_shown_until_the_upgrade_is_finalized() {
    let mut site = Site::idle().unwrap();
    prep(&mut site);
    let digest = shown(&site);
    assert!(digest.is_some());
    site.drive([Request::stage(Stage::Upgrade)]).unwrap();
    assert_eq!(
        (site.state(), shown(&site)),
        (State::UpgradeCompleted, digest)
    );
    site.drive([Request::stage(Stage::Idle)]).unwrap();
    assert_eq!((site.state(), shown(&site)), (State::Idle, None));
}

#[test]
fn a_seed_without_the_required_signature_is_not_fetched() {
    let check = |policy: &str, signed_with: Option<&str>, expect: State| {
        let mut machine = Site::idle().unwrap().machine();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{KEY}\n-----END PUBLIC KEY-----\n");
        let data = serde_json::json!({"signaturePolicy": policy, "signatureKeys": pem});
        let configuration = machine.path("/var/lib/etcd/configuration");
        machine.tamper(&configuration, data.to_string().as_bytes());
        if let Some(key) = signed_with {
            let signature: SeedSignature = serde_json::from_value(serde_json::json!({
                "key": key,
                "fingerprint": format!("sha256:{}", "f".repeat(64)),
            }))
            .unwrap();
            machine.sign(SEED, signature);
        }
        let mut site = Site::resumed(machine);
        prep(&mut site);
        assert_eq!(site.state(), expect, "{policy}, {signed_with:?}");
        let signature = fetched(site.plans()).and_then(|pin| pin.signature);
        assert_eq!(
            fetched(site.plans()).is_some(),
            expect == State::PrepCompleted
        );
        assert_eq!(
            signature.is_some(),
            policy == "required" && expect == State::PrepCompleted
        );
    };
    check("off", None, State::PrepCompleted);
    check("required", Some(KEY), State::PrepCompleted);
    check("required", Some("BBBB"), State::PrepFailed);
    check("required", None, State::PrepFailed);
    check("garbled", Some(KEY), State::PrepFailed);
}
