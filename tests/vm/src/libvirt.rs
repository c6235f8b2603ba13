//! The same machine for people who have libvirt.

use std::path::Path;

use boxed::{LAB_ADDRESS, MACHINE_NETWORK};

/// A domain with `disk`. Where the harness has QEMU's user network, libvirt needs one that is called `mini-sno`: the
/// node's address is fixed.
#[must_use]
pub fn domain(disk: &Path) -> String {
    let (_, bits) = MACHINE_NETWORK.split_once('/').unwrap_or(("", "24"));
    format!(
        r#"<!-- Needs a network of this kind (virsh net-define, virsh net-start):
<network>
  <name>mini-sno</name>
  <forward mode="nat"/>
  <ip address="{LAB_ADDRESS}" prefix="{bits}"/>
</network>
The node has the address 192.168.127.10; "virsh console mini-sno" gives a root shell. -->
<domain type="kvm">
  <name>mini-sno</name>
  <memory unit="MiB">{memory}</memory>
  <vcpu>{processors}</vcpu>
  <os>
    <type arch="x86_64" machine="q35">hvm</type>
    <boot dev="hd"/>
  </os>
  <features><acpi/></features>
  <cpu mode="host-passthrough"/>
  <on_reboot>restart</on_reboot>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="qcow2" discard="unmap"/>
      <source file="{disk}"/>
      <target dev="vda" bus="virtio"/>
    </disk>
    <controller type="pci" model="pcie-root"/>
    <controller type="pci" index="1" model="pcie-root-port"/>
    <interface type="network">
      <source network="mini-sno"/>
      <mac address="52:54:00:00:7f:0a"/>
      <model type="virtio"/>
      <address type="pci" domain="0x0000" bus="0x01" slot="0x00" function="0x0"/>
    </interface>
    <serial type="pty"/>
    <console type="pty"/>
    <channel type="unix">
      <target type="virtio" name="org.qemu.guest_agent.0"/>
    </channel>
    <watchdog model="i6300esb" action="reset"/>
  </devices>
</domain>
"#,
        memory = crate::hardware::MEMORY_MIB,
        processors = crate::hardware::PROCESSORS,
        disk = disk.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_names_the_disk_and_the_networks_address() {
        let text = domain(Path::new("/images/a.qcow2"));
        assert!(
            text.contains(r#"<source file="/images/a.qcow2"/>"#),
            "{text}"
        );
        assert!(
            text.contains(r#"<ip address="192.168.127.1" prefix="24"/>"#),
            "{text}"
        );
    }
}
