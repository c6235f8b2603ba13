//! What must hold between any two operations, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{DeploymentId, StaterootName, path, saved_cr};
use planner::PlanName;

use crate::machine::{Machine, boot_entry, deployment_directory, stateroot_directory};
use crate::tree::Tree;

/// Files of a stateroot that the other side may write while it is not booted.
const EXCHANGE: [&str; 1] = ["var/lib/lca/ibu.json"];
/// What a stateroot's own release may write while it is booted.
const OWN: [&str; 3] = ["var/lib/etcd", "var/log", "var/lib/lca"];

/// Watches over one walk.
#[derive(Clone, Debug)]
pub struct Guard {
    origin: DeploymentId,
    /// The origin's stateroot as it must stay; `None` once it may be removed.
    baseline: Option<Arc<Tree>>,
    default: Option<DeploymentId>,
    /// Nothing has been looked at yet.
    unseen: bool,
    /// The boot loader was armed in this walk.
    armed: bool,
    /// Verdicts that were seen on the disk.
    verdicts: BTreeMap<Arc<str>, Arc<[u8]>>,
}

impl Guard {
    /// A watch over a walk that starts from this machine's booted deployment.
    pub fn new(machine: &Machine) -> Self {
        Self {
            origin: machine.boot.booted.clone(),
            baseline: Some(Arc::new(machine.disk.clone())),
            default: default(&machine.disk),
            unseen: true,
            armed: false,
            verdicts: BTreeMap::new(),
        }
    }

    /// Somebody damages the verdicts: what they were counts no more, nor whether an upgrade had completed.
    pub fn forget_verdicts(&mut self) {
        self.verdicts.clear();
        self.armed = false;
    }

    /// The deployment that the walk started from.
    pub fn origin(&self) -> &DeploymentId {
        &self.origin
    }

    /// The machine was started: what the origin's shutdown left is what must stay from now on.
    pub fn booted(&mut self, machine: &Machine) {
        if self.baseline.is_some() && machine.boot.booted != self.origin {
            self.baseline = Some(Arc::new(machine.disk.clone()));
        }
        self.default = default(&machine.disk);
        self.unseen = true;
    }

    /// Everything that is wrong now and was not before: looks at what was touched since the last call, or at everything.
    pub(crate) fn check(&mut self, machine: &mut Machine, plan: Option<PlanName>) -> Vec<String> {
        let mut wrong = Vec::new();
        if plan == Some(PlanName::Finalize) && machine.boot.booted != self.origin {
            self.baseline = None;
        }
        let (mut disk, mut memory) = machine.take_unchecked();
        if std::mem::take(&mut self.unseen) {
            let baseline = self.baseline.iter().flat_map(|baseline| baseline.entries());
            disk = baseline
                .chain(machine.disk.entries())
                .map(|(path, _)| path.clone())
                .collect();
            memory.clone_from(&disk);
        }
        if disk.is_empty() && memory.is_empty() {
            return wrong;
        }
        let mut say = |name: &str, text: String| wrong.push(format!("{name}: {text}"));
        if disk.iter().any(|path| !path.contains("/var/lib/lca/runs/")) {
            for text in bootable_always(machine, &self.origin) {
                say("bootable_always", text);
            }
            if let Some(text) = fallback_leads_home(machine, &self.origin) {
                say("fallback_leads_home", text);
            }
            if let Some(text) = self.nobody_is_left_behind(machine) {
                say("nobody_is_left_behind", text);
            }
            if let Some(text) = self.default_changes_only_in_pivot_and_return(machine, plan) {
                say("default_changes_only_in_pivot_and_return", text);
            }
        }
        for path in disk.iter().filter(|path| path.ends_with(path::VERDICT)) {
            let Some(content) = machine.disk.content(path) else {
                continue;
            };
            let known = self
                .verdicts
                .entry(path.clone())
                .or_insert_with(|| content.clone());
            if known != content {
                say("one_verdict", format!("{path} was changed"));
            }
        }
        for (name, tree, touched) in [
            ("disk", &machine.disk, &disk),
            ("memory", &machine.cache, &memory),
        ] {
            for path in self.origin_touched(machine, tree, touched) {
                say("origin_untouched", format!("{path} changed ({name})"));
            }
        }
        wrong
    }

