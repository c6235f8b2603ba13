//! What QEMU runs a guest's instructions with.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long the probe's guest may take. With virtual machines in hardware it is a tenth of a second, and so it is
/// emulated; KVM inside of a virtual machine that has none takes five seconds for it.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// A boot sector that writes `V` to the first serial port and ends QEMU by its debug-exit device:
/// `mov dx,3f8h; mov al,'V'; out dx,al; mov dx,0f4h; mov al,10h; out dx,al; hlt`.
const PROBE: [u8; 13] = [
    0xba, 0xf8, 0x03, 0xb0, b'V', 0xee, 0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, 0xf4,
];
/// QEMU's exit status after `out 0f4h, 10h`: twice the value, and one.
const PROBE_STATUS: i32 = 0x21;

/// Hardware or emulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// Virtual machines in hardware.
    Kvm,
    /// Every instruction is translated; some twenty times slower.
    Emulation,
}

impl Accelerator {
    /// The better one of those that work here, or the one that `LCA_VM_ACCELERATOR` names (`kvm`, `tcg`). That KVM's
    /// device can be opened says little: a guest has to show that it runs.
    ///
    /// # Errors
    /// When `LCA_VM_ACCELERATOR` names something else.
    pub fn find() -> Result<Accelerator> {
        static FOUND: OnceLock<Accelerator> = OnceLock::new();
        if let Ok(name) = std::env::var("LCA_VM_ACCELERATOR") {
            return match name.as_str() {
                "kvm" => Ok(Accelerator::Kvm),
                "tcg" => Ok(Accelerator::Emulation),
                _ => bail!("LCA_VM_ACCELERATOR={name}: known are kvm and tcg"),
            };
        }
        Ok(*FOUND.get_or_init(|| match Accelerator::Kvm.probe() {
            Ok(()) => Accelerator::Kvm,
            Err(_) => Accelerator::Emulation,
        }))
    }

    /// QEMU's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Emulation => "tcg",
        }
    }

    /// QEMU's arguments.
    #[must_use]
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // Without cmpxchg16b, which QEMU 7.2 gets wrong so that Linux crashes; without page tables of five levels,
            // which only make it slower; without AMD's virtual machines, for which Linux would load a module.
            Accelerator::Emulation => [
                "-accel",
                "tcg,thread=multi,tb-size=512",
                "-cpu",
                "max,-cx16,-la57,-svm",
            ],
        }
    }

    /// Boots the smallest guest there is.
    ///
    /// # Errors
    /// When it does not run, or takes longer than hardware needs.
    pub fn probe(self) -> Result<()> {
        let dir = tempfile::tempdir().context("a directory for the probe's disk")?;
        let disk = dir.path().join("disk");
        let mut sectors = vec![0; 1 << 20];
        sectors[..PROBE.len()].copy_from_slice(&PROBE);
        sectors[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(&disk, sectors).with_context(|| format!("writing {}", disk.display()))?;
        let begun = Instant::now();
        let output = Command::new("timeout")
            .args(["--signal=KILL", "20", "qemu-system-x86_64"])
            .args([
                "-machine",
                "q35",
                "-m",
                "64",
                "-nodefaults",
                "-display",
                "none",
            ])
            .args(self.arguments())
            .args(["-serial", "stdio", "-no-reboot"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive"])
            .arg(format!(
                "file={},format=raw,if=none,id=disk",
                disk.display()
            ))
            .args(["-device", "virtio-blk-pci,drive=disk,bootindex=0"])
            .stdin(std::process::Stdio::null())
            .output()
            .context("starting qemu-system-x86_64")?;
        let took = begun.elapsed();
        if output.status.code() != Some(PROBE_STATUS) || !output.stdout.contains(&b'V') {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("no guest runs: {}: {}", output.status, said.trim_end());
        }
        if took > PROBE_LIMIT {
            bail!("the smallest guest took {:.1} s", took.as_secs_f32());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulation_works_everywhere_and_what_is_found_works_too() {
        Accelerator::Emulation.probe().unwrap();
        let found = Accelerator::find().unwrap();
        found.probe().unwrap();
    }
}
