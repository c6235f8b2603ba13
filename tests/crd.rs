//! The CustomResourceDefinition: the committed file is what the program prints, and a real API
//! server treats objects as the table `tests/contract/crd-rules.txt` says.

#![expect(clippy::print_stdout, reason = "figures are part of the result")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::crd;
use serde_json::{Value, json};
use testenv::{ControlPlane, OwnedChild, Program, Version};

const MANIFEST: &str = include_str!("../manifests/crds/lca.openshift.io_imagebasedupgrades.yaml");
const TABLE: &str = include_str!("contract/crd-rules.txt");
const COLLECTION: &str = "/apis/lca.openshift.io/v1/imagebasedupgrades";
const OBJECT: &str = "/apis/lca.openshift.io/v1/imagebasedupgrades/upgrade";
const STATUS: &str = "/apis/lca.openshift.io/v1/imagebasedupgrades/upgrade/status";
const TIME: &str = "2024-02-01T19:05:00Z";

/// The protected fields with the number of their rule and two values each.
const FIELDS: [(&str, &str, &str, &str); 4] = [
    ("2", "seedImageRef", r#"{"image":"a"}"#, r#"{"image":"b"}"#),
    (
        "3",
        "oadpContent",
        r#"[{"name":"a","namespace":"n"}]"#,
        r#"[{"name":"b","namespace":"n"}]"#,
    ),
    (
        "4",
        "extraManifests",
        r#"[{"name":"a","namespace":"n"}]"#,
        "[]",
    ),
    (
        "5",
        "autoRollbackOnFailure",
        "{}",
        r#"{"initMonitorTimeoutSeconds":60}"#,
    ),
];

#[test]
fn the_committed_definition_is_what_the_program_prints() {
    assert!(
        MANIFEST == crd::crds_yaml(),
        "manifests/crds is out of date: run `lifecycle-agent crds` and commit what it prints"
    );
}

#[test]
fn a_real_api_server_agrees_with_the_table_and_the_types() -> Result<()> {
    let rows = rows()?;
    for version in Version::under_test() {
        let server = Server::start(version)?;
        let failed: Vec<String> = rows
            .iter()
            .filter_map(|row| {
                let error = row.run(&server).err()?;
                Some(format!("rule {}, {}: {error:#}", row.rule, row.branch))
            })
            .collect();
        ensure!(
            failed.is_empty(),
            "on {version:?} {} rows fail:\n{}",
            failed.len(),
            failed.join("\n")
        );
        println!("{version:?}: {} requests as the table says", rows.len());
        messages_are_bounded(&server).context("bounded messages")?;
        every_field_survives(&server).context("every field")?;
        columns_show_the_last_condition(&server).context("columns")?;
    }
    Ok(())
}

/// The schema's limit counts characters, ours bytes, so ours always fits.
fn messages_are_bounded(server: &Server) -> Result<()> {
    server.reset(&json!({}), &Value::Null)?;
    for (message, accepted) in [
        ("x".repeat(api::condition::MESSAGE_LIMIT + 1), false),
        (api::condition::bounded_message(&"x".repeat(1 << 20)), true),
        (api::condition::bounded_message(&"💥".repeat(1 << 18)), true),
    ] {
        let mut status = conditions(&["Idle=True"])?;
        status["conditions"][0]["message"] = Value::String(message);
        let answer = server.send("PATCH", STATUS, &json!({ "status": status }))?;
        ensure!(answer.accepted() == accepted, "{}", answer.message());
    }
    Ok(())
}

/// Strict validation refuses what the schema does not know; the walk finds what our types do not.
fn every_field_survives(server: &Server) -> Result<()> {
    let object = json!({
        "apiVersion": "lca.openshift.io/v1",
        "kind": "ImageBasedUpgrade",
        "metadata": { "name": "upgrade", "annotations": { "a": "b" }, "labels": { "c": "d" } },
        "spec": {
            "stage": "Prep",
            "seedImageRef": {
                "version": "4.17.4", "image": "quay.io/x/seed:v1", "pullSecretRef": { "name": "s" },
            },
            "oadpContent": [{ "name": "a", "namespace": "n" }],
            "extraManifests": [{ "name": "b", "namespace": "n" }],
            "autoRollbackOnFailure": { "initMonitorTimeoutSeconds": 60 },
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [{
                "type": "Idle", "status": "False", "observedGeneration": 1,
                "lastTransitionTime": TIME, "reason": "InProgress", "message": "In progress",
            }],
            "validNextStages": ["Idle", "Prep", "Upgrade", "Rollback"],
            "rollbackAvailabilityExpiration": TIME,
            "history": [{
                "stage": "Prep", "startTime": TIME, "completionTime": TIME,
                "phases": [{ "phase": "Stateroot", "startTime": TIME, "completionTime": TIME }],
            }],
        },
    });
    let ours: api::ImageBasedUpgrade = serde_json::from_value(object.clone())?;
    let printed = serde_json::to_value(&ours)?;
    ensure!(printed == object, "printed as {printed}");
    let definition = crd::image_based_upgrade();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for part in ["spec", "status"] {
        covers(&schema["properties"][part], &printed[part], part)?;
    }

    server.delete()?;
    let strict = |path: &str| format!("{path}?fieldValidation=Strict");
    let created = server.send("POST", &strict(COLLECTION), &printed)?;
    ensure!(created.accepted(), "{}", created.message());
    let mut live = created.body;
    live["status"] = printed["status"].clone();
    let updated = server.send("PUT", &strict(STATUS), &live)?;
    ensure!(updated.accepted(), "{}", updated.message());
    let read: api::ImageBasedUpgrade =
        serde_json::from_value(server.send("GET", OBJECT, &Value::Null)?.body)?;
    ensure!(
        read.spec == ours.spec && read.status == ours.status,
        "came back as {read:?}"
    );
    ensure!(
        read.metadata.annotations == ours.metadata.annotations,
        "annotations"
    );
    ensure!(read.metadata.labels == ours.metadata.labels, "labels");
    ensure!(
        read.metadata.generation == Some(1) && read.metadata.uid.is_some(),
        "identity"
    );
    ensure!(
        read.metadata.rest.contains_key("managedFields"),
        "managed fields are kept"
    );

    let unknown = json!({ "spec": { "seedImageRef": { "digest": "sha256:0" } } });
    let refused = server.send("PATCH", &strict(OBJECT), &unknown)?;
    ensure!(
        refused.message().contains("unknown field"),
        "{}",
        refused.message()
    );
    Ok(())
}

/// Every property of the schema is in the value.
fn covers(schema: &Value, value: &Value, path: &str) -> Result<()> {
    if let Some(items) = schema.get("items") {
        return covers(items, value.get(0).context("no item")?, path);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let inner = value
            .get(name)
            .with_context(|| format!("{path}.{name} is not covered"))?;
        covers(property, inner, &format!("{path}.{name}"))?;
    }
    Ok(())
}

fn columns_show_the_last_condition(server: &Server) -> Result<()> {
    let status = conditions(&["Idle=False", "PrepInProgress=True"])?;
    server.reset(&json!({ "stage": "Prep" }), &status)?;
    let table = server.plane.kubectl(&["get", "ibu"])?;
    let words: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let [header, row] = words.as_slice() else {
        bail!("not two lines: {table}")
    };
    ensure!(
        header == &["NAME", "AGE", "DESIRED", "STAGE", "STATE", "DETAILS"],
        "{table}"
    );
    ensure!(row.len() == 5 && row[0] == "upgrade", "{table}");
    ensure!(row[2..] == ["Prep", "PrepInProgress", "message"], "{table}");
    Ok(())
}

/// A row of the table for one field.
struct Row {
    rule: String,
    branch: String,
    spec: Option<Value>,
    status: Value,
    request: String,
    outcome: String,
}

fn rows() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for line in TABLE
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let cells: Vec<&str> = line.split(" | ").map(str::trim).collect();
        if cells[0] == "rule" {
            continue;
        }
        if cells[0] == "2-5" {
            for (rule, field, a, b) in FIELDS {
                let fill = |cell: &str| {
                    cell.replace("\"F\":A", &format!("\"{field}\":{a}"))
                        .replace("\"F\":B", &format!("\"{field}\":{b}"))
                        .replace("\"F\"", &format!("\"{field}\""))
                };
                let mut filled: Vec<String> = cells.iter().map(|cell| fill(cell)).collect();
                filled[0] = rule.to_owned();
                rows.push(Row::parse(&filled).with_context(|| line.to_owned())?);
            }
        } else {
            let cells: Vec<String> = cells.into_iter().map(str::to_owned).collect();
            rows.push(Row::parse(&cells).with_context(|| line.to_owned())?);
        }
    }
    Ok(rows)
}

