//! One node, one seed, one cluster: the values that all tests start from.

use api::rollback_config::RollbackConfig;
use api::seed_info::SeedClusterInfo;
use api::seed_node::Cpu;
use api::verdict::{Judge, Outcome, Verdict};
use api::{
    Condition, DeploymentId, Digest, ImageBasedUpgradeSpec, ImageBasedUpgradeStatus, SeedImageRef,
    Stage, StaterootName, Timestamp,
};
use planner::{
    Act, ClusterFacts, ClusterKnowledge, Decision, Facts, Filesystem, NodeFacts, NodeKnowledge,
    Occasion, PostPivot, RunFact, Said, SeedContent, SeedPin, Side, Space, State, TargetRecord,
    Told, decide, parse, valid_next,
};

pub(crate) const ORIGIN: &str = "rhcos_4.16.9";
pub(crate) const TARGET: &str = "rhcos_4.17.4";
pub(crate) const IMAGE: &str = "quay.io/org/seed:4.17.4";
const START: i64 = 1_700_000_000;

pub(crate) fn stateroot(name: &str) -> StaterootName {
    name.parse().unwrap()
}

pub(crate) fn deployment(name: &str) -> DeploymentId {
    let digit = if name == ORIGIN { "a" } else { "b" };
    format!("{name}-{}.0", digit.repeat(64)).parse().unwrap()
}

pub(crate) fn digest(digit: &str) -> Digest {
    format!("sha256:{}", digit.repeat(64)).parse().unwrap()
}

pub(crate) fn pin() -> SeedPin {
    SeedPin {
        image: IMAGE.parse().unwrap(),
        digest: digest("1"),
        format_version: Some("4".to_owned()),
        cluster_info: None,
        node_facts: None,
        index: None,
        architecture: Some("amd64".to_owned()),
        layers: vec![(digest("2"), 1000)],
        documents: 0,
        signature: None,
    }
}

pub(crate) fn content() -> SeedContent {
    SeedContent {
        digest: digest("1"),
        info: SeedClusterInfo {
            seed_cluster_ocp_version: "4.17.4".to_owned(),
            ..SeedClusterInfo::default()
        },
        commit: "c".repeat(64),
        kernel_arguments: vec!["quiet".to_owned(), "systemd.unified=1".to_owned()],
        files: vec!["/etc/chrony.conf".to_owned()],
        file_marks: std::collections::BTreeMap::new(),
        origin: "[origin]\n".to_owned(),
        images: vec!["quay.io/org/a@sha256:0".to_owned()],
    }
}

pub(crate) fn target(precached: bool) -> TargetRecord {
    TargetRecord {
        stateroot: stateroot(TARGET),
        deployment: Some(deployment(TARGET)),
        version: "4.17.4".to_owned(),
        seed: digest("1"),
        precached,
    }
}

pub(crate) fn cluster() -> ClusterFacts {
    ClusterFacts {
        version: "4.16.9".to_owned(),
        release_registry: "registry.example:5000".to_owned(),
        nodes: vec!["node".to_owned()],
        node_ips: vec!["192.0.2.10".to_owned()],
        machine_networks: Told::Known(vec!["192.0.2.0/24".to_owned()]),
        kernel_arguments: vec!["quiet".to_owned(), "systemd.unified=1".to_owned()],
        files: vec!["/etc/chrony.conf".to_owned()],
        ..ClusterFacts::default()
    }
}

const GIB: u64 = 1 << 30;

/// A node that every seed here fits to.
pub(crate) fn node() -> NodeFacts {
    let space = |filesystem| Space {
        filesystem,
        device: filesystem as u64,
        total: 100 * GIB,
        available: 50 * GIB,
    };
    NodeFacts {
        architecture: "amd64".to_owned(),
        cpu: Cpu {
            model: "Example 9000".to_owned(),
            sockets: 1,
            cores: 4,
            threads: 8,
        },
        cpu_numbers: 8,
        reserved_cpus: Told::Known("0-1".to_owned()),
        spaces: Filesystem::ALL.map(space).to_vec(),
        containers_mounted: true,
        storage_target: Told::Known("/dev/disk/by-partlabel/containers".to_owned()),
        boot_files: 100 << 20,
        spooled: 0,
        default_switch: Told::Known(true),
        boot_fallback: Ok(()),
        certificates_until: Told::Known(START + 30 * 86_400),
    }
}

