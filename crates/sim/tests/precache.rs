//! The step that precaches, against a container storage that fails in all the ways there are.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use engine::{Event, StepContext, StepRef, StopToken, Unit, Work};
use node::ports::{Files, HeldImages, Images, Layer, NodePath, Ports, PullSecret, StoredImage};
use node::steps::NodeWork;
use node::{ErrorKind, PortError, PortResult};
use planner::{PrecachePolicy, PrecacheRecord, PrecacheTally, Step};
use sim::{Guard, Node};

/// A storage whose registry answers as it is told to.
#[derive(Default)]
struct Fake {
    /// What is present, with the pulls so far.
    present: Mutex<BTreeSet<String>>,
    /// By image: how often a pull fails, how, and whether the image is present all the same.
    failures: BTreeMap<&'static str, (u32, ErrorKind, bool)>,
    /// Every pull, in order.
    pulls: Mutex<Vec<String>>,
    /// Stopped at the first pull.
    stop: Option<StopToken>,
}

impl Images for Fake {
    fn present(&self, _: &dyn Fn() -> bool) -> PortResult<BTreeSet<String>> {
        Ok(self.present.lock().unwrap().clone())
    }

    fn layers(
        &self,
        images: &[String],
        _: &PullSecret,
        _: &dyn Fn() -> bool,
    ) -> BTreeMap<String, Vec<Layer>> {
        let layer = |digest: &str| Layer {
            digest: digest.to_owned(),
            size: 1 << 20,
        };
        let known = images.iter().filter(|image| *image != "unknown");
        known
            .map(|image| (image.clone(), vec![layer(image)]))
            .collect()
    }

    fn present_layers(&self) -> BTreeSet<String> {
        self.present.lock().unwrap().clone()
    }

    fn pull(&self, image: &str, _: &PullSecret, _: &dyn Fn() -> bool) -> PortResult<()> {
        assert!(!image.starts_with("fault"), "a fault");
        let mut pulls = self.pulls.lock().unwrap();
        pulls.push(image.to_owned());
        if let Some(stop) = &self.stop {
            stop.stop();
        }
        let tries = pulls.iter().filter(|pulled| *pulled == image).count();
        let arrive = || self.present.lock().unwrap().insert(image.to_owned());
        match self.failures.get(image) {
            Some((times, kind, arrives)) if tries <= *times as usize => {
                if *arrives {
                    arrive();
                }
                Err(PortError::plain(*kind, format!("pulling {image}")))
            }
            _ => {
                arrive();
                Ok(())
            }
        }
    }

    fn stored(&self, _: &dyn Fn() -> bool) -> PortResult<Vec<StoredImage>> {
        Ok(Vec::new())
    }

    fn held(&self, _: &dyn Fn() -> bool) -> PortResult<HeldImages> {
        Ok(HeldImages::default())
    }

    fn usage(&self) -> PortResult<u8> {
        Ok(0)
    }

    fn remove(&self, _: &[StoredImage], _: &dyn Fn() -> bool) -> PortResult<()> {
        Ok(())
    }
}

/// How a step ended, what it left in the status file and in its record, and the units of its progress.
struct End {
    result: Result<(), (ErrorKind, String)>,
    status: String,
    tally: Option<PrecacheTally>,
    units: Vec<Unit>,
}

fn precache(fake: &Fake, images: &[&str], best_effort: bool) -> End {
    let mut machine = sim::template::machine();
    machine.power_on();
    let guard = Guard::new(&machine);
    let node = Node::new(machine, guard);
    let ports = Ports {
        images: fake,
        ..node.ports()
    };
    let images = images.iter().map(|image| (*image).to_owned()).collect();
    let policy = PrecachePolicy {
        best_effort,
        ..PrecachePolicy::default()
    };
    let step = Step::PrecacheImages { images, policy };
    let token = fake.stop.clone().unwrap_or_default();
    let mut units = Vec::new();
    let mut events = |event: &Event| {
        if let Event::StepProgress { progress, .. } = event {
            units.push(progress.unit);
        }
    };
    let place = StepRef {
        index: 0,
        name: step.name().to_owned(),
    };
    let context = StepContext::new(&token, place, &mut events);
    let result = NodeWork::new(ports).apply(&step, &context);
    let result = result.map_err(|error| (error.kind, error.source.to_string()));
    let read = |path: &str| {
        let bytes = node.read(&NodePath::booted(path), 1 << 20).unwrap();
        String::from_utf8(bytes.unwrap_or_default()).unwrap()
    };
    let record = node::record::read::<PrecacheRecord>(&node, node::record::Record::Precache);
    let tally = record.unwrap().map(|record| record.tally);
    End {
        result,
        status: read(api::path::PRECACHE_STATUS),
        tally,
        units,
    }
}

