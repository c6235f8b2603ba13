//! `status`: where the upgrade stands, from the API server where it answers and from the node where this runs on it.

use std::fmt::Write;

use anyhow::Result;
use api::{ImageBasedUpgrade, Stage, annotation};
use engine::{JournalStore, RunView, StepState};
use host::{HostFallback, HostFiles, HostOstree, Layout};
use node::evidence::Kept;
use node::ports::{BootFallback, Cluster, Deployment, FallbackState, NodePath, Ostree};
use node::record::{self, Record};
use node::{FailureNote, JournalFiles, PortResult, ProgressNote};
use planner::{PlanName, SeedPin, VerdictFact};
use serde_json::{Value, json};

use crate::background::Background;
use crate::cli::{ApiServer, Output, print};
use crate::node_ports::connect;

/// What is known, each part with its own reason where it is not.
struct Found {
    upgrade: Result<Option<ImageBasedUpgrade>, String>,
    deployments: Result<Vec<Deployment>, String>,
    /// What the boot loader would do by itself.
    fallback: Result<FallbackState, String>,
    /// The seed as Prep resolved and verified it; known until Idle.
    seed: Option<SeedPin>,
    /// Whether the upgrade stays, as far as that was decided, and where it is written.
    verdict: Result<(VerdictFact, NodePath), String>,
    /// What is kept of boots that failed, the oldest first.
    evidence: Result<Vec<Kept>, String>,
    run: Option<RunView>,
    /// What that run told last of a step that is not done.
    progress: Option<ProgressNote>,
}

/// Prints the status. Parts that cannot be had are named; nothing is changed and nothing waited for longer than a few
/// seconds.
pub(crate) fn run(api: &ApiServer, output: Output) -> Result<()> {
    let background = Background::start()?;
    let chain = |error: node::PortError| engine::error_chain(&error);
    let layout = Layout::running();
    let files = HostFiles::new(layout.clone());
    let run = latest_run(&files);
    let progress = ProgressNote::find(&files)
        .filter(|note| run.as_ref().is_some_and(|run| note.speaks_of(run)));
    let found = Found {
        upgrade: upgrade(api, &background).map_err(chain),
        fallback: HostFallback::new(layout.clone()).state().map_err(chain),
        deployments: HostOstree::new(layout).deployments().map_err(chain),
        verdict: node::latest_verdict(&files).map_err(chain),
        evidence: node::evidence::list(&files).map_err(chain),
        seed: record::read(&files, Record::SeedPin).ok().flatten(),
        run,
        progress,
    };
    match output {
        Output::Text => print(&text(&found)),
        Output::Json => print(&format!("{}\n", document(&found))),
    }
}

pub(crate) fn upgrade(
    api: &ApiServer,
    background: &Background,
) -> PortResult<Option<ImageBasedUpgrade>> {
    let connection = connect(api, background)?;
    let handle = background.handle().clone();
    cluster::LiveCluster::new(connection, handle, api::names::NAMESPACE, "status").upgrade()
}

fn latest_run(files: &HostFiles) -> Option<RunView> {
    let store = JournalFiles::new(files);
    let newest = store.list().ok()?.pop()?;
    RunView::from_journal(&store.read(&newest).ok()??).ok()
}

fn text(found: &Found) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_upgrade(&mut text, &found.upgrade);
    let _ = write_signature(&mut text, found.seed.as_ref());
    let _ = write_deployments(&mut text, &found.deployments);
    let _ = writeln!(text, "Boot fallback: {}", fallback(&found.fallback));
    let _ = write_verdict(&mut text, &found.verdict);
    let _ = write_evidence(&mut text, &found.evidence);
    if let Some(run) = &found.run {
        let _ = write_run(&mut text, run, found.progress.as_ref());
    }
    text
}

