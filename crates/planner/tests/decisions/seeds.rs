//! Is this seed for this cluster: the texts of the contract's 3.2 item 1, 3.3 and 4.2, as the user sees them.

use api::{ImageBasedUpgradeSpec, PullSecretRef};
use planner::{Act, ClusterFacts, Facts, PlanName, SeedPin, Side, State, Step};

use crate::reachable::plain;
use crate::sample::{self, ORIGIN, cluster, content, decided, facts, pin, spec};

/// The message of the failed Prep, or the name of the plan that comes next.
fn outcome(spec: &ImageBasedUpgradeSpec, facts: &Facts) -> Result<PlanName, String> {
    let status = plain(State::PrepInProgress);
    let decision = decided(spec, &status.conditions, facts);
    match (decision.state, decision.act) {
        (State::PrepFailed, Act::Record) => Err(decision.said.message),
        (State::PrepInProgress, Act::Run(plan)) => Ok(plan.name),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_spec_asks_for_is_checked_first() {
    let check = |image: &str, version: &str, running: &str, expected: Result<PlanName, &str>| {
        let mut spec = spec(Some("Prep"));
        let seed = spec.seed_image_ref.as_mut().unwrap();
        (seed.image, seed.version) = (image.to_owned(), version.to_owned());
        let mut facts = facts(Side::Origin);
        facts.cluster = planner::ClusterKnowledge::Known(Box::new(ClusterFacts {
            version: running.to_owned(),
            ..cluster()
        }));
        assert_eq!(outcome(&spec, &facts), expected.map_err(str::to_owned));
    };
    let image = sample::IMAGE;
    check(image, "4.17.4", "4.16.9", Ok(PlanName::InspectSeed));
    check(
        "docker://quay.io/org/seed:1",
        "4.17.4",
        "4.16.9",
        Ok(PlanName::InspectSeed),
    );
    check(
        "",
        "4.17.4",
        "4.16.9",
        Err(
            "failed to validate IBU spec: spec.seedImageRef.image is not set: request stage Idle, correct it and request Prep again",
        ),
    );
    check(
        image,
        "",
        "4.16.9",
        Err(
            "failed to validate IBU spec: failed to validate seed image OCP version: failed to parse seed version : \"\" is not a version of the form X.Y.Z: each of the three parts must be a number",
        ),
    );
    check(
        image,
        "4.17",
        "4.16.9",
        Err(
            "failed to validate IBU spec: failed to validate seed image OCP version: failed to parse seed version 4.17: \"4.17\" is not a version of the form X.Y.Z: three numbers are needed",
        ),
    );
    check(
        image,
        "4.17.4",
        "four",
        Err(
            "failed to validate IBU spec: failed to validate seed image OCP version: failed to parse target version four: \"four\" is not a version of the form X.Y.Z: each of the three parts must be a number",
        ),
    );
    for (seed, running) in [
        ("4.17.4", "4.17.4"),
        ("4.17.4", "4.17.5"),
        ("4.17.4-rc.1", "4.17.4"),
        ("4.17.4+a", "4.17.4"),
        ("4.9.0", "4.16.9"),
    ] {
        let text = format!(
            "failed to validate IBU spec: failed to validate seed image OCP version: seed OCP version ({seed}) must be higher than current OCP version ({running})"
        );
        check(image, seed, running, Err(&text));
    }
    check(
        image,
        "4.16.9",
        "4.16.8",
        Err(
            "failed to validate IBU spec: stateroot rhcos_4.16.9 of version 4.16.9 is the running one: request stage Idle, correct it and request Prep again",
        ),
    );
    assert_eq!(
        facts(Side::Origin).booted.unwrap().stateroot.as_str(),
        ORIGIN
    );
}

#[test]
fn an_image_that_is_no_reference_is_named() {
    let mut spec = spec(Some("Prep"));
    for image in ["two words", "-option"] {
        spec.seed_image_ref.as_mut().unwrap().image = image.to_owned();
        let message = outcome(&spec, &facts(Side::Origin)).unwrap_err();
        let start = "failed to validate IBU spec: spec.seedImageRef.image: ";
        assert!(message.starts_with(start), "{message}");
        assert!(message.contains(image), "{message}");
    }
    spec.seed_image_ref = None;
    let message = outcome(&spec, &facts(Side::Origin)).unwrap_err();
    assert!(
        message.contains("spec.seedImageRef.image is not set"),
        "{message}"
    );
}

#[test]
fn labels_must_fit_the_cluster() {
    let check =
        |format: Option<&str>, info: Option<&str>, cluster: &ClusterFacts, expected: &str| {
            let mut facts = facts(Side::Origin);
            facts.cluster = planner::ClusterKnowledge::Known(Box::new(cluster.clone()));
            facts.pin = Some(SeedPin {
                format_version: format.map(str::to_owned),
                cluster_info: info.map(str::to_owned),
                ..pin()
            });
            let expected = match expected {
                "" => Ok(PlanName::FetchSeed),
                text => Err(format!(
                    "failed to validate seed image info: checking seed image compatibility: {text}"
                )),
            };
            assert_eq!(outcome(&spec(Some("Prep")), &facts), expected);
        };
    let plain = cluster();
    let four = Some("4");
    check(four, None, &plain, "");
    check(
        None,
        None,
        &plain,
        "seed image is missing the com.openshift.lifecycle-agent.seed_format_version label, please build a new image using the latest version of the lca-cli",
    );
    for other in ["3", "5", "", "4 ", "04"] {
        let text = format!("seed image format version mismatch: expected 4, got {other}");
        check(Some(other), None, &plain, &text);
    }
    check(
        four,
        Some("{"),
        &plain,
        "failed to get seed cluster info from label: failed to unmarshal seed cluster info: EOF while parsing an object at line 1 column 1",
    );

    let proxy = ClusterFacts {
        has_proxy: true,
        ..cluster()
    };
    let with_proxy = Some(r#"{"has_proxy":true}"#);
    check(four, with_proxy, &proxy, "");
    check(
        four,
        with_proxy,
        &plain,
        "seed image has a proxy but the cluster being upgraded does not, this combination is not supported",
    );
    check(
        four,
        None,
        &proxy,
        "seed image does not have a proxy but the cluster being upgraded does, this combination is not supported",
    );

    let fips = ClusterFacts {
        has_fips: true,
        ..cluster()
    };
    let with_fips = Some(r#"{"has_fips":true}"#);
    check(four, with_fips, &fips, "");
    check(
        four,
        with_fips,
        &plain,
        "seed image has FIPS enabled but the cluster being upgraded does not, this combination is not supported",
    );
    check(
        four,
        Some("{}"),
        &fips,
        "seed image does not have FIPS enabled but the cluster being upgraded does, this combination is not supported",
    );

    let trust =
        |text: &str| format!("checking seed image additional trust bundle compatibility: {text}");
    let bundle = ClusterFacts {
        has_user_ca_bundle: true,
        ..cluster()
    };
    let with_bundle =
        Some(r#"{"additionalTrustBundle":{"hasUserCaBundle":true,"proxyConfigmapName":""}}"#);
    let without =
        Some(r#"{"additionalTrustBundle":{"hasUserCaBundle":false,"proxyConfigmapName":""}}"#);
    check(four, with_bundle, &bundle, "");
    check(four, None, &bundle, "");
    check(
        four,
        with_bundle,
        &plain,
        &trust(
            "seed image has an openshift-config/user-ca-bundle configmap but the cluster being upgraded does not, this combination is not supported",
        ),
    );
    check(
        four,
        without,
        &bundle,
        &trust(
            "seed image does not have an openshift-config/user-ca-bundle configmap but the cluster being upgraded does, this combination is not supported",
        ),
    );
    let named = ClusterFacts {
        proxy_config_map: "own-ca".to_owned(),
        ..cluster()
    };
    check(
        four,
        without,
        &named,
        &trust(
            "seed image's Proxy trustedCA configmap name \"\" (oc get proxy -oyaml) mismatches cluster's name \"own-ca\", this combination is not supported",
        ),
    );
    // In the contract's order: the format before the proxy before FIPS.
    let both = ClusterFacts {
        has_fips: true,
        has_proxy: true,
        ..cluster()
    };
    check(
        four,
        Some("{}"),
        &both,
        "seed image does not have a proxy but the cluster being upgraded does, this combination is not supported",
    );
    check(
        Some("3"),
        Some("{}"),
        &both,
        "seed image format version mismatch: expected 4, got 3",
    );
}

#[test]
fn a_seed_of_another_version_than_it_says_is_not_installed() {
    let mut facts = facts(Side::Origin);
    facts.pin = Some(pin());
    let mut other = content();
    other.info.seed_cluster_ocp_version = "4.17.5".to_owned();
    facts.content = Some(other);
    let expected = "failed to complete stateroot setup: version specified in seed image (4.17.5) differs from version in spec (4.17.4)";
    assert_eq!(
        outcome(&spec(Some("Prep")), &facts),
        Err(expected.to_owned())
    );
}

#[test]
fn what_was_found_for_another_image_does_not_count() {
    let asks = spec(Some("Prep"));
    let mut facts = facts(Side::Origin);
    facts.pin = Some(SeedPin {
        image: "quay.io/org/other:1".parse().unwrap(),
        ..pin()
    });
    assert_eq!(outcome(&asks, &facts), Ok(PlanName::InspectSeed));
    facts.pin = Some(pin());
    facts.content = Some(content());
    facts.content.as_mut().unwrap().digest = sample::digest("9");
    assert_eq!(outcome(&asks, &facts), Ok(PlanName::FetchSeed));
    facts.content = Some(content());
    let mut target = sample::target(false);
    target.seed = sample::digest("9");
    facts.target = Some(target);
    assert_eq!(outcome(&asks, &facts), Ok(PlanName::InstallStateroot));
    facts.target = Some(sample::target(false));
    assert_eq!(outcome(&asks, &facts), Ok(PlanName::Precache));
}

#[test]
fn the_pull_secret_is_named_in_the_plans_and_nothing_of_it() {
    let mut spec = spec(Some("Prep"));
    spec.seed_image_ref.as_mut().unwrap().pull_secret_ref = Some(PullSecretRef {
        name: "seed-pull-secret".to_owned(),
    });
    let status = plain(State::PrepInProgress);
    let mut facts = facts(Side::Origin);
    for pinned in [None, Some(pin())] {
        facts.pin = pinned;
        let Act::Run(plan) = decided(&spec, &status.conditions, &facts).act else {
            panic!("a plan is wanted");
        };
        let named = plan.steps.iter().filter_map(|step| match step {
            Step::ResolveSeed { pull_secret, .. } | Step::FetchSeed { pull_secret, .. } => {
                Some(pull_secret.as_deref())
            }
            _ => None,
        });
        assert_eq!(named.collect::<Vec<_>>(), [Some("seed-pull-secret")]);
    }
}

#[test]
fn images_are_precached_from_this_clusters_registry_where_the_seeds_is_not_mirrored() {
    let check = |seed: &str, configured: bool, own: &str, sources: &[&str], expected: [&str; 3]| {
        let mut facts = facts(Side::Origin);
        facts.cluster = planner::ClusterKnowledge::Known(Box::new(ClusterFacts {
            release_registry: own.to_owned(),
            mirror_sources: sources.iter().map(|&source| source.to_owned()).collect(),
            ..cluster()
        }));
        let mut content = content();
        content.info.release_registry = seed.to_owned();
        content.info.mirror_registry_configured = configured;
        content.images = [
            "seed.io/a@sha256:1",
            "seed.io.corp/b@sha256:2",
            "seedXio/c:$1",
        ]
        .map(str::to_owned)
        .to_vec();
        (facts.pin, facts.content) = (Some(pin()), Some(content));
        facts.target = Some(sample::target(false));
        let status = plain(State::PrepInProgress);
        let decision = decided(&spec(Some("Prep")), &status.conditions, &facts);
        let Act::Run(plan) = decision.act else {
            panic!("{decision:?}");
        };
        let [
            Step::PinImages { images: pinned, .. },
            Step::PrecacheImages { images, .. },
            _,
        ] = &plan.steps[..]
        else {
            panic!("{:?}", plan.steps);
        };
        assert_eq!(*images, expected, "{seed} {configured} {own} {sources:?}");
        assert_eq!(*pinned, expected);
    };
    let [kept_a, kept_b, kept_c] = [
        "seed.io/a@sha256:1",
        "seed.io.corp/b@sha256:2",
        "seedXio/c:$1",
    ];
    let kept = [kept_a, kept_b, kept_c];
    let own = ["own.io:5000/a@sha256:1", kept_b, kept_c];
    // No mirrors here: the seed's own word decides.
    check("seed.io", true, "own.io:5000", &[], own);
    check("seed.io", false, "own.io:5000", &[], kept);
    // Mirrors here: replaced unless one of them stands for the seed's registry.
    check("seed.io", false, "own.io:5000", &["else.io"], own);
    check(
        "seed.io",
        true,
        "own.io:5000",
        &["else.io", "seed.io"],
        kept,
    );
    // Nothing to replace with, or by.
    check("", true, "own.io:5000", &[], kept);
    check("seed.io", true, "", &[], kept);
    check("seed.io", true, "seed.io", &[], kept);
}
