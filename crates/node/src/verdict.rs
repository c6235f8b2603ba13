//! The verdict's file: read by everybody, created by whoever is first, never changed.

use api::verdict::{FORMAT, Outcome, Verdict};
use planner::{ErrorKind, TargetRecord, VerdictFact};

use crate::journal_files::is_full;
use crate::ports::{Files, NodePath, Ports};
use crate::record::{self, Record};
use crate::{PortError, PortResult};

/// What stands in the verdict's file at `path`. Fails only in passing: what is there and cannot be read is a fact.
pub(crate) fn read(files: &dyn Files, path: &NodePath) -> PortResult<VerdictFact> {
    match record::read_at::<Verdict>(files, path) {
        Ok(None) => Ok(VerdictFact::None),
        Ok(Some(verdict)) if verdict.format == FORMAT => Ok(VerdictFact::Decided(verdict)),
        Ok(Some(verdict)) => {
            let text = format!("{path} has format {}", verdict.format);
            Ok(VerdictFact::Unreadable(text))
        }
        Err(error) => match error.kind() {
            ErrorKind::Contradiction | ErrorKind::Permanent => {
                Ok(VerdictFact::Unreadable(engine::error_chain(&error)))
            }
            _ => Err(error),
        },
    }
}

/// The booted stateroot's verdict.
pub(crate) fn read_own(ports: &Ports<'_>) -> PortResult<VerdictFact> {
    read(ports.files, &Record::Verdict.path())
}

/// The verdict on the upgrade that this release knows of, and where it lies: where it is an origin, that of the target that it has
/// made, and its own where an upgrade has led to it and is not finalized. [`VerdictFact::None`] says that nobody has decided. For
/// readers; nothing is changed.
///
/// # Errors
/// A file cannot be read just now.
pub fn latest_verdict(files: &dyn Files) -> PortResult<(VerdictFact, NodePath)> {
    // A damaged record names nothing.
    let target = record::read::<TargetRecord>(files, Record::Target);
    if let Ok(Some(target)) = target {
        let path = NodePath::in_stateroot(&target.stateroot, api::path::VERDICT);
        return Ok((read(files, &path)?, path));
    }
    let own = Record::Verdict.path();
    // It stays in its stateroot for good; these go with stage Idle.
    for record in [Record::Handover, Record::InitMonitor] {
        if files.kind(&record.path())?.is_some() {
            return Ok((read(files, &own)?, own));
        }
    }
    Ok((VerdictFact::None, own))
}

/// Makes a verdict that was found durable, before anything follows from it: whoever made it may have been killed before that.
pub(crate) fn settle(ports: &Ports<'_>, found: &VerdictFact) -> PortResult<()> {
    match found {
        VerdictFact::Decided(verdict) => {
            record::create(ports.files, Record::Verdict, verdict).map(drop)
        }
        VerdictFact::None | VerdictFact::Unreadable(_) => Ok(()),
    }
}

/// Whether the file says what is to be decided, or cannot be read, which means the same as going back.
pub(crate) fn agrees(ports: &Ports<'_>, outcome: Outcome) -> PortResult<bool> {
    Ok(match read_own(ports)? {
        VerdictFact::None => false,
        VerdictFact::Decided(verdict) => verdict.outcome == outcome,
        VerdictFact::Unreadable(_) => outcome == Outcome::Rollback,
    })
}

/// Decides, if nobody has. A verdict of somebody else's that says otherwise stands: a `Contradiction`, and the work of which this
/// was the first part has lost. A full disk gets back the space that is kept for the way back.
pub(crate) fn decide(ports: &Ports<'_>, verdict: &Verdict) -> PortResult<()> {
    let create = || record::create(ports.files, Record::Verdict, verdict);
    let created = loop {
        match create() {
            // A part at a time: whatever fills the disk may be quicker, and then there is another one.
            Err(error) if is_full(&error) && ports.machine.release_part()? => {}
            created => break created?,
        }
    };
    if created || agrees(ports, verdict.outcome)? {
        return Ok(());
    }
    let text = format!(
        "somebody else was first: {} does not say {}",
        Record::Verdict.path(),
        verdict.outcome.as_str()
    );
    Err(PortError::plain(ErrorKind::Contradiction, text))
}
