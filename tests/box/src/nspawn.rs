//! One boot: `systemd-nspawn` on one deployment.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::install::Disk;
use crate::network::Namespace;
use crate::sysroot::Deployment;

/// nspawn's exit status when the guest asked for a reboot.
const REBOOT_STATUS: i32 = 133;

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The guest asked for a reboot.
    Rebooted,
    /// The guest powered itself off.
    PoweredOff,
    /// nspawn was killed, or failed.
    Killed,
}

impl Ended {
    pub(crate) fn of(status: std::process::ExitStatus) -> Ended {
        match status.code() {
            Some(REBOOT_STATUS) => Ended::Rebooted,
            Some(0) => Ended::PoweredOff,
            _ => Ended::Killed,
        }
    }
}

/// Moves into the control group that the first argument names, if it names one, and runs the others.
const IN_GROUP: &str =
    "[ -z \"$0\" ] || { mkdir -p \"$0\"; echo $$ >\"$0/cgroup.procs\"; }; exec \"$@\"";

/// Boots `deployment` of `disk` as machine `name`. The guest's console goes to the file `console`
/// in the disk's directory; what systemd reports goes to the socket `notify`.
///
/// Guests in one control group would share the groups of their units: stopping a service of one would end that of another.
///
/// The calling thread has to last as long as the guest: the kernel kills nspawn when it ends.
pub(crate) fn spawn(
    name: &str,
    disk: &Disk,
    deployment: &Deployment,
    network: &Namespace,
    notify: &Path,
    address: Ipv4Addr,
    group: Option<&Path>,
) -> Result<Child> {
    let console = disk.dir.join("console");
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&console)
        .with_context(|| format!("opening {}", console.display()))?;
    let err = out.try_clone().context("opening the console twice")?;
    let root = disk.sysroot.dir();
    // Not recursive: else the guest would find its own mounts under /sysroot once more, writable.
    let bind =
        |option: &str, from: &Path, to: &str| format!("--{option}={}:{to}:norbind", from.display());
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "sh", "-ec", IN_GROUP])
        .arg(group.map_or(OsStr::new(""), |group| group.as_os_str()))
        .args([
            // Ended by a signal, nspawn leaves its guest running. As process 1 of a namespace it
            // takes everything below along.
            "unshare",
            "--pid",
            "--mount-proc",
            "--fork",
            "--kill-child=SIGKILL",
            "--",
            "systemd-nspawn",
            "--quiet",
            "--boot",
        ])
        .args([
            "--register=no",
            "--keep-unit",
            "--notify-ready=yes",
            "--console=pipe",
        ])
        .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"])
        // podman runs containers; libostree remounts.
        .args(["--capability=all", "--system-call-filter=@keyring"])
        .arg(format!("--machine={name}"))
        // As firmware leaves it: the name has to come from the node's /etc.
        .arg("--hostname=localhost")
        // For `Running::find`; the guest has no use for it.
        .arg(format!("--setenv=LCA_BOX_ADDRESS={address}"))
        .arg(format!("--directory={}", deployment.dir.display()))
        .arg(format!(
            "--network-namespace-path={}",
            network.path().display()
        ))
        .arg(bind("bind-ro", root, "/sysroot"))
        .arg(bind("bind-ro", &root.join("boot"), "/boot"))
        .arg(bind("bind-ro", &deployment.dir.join("usr"), "/usr"))
        .arg(bind(
            "bind",
            &disk.sysroot.var(&deployment.stateroot),
            "/var",
        ))
        .arg(bind("bind", &disk.containers, "/var/lib/containers"))
        // A kernel argument to the guest's systemd. Without it libostree makes deployments immutable, and a test
        // directory could not be removed.
        .arg("systemd.setenv=OSTREE_SYSROOT_DEBUG=mutable-deployments")
        .env("NOTIFY_SOCKET", notify)
        // The host may have the legacy control groups, which systemd 257 refuses.
        .env("UNIFIED_CGROUP_HIERARCHY", "1")
        // NetworkManager and podman set up interfaces.
        .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network")
        // Else a lock file appears among the deployments.
        .env("SYSTEMD_NSPAWN_LOCK", "0")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err);
    command
        .spawn()
        .context("starting systemd-nspawn by setpriv")
}