impl Row {
    fn parse(cells: &[String]) -> Result<Row> {
        let [rule, branch, spec, status, request, outcome] = cells else {
            bail!("{} cells, expected six", cells.len());
        };
        let json = |text: &str| serde_json::from_str(text).with_context(|| text.to_owned());
        Ok(Row {
            rule: rule.clone(),
            branch: branch.clone(),
            spec: if spec == "-" { None } else { Some(json(spec)?) },
            status: match status.as_str() {
                "-" => Value::Null,
                "{}" => json!({}),
                words => conditions(&words.split_whitespace().collect::<Vec<_>>())?,
            },
            request: request.clone(),
            outcome: outcome.clone(),
        })
    }

    fn run(&self, server: &Server) -> Result<()> {
        match &self.spec {
            Some(spec) => server.reset(spec, &self.status)?,
            None => server.delete()?,
        }
        let (verb, argument) = self
            .request
            .split_once(' ')
            .context("request without argument")?;
        let (name, text) = match verb {
            "create" => argument.split_once(' ').context("create without a name")?,
            _ => ("upgrade", argument),
        };
        let mut body: Value = serde_json::from_str(text).context("request")?;
        let answer = match verb {
            "create" => {
                let key = if name.ends_with('-') {
                    "generateName"
                } else {
                    "name"
                };
                body["metadata"] = json!({ key: name });
                server.create(body)?
            }
            "merge" => server.send("PATCH", OBJECT, &body)?,
            "status" => server.send("PATCH", STATUS, &json!({ "status": body }))?,
            "put-status" => {
                let mut live = server.send("GET", OBJECT, &Value::Null)?.body;
                live["status"] = body;
                server.send("PUT", STATUS, &live)?
            }
            other => bail!("unknown request {other}"),
        };
        self.check(&answer)
    }