#[test]
fn each_image_has_its_verdict() {
    use ErrorKind::{Permanent, Transient};
    type Failures = &'static [(&'static str, (u32, ErrorKind, bool))];
    let check =
        |failures: Failures, best_effort, kind: Option<ErrorKind>, pulls: usize, status: &str| {
            let fake = Fake {
                present: Mutex::new(BTreeSet::from(["there".to_owned()])),
                failures: failures.iter().copied().collect(),
                ..Fake::default()
            };
            // One is listed twice.
            let end = precache(&fake, &["there", "a", "b", "a"], best_effort);
            assert_eq!(
                end.result.as_ref().err().map(|(kind, _)| *kind),
                kind,
                "{failures:?}"
            );
            assert_eq!(fake.pulls.lock().unwrap().len(), pulls, "{failures:?}");
            assert_eq!(end.status, status, "{failures:?}");
            end
        };
    let all = r#"{"total":3,"pulled":3,"failed":0,"failed_pulls":null}"#;
    let end = check(&[], false, None, 2, all);
    assert_eq!(
        end.tally,
        Some(PrecacheTally {
            total: 3,
            pulled: 2,
            skipped: 1,
            failed: 0
        })
    );
    assert!(end.units.contains(&Unit::Bytes));
    // What passes is tried again, five times in all.
    check(&[("a", (4, Transient, false))], false, None, 6, all);
    let one = r#"{"total":3,"pulled":2,"failed":1,"failed_pulls":["a"]}"#;
    let end = check(
        &[("a", (5, Transient, false))],
        false,
        Some(Transient),
        6,
        one,
    );
    assert_eq!(
        end.tally,
        Some(PrecacheTally {
            total: 3,
            pulled: 1,
            skipped: 1,
            failed: 1
        })
    );
    assert_eq!(
        end.result.unwrap_err().1,
        "failed to pre-cache one or more images (1 of 3: a)"
    );
    // What does not is not.
    check(
        &[("a", (9, Permanent, false))],
        false,
        Some(Permanent),
        2,
        one,
    );
    // The lasting failure decides.
    let two = r#"{"total":3,"pulled":1,"failed":2,"failed_pulls":["#;
    let fake = Fake {
        failures: [("a", (9, Transient, false)), ("b", (9, Permanent, false))].into(),
        present: Mutex::new(BTreeSet::from(["there".to_owned()])),
        ..Fake::default()
    };
    let end = precache(&fake, &["there", "a", "b"], false);
    assert_eq!(end.result.unwrap_err().0, Permanent);
    assert!(end.status.starts_with(two), "{}", end.status);
    // Best effort goes on without.
    check(&[("a", (9, Permanent, false))], true, None, 2, one);
    // An image that is there in the end counts, whatever its pull said.
    check(&[("a", (9, Permanent, true))], false, None, 2, all);
}

#[test]
fn a_pull_that_panics_is_a_failed_one() {
    let fake = Fake::default();
    // More than are pulled at once: none is waited for in vain.
    let faults: Vec<String> = (0..9).map(|number| format!("fault{number}")).collect();
    let mut images: Vec<&str> = faults.iter().map(String::as_str).collect();
    images.push("a");
    let end = precache(&fake, &images, false);
    let (kind, text) = end.result.unwrap_err();
    assert_eq!(kind, ErrorKind::Permanent);
    assert!(text.contains("(9 of 10: fault"), "{text}");
    assert_eq!(*fake.pulls.lock().unwrap(), ["a"]);
}

#[test]
fn nothing_to_do_is_done_at_once() {
    let fake = Fake::default();
    let end = precache(&fake, &[], false);
    assert_eq!(end.result, Ok(()));
    assert_eq!(
        end.status,
        r#"{"total":0,"pulled":0,"failed":0,"failed_pulls":null}"#
    );
}

#[test]
fn unknown_layers_are_counted_as_images() {
    let fake = Fake::default();
    let end = precache(&fake, &["unknown", "a"], false);
    assert_eq!(end.result, Ok(()));
    assert!(
        !end.units.is_empty() && !end.units.contains(&Unit::Bytes),
        "{:?}",
        end.units
    );
}

#[test]
fn a_stop_leaves_the_rest() {
    let fake = Fake {
        stop: Some(StopToken::new()),
        ..Fake::default()
    };
    let images: Vec<String> = (0..50).map(|number| format!("i{number}")).collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let end = precache(&fake, &images, false);
    assert_eq!(end.result.unwrap_err().0, ErrorKind::Interrupted);
    let pulls = PrecachePolicy::default().pulls;
    assert!(fake.pulls.lock().unwrap().len() <= pulls);
}