    /// Once armed, the boot loader stays so for as long as an undecided target is what it starts: on the way there and back too.
    fn nobody_is_left_behind(&mut self, machine: &Machine) -> Option<String> {
        let armed = Machine::armed(&machine.disk).is_some();
        self.armed |= armed;
        let default = default(&machine.disk)?;
        let on_the_way = self.armed && self.baseline.is_some();
        if armed || !on_the_way || default.stateroot == self.origin.stateroot {
            return None;
        }
        let verdict = format!(
            "{}{}",
            stateroot_directory(&default.stateroot),
            path::VERDICT
        );
        let decided = outcome(machine.disk.content(&verdict).map(|content| &content[..]));
        (decided != Some(false)).then(|| format!("{default} is the default, and nothing is armed"))
    }

    fn origin_touched(&self, machine: &Machine, tree: &Tree, touched: &[Arc<str>]) -> Vec<String> {
        let Some(baseline) = &self.baseline else {
            return Vec::new();
        };
        let root = format!("{}/", stateroot_directory(&self.origin.stateroot));
        let booted = machine.boot.booted == self.origin;
        let pins = format!(
            "deploy/{}.{}{}",
            self.origin.checksum,
            self.origin.serial,
            path::PINNED_IMAGES
        );
        let free = |rel: &str| {
            if booted {
                rel == pins || OWN.iter().any(|own| rel.starts_with(own))
            } else {
                EXCHANGE.contains(&rel)
            }
        };
        touched
            .iter()
            .filter(|path| path.strip_prefix(&root).is_some_and(|rel| !free(rel)))
            .filter(|path| tree.get(path) != baseline.get(path))
            .map(ToString::to_string)
            .collect()
    }

    fn default_changes_only_in_pivot_and_return(
        &mut self,
        machine: &Machine,
        plan: Option<PlanName>,
    ) -> Option<String> {
        let now = default(&machine.disk);
        if now == self.default {
            return None;
        }
        let was = std::mem::replace(&mut self.default, now);
        let now = self.default.as_ref()?;
        let to_origin = *now == self.origin;
        let allowed = match plan {
            // Back to what is booted where a run is taken up behind its switch: what boots next is not written to.
            Some(PlanName::Pivot) => !to_origin || *now == machine.boot.booted,
            Some(PlanName::Return) => to_origin,
            // Unasked only behind a verdict, and never what has completed.
            Some(
                PlanName::AutomaticReturn | PlanName::PostPivotReturn | PlanName::MonitorReturn,
            ) => to_origin && may_go_back(machine),
            // An abort behind the switch and before the reboot.
            Some(PlanName::Abort | PlanName::Disarm) => *now == machine.boot.booted,
            // The early unit of the origin, which the boot loader returned to.
            None => to_origin && machine.boot.booted == self.origin,
            _ => false,
        };
        (!allowed).then(|| format!("from {was:?} to {now} in {plan:?}"))
    }
}

/// Whether the target's verdict is to go back; one that nobody can read counts as that.
fn may_go_back(machine: &Machine) -> bool {
    let verdict = machine.disk.content(&machine.path(path::VERDICT));
    outcome(verdict.map(|content| &content[..])).unwrap_or_default()
}

/// Whether a verdict is to go back; `None` = there is none.
fn outcome(verdict: Option<&[u8]>) -> Option<bool> {
    let read = serde_json::from_slice::<serde_json::Value>(verdict?);
    Some(read.map_or(true, |read| read["body"]["outcome"] != "completed"))
}

