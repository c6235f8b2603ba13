//! When two machines count as equal: everything but what no two runs have in common.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::machine::Machine;
use crate::tree::{Entry, Tree};

/// Paths that are left out, each with the reason.
const LEFT_OUT: [(&str, &str); 7] = [
    ("/var/log/", "every boot writes one"),
    ("/var/lib/lca/runs/", "journals tell how it came about"),
    (
        "/containers/lca/evidence/",
        "what a boot was like when it failed",
    ),
    (
        "/containers/lca/evidence",
        "there is one once a boot has failed, and it outlives the upgrade",
    ),
    ("/var/lib/etcd/revision", "counts writes"),
    ("/var/lib/lca/init-monitor.json", "counts boots and seconds"),
    (
        "/var/lib/lca/runs",
        "there is one as soon as there is a journal",
    ),
];

/// Members of JSON documents that are left out: times, and names that are never used twice.
const MEMBERS: [&str; 12] = [
    "resourceVersion",
    "uid",
    "lastTransitionTime",
    "startTime",
    "completionTime",
    "creationTimestamp",
    "decidedAt",
    "runId",
    "bootId",
    // The checksum of a record that holds such members.
    "check",
    // Both count writes of the spec, which a restore repeats.
    "generation",
    "observedGeneration",
];

/// What remains of a machine: content and mode by path, on the disk and in memory, and what is booted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Essence(BTreeMap<String, String>);

impl Essence {
    /// The essence of a machine.
    pub fn of(machine: &Machine) -> Self {
        let mut all = BTreeMap::new();
        tree(&mut all, "disk", &machine.disk);
        tree(&mut all, "memory", &machine.cache);
        all.insert("booted".to_owned(), machine.boot.booted.to_string());
        Self(all)
    }

    /// The same without the paths that end in one of these, or, of those that end in `/`, have it in them.
    pub fn without(mut self, parts: &[&str]) -> Self {
        self.0.retain(|path, _| {
            let is_part = |part: &&str| match part.strip_suffix('/') {
                Some(_) => path.contains(part),
                None => path.ends_with(part),
            };
            !parts.iter().any(is_part)
        });
        self
    }

    /// The first few differences; empty when there are none.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let paths: std::collections::BTreeSet<&String> =
            self.0.keys().chain(other.0.keys()).collect();
        let differ = paths
            .into_iter()
            .filter(|path| self.0.get(*path) != other.0.get(*path));
        let tell = |path: &String| {
            let show = |side: &Self| side.0.get(path).map_or("nothing".to_owned(), Clone::clone);
            format!("{path}: {} instead of {}", show(other), show(self))
        };
        differ.take(5).map(tell).collect()
    }
}

fn tree(all: &mut BTreeMap<String, String>, name: &str, tree: &Tree) {
    for (path, entry) in tree.entries() {
        let out = LEFT_OUT
            .iter()
            .any(|(part, _)| path.contains(part) && (part.ends_with('/') || path.ends_with(part)));
        if !out {
            all.insert(format!("{name}:{path}"), shown(entry));
        }
    }
}

fn shown(entry: &Entry) -> String {
    match entry {
        Entry::Directory(mode) => format!("directory {mode:o}"),
        Entry::File(mode, content) => {
            let text = match serde_json::from_slice::<Value>(content) {
                Ok(mut value) => {
                    scrub(&mut value);
                    value.to_string()
                }
                Err(_) => String::from_utf8_lossy(content).into_owned(),
            };
            format!("{mode:o} {text}")
        }
    }
}

fn scrub(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !MEMBERS.contains(&name.as_str()));
            members.values_mut().for_each(scrub);
        }
        Value::Array(items) => items.iter_mut().for_each(scrub),
        // A document in a text: the handover's stamp in an annotation.
        Value::String(text) => {
            if let Ok(mut inner @ Value::Object(_)) = serde_json::from_str::<Value>(text) {
                scrub(&mut inner);
                *text = inner.to_string();
            }
        }
        _ => {}
    }
}
