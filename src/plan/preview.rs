//! The preview, made of what is known.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use node::ErrorKind;
use planner::check::{Severity, Subject, answers, limits_to_plan_with, needs};
use planner::{Filesystem, PrecachePolicy, SYSROOT_RESERVE, rebooting};

use super::document::{
    Changes, CheckRow, Document, Estimate, FILES_LISTED, Fetch, FileChanges, Outcome, SpaceRow,
};
use super::known::{Known, chain};
use super::{fetch, objects, signature};

/// What the estimate of the duration assumes.
const FETCHED_PER_SECOND: u64 = 20 << 20;
const INSTALLED_PER_SECOND: u64 = 60 << 20;
const SECONDS_PER_IMAGE: u64 = 10;

impl Known {
    pub(super) fn document(&self) -> Document {
        let refused = matches!(&self.pin, Err(error) if error.kind() == ErrorKind::Permanent);
        let unresolved = self.pin.as_ref().err().map(chain).unwrap_or_default();
        let subject = Subject {
            spec: self.spec.as_ref().map_err(String::as_str),
            booted: self.booted.as_ref().map_err(String::as_str),
            now: self.now,
            cluster: self.cluster.as_ref().map_err(String::as_str),
            node: self.node.as_ref().map_err(String::as_str),
            pin: self.pin.as_ref().map_err(|_| unresolved.as_str()),
            refused,
            signature_fault: signature::told(&self.signature_fault),
            content: self.content.as_ref(),
            reserved: self.reserved,
            images: self.images.as_ref().and_then(|images| images.pull_bytes),
            limits: self.limits.as_ref().map_err(String::as_str),
            // What the environment of the controller says is not known here.
            precaching: PrecachePolicy::default(),
        };
        let answers = answers(&subject);
        let listed = |severity: Severity| -> Vec<String> {
            let found = answers
                .iter()
                .filter(|answer| answer.severity() == Some(severity));
            found
                .map(|answer| format!("{}: {}", answer.check.name, answer.verdict.text()))
                .collect()
        };
        let worst = answers.iter().filter_map(|answer| answer.severity()).max();
        let seed = self.spec.as_ref().ok();
        let seed = seed.and_then(|spec| spec.seed_image_ref.clone());
        let seed = seed.unwrap_or_default();
        Document {
            verdict: match worst {
                Some(Severity::Blocker) => Outcome::Blocked,
                Some(Severity::CouldNotTell) => Outcome::CouldNotTell,
                Some(Severity::Warning) | None => Outcome::Clear,
            },
            image: seed.image,
            digest: self.pin.as_ref().ok().map(|pin| pin.digest.to_string()),
            signature: signature::row(&answers),
            running_version: self
                .cluster
                .as_ref()
                .ok()
                .map(|found| found.version.clone()),
            seed_version: Some(seed.version).filter(|version| !version.is_empty()),
            fetch: self.fetch(),
            space: self.space(&subject),
            kernel_arguments: self.kernel_arguments(),
            machine_config_files: self.machine_config_files(),
            images: self.images.clone(),
            objects: self.objects.as_ref().ok().cloned(),
            estimate: self.estimate(&subject),
            blockers: listed(Severity::Blocker),
            could_not_tell: listed(Severity::CouldNotTell),
            warnings: {
                let objects = self.objects.as_ref().map(objects::warnings);
                let mut all = listed(Severity::Warning);
                all.extend(objects.unwrap_or_default());
                all
            },
            checks: answers
                .iter()
                .map(|answer| CheckRow {
                    name: answer.check.name,
                    moment: answer.check.moment.to_string(),
                    verdict: answer.verdict.as_str(),
                    severity: answer.severity().map(Severity::as_str),
                    text: answer.verdict.text().to_owned(),
                })
                .collect(),
        }
    }

    fn fetch(&self) -> Option<Fetch> {
        let pin = self.pin.as_ref().ok()?;
        let spooled = self.node.as_ref().map_or(0, |node| node.spooled);
        let missing = self.missing.as_ref();
        Some(fetch::fetch(pin, spooled, missing, self.is_fetched))
    }

    fn space(&self, subject: &Subject<'_>) -> Vec<SpaceRow> {
        let needs = needs(subject).unwrap_or_default();
        let spaces = self.node.as_ref().map(|node| node.spaces.as_slice());
        let row = |filesystem: Filesystem| {
            let need = needs.iter().find(|need| need.filesystem == filesystem);
            let spaces = spaces.unwrap_or_default().iter();
            let space = spaces.clone().find(|space| space.filesystem == filesystem);
            SpaceRow {
                filesystem: filesystem.path(),
                needed_bytes: need.map(|need| need.bytes),
                available_bytes: space.map(|space| space.available),
                total_bytes: space.map(|space| space.total),
                estimated: need.is_some_and(|need| need.estimated),
                basis: need.map_or_else(String::new, |need| need.basis.clone()),
            }
        };
        Filesystem::ALL.map(row).into()
    }

