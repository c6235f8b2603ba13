//! What decisions about the target's images look at.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cleanup::ImageCleanup;

/// What became of the images to precache, so far or in the end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PrecacheTally {
    /// All of them.
    pub total: usize,
    /// Pulled by this Prep.
    pub pulled: usize,
    /// Present before.
    pub skipped: usize,
    /// Not to be had.
    pub failed: usize,
}

impl fmt::Display for PrecacheTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            total,
            pulled,
            skipped,
            failed,
        } = self;
        f.write_str(&api::message::precache_tally(
            *total, *pulled, *skipped, *failed,
        ))
    }
}

/// What is kept of precaching from one run to the next, so that what an interrupted one has pulled still counts as pulled.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PrecacheRecord {
    /// Images that were not present when this Prep first looked.
    pub missing: BTreeSet<String>,
    /// How far it is.
    pub tally: PrecacheTally,
}

/// How images are precached.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrecachePolicy {
    /// How many images are pulled at a time.
    pub pulls: usize,
    /// Images that cannot be had do not fail Prep (contract 3.8).
    pub best_effort: bool,
}

impl Default for PrecachePolicy {
    /// Four pulls: each fetches up to six layers at a time already, and inflates and unpacks them, so that four keep more
    /// cores busy than the platform's share of a small node has. The contract's ten were no faster where it was measured, and
    /// a process of each takes some 60 MiB.
    fn default() -> Self {
        Self {
            pulls: 4,
            best_effort: false,
        }
    }
}

/// What is known of images, and what is wanted of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ImageFacts {
    /// Whether the storage is to be cleaned up.
    pub cleanup: ImageCleanup,
    /// How images are precached where no object says it: what the agent's environment says.
    pub policy: PrecachePolicy,
    /// How far precaching is; looked at while Prep is in progress.
    pub tally: Option<PrecacheTally>,
}
