//! libostree.

use std::collections::BTreeSet;

use api::{DeploymentId, StaterootName};
use node::ports::{Deployment, DeploymentSpec, Ostree, Watch};
use node::{ErrorKind, PortError, PortResult};

use crate::machine::{
    BootEntry, Machine, REPOSITORY, STATEROOTS, boot_entry, deployment_directory,
    stateroot_directory,
};
use crate::node::Node;
use crate::tree::Entry;

fn contradiction<T>(text: String) -> PortResult<T> {
    Err(PortError::plain(ErrorKind::Contradiction, text))
}

fn object(name: &str) -> String {
    format!("{REPOSITORY}/objects/{name}")
}

impl Node {
    /// Removes directories of deployments that are in no list: what an interrupted call left.
    fn sweep(&self) -> PortResult<()> {
        let unlisted: Vec<String> = self.see(|machine| {
            let listed: BTreeSet<String> = Machine::entries(&machine.cache)
                .iter()
                .map(|entry| deployment_directory(&entry.id))
                .collect();
            let mut unlisted = Vec::new();
            for stateroot in machine.cache.names(STATEROOTS) {
                let deploy = format!("{STATEROOTS}/{stateroot}/deploy");
                for name in machine.cache.names(&deploy) {
                    let path = format!("{deploy}/{}", name.trim_end_matches(".origin"));
                    if !listed.contains(&path) {
                        unlisted.push(format!("{deploy}/{name}"));
                    }
                }
            }
            unlisted
        });
        for path in unlisted {
            self.operation("ostree: sweep", &path)?;
            self.effect(|machine| machine.cache.remove(&path))?;
        }
        Ok(())
    }
}

impl Ostree for Node {
    fn deployments(&self) -> PortResult<Vec<Deployment>> {
        self.operation("deployments", &"")?;
        Ok(self.see(|machine| {
            let entries = Machine::entries(&machine.cache);
            let deployments = entries.into_iter().map(|entry| Deployment {
                booted: entry.id == machine.boot.booted && !machine.booted_hidden,
                id: entry.id,
                kernel_arguments: entry.kernel_arguments,
            });
            deployments.collect()
        }))
    }