/// A node on the given side with nothing under way, and a cluster that answers. The lists of what may be removed name the
/// booted stateroot too: no plan may follow them there.
pub(crate) fn facts(side: Side) -> Facts {
    let (booted, other) = match side {
        Side::Origin => (ORIGIN, TARGET),
        Side::Target => (TARGET, ORIGIN),
    };
    Facts {
        foreign_target: false,
        now: time(0),
        boot_id: "boot-1".to_owned(),
        run_id: "run-1".to_owned(),
        booted: Ok(deployment(booted)),
        default: Some(deployment(booted)),
        side,
        origin: Some(deployment(ORIGIN)),
        target: None,
        pin: None,
        content: None,
        removable: vec![stateroot(booted), stateroot(other)],
        cluster: ClusterKnowledge::Known(Box::new(cluster())),
        peer: planner::Peer::Known(None),
        node: NodeKnowledge::Known(Box::new(node())),
        reserved: false,
        images: planner::ImageFacts::default(),
        limits: Ok(api::network_limits::NetworkLimits::default()),
        run: RunFact::None,
        post_pivot: PostPivot::Running {
            progress: String::new(),
        },
        returned: false,
        failed_boot: None,
        evidence: planner::EvidenceFact::None,
        fallback: planner::FallbackState::Disarmed,
        verdict: planner::VerdictFact::None,
        returns: true,
        monitor_armed: false,
        rollback_until: None,
        leftovers: true,
        cleanup_now: false,
        rollback_config: RollbackConfig::default(),
    }
}

pub(crate) fn spec(stage: Option<&str>) -> ImageBasedUpgradeSpec {
    ImageBasedUpgradeSpec {
        stage: stage.map(str::to_owned),
        seed_image_ref: Some(SeedImageRef {
            version: "4.17.4".to_owned(),
            image: IMAGE.to_owned(),
            pull_secret_ref: None,
        }),
        ..ImageBasedUpgradeSpec::default()
    }
}

/// A verdict of this judge.
pub(crate) fn verdict(outcome: Outcome, judge: Judge) -> planner::VerdictFact {
    let verdict = Verdict::new(outcome, judge, "REASON", time(0), "boot-1");
    planner::VerdictFact::Decided(verdict)
}

/// A time so many seconds after the tests' beginning.
pub(crate) fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(START + seconds)
}

pub(crate) fn occasion(generation: i64, seconds: i64) -> Occasion {
    Occasion {
        generation,
        now: time(seconds),
    }
}

/// A decision that says no more than a position and its text.
pub(crate) fn say(state: State, side: Side, message: &str) -> Decision {
    Decision {
        state,
        said: Said {
            message: message.to_owned(),
            ..Said::default()
        },
        valid_next: valid_next(state, side),
        act: Act::Record,
        look_again: None,
    }
}

pub(crate) fn decided(
    spec: &ImageBasedUpgradeSpec,
    conditions: &[Condition],
    facts: &Facts,
) -> Decision {
    decide(spec, conditions, parse(conditions), facts)
}

/// The status after a walk through these positions, one second and one generation apart.
pub(crate) fn walked(path: &[(State, Stage, &str)]) -> ImageBasedUpgradeStatus {
    let mut status = ImageBasedUpgradeStatus::default();
    for (at, (state, stage, message)) in (1..).zip(path) {
        let decision = say(*state, Side::Origin, message);
        status = planner::project(&status, *stage, &decision, occasion(at, at));
    }
    status
}

/// `Type Status Reason "message"` of every condition, in order.
pub(crate) fn shown(conditions: &[Condition]) -> Vec<String> {
    let show = |c: &Condition| format!("{} {} {} \"{}\"", c.type_, c.status, c.reason, c.message);
    conditions.iter().map(show).collect()
}
