//! What RBAC manifests allow to one service account.
//!
//! Reads only what the agent's manifests use: rules on resources, bound to a service account by name.

// Two tests include this module, and neither uses all of it.
#![allow(dead_code, reason = "shared by two test binaries")]

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize as _;
use serde_json::Value;

/// One kind of request, in the words of the audit log's `verb` and `objectRef`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Request {
    pub(crate) verb: String,
    /// Empty for the core group.
    pub(crate) group: String,
    pub(crate) resource: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
    /// Empty for objects outside of namespaces.
    pub(crate) namespace: String,
    /// Empty where no object is named (list, create).
    pub(crate) name: String,
}

impl Request {
    /// The request of an audit event; `None` for requests that are about no resource.
    pub(crate) fn of_audit_event(event: &Value) -> Option<Request> {
        let object = event.get("objectRef")?;
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Some(Request {
            verb: text(event, "verb"),
            group: text(object, "apiGroup"),
            resource: text(object, "resource"),
            subresource: text(object, "subresource"),
            namespace: text(object, "namespace"),
            name: text(object, "name"),
        })
    }
}

/// A rule as it is bound.
#[derive(Clone, Debug)]
struct Rule {
    groups: BTreeSet<String>,
    /// With the subresource after a slash.
    resources: BTreeSet<String>,
    verbs: BTreeSet<String>,
    /// Empty for every name.
    names: BTreeSet<String>,
    /// Empty for every namespace and for objects outside of namespaces.
    namespace: String,
}

/// All that a service account may do.
#[derive(Debug)]
pub(crate) struct Rules(Vec<Rule>);

impl Rules {
    /// The rules that the documents of all `.yaml` files under `directory` bind to a service account.
    pub(crate) fn read(directory: &Path, namespace: &str, account: &str) -> Result<Rules> {
        let documents = documents(directory)?;
        let of_kind =
            |kind: &'static str| documents.iter().filter(move |found| found["kind"] == kind);
        let mut rules = Vec::new();
        for kind in ["ClusterRoleBinding", "RoleBinding"] {
            for binding in of_kind(kind) {
                let bound = binding["subjects"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|subject| {
                        subject["kind"] == "ServiceAccount"
                            && subject["namespace"] == namespace
                            && subject["name"] == account
                    });
                if !bound {
                    continue;
                }
                let role_kind = binding["roleRef"]["kind"]
                    .as_str()
                    .context("roleRef.kind")?;
                let place = &binding["metadata"]["namespace"];
                let role = documents
                    .iter()
                    .find(|role| {
                        role["kind"] == role_kind
                            && role["metadata"]["name"] == binding["roleRef"]["name"]
                            && (role_kind == "ClusterRole"
                                || &role["metadata"]["namespace"] == place)
                    })
                    .with_context(|| format!("no role for {}", binding["metadata"]))?;
                for rule in role["rules"].as_array().context("rules")? {
                    rules.push(Rule {
                        groups: words(rule, "apiGroups")?,
                        resources: words(rule, "resources")?,
                        verbs: words(rule, "verbs")?,
                        names: words(rule, "resourceNames").unwrap_or_default(),
                        namespace: place.as_str().unwrap_or_default().to_owned(),
                    });
                }
            }
        }
        ensure!(
            !rules.is_empty(),
            "nothing is bound to {namespace}/{account}"
        );
        Ok(Rules(rules))
    }

    /// Whether the account may make this request.
    pub(crate) fn allows(&self, request: &Request) -> bool {
        let resource = if request.subresource.is_empty() {
            request.resource.clone()
        } else {
            format!("{}/{}", request.resource, request.subresource)
        };
        self.0.iter().any(|rule| {
            rule.groups.contains(&request.group)
                && rule.resources.contains(&resource)
                && rule.verbs.contains(&request.verb)
                && (rule.names.is_empty() || rule.names.contains(&request.name))
                && (rule.namespace.is_empty() || rule.namespace == request.namespace)
        })
    }

    /// Every kind of request that is granted, once per verb, resource and name.
    pub(crate) fn grants(&self) -> BTreeSet<Request> {
        let mut grants = BTreeSet::new();
        for rule in &self.0 {
            for group in &rule.groups {
                for resource in &rule.resources {
                    let (resource, subresource) =
                        resource.split_once('/').unwrap_or((resource, ""));
                    for verb in &rule.verbs {
                        let mut names = rule.names.clone();
                        if names.is_empty() {
                            names.insert(String::new());
                        }
                        for name in names {
                            grants.insert(Request {
                                verb: verb.clone(),
                                group: group.clone(),
                                resource: resource.to_owned(),
                                subresource: subresource.to_owned(),
                                namespace: rule.namespace.clone(),
                                name,
                            });
                        }
                    }
                }
            }
        }
        grants
    }
}

fn words(rule: &Value, key: &str) -> Result<BTreeSet<String>> {
    let list = rule[key]
        .as_array()
        .with_context(|| format!("a rule has no {key}"))?;
    list.iter()
        .map(|word| {
            let word = word.as_str().context("a word of a rule is no text")?;
            ensure!(!word.contains('*'), "a rule with a wildcard in {key}");
            Ok(word.to_owned())
        })
        .collect()
}

/// Every document of the `.yaml` files directly in `directory`, in the order of the files' names.
pub(crate) fn documents(directory: &Path) -> Result<Vec<Value>> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .with_context(|| format!("listing {}", directory.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    files.sort();
    let mut documents = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let document = Value::deserialize(document)
                .with_context(|| format!("reading {}", file.display()))?;
            if !document.is_null() {
                documents.push(document);
            }
        }
    }
    Ok(documents)
}