    fn check(&self, answer: &Answer) -> Result<()> {
        let message = answer.message();
        let Some(detail) = self.outcome.strip_prefix("refused") else {
            ensure!(
                self.outcome == "accepted",
                "unknown outcome {}",
                self.outcome
            );
            ensure!(answer.accepted(), "refused: {message}");
            return Ok(());
        };
        ensure!(
            answer.code == 422,
            "expected a refusal, got {}: {message}",
            answer.code
        );
        let expected = match self.rule.as_str() {
            "schema" => {
                ensure!(!detail.trim().is_empty(), "no text expected");
                detail.trim().to_owned()
            }
            rule => rule_message(rule)?,
        };
        ensure!(
            message.contains(&expected),
            "expected \"{expected}\", got: {message}"
        );
        // A rule that reads what is absent fails instead of deciding.
        ensure!(
            !message.contains("evaluating rule"),
            "no decision: {message}"
        );
        for other in ["1", "2", "3", "4", "5", "6"] {
            let other = rule_message(other)?;
            ensure!(
                other == expected || !message.contains(&other),
                "refused twice: {message}"
            );
        }
        Ok(())
    }
}

fn rule_message(rule: &str) -> Result<String> {
    Ok(match rule {
        "1" => "ibu is a singleton, metadata.name must be 'upgrade'".to_owned(),
        "6" => "the stage transition is not permitted. Please refer to status.validNextStages for valid transitions. If status.validNextStages is not present, it indicates that no transitions are currently allowed".to_owned(),
        _ => {
            let (_, field, ..) =
                FIELDS.into_iter().find(|field| field.0 == rule).context("no such rule")?;
            format!("can not change spec.{field} while ibu is in progress")
        }
    })
}