    fn kernel_arguments(&self) -> Option<Changes> {
        let label = || {
            let text = self.pin.as_ref().ok()?.node_facts.as_deref()?;
            let facts: api::seed_node::SeedNodeFacts = serde_json::from_str(text).ok()?;
            facts.kernel_arguments
        };
        let content = self.content.as_ref();
        let seed = content
            .map(|content| content.kernel_arguments.clone())
            .or_else(label)?;
        let seed = rebooting(&seed);
        let own = &self.cluster.as_ref().ok()?.kernel_arguments;
        let only = |of: &[String], other: &[String]| -> Vec<String> {
            let missing = of.iter().filter(|argument| !other.contains(argument));
            missing.cloned().collect()
        };
        Some(Changes {
            added: only(&seed, own),
            removed: only(own, &seed),
        })
    }

    fn machine_config_files(&self) -> Option<FileChanges> {
        let seed = &self.content.as_ref()?.file_marks;
        let own = &self.cluster.as_ref().ok()?.file_marks;
        Some(file_changes(seed, own))
    }

    fn estimate(&self, subject: &Subject<'_>) -> Option<Estimate> {
        let fetch = self.fetch()?.fetch_bytes;
        let needs = needs(subject)?;
        let whole = needs
            .iter()
            .filter(|need| need.filesystem == Filesystem::Sysroot)
            .map(|need| need.bytes.saturating_sub(SYSROOT_RESERVE))
            .sum();
        let inflated = self.missing.as_ref().map(|found| found.inflated);
        let installed = to_install(whole, inflated, self.is_fetched);
        let limit = limits_to_plan_with(subject)
            .ok()
            .and_then(|limits| limits.fetch.bytes_per_second)
            .map_or(u64::MAX, NonZeroU64::get);
        let rate = FETCHED_PER_SECOND.min(limit);
        let images = self.images.as_ref();
        let images = images.map(|images| images.to_pull.len());
        let pulls = images.unwrap_or_default() as u64 * SECONDS_PER_IMAGE;
        // Fetching and installing overlap.
        let seed = (fetch / rate).max(installed / INSTALLED_PER_SECOND);
        let basis = format!(
            "{} KiB/s from the registry, {} MiB/s to the disk, {}",
            rate >> 10,
            INSTALLED_PER_SECOND >> 20,
            match images {
                Some(_) => format!("{SECONDS_PER_IMAGE} s an image"),
                None => "without the images to precache, which are not known yet".to_owned(),
            }
        );
        Some(Estimate {
            seconds: seed + pulls,
            basis,
        })
    }
}

/// Files that one of two MachineConfigs writes, and those that they write differently.
/// Bytes that are still to be written, where all of the seed takes `whole`, and the index says that `inflated` are missing. A
/// seed is installed as it arrives: when it is fetched, it is installed.
fn to_install(whole: u64, inflated: Option<u64>, is_fetched: bool) -> u64 {
    match is_fetched {
        true => 0,
        false => inflated.unwrap_or(whole),
    }
}

fn file_changes(seed: &BTreeMap<String, String>, own: &BTreeMap<String, String>) -> FileChanges {
    let listed = |of: &BTreeMap<String, String>, lists: &dyn Fn(&String, &String) -> bool| {
        let paths = of.iter().filter(|(path, mark)| lists(path, mark));
        paths.map(|(path, _)| path.clone()).collect::<Vec<_>>()
    };
    let mut changes = FileChanges {
        added: listed(seed, &|path, _| !own.contains_key(path)),
        removed: listed(own, &|path, _| !seed.contains_key(path)),
        changed: listed(seed, &|path, mark| {
            own.get(path).is_some_and(|own| own != mark)
        }),
        omitted: 0,
    };
    for list in [
        &mut changes.added,
        &mut changes.removed,
        &mut changes.changed,
    ] {
        changes.omitted += list.len().saturating_sub(FILES_LISTED);
        list.truncate(FILES_LISTED);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_is_installed() {
        let check = |inflated, is_fetched, expect| {
            assert_eq!(to_install(700, inflated, is_fetched), expect);
        };
        check(None, false, 700);
        check(Some(30), false, 30);
        // Of what was fetched nothing is asked, and nothing known.
        check(None, true, 0);
        check(Some(30), true, 0);
    }

    #[test]
    fn files_that_change() {
        let map = |entries: &[(&str, &str)]| {
            let entries = entries.iter();
            entries
                .map(|(path, mark)| ((*path).to_owned(), (*mark).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let changes = file_changes(
            &map(&[("/a", "1"), ("/b", "2"), ("/c", "3")]),
            &map(&[("/b", "2"), ("/c", "4"), ("/d", "5")]),
        );
        assert_eq!(changes.added, ["/a"]);
        assert_eq!(changes.removed, ["/d"]);
        assert_eq!(changes.changed, ["/c"]);
        assert_eq!(changes.omitted, 0);
        let many: BTreeMap<_, _> = (0..FILES_LISTED + 3)
            .map(|number| (format!("/{number:04}"), String::new()))
            .collect();
        let changes = file_changes(&many, &BTreeMap::new());
        assert_eq!((changes.added.len(), changes.omitted), (FILES_LISTED, 3));
    }
}
