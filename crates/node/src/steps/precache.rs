//! Pulling the images that the target will need.

mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use engine::{Progress, StepContext, Unit};
use planner::{ErrorKind, PrecachePolicy, PrecacheRecord, PrecacheTally};
use serde::Serialize;

use self::queue::Queue;
use crate::ports::{Layer, NodePath, Ports, PullSecret};
use crate::record::{self, Record};
use crate::{PortError, PortResult};

/// Tries of one image (contract 3.8). The step itself is tried again too while what fails may pass.
const ATTEMPTS: u32 = 5;

/// Milliseconds before the second try; twice as long before each further one.
const FIRST_PAUSE: u64 = 1000;

/// How often a pause looks at the stop, in milliseconds.
const PAUSE_SLICE: u64 = 200;

/// How often the storage is asked which layers have come, while pulls are under way.
const LOOK: Duration = Duration::from_millis(250);

/// Where pulls put what they fetch before it is in the storage, below the partition that the storage is on: it is large, and
/// what a pull that was ended left there is known.
pub(super) const PULLS: &str = "pulls";

/// `precache_status.json`, as the Go original writes it (contract 3.8).
#[derive(Serialize)]
struct Status<'a> {
    total: usize,
    pulled: usize,
    failed: usize,
    failed_pulls: Option<&'a [String]>,
}

/// What became of the images so far.
struct Verdicts {
    total: usize,
    /// Not present when this Prep first looked: what is present of these was pulled.
    missing: BTreeSet<String>,
    /// Of these, still to come or not to be had.
    lacking: usize,
    failed: Vec<(String, PortError)>,
}

/// What there is to fetch.
struct Amount {
    /// Bytes by digest, each layer once.
    layers: BTreeMap<String, u64>,
    /// Whether that is all: the layers of every missing image are known.
    known: bool,
}

impl Amount {
    fn new(missing: &[String], layers: &BTreeMap<String, Vec<Layer>>, present: &Layers) -> Self {
        let all = layers.values().flatten();
        let lacking = all.filter(|layer| !present.contains(&layer.digest));
        Self {
            layers: lacking
                .map(|layer| (layer.digest.clone(), layer.size))
                .collect(),
            known: layers.len() == missing.len(),
        }
    }

    fn progress(&self, verdicts: &Verdicts, present: &Layers, object: &str) -> Progress {
        let object = object.to_owned();
        if !self.known || self.layers.is_empty() {
            return Progress {
                done: (verdicts.total - verdicts.lacking + verdicts.failed.len()) as u64,
                total: Some(verdicts.total as u64),
                unit: Unit::Items,
                object,
            };
        }
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
        let fetched = self
            .layers
            .iter()
            .filter(|(digest, _)| present.contains(*digest));
        Progress {
            done: sum(&mut fetched.map(|(_, size)| *size)),
            total: Some(sum(&mut self.layers.values().copied())),
            unit: Unit::Bytes,
            object,
        }
    }
}

type Layers = BTreeSet<String>;

/// Pulls what is missing of `images`.
pub(super) fn pull(
    ports: &Ports<'_>,
    images: &[String],
    policy: PrecachePolicy,
    context: &StepContext<'_>,
) -> PortResult<()> {
    let images: BTreeSet<&String> = images.iter().collect();
    let present = ports.images.present(&|| context.stopped())?;
    let missing: Vec<String> = images
        .iter()
        .filter(|image| !present.contains(**image))
        .map(ToString::to_string)
        .collect();
    let mut verdicts = Verdicts {
        total: images.len(),
        missing: missing
            .iter()
            .cloned()
            .chain(before(ports, &images)?)
            .collect(),
        lacking: missing.len(),
        failed: Vec::new(),
    };
    verdicts.report(ports)?;
    if !missing.is_empty() {
        // What pulls that were killed with an earlier process left there.
        ports.files.remove(&NodePath::shared(PULLS))?;
        let pulled = pull_missing(ports, &missing, policy.pulls, &mut verdicts, context);
        ports.files.remove(&NodePath::shared(PULLS))?;
        pulled?;
    }
    if context.stopped() {
        return Err(PortError::stopped("precaching was stopped"));
    }
    if !verdicts.failed.is_empty() {
        // Somebody else may have pulled it meanwhile (contract 3.8, step 8).
        let present = ports.images.present(&|| context.stopped())?;
        let before = verdicts.failed.len();
        verdicts
            .failed
            .retain(|(image, _)| !present.contains(image));
        verdicts.lacking -= before - verdicts.failed.len();
        verdicts.report(ports)?;
    }
    verdicts.judge(policy.best_effort)
}