fn write_upgrade(
    text: &mut String,
    upgrade: &Result<Option<ImageBasedUpgrade>, String>,
) -> std::fmt::Result {
    let ibu = match upgrade {
        Err(error) => return writeln!(text, "Upgrade: not known: {error}"),
        Ok(None) => return writeln!(text, "Upgrade: there is no ImageBasedUpgrade"),
        Ok(Some(ibu)) => ibu,
    };
    let status = ibu.status.clone().unwrap_or_default();
    let state = planner::parse(&status.conditions).state;
    let seed = ibu.spec.seed_image_ref.clone().unwrap_or_default();
    writeln!(text, "State:    {state}")?;
    writeln!(
        text,
        "Stage:    {}",
        ibu.spec.stage.as_deref().unwrap_or("(none)")
    )?;
    if !seed.image.is_empty() {
        writeln!(text, "Seed:     {} ({})", seed.image, seed.version)?;
        if let Some(digest) = ibu.metadata.annotations.get(annotation::SEED_DIGEST) {
            writeln!(text, "Digest:   {digest}")?;
        }
    }
    let next: Vec<&str> = status
        .valid_next_stages
        .iter()
        .map(|stage| stage.as_str())
        .collect();
    writeln!(
        text,
        "Next:     {}",
        if next.is_empty() {
            "(nothing)".to_owned()
        } else {
            next.join(", ")
        }
    )?;
    for condition in &status.conditions {
        writeln!(
            text,
            "  {:<19} {:<6} {:<12} {}",
            condition.type_, condition.status, condition.reason, condition.message
        )?;
    }
    Ok(())
}

fn write_signature(text: &mut String, seed: Option<&SeedPin>) -> std::fmt::Result {
    let Some(signature) = seed.and_then(|seed| seed.signature.as_ref()) else {
        return Ok(());
    };
    let named = signature.reference.as_deref();
    let named = named.map_or_else(String::new, |name| format!(", as {name}"));
    writeln!(
        text,
        "Seed signed with key {}{named}",
        signature.fingerprint
    )
}

fn write_deployments(
    text: &mut String,
    deployments: &Result<Vec<Deployment>, String>,
) -> std::fmt::Result {
    match deployments {
        Err(error) => writeln!(text, "Deployments: not known: {error}"),
        Ok(deployments) => {
            writeln!(text, "Deployments, in boot order:")?;
            for found in deployments {
                let mark = if found.booted { "*" } else { " " };
                writeln!(text, "{mark} {}", found.id)?;
            }
            Ok(())
        }
    }
}

fn fallback(state: &Result<FallbackState, String>) -> String {
    match state {
        Err(error) => format!("not known: {error}"),
        Ok(FallbackState::None(why)) => format!("none: {why}"),
        Ok(FallbackState::Disarmed) => "disarmed".to_owned(),
        Ok(FallbackState::Armed { entry, left }) => {
            format!("armed: {left} attempts left, then {entry}")
        }
    }
}

fn write_verdict(
    text: &mut String,
    verdict: &Result<(VerdictFact, NodePath), String>,
) -> std::fmt::Result {
    match verdict {
        Err(error) => writeln!(text, "Verdict: not known: {error}"),
        Ok((VerdictFact::None, _)) => Ok(()),
        Ok((VerdictFact::Unreadable(why), _)) => {
            writeln!(
                text,
                "Verdict: cannot be read, which means to go back: {why}"
            )
        }
        Ok((VerdictFact::Decided(verdict), place)) => {
            let (outcome, judge) = (verdict.outcome.as_str(), verdict.judge.as_str());
            let (at, reason) = (verdict.decided_at, &verdict.reason);
            writeln!(
                text,
                "Verdict: {outcome}, by {judge} at {at}: {reason} ({place})"
            )
        }
    }
}

fn write_evidence(text: &mut String, kept: &Result<Vec<Kept>, String>) -> std::fmt::Result {
    let kept = match kept {
        Err(error) => return writeln!(text, "Evidence: not known: {error}"),
        Ok(kept) if kept.is_empty() => return Ok(()),
        Ok(kept) => kept,
    };
    writeln!(text, "Evidence of failed boots:")?;
    for Kept { place, bundle } in kept {
        let size = bundle.bytes.div_ceil(1 << 10);
        let (at, reason) = (bundle.sealed_at, &bundle.reason);
        writeln!(text, "  {place} ({at}, {size} KiB): {reason}")?;
    }
    Ok(())
}

