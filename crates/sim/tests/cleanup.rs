//! The step that makes room, against a container storage that is too full whatever is removed.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use engine::{Event, StepContext, StepRef, StopToken, Work};
use node::ports::{Files, HeldImages, Images, Layer, NodePath, Ports, PullSecret, StoredImage};
use node::steps::NodeWork;
use node::{ErrorKind, PortError, PortResult};
use planner::{ImageCleanup, Step};
use sim::{Guard, Node};

/// A full storage with these images, and what was removed from it.
#[derive(Default)]
struct Full {
    stored: Vec<String>,
    removed: Mutex<BTreeSet<String>>,
    /// What is being done when a stop is asked for.
    stop: Option<(&'static str, StopToken)>,
}

impl Full {
    /// Does this, and must learn that it is to stop if it is to.
    fn busy(&self, what: &str, stop: &dyn Fn() -> bool) -> PortResult<()> {
        let Some((_, token)) = self.stop.as_ref().filter(|(when, _)| *when == what) else {
            return Ok(());
        };
        token.stop();
        assert!(stop(), "{what}");
        Err(PortError::stopped(what))
    }
}

impl Images for Full {
    fn present(&self, _: &dyn Fn() -> bool) -> PortResult<BTreeSet<String>> {
        Ok(self.stored.iter().cloned().collect())
    }

    fn layers(
        &self,
        _: &[String],
        _: &PullSecret,
        _: &dyn Fn() -> bool,
    ) -> BTreeMap<String, Vec<Layer>> {
        BTreeMap::new()
    }

    fn present_layers(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn pull(&self, _: &str, _: &PullSecret, _: &dyn Fn() -> bool) -> PortResult<()> {
        Ok(())
    }

    fn stored(&self, stop: &dyn Fn() -> bool) -> PortResult<Vec<StoredImage>> {
        self.busy("stored", stop)?;
        let image = |(number, name): (usize, &String)| StoredImage {
            id: format!("{number:064}"),
            names: vec![name.clone()],
            created: 0,
            dangling: false,
        };
        Ok(self.stored.iter().enumerate().map(image).collect())
    }

    fn held(&self, stop: &dyn Fn() -> bool) -> PortResult<HeldImages> {
        self.busy("held", stop)?;
        Ok(HeldImages::default())
    }

    fn usage(&self) -> PortResult<u8> {
        Ok(100)
    }

    fn remove(&self, images: &[StoredImage], stop: &dyn Fn() -> bool) -> PortResult<()> {
        self.busy("remove", stop)?;
        let names = images.iter().flat_map(|image| image.names.clone());
        self.removed.lock().unwrap().extend(names);
        Ok(())
    }
}

/// Cleans up on a node with these files.
fn clean(full: &Full, files: &[(String, String)]) -> Result<(), ErrorKind> {
    let mut machine = sim::template::machine();
    machine.power_on();
    let guard = Guard::new(&machine);
    let node = Node::new(machine, guard);
    for (path, text) in files {
        let path = NodePath::booted(path);
        node.replace(&path, text.as_bytes(), 0o644).unwrap();
    }
    // Until the API server answers.
    node.ports().clock.pause(10_000);
    let ports = Ports {
        images: full,
        ..node.ports()
    };
    let step = Step::CleanImages {
        cleanup: ImageCleanup::Above(50),
        keep: Vec::new(),
    };
    let place = StepRef {
        index: 0,
        name: step.name().to_owned(),
    };
    let token = full
        .stop
        .clone()
        .map(|(_, token)| token)
        .unwrap_or_default();
    let mut events = |_: &Event| {};
    let context = StepContext::new(&token, place, &mut events);
    let result = NodeWork::new(ports).apply(&step, &context);
    result.map_err(|error| error.kind)
}

/// What is left of these images after a clean-up on a node with these files.
fn left(stored: &[&str], files: &[(String, String)]) -> Vec<String> {
    let full = Full {
        stored: stored.iter().map(|name| (*name).to_owned()).collect(),
        ..Full::default()
    };
    assert_eq!(clean(&full, files), Ok(()));
    let removed = full.removed.lock().unwrap();
    let left = full.stored.iter().filter(|name| !removed.contains(*name));
    left.cloned().collect()
}

#[test]
fn what_units_and_scripts_name_stays() {
    let image = |digit: &str| format!("q.io/a@sha256:{}", digit.repeat(64));
    let (first, second) = (image("8"), image("9"));
    let check = |path: &str, text: &str, expect: &[&str]| {
        let files = [(path.to_owned(), text.to_owned())];
        assert_eq!(left(&[&first, &second], &files), expect, "{path}");
    };
    check("/etc/systemd/system/none.service", "[Service]\n", &[]);
    let run = format!("[Service]\nExecStart=/usr/bin/podman run --rm {first} node-ip\n");
    check("/etc/systemd/system/nodeip.service", &run, &[&first]);
    check("/etc/systemd/system/a.service.d/b.conf", &run, &[&first]);
    check("/usr/local/bin/configure.sh", &run, &[&first]);
    // By a mirror's name; and a program is not looked through.
    let mirrored = run.replace("q.io/a", "mirror:5000/b");
    check("/usr/local/bin/configure.sh", &mirrored, &[&first]);
    check(
        "/usr/local/bin/program",
        &format!("{run}{}", " ".repeat(1 << 20)),
        &[],
    );
    check("/etc/elsewhere", &run, &[]);
}

#[test]
fn too_much_to_look_through_removes_nothing() {
    let image = format!("q.io/a@sha256:{}", "8".repeat(64));
    let file = |number| {
        let path = format!("/etc/systemd/system/{number}.service");
        (path, String::new())
    };
    let files: Vec<_> = (0..10_001).map(file).collect();
    assert_eq!(left(&[&image], &files), [image.as_str()]);
}

#[test]
fn a_stop_reaches_whatever_is_under_way() {
    for what in ["held", "stored", "remove"] {
        let full = Full {
            stored: vec!["q.io/a:1".to_owned()],
            stop: Some((what, StopToken::new())),
            ..Full::default()
        };
        assert_eq!(clean(&full, &[]), Err(ErrorKind::Interrupted), "{what}");
    }
}
