//! The objects that an upgrade would apply: what the spec refers to, whether it can be read, and what would be refused. Only
//! what can be known without asking the API server about each object (contract 7.3 and 8.2).

use std::collections::{BTreeMap, BTreeSet};

use api::{ConfigMapRef, annotation};
use serde::Deserialize;
use serde_json::Value;

use super::document::{ObjectRow, Objects, SourceRow};

/// Objects that are listed; more are counted.
const LISTED: usize = 200;
/// Characters of a name or an error that are shown.
const SHOWN: usize = 200;

/// Which member of the spec refers to a ConfigMap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Member {
    OadpContent,
    ExtraManifests,
}

impl Member {
    fn as_str(self) -> &'static str {
        match self {
            Member::OadpContent => "oadpContent",
            Member::ExtraManifests => "extraManifests",
        }
    }
}

/// A ConfigMap that the spec refers to.
pub(super) struct Source {
    pub(super) member: Member,
    pub(super) reference: ConfigMapRef,
    /// Its data; nothing where there is none of this name; or why nobody knows.
    pub(super) data: Result<Option<BTreeMap<String, String>>, String>,
}

/// Kinds that extra manifests must not be of (contract 8.2).
const NOT_ALLOWED: [(&str, &str); 4] = [
    ("machineconfiguration.openshift.io/v1", "MachineConfig"),
    ("operators.coreos.com/v1alpha1", "ClusterServiceVersion"),
    ("operators.coreos.com/v1alpha1", "InstallPlan"),
    ("operators.coreos.com/v1alpha1", "Subscription"),
];

/// The kinds that OADP content is made of (contract 7.3); any other is ignored there.
const VELERO: &str = "velero.io/v1";

/// A manifest, as much of it as is looked at.
struct Manifest {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    wave: String,
    apply_type: String,
    /// Of a Restore: the Backup that it restores.
    backup: String,
}

/// Judges what the ConfigMaps hold.
pub(super) fn judge(sources: &[Source]) -> Objects {
    let mut objects = Objects::default();
    let mut seen = BTreeSet::new();
    let mut pairs = Pairs::default();
    for source in sources {
        let place = format!("{}/{}", source.reference.namespace, source.reference.name);
        // The contract takes each of them once.
        if !seen.insert((source.member.as_str(), place.clone())) {
            continue;
        }
        let (verdict, text) = match &source.data {
            Ok(Some(_)) => ("found", String::new()),
            Ok(None) => (
                "missing",
                "there is no such ConfigMap; create it".to_owned(),
            ),
            Err(error) => ("unreadable", short(error)),
        };
        objects.sources.push(SourceRow {
            member: source.member.as_str(),
            config_map: short(&place),
            verdict,
            text,
        });
        for (key, text) in source.data.iter().flatten().flatten() {
            let mut row = |manifest: Option<Manifest>, verdict, text| {
                objects.push(source.member, &place, key, manifest, verdict, text);
            };
            for manifest in manifests(text) {
                match manifest {
                    Err(error) => row(None, "refused", error),
                    Ok(manifest) => {
                        pairs.note(source.member, &manifest);
                        let (verdict, text) = fate(source.member, &manifest);
                        row(Some(manifest), verdict, text);
                    }
                }
            }
        }
    }
    objects.faults = pairs.faults();
    objects
}

impl Objects {
    fn push(
        &mut self,
        member: Member,
        place: &str,
        key: &str,
        manifest: Option<Manifest>,
        verdict: &'static str,
        text: String,
    ) {
        match verdict {
            "refused" => self.refused += 1,
            "apply" => self.apply += 1,
            _ => {}
        }
        if self.objects.len() == LISTED {
            self.omitted += 1;
            return;
        }
        let known = |value: fn(&Manifest) -> &String| {
            let value = manifest.as_ref().map(value).map(|text| short(text));
            value.filter(|text| !text.is_empty())
        };
        self.objects.push(ObjectRow {
            member: member.as_str(),
            config_map: short(place),
            key: short(key),
            api_version: known(|found| &found.api_version),
            kind: known(|found| &found.kind),
            namespace: known(|found| &found.namespace),
            name: known(|found| &found.name),
            verdict,
            text: short(&text),
        });
    }
}

/// What the spec needs that is not there to be applied, in words.
pub(super) fn warnings(objects: &Objects) -> Vec<String> {
    let sources = objects.sources.iter();
    let mut warnings: Vec<String> = sources
        .filter(|source| source.verdict != "found")
        .map(|source| {
            let (member, place) = (source.member, &source.config_map);
            format!(
                "objects: spec.{member}: ConfigMap {place} is {}",
                source.verdict
            )
        })
        .collect();
    let refused = match objects.refused {
        0 => None,
        1 => Some("objects: one object would be refused".to_owned()),
        many => Some(format!("objects: {many} objects would be refused")),
    };
    warnings.extend(refused);
    warnings.extend(
        objects
            .faults
            .iter()
            .map(|fault| format!("objects: {fault}")),
    );
    warnings
}