/// A status from words such as `Idle=True` and `next=Prep,Idle`.
fn conditions(words: &[&str]) -> Result<Value> {
    let mut status = json!({});
    let mut conditions = Vec::new();
    for word in words {
        let (key, value) = word
            .split_once('=')
            .with_context(|| format!("no = in {word}"))?;
        if key == "next" {
            status["validNextStages"] = value.split(',').collect();
        } else {
            conditions.push(json!({
                "type": key, "status": value, "reason": key, "message": "message",
                "lastTransitionTime": TIME,
            }));
        }
    }
    if !conditions.is_empty() {
        status["conditions"] = Value::Array(conditions);
    }
    Ok(status)
}

/// An API server with our definition, spoken to through `kubectl proxy`, which does the TLS.
struct Server {
    plane: ControlPlane,
    _proxy: OwnedChild,
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

struct Answer {
    code: u16,
    body: Value,
}

impl Answer {
    fn accepted(&self) -> bool {
        (200..300).contains(&self.code)
    }

    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl Server {
    fn start(version: Version) -> Result<Server> {
        let plane = ControlPlane::builder().apiserver(version).start()?;
        plane.apply_yaml(MANIFEST)?;
        let name = "crd/imagebasedupgrades.lca.openshift.io";
        plane.kubectl(&["wait", "--for=condition=Established", name, "--timeout=30s"])?;
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("proxy");
        let args = [
            format!("--kubeconfig={}", plane.kubeconfig_path().display()),
            "proxy".to_owned(),
            format!("--unix-socket={}", socket.display()),
        ];
        let mut proxy =
            OwnedChild::spawn(&Program::Kubectl.path()?, &args, &dir.path().join("log"))?;
        let deadline = Instant::now() + Duration::from_secs(30);
        // Nothing announces the socket but a connection to it.
        while UnixStream::connect(&socket).is_err() {
            ensure!(
                proxy.ended()?.is_none() && Instant::now() < deadline,
                "kubectl proxy does not serve: {}",
                proxy.log_tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Server {
            plane,
            _proxy: proxy,
            socket,
            _dir: dir,
        })
    }

    /// One request. A PATCH is a merge patch.
    fn send(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let kind = if method == "PATCH" {
            "merge-patch+json"
        } else {
            "json"
        };
        let mut stream = UnixStream::connect(&self.socket).context("connecting to the proxy")?;
        // HTTP/1.0, so that the answer is neither chunked nor followed by another.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/{kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .context("reading the answer")?;
        let (head, body) = text
            .split_once("\r\n\r\n")
            .context("answer without a body")?;
        let code = head
            .split(' ')
            .nth(1)
            .context("answer without a code")?
            .parse()?;
        Ok(Answer {
            code,
            body: serde_json::from_str(body).context("answer is no JSON")?,
        })
    }

    fn create(&self, mut object: Value) -> Result<Answer> {
        object["apiVersion"] = "lca.openshift.io/v1".into();
        object["kind"] = "ImageBasedUpgrade".into();
        self.send("POST", COLLECTION, &object)
    }

    fn delete(&self) -> Result<()> {
        let answer = self.send("DELETE", OBJECT, &Value::Null)?;
        ensure!(
            answer.accepted() || answer.code == 404,
            "deleting: {}",
            answer.message()
        );
        Ok(())
    }

    /// The object anew with that spec and status.
    fn reset(&self, spec: &Value, status: &Value) -> Result<()> {
        self.delete()?;
        let created = self.create(json!({ "metadata": { "name": "upgrade" }, "spec": spec }))?;
        ensure!(created.accepted(), "creating: {}", created.message());
        if !status.is_null() {
            let answer = self.send("PATCH", STATUS, &json!({ "status": status }))?;
            ensure!(
                answer.accepted(),
                "setting the status: {}",
                answer.message()
            );
        }
        Ok(())
    }
}
