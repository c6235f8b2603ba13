//! Mini-SNO nodes in virtual machines: the same commits as in the boxes, with what a box has not: kernel, initramfs, boot
//! loader, partitions, and a power switch. `hack/vm` runs them; QEMU does, with KVM or by emulation.
//!
//! A [`Ground`] is a lab of [`boxed`] with a registry of seeds that the agent under test made. The VM stands in it at the
//! address that a box would have: QEMU's user network has the lab's numbers. [`Vm`] is the machine: commands by the guest
//! agent, kubectl from outside, the console line by line, the power switch, and [`Vm::freeze`], which keeps memory and disk
//! so that others can go on from there in two seconds. QEMU ends with the process that started it.
//!
//! # Adding a scenario
//!
//! A scenario is a function over a [`Site`], which is a [`Vm`] and its upgrade object, and a name and a [`Moment`] to begin
//! at, in one of the files of [`scenarios`]; `scenarios::all` lists the files. It returns an error when something is not as
//! it must be, and else what the table shows of it:
//!
//! ```no_run
//! use vm::scenario::{Outcome, Scenario};
//! use vm::{Mark, Moment, Site};
//!
//! pub const SCENARIOS: [Scenario; 1] = [Scenario {
//!     name: "the new release panics",
//!     from: Moment::Prepared,
//!     play: panics,
//! }];
//!
//! fn panics(site: &mut Site) -> anyhow::Result<Outcome> {
//!     site.add_kernel_argument("rhcos_4.17.4", "rd.testfail=panic")?;
//!     let begun = site.vm.serial().mark();
//!     site.request("Upgrade")?;
//!     let back = site.wait_back(begun, "4.16.9")?;
//!     anyhow::ensure!(site.booted()? == "rhcos");
//!     Ok(Outcome { back: Some(back), evidence: None })
//! }
//! # fn main() {}
//! ```
//!
//! Everything that the initramfs can be told is at the top of `hack/mini-sno/initramfs/init`. Faults of the running system
//! are scripts ([`Vm::script`]) in a guest that goes on from [`Moment::Prepared`] or later; faults of a target that has not
//! booted yet are files below `/sysroot/ostree/deploy/<stateroot>`, which a script writes in a mount namespace of its own
//! ([`Site::change_sysroot`]).

mod accelerator;
mod boot_sectors;
pub mod disk;
pub mod fault;
mod frozen;
pub mod ground;
mod guest;
mod hardware;
pub mod lanes;
pub mod libvirt;
mod machine;
mod qmp;
pub mod scenario;
pub mod scenarios;
mod serial;
mod site;
pub mod soak;
mod supply;

pub use accelerator::Accelerator;
pub use frozen::Frozen;
pub use ground::{Ground, Moment};
pub use guest::Finished;
pub use machine::{API_LIMIT, BOOT_LIMIT, BOOT_LOADER, INITRAMFS, UP, Vm};
pub use serial::{Line, Mark, Serial};
pub use site::Site;