/// What would become of a manifest, and why.
fn fate(member: Member, manifest: &Manifest) -> (&'static str, String) {
    let Manifest {
        api_version,
        kind,
        name,
        ..
    } = manifest;
    if member == Member::OadpContent
        && (api_version != VELERO || !matches!(kind.as_str(), "Backup" | "Restore"))
    {
        return ("ignored", format!("no Backup and no Restore of {VELERO}"));
    }
    if name.is_empty() {
        return ("refused", format!("{kind} resource name is empty"));
    }
    if member == Member::ExtraManifests
        && NOT_ALLOWED.contains(&(api_version.as_str(), kind.as_str()))
    {
        let text = format!("{kind}[{name}] in extramanifests is not allowed");
        return ("refused", text);
    }
    if !manifest.wave.is_empty() && manifest.wave.parse::<i64>().is_err() {
        let text = format!("annotation {} is no number", annotation::APPLY_WAVE);
        return ("refused", text);
    }
    if !matches!(manifest.apply_type.as_str(), "" | "replace" | "merge") {
        let text = format!(
            "annotation {} is neither replace nor merge",
            annotation::APPLY_TYPE
        );
        return ("refused", text);
    }
    ("apply", String::new())
}

/// Backups and Restores: each needs the other.
#[derive(Default)]
struct Pairs {
    backups: BTreeSet<String>,
    /// Restores, and the Backup that each names.
    restores: BTreeMap<String, String>,
}

impl Pairs {
    fn note(&mut self, member: Member, manifest: &Manifest) {
        if member != Member::OadpContent || manifest.api_version != VELERO {
            return;
        }
        let name = manifest.name.clone();
        match manifest.kind.as_str() {
            "Backup" => drop(self.backups.insert(name)),
            "Restore" => drop(self.restores.insert(name, manifest.backup.clone())),
            _ => {}
        }
    }

    fn faults(&self) -> Vec<String> {
        let orphans = self.restores.iter();
        let mut faults: Vec<String> = orphans
            .filter(|(_, backup)| !self.backups.contains(*backup))
            .take(LISTED)
            .map(|(restore, backup)| {
                let (restore, backup) = (short(restore), short(backup));
                format!(
                    "Restore {restore} names Backup \"{backup}\", which is in no OADP ConfigMap"
                )
            })
            .collect();
        let (backups, restores) = (self.backups.len(), self.restores.len());
        if backups != restores {
            faults.push(format!(
                "there are {backups} Backups and {restores} Restores: each needs one of the other"
            ));
        }
        faults
    }
}

/// The manifests of a stream of YAML or JSON documents. What cannot be read ends the stream.
fn manifests(text: &str) -> Vec<Result<Manifest, String>> {
    let mut found = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let value = match Value::deserialize(document) {
            Ok(Value::Null) => continue,
            Ok(value) => value,
            Err(error) => {
                found.push(Err(format!("{error}; nothing behind it was looked at")));
                break;
            }
        };
        found.push(manifest(&value));
    }
    found
}

