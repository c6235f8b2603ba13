//! The ostree port, through libostree.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::thread;
use std::time::{Duration, Instant};

use api::{DeploymentId, StaterootName};
use node::ports::{Deployment, DeploymentSpec, Ostree, Watch};
use node::{ErrorKind, PortError, PortResult};
use ostree::gio::Cancellable;
use ostree::{RepoCommitState, RepoPruneFlags, Sysroot, SysrootWriteDeploymentsOpts, gio, glib};

use crate::boot_entries;
use crate::directory::Anchor;
use crate::failure::Attempt;
use crate::layout::Layout;
use crate::objects::discard_staged;
use crate::reachable::all_present;
use crate::sysroot_writer::{writing, writing_watched};
use crate::tree;

/// Refs that keep an imported commit from being pruned until a deployment does: this and the commit's checksum.
const IMPORTED: &str = "lifecycle-agent/";

/// How long a sysroot lock that somebody else holds is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait between two tries to take the lock: libostree has no way to be told.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

const NONE: Option<&Cancellable> = Cancellable::NONE;

/// libostree's sysroot of a node.
#[derive(Clone, Debug)]
pub struct HostOstree {
    layout: Layout,
}

impl HostOstree {
    /// The sysroot of the node that lies there.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// Opens and reads the sysroot. libostree knows the booted deployment only of `/`.
    fn load(&self) -> PortResult<Sysroot> {
        let sysroot = if self.layout.is_running() {
            Sysroot::new_default()
        } else {
            Sysroot::new(Some(&gio::File::for_path(self.layout.sysroot())))
        };
        // True of every thread that changes something; the others only read.
        sysroot.set_mount_namespace_in_use();
        sysroot
            .load(NONE)
            .attempt(|| "reading the ostree sysroot".to_owned())?;
        Ok(sysroot)
    }

    /// Runs `work` on the sysroot, where it is writable and with its lock held.
    fn change<T: Send>(&self, work: impl FnOnce(&Locked) -> PortResult<T> + Send) -> PortResult<T> {
        writing(&self.layout, || work(&Locked::take(self.load()?)?))
    }
}

/// Opens the node's repository for writing. To be called where `/sysroot` is writable.
pub(crate) fn repository(layout: &Layout) -> PortResult<ostree::Repo> {
    let path = layout.sysroot().join("ostree/repo");
    let repo = ostree::Repo::new_for_path(&path);
    repo.open(NONE)
        .attempt(|| format!("opening the repository {}", path.display()))?;
    Ok(repo)
}

/// The ref that protects an imported commit.
pub(crate) fn import_ref(checksum: &str) -> String {
    format!("{IMPORTED}{checksum}")
}

/// Whether the commit and every object that it reaches are in the repository.
pub(crate) fn is_complete(repo: &ostree::Repo, checksum: &str) -> PortResult<bool> {
    let attempt = || format!("examining commit {checksum}");
    let commit = ostree::ObjectType::Commit;
    if !repo.has_object(commit, checksum, NONE).attempt(attempt)? {
        return Ok(false);
    }
    let (_, state) = repo.load_commit(checksum).attempt(attempt)?;
    Ok(!state.contains(RepoCommitState::PARTIAL) && is_present(repo, checksum)?)
}

/// The checksums of a commit's root directory and of that directory's metadata.
pub(crate) fn roots(repo: &ostree::Repo, checksum: &str) -> PortResult<(Vec<u8>, Vec<u8>)> {
    let attempt = || format!("reading commit {checksum}");
    let (content, _) = repo.load_commit(checksum).attempt(attempt)?;
    let checksum = |member| content.child_value(member).data().to_vec();
    // The last members of a commit.
    Ok((checksum(6), checksum(7)))
}