/// What an earlier run of this Prep found missing. A damaged record costs the difference between pulled and present.
fn before(ports: &Ports<'_>, images: &BTreeSet<&String>) -> PortResult<Vec<String>> {
    match record::read::<PrecacheRecord>(ports.files, Record::Precache) {
        Ok(record) => {
            let missing = record.unwrap_or_default().missing.into_iter();
            Ok(missing.filter(|image| images.contains(image)).collect())
        }
        Err(error) if error.kind() == ErrorKind::Contradiction => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn pull_missing(
    ports: &Ports<'_>,
    missing: &[String],
    pulls: usize,
    verdicts: &mut Verdicts,
    context: &StepContext<'_>,
) -> PortResult<()> {
    let secret = super::credentials(ports, None)?;
    let layers = ports.images.layers(missing, &secret, &|| context.stopped());
    let mut present = ports.images.present_layers();
    let amount = Amount::new(missing, &layers, &present);
    let mut queue = Queue::new(missing, &layers);
    let token = context.stop_token();
    // Raised when this thread gives up: the pulls end with it.
    let abandoned = AtomicBool::new(false);
    let stopped = || token.is_stopped() || abandoned.load(Ordering::Acquire);
    let (finished, finishes) = channel();
    std::thread::scope(|scope| {
        let mut running = 0;
        let outcome = loop {
            if stopped() {
                queue.clear();
            }
            while running < pulls.max(1)
                && let Some(image) = queue.next(&present)
            {
                running += 1;
                let (secret, stopped, finished) = (&secret, &stopped, finished.clone());
                scope.spawn(move || {
                    let pulled = pull_surely(ports, &image, secret, stopped);
                    // The receiver lives as long as this scope.
                    drop(finished.send((image, pulled)));
                });
            }
            if running == 0 {
                break Ok(());
            }
            let ended = match finishes.recv_timeout(LOOK) {
                Ok(ended) => Some(ended),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
            };
            present = ports.images.present_layers();
            let Some((image, pulled)) = ended else {
                context.progress(amount.progress(verdicts, &present, ""));
                continue;
            };
            running -= 1;
            queue.ended(&image);
            context.progress(amount.progress(verdicts, &present, &image));
            verdicts.note(image, pulled);
            if let Err(error) = verdicts.report(ports) {
                break Err(error);
            }
        };
        abandoned.store(true, Ordering::Release);
        outcome
    })
}

/// Pulls an image and has a verdict, also when the pull panics: who waits for it must learn that it has ended.
fn pull_surely(
    ports: &Ports<'_>,
    image: &str,
    secret: &PullSecret,
    stopped: &dyn Fn() -> bool,
) -> PortResult<()> {
    // Nothing of a pull is looked at behind its end but what the storage says then.
    let pull = AssertUnwindSafe(|| pull_patiently(ports, image, secret, stopped));
    catch_unwind(pull).unwrap_or_else(|_| {
        let text = format!("pulling image {image} panicked, which is a fault of the agent");
        Err(PortError::plain(ErrorKind::Permanent, text))
    })
}

/// Pulls an image, several times if need be. What another try will not change ends it at once.
fn pull_patiently(
    ports: &Ports<'_>,
    image: &str,
    secret: &PullSecret,
    stopped: &dyn Fn() -> bool,
) -> PortResult<()> {
    let mut attempt = 1;
    loop {
        if stopped() {
            return Err(PortError::stopped(format!("pulling image {image}")));
        }
        let error = match ports.images.pull(image, secret, stopped) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let passes = matches!(error.kind(), ErrorKind::Transient | ErrorKind::Busy);
        if !passes || attempt == ATTEMPTS {
            return Err(error);
        }
        tracing::info!(
            image,
            attempt,
            error = engine::error_chain(&error),
            "pulling again"
        );
        let mut left = pause(image, attempt);
        while left > 0 && !stopped() {
            let slice = left.min(PAUSE_SLICE);
            ports.clock.pause(slice);
            left -= slice;
        }
        attempt += 1;
    }
}

/// Milliseconds to wait after a failed try: doubled each time, and up to half as much again, which differs from image to
/// image, so that a registry that comes back is not asked for all of them in one moment.
fn pause(image: &str, attempt: u32) -> u64 {
    let pause = FIRST_PAUSE << (attempt - 1).min(ATTEMPTS);
    // FNV-1a: any hash that spreads names will do.
    let hash = image.bytes().chain([attempt.to_le_bytes()[0]]);
    let hash = hash.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    pause + (hash >> 32) % (pause / 2)
}

impl Verdicts {
    fn note(&mut self, image: String, pulled: PortResult<()>) {
        match pulled {
            Ok(()) => self.lacking -= 1,
            Err(error) => {
                if error.kind() != ErrorKind::Interrupted {
                    tracing::warn!(image, error = engine::error_chain(&error), "not pulled");
                }
                self.failed.push((image, error));
            }
        }
    }

    /// Writes the status file, in which what was there already counts as pulled, and our own record.
    fn report(&self, ports: &Ports<'_>) -> PortResult<()> {
        let failed: Vec<String> = self.failed.iter().map(|(image, _)| image.clone()).collect();
        let status = Status {
            total: self.total,
            pulled: self.total - self.lacking,
            failed: failed.len(),
            failed_pulls: (!failed.is_empty()).then_some(&failed),
        };
        let bytes = serde_json::to_vec(&status).map_err(|error| {
            PortError::new(ErrorKind::Permanent, "writing the precache status", error)
        })?;
        let path = NodePath::booted(api::path::PRECACHE_STATUS);
        ports.files.replace(&path, &bytes, 0o600)?;
        let tally = PrecacheTally {
            total: self.total,
            pulled: self.missing.len() - self.lacking,
            skipped: self.total - self.missing.len(),
            failed: failed.len(),
        };
        let record = PrecacheRecord {
            missing: self.missing.clone(),
            tally,
        };
        record::write(ports.files, Record::Precache, &record)
    }

    fn judge(mut self, best_effort: bool) -> PortResult<()> {
        let names: Vec<&str> = self
            .failed
            .iter()
            .map(|(image, _)| image.as_str())
            .collect();
        let text = format!(
            "{} ({} of {}: {})",
            api::message::PRECACHE_INCOMPLETE,
            names.len(),
            self.total,
            names.join(", ")
        );
        if best_effort && !names.is_empty() {
            tracing::warn!(text, "going on without them, as PRECACHE_BEST_EFFORT asks");
            return Ok(());
        }
        // The failure that decides about the whole: one that will not pass before one that may.
        let lasting = |(_, error): &(String, PortError)| error.kind() == ErrorKind::Permanent;
        let at = self.failed.iter().position(lasting).unwrap_or_default();
        if self.failed.is_empty() {
            return Ok(());
        }
        let (_, error) = self.failed.swap_remove(at);
        Err(error.within(text))
    }
}