fn default(disk: &Tree) -> Option<DeploymentId> {
    Machine::entries(disk)
        .into_iter()
        .next()
        .map(|entry| entry.id)
}

/// Where the boot loader would return by itself, it is to the origin. Before the switch and behind a switch back the armed
/// entry has another meaning: then all that counts is that the next boot does not get there.
fn fallback_leads_home(machine: &Machine, origin: &DeploymentId) -> Option<String> {
    let armed = Machine::armed(&machine.disk)?;
    let entries = Machine::entries(&machine.disk);
    let mut places = entries.iter().enumerate();
    let named = places.find(|(place, _)| boot_entry(entries.len(), *place) == armed.entry);
    let named = named.map(|(_, entry)| &entry.id);
    let switched = entries.first().is_some_and(|first| first.id != *origin);
    let home = named == Some(origin) || !switched && armed.left > 0;
    (!home).then(|| format!("{armed:?} is {named:?}"))
}

/// What the boot loader would start now is there, whole and durable.
fn bootable_always(machine: &Machine, origin: &DeploymentId) -> Vec<String> {
    let Some(default) = default(&machine.disk) else {
        return vec!["there is no boot entry".to_owned()];
    };
    let mut lacking = Vec::new();
    let disk = &machine.disk;
    let directory = deployment_directory(&default);
    match machine.commits.get(&default.checksum) {
        None => lacking.push(format!("{default} is of an unknown commit")),
        Some(commit) => {
            for (path, content) in &commit.files {
                if disk.text(&format!("{directory}/{path}")) != Some(content) {
                    lacking.push(format!("{default} lacks {path}"));
                }
            }
        }
    }
    let booted_before = disk
        .below(&format!(
            "{}/var/log",
            stateroot_directory(&default.stateroot)
        ))
        .next()
        .is_some();
    if default.stateroot != origin.stateroot && !booted_before {
        lacking.extend(first_boot_lacks(machine, &default));
    }
    lacking
}

/// What the first boot of a target needs and the disk does not hold.
fn first_boot_lacks(machine: &Machine, target: &DeploymentId) -> Vec<String> {
    let disk = &machine.disk;
    let var = |rel: &str| format!("{}/{rel}", stateroot_directory(&target.stateroot));
    let mut lacking = Vec::new();
    let seeds = machine.registry.values();
    let mut seeds = seeds.filter(|seed| seed.content.commit == target.checksum);
    // A seed of this commit whose documents are those that were unpacked.
    let whole = seeds.any(|seed| {
        let etc = deployment_directory(target);
        let mut var_files = seed.var.iter().filter(|(path, _)| !path.ends_with('/'));
        let mut etc_files = seed.etc.iter();
        var_files.all(|(path, content)| disk.text(&var(&format!("var/{path}"))) == Some(content))
            && etc_files
                .all(|(path, content)| disk.text(&format!("{etc}/etc/{path}")) == Some(content))
            && seed
                .deleted
                .iter()
                .all(|path| disk.get(&format!("{etc}/etc/{path}")).is_none())
    });
    if !whole {
        lacking.push(format!("{target} is not as its seed has it"));
    }
    let inside = |path: &str| in_stateroot(&target.stateroot, path);
    let saved = disk.content(&inside(path::SAVED_IBU));
    if saved.is_none_or(|bytes| saved_cr::parse(bytes).is_err()) {
        lacking.push(format!("{target} lacks the saved CR"));
    }
    for needed in [
        path::RECONFIGURATION,
        path::CLUSTER_MANIFESTS,
        path::KUBECONFIG_CRYPTO,
        path::ROLLBACK_CONFIG,
    ] {
        if disk.get(&inside(needed)).is_none() {
            lacking.push(format!("{target} lacks {needed}"));
        }
    }
    lacking
}

pub(crate) fn in_stateroot(stateroot: &StaterootName, absolute: &str) -> String {
    format!("{}{absolute}", stateroot_directory(stateroot))
}
