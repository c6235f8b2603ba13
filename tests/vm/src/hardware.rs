//! The machine that QEMU makes.

use std::path::Path;

use boxed::{LAB_ADDRESS, MACHINE_NETWORK};

use crate::accelerator::Accelerator;

/// Processors. With two, QEMU 7.2's emulation now and then runs code of a kernel that the other one is patching: an `int3` oops in the
/// first seconds, rarely. With one the first boot took 41 s up to its line on the console, with two 30 to 34.
pub(crate) const PROCESSORS: u32 = 1;
/// Memory: etcd and kube-apiserver take 350 MiB, the rest is page cache and room for what they and the agent do.
pub(crate) const MEMORY_MIB: u32 = 3072;

/// The files and sockets of one QEMU process.
pub(crate) struct Parts<'a> {
    /// The disk, in qcow2.
    pub(crate) disk: &'a Path,
    /// A second disk, read-only, with what a test brings along.
    pub(crate) supply: &'a Path,
    /// Memory that outlives resets, for the last words of a kernel.
    pub(crate) store: &'a Path,
    /// The directory of the sockets `serial`, `agent` and `qmp`.
    pub(crate) sockets: &'a Path,
    /// The guest's address, whose ports 22 and 6443 are the guest's.
    pub(crate) address: std::net::Ipv4Addr,
    /// The file with a stopped guest's state, to go on with instead of a boot.
    pub(crate) state: Option<&'a Path>,
}

/// Bytes of the store.
pub(crate) const STORE_BYTES: u64 = 64 << 10;

/// The arguments of qemu-system-x86_64. A stopped guest goes on only on the same machine, so nothing here may depend on
/// anything but `parts` and the accelerator.
pub(crate) fn arguments(parts: &Parts<'_>, accelerator: Accelerator) -> Vec<String> {
    let socket = |name: &str| parts.sockets.join(name).display().to_string();
    let address = parts.address;
    let mut all: Vec<String> = [
        "-machine",
        "q35,vmport=off,hpet=off,smm=off,sata=off,i8042=off",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-vga",
        "none",
    ]
    .map(str::to_owned)
    .into();
    let mut add = |option: &str, value: String| all.extend([option.to_owned(), value]);
    add("-smp", PROCESSORS.to_string());
    add("-m", MEMORY_MIB.to_string());
    // A guest's flush reaches the host's page cache, which outlives QEMU, and not the host's disk; what the guest has not
    // flushed may be in QEMU's own caches, or in none. So killing QEMU is a power failure, and flushes cost nothing.
    add(
        "-drive",
        format!(
            "file={},format=qcow2,if=none,id=disk,cache=unsafe,discard=unmap,aio=threads",
            parts.disk.display()
        ),
    );
    add("-device", "virtio-blk-pci,drive=disk,bootindex=0".into());
    add(
        "-drive",
        format!(
            "file={},format=raw,if=none,id=supply,readonly=on",
            parts.supply.display()
        ),
    );
    add("-device", "virtio-blk-pci,drive=supply".into());
    // Behind a port of its own, as libvirt has it: the interface is called enp1s0. The guest finds the lab under the
    // lab's address, and the lab the guest under the guest's.
    add("-device", "pcie-root-port,id=port1,chassis=1".into());
    add(
        "-netdev",
        format!(
            "user,id=net,ipv6=off,net={MACHINE_NETWORK},host={LAB_ADDRESS},\
             hostfwd=tcp:{address}:22-{address}:22,hostfwd=tcp:{address}:6443-{address}:6443"
        ),
    );
    let last = address.octets()[3];
    add(
        "-device",
        format!("virtio-net-pci,netdev=net,bus=port1,romfile=,mac=52:54:00:00:7f:{last:02x}"),
    );
    add("-device", "virtio-serial-pci".into());
    add(
        "-chardev",
        format!(
            "socket,id=agent,path={},server=on,wait=off",
            socket("agent")
        ),
    );
    add(
        "-device",
        "virtserialport,chardev=agent,name=org.qemu.guest_agent.0".into(),
    );
    // The guest waits for whoever reads its console, so that no line is lost.
    add(
        "-chardev",
        format!(
            "socket,id=serial,path={},server=on,wait=on",
            socket("serial")
        ),
    );
    add("-serial", "chardev:serial".into());
    add("-qmp", format!("unix:{},server=on,wait=off", socket("qmp")));
    add("-device", "i6300esb".into());
    add("-action", "watchdog=reset".into());
    add(
        "-object",
        format!(
            "memory-backend-file,id=store,size={STORE_BYTES},mem-path={},share=on",
            parts.store.display()
        ),
    );
    add("-device", "acpi-erst,memdev=store".into());
    if let Some(state) = parts.state {
        add("-incoming", format!("exec:cat '{}'", state.display()));
    }
    all.extend(accelerator.arguments().map(str::to_owned));
    all
}