fn manifest(value: &Value) -> Result<Manifest, String> {
    let text = |pointer: &str| {
        let text = value.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let annotation = |key: &str| {
        let value = value.pointer("/metadata/annotations");
        match value.and_then(|annotations| annotations.get(key)) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    };
    let manifest = Manifest {
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
        wave: annotation(annotation::APPLY_WAVE),
        apply_type: annotation(annotation::APPLY_TYPE),
        backup: text("/spec/backupName"),
    };
    match (&manifest.api_version, &manifest.kind) {
        (version, kind) if version.is_empty() && kind.is_empty() => {
            Err("no Kubernetes object: it has neither apiVersion nor kind".to_owned())
        }
        (version, _) if version.is_empty() => Err("it has no apiVersion".to_owned()),
        (_, kind) if kind.is_empty() => Err("it has no kind".to_owned()),
        _ => Ok(manifest),
    }
}

fn short(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(member: Member, name: &str, text: Option<&str>) -> Source {
        Source {
            member,
            reference: ConfigMapRef {
                name: name.to_owned(),
                namespace: "ns".to_owned(),
            },
            data: Ok(text.map(|text| BTreeMap::from([("key".to_owned(), text.to_owned())]))),
        }
    }

    /// Each listed object in a line, and then the faults.
    fn check(member: Member, text: &str, expect: &[&str]) {
        let objects = judge(&[source(member, "x", Some(text))]);
        let rows = objects.objects.iter().map(|row| {
            let or = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            let line = format!(
                "{} {} {}: {}",
                or(&row.kind),
                or(&row.name),
                row.verdict,
                row.text
            );
            line.trim_end_matches([' ', ':']).to_owned()
        });
        let found: Vec<String> = rows.chain(objects.faults.clone()).collect();
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn extra_manifests() {
        let check = |text: &str, expect: &[&str]| check(Member::ExtraManifests, text, expect);
        check("", &[]);
        check("# only a comment\n---\nnull\n", &[]);
        check(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n# nothing\n---\n{\"apiVersion\": \"v1\", \
             \"kind\": \"Namespace\", \"metadata\": {\"name\": \"b\"}}\n",
            &["ConfigMap a apply", "Namespace b apply"],
        );
        check(
            "apiVersion: v1\nkind: Secret\nmetadata: {}\n",
            &["Secret - refused: Secret resource name is empty"],
        );
        check(
            "apiVersion: operators.coreos.com/v1alpha1\nkind: Subscription\nmetadata: {name: s}\n",
            &["Subscription s refused: Subscription[s] in extramanifests is not allowed"],
        );
        // Another version of the same group is another kind.
        check(
            "apiVersion: operators.coreos.com/v1\nkind: Subscription\nmetadata: {name: s}\n",
            &["Subscription s apply"],
        );
        check(
            "apiVersion: v1\nkind: X\nmetadata: {name: a, annotations: {lca.openshift.io/apply-wave: x}}\n",
            &["X a refused: annotation lca.openshift.io/apply-wave is no number"],
        );
        check(
            "apiVersion: v1\nkind: X\nmetadata: {name: a, annotations: {lca.openshift.io/apply-wave: '-1', \
             lca.openshift.io/apply-type: merge}}\n",
            &["X a apply"],
        );
        check(
            "apiVersion: v1\nkind: X\nmetadata: {name: a, annotations: {lca.openshift.io/apply-type: patch}}\n",
            &["X a refused: annotation lca.openshift.io/apply-type is neither replace nor merge"],
        );
        check(
            "just text",
            &["- - refused: no Kubernetes object: it has neither apiVersion nor kind"],
        );
        check(
            "apiVersion: v1\nmetadata: {name: a}",
            &["- - refused: it has no kind"],
        );
        check(
            "kind: X\nmetadata: {name: a}",
            &["- - refused: it has no apiVersion"],
        );
    }

    #[test]
    fn what_cannot_be_read_ends_its_stream() {
        for text in [
            "apiVersion: v1\nkind: X\nmetadata: {name: a}\n---\n{\"a\": [\n---\nkind: Y\n",
            "apiVersion: v1\nkind: X\nmetadata: {name: a}\n---\na: *nowhere\n",
        ] {
            let found = manifests(text);
            assert_eq!(found.len(), 2, "{text}");
            assert!(found[0].is_ok(), "{text}");
            let error = found[1].as_ref().err().unwrap();
            assert!(
                error.ends_with("; nothing behind it was looked at"),
                "{error}"
            );
        }
        // Nine levels of nine: a small text that would be a billion values.
        let mut bomb = "a0: &a0 [x]\n".to_owned();
        for level in 1..10 {
            let before = format!("*a{}", level - 1);
            bomb.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                [before.as_str(); 9].join(", ")
            ));
        }
        let found = manifests(&bomb);
        assert!(found.len() == 1 && found[0].is_err());
        let deep = "[".repeat(100_000);
        let found = manifests(&deep);
        assert!(found.len() == 1 && found[0].is_err());
    }

    #[test]
    fn oadp_content() {
        let check = |text: &str, expect: &[&str]| check(Member::OadpContent, text, expect);
        let object = |kind: &str, name: &str, rest: &str| {
            format!(
                "---\napiVersion: velero.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n{rest}\n"
            )
        };
        let backup = object("Backup", "b", "");
        let restore = object("Restore", "r", "spec: {backupName: b}");
        check(
            &format!("{backup}{restore}"),
            &["Backup b apply", "Restore r apply"],
        );
        check(
            &backup,
            &[
                "Backup b apply",
                "there are 1 Backups and 0 Restores: each needs one of the other",
            ],
        );
        check(
            &format!(
                "{backup}{}",
                object("Restore", "r", "spec: {backupName: c}")
            ),
            &[
                "Backup b apply",
                "Restore r apply",
                "Restore r names Backup \"c\", which is in no OADP ConfigMap",
            ],
        );
        check(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
            &["ConfigMap a ignored: no Backup and no Restore of velero.io/v1"],
        );
    }

    #[test]
    fn sources_are_found_missing_or_unreadable_and_lists_are_bounded() {
        let many = "---\napiVersion: v1\nkind: X\nmetadata: {name: a}\n".repeat(LISTED + 7);
        let denied = Source {
            data: Err("denied".to_owned()),
            ..source(Member::ExtraManifests, "denied", None)
        };
        let objects = judge(&[
            source(Member::ExtraManifests, "many", Some(&many)),
            source(Member::ExtraManifests, "many", Some(&many)),
            source(Member::OadpContent, "none", None),
            denied,
        ]);
        let sources: Vec<_> = objects
            .sources
            .iter()
            .map(|source| (source.member, source.config_map.as_str(), source.verdict))
            .collect();
        assert_eq!(
            sources,
            [
                ("extraManifests", "ns/many", "found"),
                ("oadpContent", "ns/none", "missing"),
                ("extraManifests", "ns/denied", "unreadable"),
            ]
        );
        assert_eq!((objects.objects.len(), objects.omitted), (LISTED, 7));
        assert_eq!((objects.apply, objects.refused), (LISTED + 7, 0));
        assert_eq!(
            warnings(&objects),
            [
                "objects: spec.oadpContent: ConfigMap ns/none is missing",
                "objects: spec.extraManifests: ConfigMap ns/denied is unreadable",
            ]
        );
    }
}
