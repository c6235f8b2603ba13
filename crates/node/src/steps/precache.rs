//! Pulling the images that the target will need.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::{Progress, StepContext, Unit};
use planner::ErrorKind;
use serde::Serialize;

use crate::ports::{NodePath, Ports};
use crate::{PortError, PortResult};

/// Pulls at a time.
const PARALLEL: usize = 4;

/// `precache_status.json`, as the Go original writes it (contract 3.8).
#[derive(Serialize)]
struct Status<'a> {
    total: usize,
    pulled: usize,
    failed: usize,
    failed_pulls: Option<&'a [String]>,
}

/// What the pullers have done so far.
#[derive(Default)]
struct Tally {
    pulled: usize,
    failed: Vec<String>,
    /// The failure that decides about the whole: a permanent one before a transient one.
    error: Option<PortError>,
}

pub(super) fn pull(
    ports: &Ports<'_>,
    images: &[String],
    context: &StepContext<'_>,
) -> PortResult<()> {
    let present = ports.images.present()?;
    let missing: Vec<&String> = images
        .iter()
        .filter(|image| !present.contains(*image))
        .collect();
    let skipped = images.len() - missing.len();
    let secret = super::credentials(ports, None)?;
    let tally = Mutex::new(Tally {
        pulled: skipped,
        ..Tally::default()
    });
    report(ports, images.len(), &tally, context, "")?;
    let next = AtomicUsize::new(0);
    let token = context.stop_token();
    let (finished, finishes) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(missing.len()) {
            let (tally, next, missing, secret, token) =
                (&tally, &next, &missing, &secret, token.clone());
            let (images, finished) = (ports.images, finished.clone());
            scope.spawn(move || {
                while let Some(image) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if token.is_stopped() {
                        return;
                    }
                    let pulled = images.pull(image, secret, &|| token.is_stopped());
                    note(tally, image, pulled);
                    // The receiver lives as long as this scope.
                    drop(finished.send((*image).clone()));
                }
            });
        }
        drop(finished);
        for image in finishes {
            report(ports, images.len(), &tally, context, &image)?;
        }
        Ok(())
    })?;
    if context.stopped() {
        return Err(PortError::stopped("precaching was stopped"));
    }
    let tally = tally
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    match tally.error {
        None => Ok(()),
        Some(error) => {
            let text = format!(
                "{} ({} of {}: {})",
                api::message::PRECACHE_INCOMPLETE,
                tally.failed.len(),
                images.len(),
                tally.failed.join(", ")
            );
            Err(error.within(text))
        }
    }
}

fn note(tally: &Mutex<Tally>, image: &str, pulled: PortResult<()>) {
    let mut tally = tally
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    match pulled {
        Ok(()) => tally.pulled += 1,
        Err(error) => {
            tally.failed.push(image.to_owned());
            let decides = error.kind() == ErrorKind::Permanent
                && tally
                    .error
                    .as_ref()
                    .is_none_or(|known| known.kind() != ErrorKind::Permanent);
            if decides || tally.error.is_none() {
                tally.error = Some(error);
            }
        }
    }
}

fn report(
    ports: &Ports<'_>,
    total: usize,
    tally: &Mutex<Tally>,
    context: &StepContext<'_>,
    object: &str,
) -> PortResult<()> {
    let tally = tally
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let failed_pulls = (!tally.failed.is_empty()).then_some(tally.failed.as_slice());
    let status = Status {
        total,
        pulled: tally.pulled,
        failed: tally.failed.len(),
        failed_pulls,
    };
    let bytes = serde_json::to_vec(&status).map_err(|error| {
        PortError::new(ErrorKind::Permanent, "writing the precache status", error)
    })?;
    let done = (tally.pulled + tally.failed.len()) as u64;
    let object = object.to_owned();
    context.progress(Progress {
        done,
        total: Some(total as u64),
        unit: Unit::Items,
        object,
    });
    ports
        .files
        .replace(&NodePath::booted(api::path::PRECACHE_STATUS), &bytes, 0o600)
}