fn write_run(
    text: &mut String,
    run: &RunView,
    progress: Option<&ProgressNote>,
) -> std::fmt::Result {
    let stage = stage(run).map_or_else(String::new, |stage| format!(" of stage {stage}"));
    let end = run.end.map_or("unfinished".to_owned(), |end| {
        format!("{end:?}").to_lowercase()
    });
    writeln!(text, "Latest run: {}{stage} ({end})", run.plan_name)?;
    for step in &run.steps {
        let mark = match step.state {
            StepState::Pending => " ",
            StepState::Running => ">",
            StepState::Done => "+",
            StepState::Failed => "!",
        };
        let took = match (step.started, step.ended) {
            (Some(started), Some(ended)) => format!("{} s", ended.saturating_sub(started)),
            _ => String::new(),
        };
        writeln!(text, "{mark} {:<22} {took}", step.name)?;
    }
    if let Some(note) = progress {
        writeln!(text, "Progress at {}: {}", time(note.at), note.place())?;
    }
    if let Some(failure) = &run.last_error {
        writeln!(
            text,
            "Last error ({}, {}): {}",
            failure.kind,
            time(failure.at),
            failure.error
        )?;
    }
    Ok(())
}

/// The stage that a run serves.
fn stage(run: &RunView) -> Option<Stage> {
    let plan: PlanName = serde_json::from_value(json!(run.plan_name)).ok()?;
    Some(plan.stage())
}

fn time(unix: u64) -> api::Timestamp {
    api::Timestamp::from_unix(i64::try_from(unix).unwrap_or_default())
}

fn document(found: &Found) -> Value {
    let known = |result: Result<Value, &String>| match result {
        Ok(value) => value,
        Err(error) => json!({ "error": error }),
    };
    let deployments = found.deployments.as_ref().map(|deployments| {
        let list = deployments.iter().map(|found| {
            json!({ "id": found.id.to_string(), "booted": found.booted, "kernelArguments": found.kernel_arguments })
        });
        Value::Array(list.collect())
    });
    json!({
        "upgrade": known(found.upgrade.as_ref().map(|ibu| json!(ibu))),
        "deployments": known(deployments),
        "bootFallback": match &found.fallback {
            Err(error) => json!({ "error": error }),
            Ok(FallbackState::None(why)) => json!({ "state": "none", "why": why }),
            Ok(FallbackState::Disarmed) => json!({ "state": "disarmed" }),
            Ok(FallbackState::Armed { entry, left }) => {
                json!({ "state": "armed", "entry": entry, "attemptsLeft": left })
            }
        },
        "verdict": known(found.verdict.as_ref().map(|(verdict, place)| match verdict {
            VerdictFact::None => Value::Null,
            VerdictFact::Unreadable(why) => json!({ "unreadable": why, "path": place.to_string() }),
            VerdictFact::Decided(verdict) => {
                let mut told = json!(verdict);
                told["path"] = json!(place.to_string());
                told
            }
        })),
        "evidence": known(found.evidence.as_ref().map(|kept| {
            let told = |Kept { place, bundle }: &Kept| {
                let mut told = json!(bundle);
                told["path"] = json!(place.to_string());
                told
            };
            kept.iter().map(told).collect()
        })),
        "seed": found.seed.as_ref().map(|seed| json!({
            "image": seed.image,
            "digest": seed.digest,
            "signature": seed.signature,
        })),
        "stage": found.run.as_ref().and_then(stage),
        "latestRun": found.run,
        "progress": found.progress,
        "lastError": found
            .run
            .as_ref()
            .and_then(|run| run.last_error.as_ref())
            .map(FailureNote::from),
    })
}

#[cfg(test)]
mod tests {
    use engine::{Event, StepRef};

    use super::*;

