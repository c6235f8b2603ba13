//! The machine port: processor, filesystems, certificates, and space that is kept.

mod certificates;
mod configuration_volume;
mod processor;
mod reserve;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::DeploymentId;
use node::ports::{Filesystem, Machine, NodeFacts, NodePath, Reserved, SeedPin, Space, Told};
use node::{ErrorKind, PortError, PortResult};
use rustix::fs::statvfs;

use crate::boot_fallback::HostFallback;
use crate::command::{Command, CommandError};
use crate::failure::Attempt;
use crate::layout::Layout;
use crate::storage_target::container_storage_target;
use crate::units::settle_etc;

/// Kernels of the running release; each directory has its kernel and initial RAM disk (ostree's layout).
const MODULES: &str = "usr/lib/modules";
/// What of a kernel's directory is copied to `/boot`.
const BOOT_FILES: [&str; 3] = ["vmlinuz", "initramfs.img", "initrd.img"];
/// kubelet's configuration as the machine config operator writes it.
const KUBELET_CONFIG: &str = "etc/kubernetes/kubelet.conf";
/// Its member for CPUs that the system keeps for itself.
const RESERVED_CPUS: &str = "reservedSystemCPUs";

/// The machine that this runs on.
#[derive(Clone, Debug)]
pub struct HostMachine {
    layout: Layout,
}

impl HostMachine {
    /// The machine whose node lies there.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }

    fn directory(&self, filesystem: Filesystem) -> PathBuf {
        match filesystem {
            Filesystem::Sysroot => self.layout.sysroot().to_owned(),
            Filesystem::Boot => self.layout.boot(),
            Filesystem::Containers => {
                let shared = self.layout.shared();
                shared.parent().unwrap_or(shared).to_owned()
            }
        }
    }

