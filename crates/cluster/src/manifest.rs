//! Manifests: what is in them, and how their objects come into the cluster (S 3.5).
//!
//! An object that is there already is replaced as a whole. Merging, which manifests of users can ask for by an annotation,
//! is not for these: each is a whole object of this site.

use api::annotation;
use node::{ErrorKind, PortError, PortResult};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use crate::call::{Call, Verb};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::kind::Kind;

/// Members of `metadata` that belong to the server that an object came from.
const OF_THE_SERVER: [&str; 6] = [
    "uid",
    "resourceVersion",
    "managedFields",
    "generation",
    "creationTimestamp",
    "selfLink",
];

/// The objects of a manifest, in order: JSON or YAML, several documents, lists taken apart.
pub(crate) fn objects(file: &str, content: &[u8]) -> PortResult<Vec<Value>> {
    // The parser's words may quote the document, which may be a Secret; the place is enough.
    let unreadable = |error: serde_yaml_ng::Error| {
        let place = error.location().map_or_else(String::new, |place| {
            format!(" at line {}, column {}", place.line(), place.column())
        });
        let text = format!("reading manifest {file}: it is neither JSON nor YAML{place}");
        PortError::plain(ErrorKind::Permanent, text)
    };
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_slice(content) {
        match Value::deserialize(document).map_err(unreadable)? {
            Value::Null => {}
            Value::Object(mut object) => match object.remove("items") {
                Some(Value::Array(items)) => {
                    objects.extend(items.into_iter().map(|item| with_type(item, &object)))
                }
                // An empty list, as Go writes it.
                Some(Value::Null) => {}
                _ => objects.push(Value::Object(object)),
            },
            _ => {
                let text = format!("reading manifest {file}: a document in it is no object");
                return Err(PortError::plain(ErrorKind::Permanent, text));
            }
        }
    }
    Ok(objects)
}

/// An item of a list: where it does not say what it is, the list does.
fn with_type(mut item: Value, list: &Map<String, Value>) -> Value {
    let text = |key: &str| list.get(key).and_then(Value::as_str).unwrap_or_default();
    if let Value::Object(item) = &mut item {
        let kind = text("kind").trim_end_matches("List");
        item.entry("apiVersion")
            .or_insert_with(|| json!(text("apiVersion")));
        item.entry("kind").or_insert_with(|| json!(kind));
    }
    item
}

/// Kind and name of every object in these manifests.
pub(crate) fn names(manifests: &[(String, Vec<u8>)]) -> PortResult<Vec<(String, String)>> {
    let mut names = Vec::new();
    for (file, content) in manifests {
        for object in objects(file, content)? {
            names.push((text(&object["kind"]), text(&object["metadata"]["name"])));
        }
    }
    Ok(names)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Creates or replaces every object of a manifest.
pub(crate) async fn apply(connection: &Connection, file: &str, content: &[u8]) -> PortResult<()> {
    for object in objects(file, content)? {
        apply_object(connection, object)
            .await
            .map_err(|error| error.within(format!("applying manifest {file}")))?;
    }
    Ok(())
}

async fn apply_object(connection: &Connection, mut object: Value) -> PortResult<()> {
    let (api_version, name_of_kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (group, version) = api_version
        .split_once('/')
        .unwrap_or(("", api_version.as_str()));
    let (plural, namespaced) = find(connection, group, version, &name_of_kind).await?;
    let kind = Kind::new(group, version, &plural, &name_of_kind);
    let metadata = object["metadata"].as_object_mut().ok_or_else(|| {
        let text = format!("an object of kind {name_of_kind} has no metadata");
        PortError::plain(ErrorKind::Permanent, text)
    })?;
    for member in OF_THE_SERVER {
        metadata.remove(member);
    }
    if let Some(annotations) = metadata
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(annotation::APPLY_TYPE);
    }
    let name = metadata.get("name").map(text).unwrap_or_default();
    let namespace = metadata.get("namespace").map(text).unwrap_or_default();
    let namespace = match namespace.as_str() {
        _ if !namespaced => None,
        "" => Some("default"),
        namespace => Some(namespace),
    };
    let call = |verb: Verb| {
        let call = Call::new(verb, &kind).of_manifest();
        match namespace {
            Some(namespace) => call.within(namespace),
            None => call,
        }
    };
    let live: Option<Value> = connection.look_for(call(Verb::Get).named(&name)).await?;
    let call = match live {
        None => call(Verb::Create),
        Some(live) => {
            object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
            call(Verb::Update).named(&name)
        }
    };
    connection
        .send(&call, Some(&object))
        .await
        .map(drop)
        .map_err(|failure| failure.during(&call))
}

/// The plural of a kind and whether its objects live in namespaces, as the server has it. One that it does not have may come: a
/// starting server serves custom resources last.
async fn find(
    connection: &Connection,
    group: &str,
    version: &str,
    kind: &str,
) -> PortResult<(String, bool)> {
    let is_word = |text: &str| {
        text.bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
    };
    if version.is_empty() || kind.is_empty() || !is_word(group) || !is_word(version) {
        let text = "an object in it has no apiVersion or no kind that could be one";
        return Err(PortError::plain(ErrorKind::Permanent, text));
    }
    let path = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let resources = connection.resources(&path).await?.unwrap_or_default();
    resources
        .into_iter()
        .find(|found| found.kind == kind && !found.name.contains('/'))
        .map(|found| (found.name, found.namespaced))
        .ok_or_else(|| {
            let text = format!("kind {kind} of {group}/{version}");
            PortError::new(ErrorKind::Transient, text, Failure::NotServed)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let check = |content: &str, expect: Value| {
            let found = objects("a.yaml", content.as_bytes()).unwrap();
            assert_eq!(json!(found), expect, "{content}");
        };
        check("", json!([]));
        check(
            "---\n---\nkind: A\n---\nkind: B\n",
            json!([{"kind": "A"}, {"kind": "B"}]),
        );
        check(
            r#"{"kind":"A","data":{"x":"y"}}"#,
            json!([{"kind": "A", "data": {"x": "y"}}]),
        );
        check(
            r#"{"apiVersion":"g/v1","kind":"ThingList","items":[{"metadata":{"name":"a"}},{"kind":"Other","apiVersion":"v1"}]}"#,
            json!([
                {"apiVersion": "g/v1", "kind": "Thing", "metadata": {"name": "a"}},
                {"apiVersion": "v1", "kind": "Other"},
            ]),
        );
        check(r#"{"kind":"AList","items":null}"#, json!([]));
    }

    #[test]
    fn what_is_no_manifest_is_said_without_its_content() {
        for content in ["SECRET", "kind: [SECRET", "- SECRET"] {
            let error = objects("a.yaml", content.as_bytes()).unwrap_err();
            let told = node::error_chain(&error);
            assert!(told.starts_with("reading manifest a.yaml: "), "{told}");
            assert!(!told.contains("SECRET"), "{told}");
        }
    }
}
