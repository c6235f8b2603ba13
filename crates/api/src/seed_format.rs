//! The shape of a seed image (S 1.1, 1.2, 1.5): labels are in [`crate::label`].

use crate::deployment::DeploymentId;

/// The only version of the format; compared as text.
pub const VERSION: &str = "4";

// Files at the image's root.

/// Images to precache, one per line.
pub const CONTAINERS_LIST: &str = "containers.list";
/// The [`crate::seed_info::SeedClusterInfo`].
pub const SEED_INFO: &str = "manifest.json";
/// The program that the seed's units start.
pub const LCA_CLI: &str = "lca-cli";
/// `/var`, members `var/...`.
pub const VAR: &str = "var.tgz";
/// Changed files of `/etc`, members `etc/...`.
pub const ETC: &str = "etc.tgz";
/// Files deleted from `/etc`, absolute, one per line.
pub const ETC_DELETIONS: &str = "etc.deletions";
/// The ostree repository, members `./...`.
pub const OSTREE: &str = "ostree.tgz";
/// `rpm-ostree status` of the seed ([`crate::rpm_ostree::Status`]).
pub const RPM_OSTREE: &str = "rpm-ostree.json";
/// The seed's MachineConfig ([`crate::machine_config::MachineConfig`]).
pub const MACHINE_CONFIG: &str = "mco-currentconfig.json";
/// Where what lies, in seeds that were made here (`docs/seed-format.md`); no other reader looks at it.
pub const INDEX: &str = "seed-index";

/// The origin file of the seed's booted deployment: `ostree-<checksum>.<serial>.origin`.
#[must_use]
pub fn origin_file(deployment: &DeploymentId) -> String {
    format!("ostree-{}.origin", deployment.directory())
}