    fn space(&self, filesystem: Filesystem) -> PortResult<Space> {
        let directory = self.directory(filesystem);
        let attempt = || format!("asking how full {} is", directory.display());
        let stat = statvfs(&directory).attempt(attempt)?;
        let metadata = fs::metadata(&directory).attempt(attempt)?;
        Ok(Space {
            filesystem,
            device: metadata.dev(),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    /// Bytes of the running release's kernels: what a release puts on `/boot`.
    pub(crate) fn boot_files(&self) -> u64 {
        let directories = fs::read_dir(self.layout.booted().join(MODULES));
        let directories = directories.into_iter().flatten().flatten();
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |found| found.len());
        directories
            .flat_map(|directory| BOOT_FILES.map(|name| size(directory.path().join(name))))
            .sum()
    }

    /// Bytes of the pinned layers that a fetch would find in the spool.
    fn spooled(&self, pin: &SeedPin) -> u64 {
        let spool = self.layout.shared().join("seed");
        let held = |(digest, size): &(_, u64)| seed::spool::held(&spool, digest, *size);
        pin.layers.iter().map(held).sum()
    }

    fn reserved_cpus(&self) -> Told<String> {
        let path = self.layout.booted().join(KUBELET_CONFIG);
        match fs::read_to_string(&path) {
            Ok(text) => Told::Known(reserved_cpus(&text)),
            // Without it kubelet reserves none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Told::Known(String::new()),
            Err(error) => Told::Unknown(format!("reading {}: {error}", path.display())),
        }
    }

    /// libostree switches by replacing the link `loader`.
    fn default_switch(&self) -> Told<bool> {
        let path = self.layout.boot().join("loader");
        match fs::symlink_metadata(&path) {
            Ok(found) => Told::Known(found.is_symlink()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Told::Known(false),
            Err(error) => Told::Unknown(format!("examining {}: {error}", path.display())),
        }
    }
}

/// Bytes of the unit in which the kernel counts a file's blocks (stat(2)).
pub(crate) const BLOCK: u64 = 512;

impl Machine for HostMachine {
    fn facts(&self, pin: Option<&SeedPin>) -> PortResult<NodeFacts> {
        let mut spaces = Vec::new();
        for filesystem in Filesystem::ALL {
            match self.space(filesystem) {
                Ok(space) => spaces.push(space),
                // What is not there is told as not known.
                Err(error) if error.kind() == ErrorKind::Permanent => {
                    tracing::debug!(error = node::error_chain(&error), "a filesystem is unknown");
                }
                Err(error) => return Err(error),
            }
        }
        let cpu = processor::observe()?;
        Ok(NodeFacts {
            architecture: processor::architecture(),
            cpu_numbers: processor::numbers(&cpu),
            cpu,
            reserved_cpus: self.reserved_cpus(),
            spaces,
            containers_mounted: is_mount_point(&self.directory(Filesystem::Containers))?,
            storage_target: match container_storage_target() {
                Ok(target) => Told::Known(target),
                Err(error) => Told::Unknown(node::error_chain(&error)),
            },
            boot_files: self.boot_files(),
            spooled: pin.map_or(0, |pin| self.spooled(pin)),
            default_switch: self.default_switch(),
            boot_fallback: HostFallback::new(self.layout.clone()).usable(),
            certificates_until: certificates::until(self.layout.booted(), self.layout.booted()),
        })
    }

    fn certificates_until(&self, deployment: &DeploymentId) -> PortResult<Told<i64>> {
        let stateroot = self.layout.stateroot(&deployment.stateroot);
        Ok(certificates::until(
            &stateroot,
            &self.layout.deployment(deployment),
        ))
    }

    fn reserved(&self) -> PortResult<Reserved> {
        let size = |file: PathBuf| reserve::size(&file);
        Ok(Reserved {
            sysroot: size(self.sysroot_reserve())?,
            boot: size(self.boot_reserve())?,
        })
    }

    fn reserve(&self, sysroot: u64, boot: u64) -> PortResult<()> {
        let files = [
            (self.sysroot_reserve(), sysroot),
            (self.boot_reserve(), boot),
        ];
        reserve::make(&self.layout, &files)
    }

    fn release(&self) -> PortResult<()> {
        reserve::remove(&self.layout, &[self.sysroot_reserve(), self.boot_reserve()])
    }

    fn release_part(&self) -> PortResult<bool> {
        reserve::shrink(&self.layout, &self.sysroot_reserve())
    }

    fn trust_authorities(&self) -> PortResult<()> {
        run(TRUST, &[])
    }

    fn apply_network_state(&self, state: &NodePath) -> PortResult<()> {
        let path = self.layout.root(&state.root).join(&state.rel);
        run(NETWORK, &["apply", &path.to_string_lossy()]).map_err(|error| {
            if is_missing(&error) {
                let text = format!("this release has no {NETWORK} to apply {state} with");
                PortError::new(ErrorKind::Permanent, text, error)
            } else {
                error
            }
        })?;
        settle_etc()
    }

    fn take_configuration(&self) -> PortResult<bool> {
        configuration_volume::take(&self.layout)
    }

    fn activate_volumes(&self) -> PortResult<()> {
        match run(VOLUMES, &["--cache", "--activate", "ay"]) {
            Err(error) if is_missing(&error) => {
                tracing::info!("there is no {VOLUMES}: this node has no LVM");
                Ok(())
            }
            other => other,
        }
    }
}

/// Makes the bundle of authorities anew; every RHCOS has it.
const TRUST: &str = "update-ca-trust";
/// Looks for LVM's volumes.
const VOLUMES: &str = "pvscan";
/// Configures the network.
const NETWORK: &str = "nmstatectl";
/// How long each may take: they read a few files and devices, and nmstate waits a minute for a network to come about.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs a program of the release. What fails for one moment may do in the next: another call may be under way.
fn run(program: &str, arguments: &[&str]) -> PortResult<()> {
    let done = Command::new(program, DEADLINE).args(arguments).run();
    done.map(drop)
        .map_err(|error| PortError::new(ErrorKind::Transient, format!("running {program}"), error))
}

/// Whether the program is not there.
fn is_missing(error: &PortError) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(CommandError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound)
}

impl HostMachine {
    fn sysroot_reserve(&self) -> PathBuf {
        let below = api::path::SYSROOT_RESERVE.strip_prefix("/sysroot/");
        self.layout.sysroot().join(below.unwrap_or_default())
    }

    fn boot_reserve(&self) -> PathBuf {
        let below = api::path::BOOT_RESERVE.strip_prefix("/boot/");
        self.layout.boot().join(below.unwrap_or_default())
    }
}

/// Whether something is mounted there (proc(5): the fifth field of `mountinfo`).
fn is_mount_point(directory: &Path) -> PortResult<bool> {
    const TABLE: &str = "/proc/self/mountinfo";
    let table = fs::read_to_string(TABLE).attempt(|| format!("reading {TABLE}"))?;
    let mut places = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(places.any(|place| Path::new(place) == directory))
}

/// The value of kubelet's member, in YAML or JSON; empty for none.
fn reserved_cpus(config: &str) -> String {
    let Some((_, value)) = config.split_once(RESERVED_CPUS) else {
        return String::new();
    };
    let value = value.trim_start_matches(['"', '\'', ':', ' ']);
    let list: String = value
        .chars()
        .take_while(|letter| letter.is_ascii_digit() || matches!(letter, ',' | '-'))
        .collect();
    list.trim_end_matches(',').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_cpus_are_read_from_yaml_and_json() {
        let check = |text: &str, expect: &str| assert_eq!(reserved_cpus(text), expect, "{text}");
        check("kind: KubeletConfiguration\n", "");
        check("reservedSystemCPUs: 0-1,32-33\nx: y\n", "0-1,32-33");
        check("reservedSystemCPUs: \"0\"\n", "0");
        check("{\"reservedSystemCPUs\": \"0-1,4\",\"x\":1}", "0-1,4");
        check("{\"reservedSystemCPUs\":\"\"}", "");
        check("reservedSystemCPUs: null\n", "");
    }

    #[test]
    fn space_is_kept_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        fs::create_dir_all(layout.sysroot().join("ostree")).unwrap();
        fs::create_dir_all(layout.boot()).unwrap();
        let machine = HostMachine::new(layout);
        assert_eq!(machine.reserved().unwrap(), Reserved::default());
        machine.release().unwrap();
        for _ in 0..2 {
            machine.reserve(1 << 20, 8192).unwrap();
            let expected = Reserved {
                sysroot: Some(1 << 20),
                boot: Some(8192),
            };
            assert_eq!(machine.reserved().unwrap(), expected);
        }
        machine.release().unwrap();
        assert_eq!(machine.reserved().unwrap(), Reserved::default());
        // More than any disk has: nothing stays.
        let error = machine.reserve(1 << 20, 1 << 60).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permanent);
        assert_eq!(machine.reserved().unwrap(), Reserved::default());
    }

