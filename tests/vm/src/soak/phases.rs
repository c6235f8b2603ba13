//! Phases of an upgrade as its own journal tells them, and how long each lasts on this machine.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::fault::TARGET;
use crate::machine::{BOOT_LOADER, INITRAMFS, UP};
use crate::serial::Line;
use crate::site::Site;

/// What a node tells on its console when a step starts.
const STEP: &str = "MINI-SNO step: ";

/// One phase, which lasts until the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    /// The step that runs, or how far the boot is.
    pub(super) name: String,
    /// How many phases of this name came before it.
    pub(super) before: usize,
    /// How long it lasted undisturbed.
    pub(super) lasts: Duration,
}

/// Lets both releases tell each step of the agent's on the console as soon as it is in the journal of the system.
pub(super) fn tell(site: &Site) -> Result<()> {
    let steps = r#"s/.*step started.*step[":=]*"\([a-z0-9-]*\)".*/\1/p"#;
    site.change_sysroot(&format!(
        r#"for etc in /etc $(echo /sysroot/ostree/deploy/{TARGET}/deploy/*.0/etc); do
cat >$etc/mini-sno-tell <<'END'
# The console is opened for each line: getty hangs up whoever has it open when it starts.
journalctl --boot --follow --lines=all --output=cat | sed --unbuffered --quiet '{steps}' |
    while read -r step; do echo "{STEP}$step" >/dev/ttyS0; done
END
cat >$etc/systemd/system/mini-sno-tell.service <<'END'
[Unit]
Description=Tell the steps of the agent on the console
DefaultDependencies=no
After=systemd-journald.socket local-fs.target
[Service]
ExecStart=/bin/bash /etc/mini-sno-tell
END
mkdir -p $etc/systemd/system/sysinit.target.wants
ln -s ../mini-sno-tell.service $etc/systemd/system/sysinit.target.wants/
done
sync"#
    ))?;
    site.vm
        .script("systemctl daemon-reload; systemctl start mini-sno-tell.service")
        .map(drop)
}

/// The phase that a line of the console begins.
pub(super) fn begun_by(text: &str) -> Option<String> {
    if let Some((_, step)) = text.split_once(STEP) {
        return Some(step.trim().to_owned());
    }
    [
        (BOOT_LOADER, "boot loader"),
        (INITRAMFS, "initramfs"),
        (UP, "system up"),
    ]
    .iter()
    .find(|(mark, _)| text.contains(mark))
    .map(|(_, name)| (*name).to_owned())
}

/// The phases that the lines of an undisturbed run show, which was over at `over`.
pub(super) fn of(lines: &[Line], over: Instant) -> Result<Vec<Phase>> {
    let mut begun: Vec<(String, Instant)> = Vec::new();
    for line in lines {
        if let Some(name) = begun_by(&line.text) {
            begun.push((name, line.at));
        }
    }
    ensure!(!begun.is_empty(), "the console shows no step of the agent");
    let ends = begun.iter().skip(1).map(|(_, at)| *at).chain([over]);
    Ok(begun
        .iter()
        .zip(ends)
        .enumerate()
        .map(|(at, ((name, from), to))| Phase {
            name: name.clone(),
            before: begun[..at]
                .iter()
                .filter(|(other, _)| other == name)
                .count(),
            lasts: to.saturating_duration_since(*from),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_steps_and_what_boots_show() {
        let begun = Instant::now();
        let line = |after: u64, text: &str| Line {
            at: begun + Duration::from_secs(after),
            text: text.to_owned(),
        };
        let lines = [
            line(0, "MINI-SNO step: set-default"),
            line(2, "something else"),
            line(3, "MINI-SNO step: reboot"),
            line(7, "MINI-SNO grub: default=0"),
            line(9, "MINI-SNO step: reboot"),
        ];
        let phases = of(&lines, begun + Duration::from_secs(10)).unwrap_or_default();
        let told: Vec<_> = phases
            .iter()
            .map(|phase| (phase.name.as_str(), phase.before, phase.lasts.as_secs()))
            .collect();
        assert_eq!(
            told,
            [
                ("set-default", 0, 3),
                ("reboot", 0, 4),
                ("boot loader", 0, 2),
                ("reboot", 1, 1)
            ]
        );
        assert!(of(&[], begun).is_err());
    }
}
