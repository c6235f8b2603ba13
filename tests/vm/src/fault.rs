//! Faults that wait in the new release for its boots.

use anyhow::{Result, ensure};

use crate::site::Site;

/// The stateroot of the new release.
pub const TARGET: &str = "rhcos_4.17.4";
/// What a fault prints on the console when it begins.
pub const BEGUN: &str = "MINI-SNO fault:";

/// Where the deployment of the new release is, for scripts of [`Site::change_sysroot`].
const DEPLOYED: &str = "new=$(echo /sysroot/ostree/deploy/rhcos_4.17.4/deploy/*.0)";

/// Runs a shell script in the tree of the prepared new release, which has not booted yet: `$new` is its deployment.
///
/// # Errors
/// When a command of the script fails.
pub fn in_target(site: &Site, script: &str) -> Result<()> {
    site.change_sysroot(&format!("{DEPLOYED}\n{script}\nsync"))
}

/// Lets the new release run a shell script on each of its boots, before any unit of the agent's; `$boot` counts them from 1.
///
/// # Errors
/// As [`in_target`].
pub fn on_boot(site: &Site, script: &str) -> Result<()> {
    ensure!(!script.contains("END-OF-FAULT"), "the script ends itself");
    in_target(
        site,
        &format!(
            r#"cat >$new/etc/mini-sno-fault <<'END-OF-FAULT'
boot=$(( $(cat /etc/mini-sno-fault-boots 2>/dev/null || echo 0) + 1 ))
echo $boot >/etc/mini-sno-fault-boots
echo "{BEGUN} boot $boot" >/dev/ttyS0
{script}
END-OF-FAULT
cat >$new/etc/systemd/system/mini-sno-fault.service <<'END-OF-FAULT'
[Unit]
Description=A fault of a test
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target lca-boot-good.service lca-init-monitor.service installation-configuration.service
[Service]
Type=oneshot
ExecStart=-/bin/bash /etc/mini-sno-fault
END-OF-FAULT
mkdir -p $new/etc/systemd/system/sysinit.target.wants
ln -s ../mini-sno-fault.service $new/etc/systemd/system/sysinit.target.wants/"#
        ),
    )
}

/// Lets the new release reboot by itself a minute into each of its first `boots` boots, by `command`. Needs [`on_boot`], which
/// counts them.
///
/// # Errors
/// As [`in_target`].
pub fn reboots(site: &Site, boots: u32, command: &str) -> Result<()> {
    in_target(
        site,
        &format!(
            r#"cat >$new/etc/systemd/system/mini-sno-reboot.service <<'END-OF-FAULT'
[Service]
Type=oneshot
ExecStart=/bin/bash -c '[ $(cat /etc/mini-sno-fault-boots) -gt {boots} ] || {command}'
END-OF-FAULT
cat >$new/etc/systemd/system/mini-sno-reboot.timer <<'END-OF-FAULT'
[Timer]
OnBootSec=60
AccuracySec=1
END-OF-FAULT
mkdir -p $new/etc/systemd/system/timers.target.wants
ln -s ../mini-sno-reboot.timer $new/etc/systemd/system/timers.target.wants/"#
        ),
    )
}

/// Keeps a unit of the new release from ever starting.
///
/// # Errors
/// As [`in_target`].
pub fn mask(site: &Site, unit: &str) -> Result<()> {
    in_target(
        site,
        &format!("ln -sf /dev/null $new/etc/systemd/system/{unit}"),
    )
}

/// A line of a script of [`on_boot`] that shortens the user's deadline: a test need not wait for half an hour.
pub fn deadline(seconds: u32) -> String {
    format!(
        "sed -i 's/\"monitor_timeout\": *[0-9]*/\"monitor_timeout\":{seconds}/' /var/lib/lca/autorollback_config.json"
    )
}
