//! The ports on a real node.
//!
//! Everything that touches the operating system is here: libostree, systemd over D-Bus, podman, files, the spool of a
//! seed. No decisions are made and no condition's text is written here.

mod boot;
mod boot_entries;
mod boot_fallback;
mod boot_flush;
mod bus;
mod capture;
mod clock;
mod command;
mod directory;
mod failure;
mod files;
mod footprint;
mod images;
mod import;
mod incoming;
mod indexed;
mod ingest;
mod instance;
mod layout;
mod machine;
mod notes;
mod objects;
mod priority;
mod reachable;
mod seed_access;
mod seed_content;
mod seed_failure;
mod seed_signature;
mod seeds;
mod storage_target;
mod sysroot;
mod sysroot_writer;
mod traces;
mod transfer;
mod tree;
mod units;

pub use boot_fallback::HostFallback;
pub use capture::{MadeSeed, SeedRequest, SeedUnit, capture_repository, create_seed};
pub use clock::HostClock;
pub use files::HostFiles;
pub use footprint::release_text;
pub use images::HostImages;
pub use indexed::Missing;
pub use instance::Instance;
pub use layout::Layout;
pub use machine::HostMachine;
pub use seeds::HostSeeds;
pub use storage_target::container_storage_target;
pub use sysroot::HostOstree;
pub use traces::HostTraces;
pub use units::HostUnits;
