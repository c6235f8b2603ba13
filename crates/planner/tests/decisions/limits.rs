//! Limits on what Prep does to the network: which ones a plan is made with, and what follows where they cannot be kept.

use std::collections::BTreeMap;

use api::network_limits::NetworkLimits;
use planner::{
    Act, ClusterFacts, ClusterKnowledge, Facts, FetchLimits, PlanName, PrecachePolicy, Side, State,
    Step, Why,
};

use crate::reachable::plain;
use crate::sample::{self, cluster, content, decided, facts, pin, spec, target};

const BANDWIDTH: &str = "network-limits.lca.openshift.io/fetch-bandwidth";
const CONNECTIONS: &str = "network-limits.lca.openshift.io/fetch-connections";
const PULLS: &str = "network-limits.lca.openshift.io/precache-pulls";

type Entries<'a> = &'a [(&'a str, &'a str)];

fn map(entries: Entries<'_>) -> BTreeMap<String, String> {
    let entries = entries.iter();
    entries
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A node on which nothing of a Prep is done yet.
fn asked(annotations: Entries<'_>, data: Entries<'_>) -> Facts {
    let mut facts = facts(Side::Origin);
    let limits = NetworkLimits::of_annotations(&map(annotations));
    facts.limits = limits.map_err(|error| error.to_string());
    facts.cluster = ClusterKnowledge::Known(Box::new(ClusterFacts {
        configuration: map(data),
        ..cluster()
    }));
    facts
}

fn act(facts: &Facts) -> (State, Act, String) {
    let status = plain(State::PrepInProgress);
    let decision = decided(&spec(Some("Prep")), &status.conditions, facts);
    (decision.state, decision.act, decision.said.message)
}

fn steps(facts: &Facts) -> Vec<Step> {
    match act(facts).1 {
        Act::Run(plan) => plan.steps,
        other => panic!("{other:?}"),
    }
}

#[test]
fn steps_carry_the_limits_that_are_set() {
    // Expected: KiB per second, connections, pulls. The environment says 7 pulls.
    let check = |annotations: Entries<'_>, data: Entries<'_>, expect: (Option<u64>, u8, usize)| {
        let mut facts = asked(annotations, data);
        facts.images.policy = PrecachePolicy {
            pulls: 7,
            best_effort: true,
        };
        facts.pin = Some(pin());
        let fetch = steps(&facts).into_iter().find_map(|step| match step {
            Step::FetchSeed { limits, .. } => Some(limits),
            _ => None,
        });
        facts.content = Some(content());
        facts.target = Some(target(false));
        let pulls = steps(&facts).into_iter().find_map(|step| match step {
            Step::PrecacheImages { policy, .. } => Some(policy),
            _ => None,
        });
        let FetchLimits {
            bytes_per_second,
            connections,
        } = fetch.unwrap();
        let policy = pulls.unwrap();
        assert!(policy.best_effort);
        let found = (
            bytes_per_second.map(|bytes| bytes.get() >> 10),
            connections,
            policy.pulls,
        );
        assert_eq!(found, expect, "{annotations:?} {data:?}");
    };
    check(&[], &[], (None, 4, 7));
    let data = [
        ("fetchBandwidth", "20Mi"),
        ("fetchConnections", "2"),
        ("precachePulls", "1"),
    ];
    check(&[], &data, (Some(20 << 10), 2, 1));
    check(&[(BANDWIDTH, "1Mi")], &data, (Some(1 << 10), 2, 1));
    check(&[(CONNECTIONS, "16")], &data, (Some(20 << 10), 16, 1));
    check(&[(PULLS, "32")], &data, (Some(20 << 10), 2, 32));
    check(&[(BANDWIDTH, "unlimited")], &data, (None, 2, 1));
}

#[test]
fn a_limit_that_cannot_be_kept_is_never_taken_for_none() {
    let check = |annotations: Entries<'_>, data: Entries<'_>, error: &str| {
        let mut facts = asked(annotations, data);
        let (state, _, text) = act(&facts);
        assert_eq!(state, State::PrepFailed);
        assert_eq!(
            text,
            format!("{error}: request stage Idle, correct it and request Prep again")
        );
        // What is done is kept: it is corrected in place.
        let begun: [&dyn Fn(&mut Facts); 3] = [
            &|facts| facts.pin = Some(pin()),
            &|facts| facts.content = Some(content()),
            &|facts| facts.target = Some(target(false)),
        ];
        for go_on in begun {
            go_on(&mut facts);
            let (state, act, text) = act(&facts);
            assert_eq!(
                (state, act),
                (State::PrepInProgress, Act::Wait(Why::Cluster))
            );
            let ends = format!("Waiting for a correction: {error}");
            assert!(text.ends_with(&ends), "{text}");
        }
    };
    check(
        &[(BANDWIDTH, "20MB/s")],
        &[],
        "annotations of ImageBasedUpgrade upgrade: network-limits.lca.openshift.io/fetch-bandwidth is \"20MB/s\"; \
         it must be bytes per second as a quantity from 64Ki to 1Ti, such as 20Mi, or unlimited",
    );
    check(
        &[],
        &[("precachePulls", "0")],
        "ConfigMap lifecycle-agent-config: precachePulls is \"0\"; it must be a whole number from 1 to 32",
    );
    check(
        &[(PULLS, "2")],
        &[("precachePulls", "0")],
        "ConfigMap lifecycle-agent-config: precachePulls is \"0\"; it must be a whole number from 1 to 32",
    );
    check(
        &[],
        &[("fetchConection", "2")],
        "ConfigMap lifecycle-agent-config: there is no key fetchConection; the keys are fetchBandwidth, \
         fetchConnections and precachePulls",
    );
}

#[test]
fn corrected_limits_let_the_work_go_on() {
    let mut facts = asked(&[(BANDWIDTH, "20MB/s")], &[]);
    facts.pin = Some(sample::pin());
    facts.limits = Ok(NetworkLimits::default());
    let (_, act, _) = act(&facts);
    assert!(
        matches!(&act, Act::Run(plan) if plan.name == PlanName::FetchSeed),
        "{act:?}"
    );
}