    fn stateroots(&self) -> PortResult<Vec<StaterootName>> {
        self.operation("stateroots", &"")?;
        let names = self.see(|machine| machine.cache.names(STATEROOTS));
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn has_commit(&self, checksum: &str) -> PortResult<bool> {
        self.operation("has_commit", &checksum)?;
        Ok(self.see(|machine| {
            machine.commits.get(checksum).is_some_and(|commit| {
                let mut objects = commit.objects(checksum).into_iter();
                objects.all(|(name, _)| machine.cache.get(&object(&name)).is_some())
            })
        }))
    }

    fn is_imported(&self, checksum: &str) -> PortResult<bool> {
        self.has_commit(checksum)
    }

    fn ensure_stateroot(&self, stateroot: &StaterootName) -> PortResult<()> {
        self.operation("ensure_stateroot", stateroot)?;
        let directory = stateroot_directory(stateroot);
        for path in [
            directory.clone(),
            format!("{directory}/deploy"),
            format!("{directory}/var"),
        ] {
            self.effect(|machine| {
                if machine.cache.get(&path).is_none() {
                    machine.cache.make_directory(&path, 0o755);
                }
            })?;
            self.operation("ensure_stateroot: a directory", &path)?;
        }
        self.effect(Machine::sync_sysroot)?;
        self.operation("ensured_stateroot", stateroot)
    }

    fn deploy(&self, spec: &DeploymentSpec) -> PortResult<DeploymentId> {
        let stateroot = &spec.stateroot;
        self.operation("deploy", stateroot)?;
        self.sweep()?;
        let commit = self.see(|machine| machine.commits.get(&spec.commit).cloned());
        let (Some(commit), true) = (commit, self.has_commit(&spec.commit)?) else {
            return contradiction(format!("deploying {}: it is not complete", spec.commit));
        };
        let mut entries = self.see(|machine| Machine::entries(&machine.cache));
        let same = entries
            .iter()
            .filter(|found| found.id.stateroot == *stateroot && found.id.checksum == spec.commit);
        let id = DeploymentId {
            stateroot: stateroot.clone(),
            checksum: spec.commit.clone(),
            serial: same.map(|found| found.id.serial + 1).max().unwrap_or(0),
        };
        let directory = deployment_directory(&id);
        self.effect(|machine| machine.cache.make_directory(&directory, 0o755))?;
        for (path, content) in &commit.files {
            self.operation("deploy: a file", path)?;
            self.effect(|machine| {
                let content = content.as_bytes();
                machine
                    .cache
                    .write(&format!("{directory}/{path}"), 0o644, content);
                if let Some(etc) = path.strip_prefix("usr/etc/") {
                    machine
                        .cache
                        .write(&format!("{directory}/etc/{etc}"), 0o644, content);
                }
            })?;
        }
        let origin = format!("{directory}.origin");
        self.effect(|machine| machine.cache.write(&origin, 0o644, spec.origin.as_bytes()))?;
        self.operation("deploy: not listed", &id)?;
        entries.push(BootEntry {
            id: id.clone(),
            kernel_arguments: spec.kernel_arguments.clone(),
        });
        self.effect(|machine| machine.write_entries(&entries))?;
        self.operation("deployed", &id)?;
        Ok(id)
    }

    fn set_default(&self, deployment: &DeploymentId) -> PortResult<()> {
        self.operation("set_default", deployment)?;
        let mut entries = self.see(|machine| Machine::entries(&machine.cache));
        let Some(at) = entries.iter().position(|found| found.id == *deployment) else {
            return contradiction(format!("there is no deployment {deployment}"));
        };
        let entry = entries.remove(at);
        entries.insert(0, entry);
        self.effect(|machine| machine.write_entries(&entries))?;
        self.operation("default_set", deployment)
    }

    fn entry_after(&self, default: &DeploymentId, of: &DeploymentId) -> PortResult<String> {
        self.operation("entry_after", default)?;
        let mut entries = self.see(|machine| Machine::entries(&machine.cache));
        let place = |entries: &[BootEntry], id: &DeploymentId| {
            let found = entries.iter().position(|found| found.id == *id);
            found.map_or_else(|| contradiction(format!("there is no deployment {id}")), Ok)
        };
        let at = place(&entries, default)?;
        let entry = entries.remove(at);
        entries.insert(0, entry);
        Ok(boot_entry(entries.len(), place(&entries, of)?))
    }

    fn undeploy(&self, deployment: &DeploymentId) -> PortResult<()> {
        self.operation("undeploy", deployment)?;
        let booted = self.see(|machine| machine.boot.booted == *deployment);
        if booted {
            return contradiction(format!("deployment {deployment} is the running system"));
        }
        let mut entries = self.see(|machine| Machine::entries(&machine.cache));
        let before = entries.len();
        entries.retain(|found| found.id != *deployment);
        if entries.len() != before {
            self.effect(|machine| machine.write_entries(&entries))?;
            self.operation("undeploy: not swept", deployment)?;
        }
        self.sweep()?;
        self.operation("undeployed", deployment)
    }

    fn remove_stateroot(&self, stateroot: &StaterootName, watch: &dyn Watch) -> PortResult<()> {
        self.operation("remove_stateroot", stateroot)?;
        let entries = self.see(|machine| Machine::entries(&machine.cache));
        if entries.iter().any(|found| found.id.stateroot == *stateroot) {
            return contradiction(format!("stateroot {stateroot} has a deployment"));
        }
        let directory = stateroot_directory(stateroot);
        let mut below: Vec<String> = self.see(|machine| {
            let below = machine.cache.below(&directory);
            below
                .filter(|(_, entry)| matches!(entry, Entry::File(..)))
                .map(|(path, _)| path.to_string())
                .collect()
        });
        removal_order(&directory, &mut below);
        for (done, path) in (0..).zip(&below) {
            self.operation("remove_stateroot: a file", path)?;
            if !watch.progress(done, Some(below.len() as u64), stateroot.as_str()) {
                return Err(PortError::stopped(format!(
                    "removing stateroot {stateroot}"
                )));
            }
            self.effect(|machine| machine.cache.remove(path))?;
        }
        self.operation("remove_stateroot: directories", stateroot)?;
        self.effect(|machine| machine.cache.remove(&directory))?;
        self.operation("removed_stateroot", stateroot)
    }

    fn prune(&self) -> PortResult<()> {
        self.operation("prune", &"")?;
        self.sweep()?;
        let unreachable: Vec<String> = self.see(|machine| {
            let mut reachable = BTreeSet::new();
            for entry in Machine::entries(&machine.cache) {
                let checksum = &entry.id.checksum;
                let commit = machine.commits.get(checksum);
                let objects = commit.map(|commit| commit.objects(checksum));
                reachable.extend(
                    objects
                        .unwrap_or_default()
                        .into_iter()
                        .map(|(name, _)| name),
                );
            }
            let names = machine.cache.names(&format!("{REPOSITORY}/objects"));
            names
                .into_iter()
                .filter(|name| !reachable.contains(name))
                .collect()
        });
        for name in unreachable {
            self.operation("prune: an object", &name)?;
            self.effect(|machine| machine.cache.remove(&object(&name)))?;
        }
        self.operation("pruned", &"")
    }
}

/// In no order that anybody may rely on: what says whose it is goes first.
fn removal_order(directory: &str, files: &mut [String]) {
    let own = format!("{directory}/var/lib/lca/");
    files.sort_by_key(|path| !path.starts_with(&own));
}