    fn found() -> Found {
        let step = |index, name: &str| StepRef {
            index,
            name: name.to_owned(),
        };
        let mut run = RunView::default();
        for event in [
            Event::RunStarted {
                run: "r1".parse().unwrap(),
                plan: "fetch-seed".to_owned(),
                steps: vec!["fetch-seed".to_owned(), "sync".to_owned()],
                at: 1_706_815_000,
            },
            Event::StepStarted {
                step: step(0, "fetch-seed"),
                at: 1_706_815_000,
            },
            Event::StepFailed {
                step: step(0, "fetch-seed"),
                kind: "transient".to_owned(),
                error: "fetching a blob: reset".to_owned(),
                at: 1_706_815_240,
            },
        ] {
            run.apply(&event);
        }
        let progress = ProgressNote {
            run: "r1".to_owned(),
            plan: "fetch-seed".to_owned(),
            step: "fetch-seed".to_owned(),
            number: 1,
            steps: 2,
            done: 512 << 20,
            total: Some(1830 << 20),
            unit: engine::Unit::Bytes,
            rate_per_second: Some(85 << 20),
            seconds_left: Some(16),
            object: "layer".to_owned(),
            at: 1_706_815_239,
        };
        assert!(progress.speaks_of(&run));
        Found {
            upgrade: Err("connection refused".to_owned()),
            deployments: Ok(Vec::new()),
            fallback: Ok(FallbackState::Disarmed),
            verdict: Ok((VerdictFact::None, Record::Verdict.path())),
            evidence: Ok(Vec::new()),
            seed: None,
            run: Some(run),
            progress: Some(progress),
        }
    }

    #[test]
    fn the_last_progress_and_error_are_told_without_an_api_server() {
        assert_eq!(
            text(&found()),
            "Upgrade: not known: connection refused
Deployments, in boot order:
Boot fallback: disarmed
Latest run: fetch-seed of stage Prep (unfinished)
! fetch-seed             240 s
  sync                   \n\
Progress at 2024-02-01T19:20:39Z: step fetch-seed (1 of 2): 512 of 1830 MiB, 85 MiB/s, 16 s left (layer)
Last error (transient, 2024-02-01T19:20:40Z): fetching a blob: reset
"
        );
    }

    #[test]
    fn the_boot_fallback_is_told() {
        let check = |state, line: &str, expect: Value| {
            let found = Found {
                fallback: state,
                ..found()
            };
            let line = format!("Boot fallback: {line}\n");
            assert!(text(&found).contains(&line), "{}", text(&found));
            assert_eq!(document(&found)["bootFallback"], expect);
        };
        check(
            Ok(FallbackState::Armed {
                entry: "ostree-1".to_owned(),
                left: 3,
            }),
            "armed: 3 attempts left, then ostree-1",
            json!({ "state": "armed", "entry": "ostree-1", "attemptsLeft": 3 }),
        );
        check(
            Ok(FallbackState::None("there is no grub.cfg".to_owned())),
            "none: there is no grub.cfg",
            json!({ "state": "none", "why": "there is no grub.cfg" }),
        );
        check(
            Err("reading grubenv: input/output error".to_owned()),
            "not known: reading grubenv: input/output error",
            json!({ "error": "reading grubenv: input/output error" }),
        );
    }

    #[test]
    fn the_verdict_is_told() {
        let check = |verdict, line: &str, expect: Value| {
            let found = Found { verdict, ..found() };
            assert!(text(&found).contains(line), "{}", text(&found));
            assert_eq!(document(&found)["verdict"], expect);
        };
        let path = Record::Verdict.path();
        check(Ok((VerdictFact::None, path.clone())), "", Value::Null);
        let decided = json!({
            "format": 1,
            "outcome": "rollback",
            "judge": "init-monitor",
            "reason": "too late",
            "decidedAt": "2024-02-01T19:20:40Z",
            "bootId": "b",
        });
        let mut expect = decided.clone();
        expect["path"] = json!("/var/lib/lca/verdict.json");
        check(
            Ok((
                VerdictFact::Decided(serde_json::from_value(decided).unwrap()),
                path.clone(),
            )),
            "Verdict: rollback, by init-monitor at 2024-02-01T19:20:40Z: too late (/var/lib/lca/verdict.json)\n",
            expect,
        );
        check(
            Ok((VerdictFact::Unreadable("torn".to_owned()), path)),
            "Verdict: cannot be read, which means to go back: torn\n",
            json!({ "unreadable": "torn", "path": "/var/lib/lca/verdict.json" }),
        );
        check(
            Err("no such device".to_owned()),
            "Verdict: not known: no such device\n",
            json!({ "error": "no such device" }),
        );
    }

