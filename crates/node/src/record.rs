//! Records: small documents that carry an upgrade across restarts and boots.
//!
//! A record is replaced atomically and carries a checksum of its body, so that a torn or flipped one is known for what
//! it is. What a damaged record said is observed again or asked for again; nothing is guessed from it.

use std::fmt;

use api::StaterootName;
use planner::ErrorKind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ports::{Files, NodePath};
use crate::{PortError, PortResult};

/// Longest record that is read, bytes.
const LIMIT: u64 = 4 << 20;

/// Where the records lie. Those that are not below the workspace survive it; Idle removes all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Record {
    /// What the seed reference was resolved to: [`planner::SeedPin`].
    SeedPin,
    /// The documents of the fetched seed: [`planner::SeedContent`].
    SeedContent,
    /// The finished target: [`planner::TargetRecord`].
    Target,
    /// How far precaching is: [`planner::PrecacheRecord`].
    Precache,
    /// Ids of the pivot that led here: [`api::HandoverStamp`].
    Handover,
    /// What the boot loader's way back was armed for: [`planner::FallbackNote`].
    Fallback,
    /// The release that the boot loader returned from: [`planner::FailedBoot`].
    FailedBoot,
    /// Whether the target stays: [`api::Verdict`]. Created once, never replaced, never removed.
    Verdict,
    /// What the init monitor counts.
    InitMonitor,
}

impl Record {
    /// Every record.
    pub const ALL: [Record; 9] = [
        Record::SeedPin,
        Record::SeedContent,
        Record::Target,
        Record::Precache,
        Record::Handover,
        Record::Fallback,
        Record::FailedBoot,
        Record::Verdict,
        Record::InitMonitor,
    ];

    /// Its file.
    pub fn path(self) -> NodePath {
        NodePath::booted(match self {
            Record::SeedPin => "/var/lib/lca/workspace/seed-pin.json",
            Record::SeedContent => "/var/lib/lca/workspace/seed-content.json",
            Record::Target => "/var/lib/lca/workspace/target.json",
            Record::Precache => "/var/lib/lca/workspace/precache.json",
            Record::Handover => "/var/lib/lca/handover.json",
            Record::Fallback => "/var/lib/lca/boot-fallback.json",
            Record::FailedBoot => "/var/lib/lca/failed-boot.json",
            Record::Verdict => api::path::VERDICT,
            Record::InitMonitor => api::path::INIT_MONITOR,
        })
    }

    /// Its file in a stateroot that is not booted.
    pub(crate) fn path_in(self, stateroot: &StaterootName) -> NodePath {
        NodePath::in_stateroot(stateroot, &self.path().rel)
    }
}

#[derive(Serialize, Deserialize)]
struct Framed<T> {
    check: String,
    body: T,
}

/// Reads a record; `None` when there is none. A damaged one is an error of kind `Contradiction`.
pub fn read<T: DeserializeOwned + Serialize>(
    files: &dyn Files,
    record: Record,
) -> PortResult<Option<T>> {
    read_at(files, &record.path())
}

/// Reads the record at a path; as [`read`].
pub fn read_at<T: DeserializeOwned + Serialize>(
    files: &dyn Files,
    path: &NodePath,
) -> PortResult<Option<T>> {
    let Some(bytes) = files.read(path, LIMIT)? else {
        return Ok(None);
    };
    let damaged = |why: &dyn fmt::Display| {
        PortError::plain(
            ErrorKind::Contradiction,
            format!("record {path} is damaged: {why}"),
        )
    };
    let framed: Framed<serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?;
    if framed.check != checksum(&framed.body) {
        return Err(damaged(&"its checksum does not match"));
    }
    serde_json::from_value(framed.body)
        .map(Some)
        .map_err(|error| damaged(&error))
}

/// Replaces a record; durable when this returns.
pub fn write<T: Serialize>(files: &dyn Files, record: Record, content: &T) -> PortResult<()> {
    write_at(files, record, &record.path(), content)
}

/// [`write`] for the release of another stateroot.
pub fn write_in<T: Serialize>(
    files: &dyn Files,
    record: Record,
    stateroot: &StaterootName,
    content: &T,
) -> PortResult<()> {
    write_at(files, record, &record.path_in(stateroot), content)
}

fn write_at<T: Serialize>(
    files: &dyn Files,
    record: Record,
    path: &NodePath,
    content: &T,
) -> PortResult<()> {
    files.replace(path, &frame(record, content)?, 0o600)
}

/// Creates a record, unless there is one already (`false`); durable when this returns.
pub fn create<T: Serialize>(files: &dyn Files, record: Record, content: &T) -> PortResult<bool> {
    files.create_exclusively(&record.path(), &frame(record, content)?, 0o600)
}

fn frame<T: Serialize>(record: Record, content: &T) -> PortResult<Vec<u8>> {
    let path = record.path();
    let unwritable = |error: serde_json::Error| {
        PortError::new(
            ErrorKind::Permanent,
            format!("writing record {path}"),
            error,
        )
    };
    let body = serde_json::to_value(content).map_err(unwritable)?;
    let framed = Framed {
        check: checksum(&body),
        body,
    };
    serde_json::to_vec(&framed).map_err(unwritable)
}

/// FNV-1a, 64 bits, of the body's canonical text (`serde_json` sorts the members of a `Value`).
fn checksum(body: &serde_json::Value) -> String {
    let hash = body
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    format!("{hash:016x}")
}
