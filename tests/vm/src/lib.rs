//! Mini-SNO nodes in virtual machines: the same commits as in the boxes, with what a box has not: kernel, initramfs, boot
//! loader, partitions, and a power switch. `hack/vm` runs them; QEMU does, with KVM or by emulation.
//!
//! A [`Ground`] is a lab of [`boxed`] with a registry of seeds that the agent under test made. The VM stands in it at the
//! address that a box would have: QEMU's user network has the lab's numbers. [`Vm`] is the machine: commands by the guest
//! agent, kubectl from outside, the console line by line, the power switch, and [`Vm::freeze`], which keeps memory and disk
//! so that others can go on from there in two seconds. QEMU ends with the process that started it.
//!
//! A scenario is a function over a [`Site`], which is a [`Vm`] and its upgrade object, with a name and a [`Moment`] to begin
//! at; [`scenarios::all`] lists them.

mod accelerator;
mod boot_sectors;
pub mod disk;
mod frozen;
pub mod ground;
mod guest;
mod hardware;
pub mod libvirt;
mod machine;
mod qmp;
pub mod scenario;
pub mod scenarios;
mod serial;
mod site;
mod supply;

pub use accelerator::Accelerator;
pub use frozen::Frozen;
pub use ground::{Ground, Moment};
pub use guest::Finished;
pub use machine::{API_LIMIT, BOOT_LIMIT, BOOT_LOADER, INITRAMFS, UP, Vm};
pub use serial::{Line, Mark, Serial};
pub use site::Site;
