//! Limits on the network that change in the middle of a Prep.
#![expect(clippy::unwrap_used, reason = "a test")]

use api::{Stage, annotation};
use node::ports::Cluster;
use planner::{State, Step};
use sim::{Request, Site};

/// The bandwidth, in KiB per second, of each fetch that was planned.
fn fetches(site: &Site) -> Vec<Option<u64>> {
    let steps = site.plans().iter().flat_map(|plan| &plan.steps);
    let limits = steps.filter_map(|step| match step {
        Step::FetchSeed { limits, .. } => Some(limits.bytes_per_second),
        _ => None,
    });
    limits
        .map(|bytes| bytes.map(|bytes| bytes.get() >> 10))
        .collect()
}

fn limit(site: &Site, value: &str) {
    let key = annotation::FETCH_BANDWIDTH;
    site.node().annotate(key, Some(value)).unwrap();
}

#[test]
fn a_changed_limit_counts_from_the_next_attempt_on_and_costs_nothing_that_is_done() {
    let machine = Site::idle().unwrap().machine();
    let mut site = Site::resumed(machine);
    limit(&site, "1Mi");
    site.record();
    site.drive([Request::stage(Stage::Prep)]).unwrap();
    assert_eq!(site.state(), State::PrepCompleted);
    assert_eq!(fetches(&site), [Some(1 << 10)]);
    let mut changed = 0;
    // The agent is killed at each tenth moment, and finds another limit when it is back.
    for moment in site.take_moments().into_iter().step_by(10) {
        let machine = moment.machine;
        let content = machine.path("/var/lib/lca/workspace/seed-content.json");
        let pin = machine.path("/var/lib/lca/workspace/seed-pin.json");
        if machine.cache().text(&pin).is_none() {
            // Prep has not begun to fetch.
            continue;
        }
        let is_fetched = machine.cache().text(&content).is_some();
        let mut site = Site::resumed_within(machine, moment.guard);
        limit(&site, "2Mi");
        site.drive([]).unwrap();
        let at = moment.operation;
        assert_eq!(site.state(), State::PrepCompleted, "at {at}");
        let expect = if is_fetched {
            Vec::new()
        } else {
            vec![Some(2 << 10)]
        };
        let found = fetches(&site);
        // Between the record and the end of its run the same step is planned once more, and finds itself done.
        assert!(
            found == expect || is_fetched && found == [Some(2 << 10)],
            "{found:?} at {at}"
        );
        changed += usize::from(!is_fetched);
        assert_eq!(site.node().violations(), Vec::<String>::new());
    }
    assert!(changed > 0);
}

#[test]
fn a_limit_that_cannot_be_kept_is_waited_for_once_the_work_has_begun() {
    let mut site = Site::resumed(Site::idle().unwrap().machine());
    site.record();
    site.drive([Request::stage(Stage::Prep)]).unwrap();
    let mut waited = 0;
    for moment in site.take_moments().into_iter().step_by(40) {
        let machine = moment.machine;
        let pin = machine.path("/var/lib/lca/workspace/seed-pin.json");
        let target = machine.path("/var/lib/lca/workspace/target.json");
        if machine.cache().text(&pin).is_none() {
            continue;
        }
        let prepared = machine
            .cache()
            .text(&target)
            .is_some_and(|text| text.contains("\"precached\":true"));
        let mut site = Site::resumed_within(machine, moment.guard);
        limit(&site, "fast");
        let rested = site.drive([]);
        let at = moment.operation;
        if prepared {
            assert_eq!(site.state(), State::PrepCompleted, "at {at}");
            continue;
        }
        // It looks again and again.
        assert!(rested.is_err(), "at {at}");
        assert_eq!(site.state(), State::PrepInProgress, "at {at}");
        assert_eq!(fetches(&site), [], "at {at}");
        waited += 1;
        limit(&site, "2Mi");
        site.drive([]).unwrap();
        assert_eq!(site.state(), State::PrepCompleted, "at {at}");
        assert_eq!(site.node().violations(), Vec::<String>::new());
    }
    assert!(waited > 3, "{waited}");
}