/// As [`is_complete`], whatever libostree's own mark says.
pub(crate) fn is_present(repo: &ostree::Repo, checksum: &str) -> PortResult<bool> {
    let attempt = || format!("examining commit {checksum}");
    let commit = ostree::ObjectType::Commit;
    if !repo.has_object(commit, checksum, NONE).attempt(attempt)? {
        return Ok(false);
    }
    if repo.mode() == ostree::RepoMode::Bare {
        let (tree, meta) = roots(repo, checksum)?;
        let objects = gio::prelude::FileExt::path(&repo.path()).unwrap_or_default();
        let objects = objects.join("objects");
        return all_present(&objects, &tree, &meta).attempt(attempt);
    }
    // Fails where a directory object is missing, which is an answer and no failure.
    let Ok(objects) = repo.traverse_commit(checksum, 0, NONE) else {
        return Ok(false);
    };
    for object in objects {
        if !repo
            .has_object(object.object_type(), object.checksum(), NONE)
            .attempt(attempt)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A sysroot whose lock is held.
struct Locked(Sysroot);

impl Locked {
    /// Takes the lock and reads what the last holder left.
    fn take(sysroot: Sysroot) -> PortResult<Self> {
        let end = Instant::now() + LOCK_PATIENCE;
        while !sysroot
            .try_lock()
            .attempt(|| "locking the ostree sysroot".to_owned())?
        {
            if Instant::now() >= end {
                let text = "the ostree sysroot is locked by another program (rpm-ostree?)";
                return Err(PortError::plain(ErrorKind::Busy, text));
            }
            thread::sleep(LOCK_INTERVAL);
        }
        let locked = Self(sysroot);
        locked
            .0
            .load_if_changed(NONE)
            .attempt(|| "reading the ostree sysroot".to_owned())?;
        Ok(locked)
    }

    fn find(&self, id: &DeploymentId) -> Option<ostree::Deployment> {
        self.0
            .deployments()
            .into_iter()
            .find(|deployment| is(deployment, id))
    }

    fn is_booted(&self, deployment: &ostree::Deployment) -> bool {
        self.0
            .booted_deployment()
            .is_some_and(|booted| booted.equal(deployment))
    }

    /// Writes the list of deployments; libostree makes it durable. The repository is not pruned.
    fn write(&self, deployments: &[ostree::Deployment]) -> PortResult<()> {
        let options = SysrootWriteDeploymentsOpts {
            do_postclean: false,
        };
        self.0
            .write_deployments_with_options(deployments, &options, NONE)
            .attempt(|| "writing the list of deployments".to_owned())
    }

    /// Removes directories of deployments that are not in the list and old boot entries; no objects.
    fn sweep(&self) -> PortResult<()> {
        self.0
            .prepare_cleanup(NONE)
            .attempt(|| "removing unlisted deployments".to_owned())
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

fn is(deployment: &ostree::Deployment, id: &DeploymentId) -> bool {
    deployment.osname() == id.stateroot.as_str()
        && deployment.csum() == id.checksum.as_str()
        && deployment.deployserial().cast_unsigned() == id.serial
}

fn identity(deployment: &ostree::Deployment) -> PortResult<DeploymentId> {
    let (stateroot, checksum) = (deployment.osname(), deployment.csum());
    let stateroot = stateroot.parse().map_err(|error| {
        PortError::new(
            ErrorKind::Contradiction,
            format!("reading deployment {checksum}"),
            error,
        )
    })?;
    let serial = deployment.deployserial().cast_unsigned();
    Ok(DeploymentId {
        stateroot,
        checksum: checksum.into(),
        serial,
    })
}

/// The kernel arguments, without the one that libostree adds by itself and changes at will.
fn kernel_arguments(deployment: &ostree::Deployment) -> Vec<String> {
    let options = deployment
        .bootconfig()
        .and_then(|config| config.get("options"));
    let mut arguments = split_arguments(&options.unwrap_or_default());
    arguments.retain(|argument| !argument.starts_with("ostree="));
    arguments
}

/// Splits a kernel command line at white space outside of double quotes, as the kernel does (`next_arg`). libostree
/// before 2023 splits at every space.
fn split_arguments(line: &str) -> Vec<String> {
    let mut quoted = false;
    let arguments = line.split(|c: char| {
        quoted ^= c == '"';
        c.is_ascii_whitespace() && !quoted
    });
    arguments
        .filter(|argument| !argument.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The list that makes a deployment the default. A staged deployment would make itself the default during the shutdown.
fn led_by(default: &ostree::Deployment, list: Vec<ostree::Deployment>) -> Vec<ostree::Deployment> {
    let others = list.into_iter();
    let others = others.filter(|other| !other.equal(default) && !other.is_staged());
    std::iter::once(default.clone()).chain(others).collect()
}

fn is_of(deployment: &ostree::Deployment, stateroot: &StaterootName) -> bool {
    deployment.osname() == stateroot.as_str()
}

impl Ostree for HostOstree {
    fn deployments(&self) -> PortResult<Vec<Deployment>> {
        let sysroot = self.load()?;
        let booted = sysroot.booted_deployment();
        let describe = |deployment: ostree::Deployment| {
            Ok(Deployment {
                id: identity(&deployment)?,
                booted: booted
                    .as_ref()
                    .is_some_and(|booted| booted.equal(&deployment)),
                kernel_arguments: kernel_arguments(&deployment),
            })
        };
        sysroot.deployments().into_iter().map(describe).collect()
    }

    fn stateroots(&self) -> PortResult<Vec<StaterootName>> {
        let path = self.layout.stateroots();
        let attempt = || format!("listing {}", path.display());
        let mut names = vec![];
        for entry in fs::read_dir(&path).attempt(attempt)? {
            let entry = entry.attempt(attempt)?;
            let is_directory = entry.file_type().attempt(attempt)?.is_dir();
            // What cannot name a stateroot is none.
            let name = entry
                .file_name()
                .into_string()
                .ok()
                .and_then(|name| name.parse().ok());
            names.extend(name.filter(|_| is_directory));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn has_commit(&self, checksum: &str) -> PortResult<bool> {
        is_complete(&repository(&self.layout)?, checksum)
    }

    fn is_imported(&self, checksum: &str) -> PortResult<bool> {
        let repo = repository(&self.layout)?;
        let protected = repo
            .resolve_rev(&import_ref(checksum), true)
            .attempt(|| format!("looking for the ref of commit {checksum}"))?;
        // Whether all of it is there is looked at when it is deployed: that takes a second.
        Ok(protected.is_some_and(|found| found == checksum)
            && repo
                .has_object(ostree::ObjectType::Commit, checksum, NONE)
                .attempt(|| format!("looking for commit {checksum}"))?)
    }

    fn ensure_stateroot(&self, stateroot: &StaterootName) -> PortResult<()> {
        self.change(|sysroot| {
            let path = self.layout.stateroot(stateroot);
            let attempt = || format!("making stateroot {stateroot}");
            if !path.exists() {
                sysroot
                    .0
                    .init_osname(stateroot.as_str(), NONE)
                    .attempt(attempt)?;
            }
            // An earlier call may have been cut short after making the directory; the seed brings what is in `var`.
            match fs::create_dir(path.join("var")) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    Err(error).attempt(attempt)?;
                }
                _ => {}
            }
            sync(&self.layout)
        })
    }

    fn deploy(&self, spec: &DeploymentSpec) -> PortResult<DeploymentId> {
        let DeploymentSpec {
            stateroot, commit, ..
        } = spec;
        self.change(|sysroot| {
            let origin = glib::KeyFile::new();
            origin
                .load_from_data(&spec.origin, glib::KeyFileFlags::NONE)
                .attempt(|| format!("reading the origin of deployment {commit}"))?;
            let repo = sysroot.0.repo();
            if !is_complete(&repo, commit)? {
                // Without its ref it does not count as imported.
                let attempt = || format!("giving up the import of commit {commit}");
                repo.set_ref_immediate(None, &import_ref(commit), None, NONE)
                    .attempt(attempt)?;
                let text = format!("objects of commit {commit} are missing; it is imported again");
                return Err(PortError::plain(ErrorKind::Transient, text));
            }
            // What a deploy that was cut short has left would take this deployment's serial number.
            sysroot.sweep()?;
            let mut arguments: Vec<&str> = vec![];
            arguments.extend(spec.kernel_arguments.iter().map(String::as_str));
            let deployment = sysroot
                .0
                .deploy_tree(
                    Some(stateroot.as_str()),
                    commit,
                    Some(&origin),
                    None,
                    &arguments,
                    NONE,
                )
                .attempt(|| format!("deploying {commit} into stateroot {stateroot}"))?;
            let mut list = sysroot.0.deployments();
            list.push(deployment.clone());
            sysroot.write(&list)?;
            sync(&self.layout)?;
            identity(&deployment)
        })
    }

    fn set_default(&self, id: &DeploymentId) -> PortResult<()> {
        self.change(|sysroot| {
            let Some(deployment) = sysroot.find(id) else {
                let text = format!("there is no deployment {id}");
                return Err(PortError::plain(ErrorKind::Contradiction, text));
            };
            let list = led_by(&deployment, sysroot.0.deployments());
            sync(&self.layout)?;
            sysroot.write(&list)?;
            sync(&self.layout)
        })
    }

    fn entry_after(&self, default: &DeploymentId, of: &DeploymentId) -> PortResult<String> {
        let deployments = self.load()?.deployments();
        let find = |id: &DeploymentId| {
            let found = deployments.iter().find(|found| is(found, id)).cloned();
            let text = || format!("there is no deployment {id}");
            found.ok_or_else(|| PortError::plain(ErrorKind::Contradiction, text()))
        };
        let (default, of) = (find(default)?, find(of)?);
        let list = led_by(&default, deployments.clone());
        // A staged deployment has no entry yet.
        let current = deployments.iter().filter(|found| !found.is_staged());
        let names = |list: Vec<ostree::Deployment>| -> Vec<glib::GString> {
            list.iter().map(ostree::Deployment::osname).collect()
        };
        let place = list.iter().position(|found| found.equal(&of));
        let (current, wanted) = (names(current.cloned().collect()), names(list));
        let current: Vec<&str> = current.iter().map(glib::GString::as_str).collect();
        let wanted: Vec<&str> = wanted.iter().map(glib::GString::as_str).collect();
        let ids = boot_entries::ids(&self.layout.boot(), &current, &wanted)?;
        let id = place.and_then(|place| ids.into_iter().nth(place));
        id.ok_or_else(|| {
            let text = "a staged deployment has no boot entry";
            PortError::plain(ErrorKind::Contradiction, text)
        })
    }

    fn undeploy(&self, id: &DeploymentId) -> PortResult<()> {
        self.change(|sysroot| {
            if let Some(deployment) = sysroot.find(id) {
                if sysroot.is_booted(&deployment) {
                    let text = format!("deployment {id} is the running system");
                    return Err(PortError::plain(ErrorKind::Contradiction, text));
                }
                let others = sysroot.0.deployments().into_iter();
                let list: Vec<_> = others.filter(|other| !other.equal(&deployment)).collect();
                sysroot.write(&list)?;
            }
            // Also when it is out of the list: its directory may have been left.
            sysroot.sweep()?;
            sync(&self.layout)
        })
    }

    fn remove_stateroot(&self, stateroot: &StaterootName, watch: &dyn Watch) -> PortResult<()> {
        writing_watched(&self.layout, watch, |watch| {
            let sysroot = Locked::take(self.load()?)?;
            if sysroot
                .0
                .deployments()
                .iter()
                .any(|deployment| is_of(deployment, stateroot))
            {
                let text = format!("stateroot {stateroot} has a deployment");
                return Err(PortError::plain(ErrorKind::Contradiction, text));
            }
            let attempt = || format!("removing stateroot {stateroot}");
            let stateroots = Anchor::open(&self.layout.stateroots()).attempt(attempt)?;
            let place = stateroots.map(|anchor| anchor.place(stateroot.as_str()));
            let Some(place) = place.transpose().attempt(attempt)?.flatten() else {
                return Ok(());
            };
            // A watch asked for every file would cost more than the file.
            const ENTRIES_PER_REPORT: u64 = 256;
            let mut seen = |done: u64| {
                !done.is_multiple_of(ENTRIES_PER_REPORT)
                    || watch.progress(done, None, stateroot.as_str())
            };
            tree::remove(&place, &mut seen).attempt(attempt)
        })
    }

    fn prune(&self) -> PortResult<()> {
        self.change(|sysroot| {
            let repo = sysroot.0.repo();
            let attempt = || "pruning the ostree repository".to_owned();
            let deployed: Vec<_> = sysroot.0.deployments().iter().map(|d| d.csum()).collect();
            for (name, commit) in repo.list_refs(None, NONE).attempt(attempt)? {
                if name.starts_with(IMPORTED) && !deployed.iter().any(|csum| *csum == *commit) {
                    repo.set_ref_immediate(None, &name, None, NONE)
                        .attempt(attempt)?;
                }
            }
            // Refs of deployments are brought up to date by this, and unreachable objects go.
            sysroot.0.cleanup(NONE).attempt(attempt)?;
            discard_staged(&self.layout)?;
            repo.prune(RepoPruneFlags::REFS_ONLY, 0, NONE)
                .attempt(attempt)?;
            sync(&self.layout)
        })
    }
}

/// Makes the sysroot, and `/boot` where that is a filesystem of its own, durable.
fn sync(layout: &Layout) -> PortResult<()> {
    let sysroot = layout.sysroot();
    for path in [sysroot.to_owned(), sysroot.join("boot"), "/boot".into()] {
        if path == OsStr::from_bytes(b"/boot") && !layout.is_running() {
            continue;
        }
        let attempt = || format!("syncing the filesystem of {}", path.display());
        if let Some(anchor) = Anchor::open(&path).attempt(attempt)? {
            anchor.sync().attempt(attempt)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_split_as_the_kernel_does() {
        let check = |line, arguments: &[&str]| assert_eq!(split_arguments(line), arguments);
        check("", &[]);
        check(" rw  quiet ", &["rw", "quiet"]);
        check("a=\"b c\" \"d=e f\" g", &["a=\"b c\"", "\"d=e f\"", "g"]);
        check("a=\"open to the end", &["a=\"open to the end"]);
    }
}
