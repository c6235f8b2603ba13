//! The contract: every name, text and document that the Lifecycle Agent shares with users,
//! with the API server, with seed images and with the Go original.
//!
//! There is no I/O here and no logic beyond parsing and printing. "C" and "S" in the comments
//! are the two contract references (the controller's, and the seed's and post-pivot's), followed
//! by the section.
//!
//! Readers tolerate unknown fields and `null` where the Go original writes it; writers omit what
//! it omits.

pub mod annotation;
pub mod condition;
pub mod configuration;
pub mod containers_list;
#[cfg(feature = "crd")]
pub mod crd;
pub mod deployment;
pub mod digest;
pub mod document;
pub mod handover;
pub mod image;
pub mod image_based_upgrade;
pub mod ip_config;
pub mod label;
pub mod machine_config;
pub mod message;
pub mod metadata;
pub mod names;
pub mod network_limits;
pub mod path;
pub mod reconfiguration;
pub mod rollback_config;
pub mod rpm_ostree;
pub mod saved_cr;
pub mod secret;
pub mod seed_format;
pub mod seed_info;
pub mod seed_node;
pub mod stage;
pub mod stateroot;
pub mod time;
pub mod verdict;
pub mod version;

mod excerpt;
mod null;

pub use condition::{Condition, ConditionStatus, ConditionType, Reason};
pub use deployment::DeploymentId;
pub use digest::Digest;
pub use handover::HandoverStamp;
pub use image::ImageRef;
pub use image_based_upgrade::{
    AutoRollbackOnFailure, ConfigMapRef, History, ImageBasedUpgrade, ImageBasedUpgradeSpec,
    ImageBasedUpgradeStatus, Phase, PhaseHistory, PullSecretRef, SeedImageRef,
};
pub use metadata::Metadata;
pub use secret::Secret;
pub use stage::{Stage, UnknownStage};
pub use stateroot::StaterootName;
pub use time::Timestamp;
pub use verdict::Verdict;
pub use version::OcpVersion;
