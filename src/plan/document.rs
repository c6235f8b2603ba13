//! The preview as it is printed: names and meanings of the members are stable.

use std::process::ExitCode;

use serde::Serialize;

/// The whole answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    Clear,
    Blocked,
    CouldNotTell,
}

impl Outcome {
    pub(super) fn exit_status(self) -> ExitCode {
        ExitCode::from(match self {
            Outcome::Clear => 0,
            Outcome::Blocked => 1,
            Outcome::CouldNotTell => 2,
        })
    }
}

/// The preview. Names and meanings of the members are stable; `null` is what is not known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) verdict: Outcome,
    /// As it was asked for.
    pub(super) image: String,
    pub(super) digest: Option<String>,
    /// What became of the signature, in the words of the check of this name.
    pub(super) signature: String,
    pub(super) running_version: Option<String>,
    pub(super) seed_version: Option<String>,
    pub(super) fetch: Option<Fetch>,
    pub(super) space: Vec<SpaceRow>,
    pub(super) kernel_arguments: Option<Changes>,
    /// Files of the node's MachineConfig.
    pub(super) machine_config_files: Option<FileChanges>,
    pub(super) images: Option<ImageCounts>,
    pub(super) objects: Option<Objects>,
    pub(super) estimate: Option<Estimate>,
    pub(super) checks: Vec<CheckRow>,
    pub(super) blockers: Vec<String>,
    pub(super) could_not_tell: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Bytes of the seed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fetch {
    /// Of all its layers.
    pub(super) compressed_bytes: u64,
    /// Kept already.
    pub(super) spooled_bytes: u64,
    /// Everything that the registry would be asked for: the sum of the parts.
    pub(super) fetch_bytes: u64,
    /// The seed has an index, and only what this node lacks is fetched.
    pub(super) indexed: bool,
    /// Objects in the seed's commit, where it has an index.
    pub(super) objects: Option<u64>,
    pub(super) missing_objects: Option<u64>,
    /// Empty behind the fetch.
    pub(super) parts: Vec<Part>,
}

#[derive(Serialize)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpaceRow {
    pub(super) filesystem: &'static str,
    pub(super) needed_bytes: Option<u64>,
    pub(super) available_bytes: Option<u64>,
    pub(super) total_bytes: Option<u64>,
    /// The need is an estimate.
    pub(super) estimated: bool,
    pub(super) basis: String,
}

#[derive(Serialize)]
pub(super) struct Changes {
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageCounts {
    pub(super) total: usize,
    pub(super) present: usize,
    pub(super) to_pull: Vec<String>,
    /// Layers that the node lacks, each once; `null` where some image's are not known.
    pub(super) pull_bytes: Option<u64>,
    pub(super) pulls: Vec<Pull>,
    /// Images whose layers no registry has told.
    pub(super) unknown: usize,
}

#[derive(Clone, Serialize)]
pub(super) struct Pull {
    pub(super) image: String,
    /// Layers that neither the node has nor an image before this one brings.
    pub(super) bytes: Option<u64>,
}

/// At most [`FILES_LISTED`] of each; the rest is counted.
#[derive(Serialize)]
pub(super) struct FileChanges {
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
    pub(super) changed: Vec<String>,
    pub(super) omitted: usize,
}

/// Paths that are listed of each kind.
pub(super) const FILES_LISTED: usize = 100;

/// What the spec refers to, to be applied behind the pivot.
#[derive(Default, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Objects {
    pub(super) sources: Vec<SourceRow>,
    /// At most 200; the rest is counted.
    pub(super) objects: Vec<ObjectRow>,
    pub(super) omitted: usize,
    pub(super) apply: usize,
    pub(super) refused: usize,
    /// What is wrong with all of them together.
    pub(super) faults: Vec<String>,
}

/// A ConfigMap.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SourceRow {
    /// The spec's member that refers to it.
    pub(super) member: &'static str,
    /// `namespace/name`.
    pub(super) config_map: String,
    /// `found`, `missing` or `unreadable`.
    pub(super) verdict: &'static str,
    pub(super) text: String,
}

/// A manifest in a ConfigMap.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectRow {
    pub(super) member: &'static str,
    pub(super) config_map: String,
    pub(super) key: String,
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    /// `apply`, `refused` or `ignored`.
    pub(super) verdict: &'static str,
    pub(super) text: String,
}

#[derive(Serialize)]
pub(super) struct Estimate {
    pub(super) seconds: u64,
    pub(super) basis: String,
}

#[derive(Serialize)]
pub(super) struct CheckRow {
    pub(super) name: &'static str,
    pub(super) moment: String,
    pub(super) verdict: &'static str,
    pub(super) severity: Option<&'static str>,
    pub(super) text: String,
}
