//! The node's deployments have one owner: this flow or the one that changes the node's addresses.
#![expect(clippy::unwrap_used, reason = "a test")]

use api::Stage;
use node::ports::Cluster;
use planner::{Overlay, State, parse};
use sim::{Request, Site};

const BUSY: &str = r#"{"spec": {"stage": "Config"}, "status": {"conditions": [
    {"type": "Idle", "status": "False", "reason": "InProgress", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    {"type": "ConfigInProgress", "status": "True", "reason": "InProgress", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}"#;
const IDLE: &str = r#"{"spec": {"stage": "Idle"}, "status": {"conditions": [
    {"type": "Idle", "status": "True", "reason": "Idle", "message": "Idle", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}"#;

/// The same node, with the other flow's object like this.
fn with_peer(site: &Site, peer: &str) -> Site {
    let mut machine = site.machine();
    let path = machine.path("/var/lib/etcd/ipconfig");
    machine.tamper(&path, peer.as_bytes());
    Site::resumed(machine)
}

fn overlay(site: &Site) -> Overlay {
    // Of a copy, whose time is not over.
    let site = Site::resumed(site.machine());
    let ibu = site.node().upgrade().unwrap().unwrap();
    parse(&ibu.status.unwrap_or_default().conditions).overlay
}

#[test]
fn prep_waits_for_the_other_flow_and_begins_when_it_has_ended() {
    let mut site = with_peer(&Site::idle().unwrap(), BUSY);
    site.ask(&Request::stage(Stage::Prep));
    assert!(
        site.drive_for(120).is_err(),
        "it waits for as long as need be"
    );
    assert_eq!(site.state(), State::Idle);
    assert_eq!(overlay(&site), Overlay::Blocked(Stage::Prep));
    assert!(site.plans().is_empty(), "{:?}", site.plans());

    let mut site = with_peer(&site, IDLE);
    site.drive([]).unwrap();
    assert_eq!(site.state(), State::PrepCompleted);
    assert_eq!(overlay(&site), Overlay::None);
}

#[test]
fn a_request_that_waits_can_be_taken_back() {
    let mut site = with_peer(&Site::idle().unwrap(), BUSY);
    site.ask(&Request::stage(Stage::Prep));
    assert!(site.drive_for(60).is_err());
    site.ask(&Request::stage(Stage::Idle));
    site.drive([]).unwrap();
    assert_eq!(site.state(), State::Idle);
    assert_eq!(overlay(&site), Overlay::None);
}

#[test]
fn an_upgrade_under_way_is_not_blocked_by_a_newcomer() {
    let mut site = Site::idle().unwrap();
    site.drive([Request::stage(Stage::Prep)]).unwrap();
    let mut site = with_peer(&site, BUSY);
    site.watch_from_here();
    let stages = [Stage::Upgrade, Stage::Rollback, Stage::Idle];
    site.drive(stages.map(Request::stage)).unwrap();
    assert_eq!(site.state(), State::Idle);
    assert_eq!(site.machine().reboots(), 2);
}