    #[test]
    fn a_program_that_is_not_there_is_told_from_one_that_fails() {
        let missing = run("no-such-program-here", &[]).unwrap_err();
        assert!(is_missing(&missing), "{missing:?}");
        let failing = run("false", &[]).unwrap_err();
        assert!(!is_missing(&failing), "{failing:?}");
        assert_eq!(failing.kind(), ErrorKind::Transient);
        assert_eq!(failing.to_string(), "running false");
    }

    #[test]
    fn mount_points_are_told_from_directories() {
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/self")).unwrap());
    }

    #[test]
    fn the_machine_at_hand_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        fs::create_dir_all(layout.sysroot()).unwrap();
        let facts = HostMachine::new(layout).facts(None).unwrap();
        assert!(["amd64", "arm64"].contains(&facts.architecture.as_str()));
        assert!(facts.cpu.threads >= facts.cpu.cores && facts.cpu.cores >= facts.cpu.sockets);
        assert!(facts.cpu_numbers >= facts.cpu.threads);
        assert!(
            facts.cpu.sockets >= 1 && !facts.cpu.model.is_empty(),
            "{facts:?}"
        );
        let sysroot = facts.spaces[0];
        assert_eq!(sysroot.filesystem, Filesystem::Sysroot);
        assert!(sysroot.total >= sysroot.available && sysroot.total > 0);
        assert!(!facts.containers_mounted);
        assert_eq!(facts.default_switch, Told::Known(false));
    }
}