    #[test]
    fn evidence_is_listed() {
        let mut found = found();
        assert_eq!(document(&found)["evidence"], json!([]));
        let release = format!("rhcos_4.17.4-{}.0", "a".repeat(64));
        let bundle = json!({
            "format": 1,
            "target": release,
            "upgrade": "run-1",
            "bootId": null,
            "reason": "Uncontrolled rollback",
            "sealedAt": "2024-02-01T19:20:40Z",
            "bytes": 5000,
            "parts": ["journal.txt"],
            "missing": [],
        });
        found.evidence = Ok(vec![Kept {
            place: node::ports::NodePath::shared("evidence/0001-rhcos_4.17.4"),
            bundle: serde_json::from_value(bundle.clone()).unwrap(),
        }]);
        let line = "Evidence of failed boots:
  /var/lib/containers/lca/evidence/0001-rhcos_4.17.4 (2024-02-01T19:20:40Z, 5 KiB): Uncontrolled rollback\n";
        assert!(text(&found).contains(line), "{}", text(&found));
        let mut expect = bundle;
        expect["path"] = json!("/var/lib/containers/lca/evidence/0001-rhcos_4.17.4");
        assert_eq!(document(&found)["evidence"], json!([expect]));
        found.evidence = Err("no such device".to_owned());
        assert!(text(&found).contains("Evidence: not known: no such device\n"));
        let error = json!({ "error": "no such device" });
        assert_eq!(document(&found)["evidence"], error);
    }

    #[test]
    fn who_signed_the_seed_is_told() {
        let mut found = found();
        found.seed = serde_json::from_value(json!({
            "image": "quay.io/org/seed:1",
            "digest": format!("sha256:{}", "1".repeat(64)),
            "formatVersion": "4",
            "clusterInfo": null,
            "layers": [],
            "signature": {
                "key": "AAAA",
                "fingerprint": format!("sha256:{}", "f".repeat(64)),
                "reference": "quay.io/org/seed",
            },
        }))
        .unwrap();
        let line = format!(
            "Seed signed with key sha256:{}, as quay.io/org/seed\n",
            "f".repeat(64)
        );
        assert!(text(&found).contains(&line), "{}", text(&found));
        assert_eq!(
            document(&found)["seed"]["signature"]["reference"],
            "quay.io/org/seed"
        );
    }

    #[test]
    fn programs_find_the_documented_fields() {
        let document = document(&found());
        assert_eq!(document["stage"], "Prep");
        assert_eq!(
            document["progress"],
            json!({
                "run": "r1", "plan": "fetch-seed", "step": "fetch-seed", "number": 1, "steps": 2,
                "done": 536_870_912u64, "total": 1_918_894_080u64, "unit": "bytes", "ratePerSecond": 89_128_960u64,
                "secondsLeft": 16, "object": "layer", "at": 1_706_815_239u64,
            })
        );
        assert_eq!(
            document["lastError"],
            json!({
                "step": "fetch-seed", "kind": "transient", "error": "fetching a blob: reset", "at": 1_706_815_240u64,
            })
        );
        let documented = include_str!("../docs/metrics.md");
        for part in ["progress", "lastError"] {
            for field in document[part].as_object().unwrap().keys() {
                let named = [format!(".{field}`"), format!("{part}.{field}`")];
                assert!(
                    named.iter().any(|name| documented.contains(name)),
                    "{part}.{field}"
                );
            }
        }
    }
}
