//! In which order images are pulled, so that no layer is fetched twice.
//!
//! Pulls know nothing of each other: two that lack the same layer each fetch it, inflate it, and the later one throws its
//! copy away. So an image waits while one that is being pulled has a layer that it lacks too; once that layer is in the
//! storage, pulls skip it. Of the images that need not wait, the one that most others wait for goes first.

use std::collections::{BTreeMap, BTreeSet};

use crate::ports::Layer;

/// Images to pull.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Vec<Waiting>,
    /// Layers that a pull under way fetches, by image.
    fetching: BTreeMap<String, BTreeSet<String>>,
    /// Of the images of unknown layers: whether one has been pulled, behind which the others may share its layers.
    led: bool,
}

#[derive(Debug)]
struct Waiting {
    image: String,
    /// `None` = nobody knows.
    layers: Option<Vec<Layer>>,
}

/// How soon an image should go.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Urgency {
    /// Bytes that other images wait for, each counted once for each of them.
    waited_for: u64,
    /// Of two that as much depends on, the one that is sooner ready; of two that nothing depends on, the one that takes
    /// longer, so that none is left over at the end.
    haste: i64,
}

impl Queue {
    /// The images that are not present, with their layers as far as they are known.
    pub(super) fn new(images: &[String], layers: &BTreeMap<String, Vec<Layer>>) -> Self {
        let waiting = |image: &String| Waiting {
            image: image.clone(),
            layers: layers.get(image).cloned(),
        };
        Self {
            waiting: images.iter().map(waiting).collect(),
            fetching: BTreeMap::new(),
            led: false,
        }
    }

    /// The next image to pull, given the layers in the storage; `None` = all are under way, or have to wait.
    pub(super) fn next(&mut self, present: &BTreeSet<String>) -> Option<String> {
        let fetched: BTreeSet<&String> = self.fetching.values().flatten().collect();
        let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
        for layer in self.waiting.iter().flat_map(|waiting| &waiting.layers) {
            let digests: BTreeSet<&str> = layer.iter().map(|l| l.digest.as_str()).collect();
            for digest in digests {
                *wanted.entry(digest).or_default() += 1;
            }
        }
        let leader = self.leader_under_way();
        let urgency = |waiting: &Waiting| -> Option<Urgency> {
            let Some(layers) = &waiting.layers else {
                return (!leader).then_some(Urgency {
                    waited_for: 0,
                    haste: 0,
                });
            };
            let lacking: BTreeMap<&str, u64> = layers
                .iter()
                .filter(|layer| !present.contains(&layer.digest))
                .map(|layer| (layer.digest.as_str(), layer.size))
                .collect();
            if layers.iter().any(|layer| {
                lacking.contains_key(layer.digest.as_str()) && fetched.contains(&layer.digest)
            }) {
                return None;
            }
            let others = |digest: &str| wanted.get(digest).map_or(0, |count| count - 1);
            let waited_for = lacking
                .iter()
                .map(|(digest, size)| size.saturating_mul(others(digest)))
                .fold(0, u64::saturating_add);
            let bytes = lacking.values().copied().fold(0, u64::saturating_add);
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            let haste = if waited_for > 0 { -bytes } else { bytes };
            Some(Urgency { waited_for, haste })
        };
        let ready = self.waiting.iter().enumerate();
        let ready = ready.filter_map(|(at, waiting)| Some((urgency(waiting)?, at)));
        // Of equals the one that the seed lists first.
        let (_, at) =
            ready.max_by(|(one, at), (other, place)| one.cmp(other).then_with(|| place.cmp(at)))?;
        let Waiting { image, layers } = self.waiting.remove(at);
        let lacking = layers.map_or_else(
            || BTreeSet::from([UNKNOWN.to_owned()]),
            |layers| {
                let digests = layers.into_iter().map(|layer| layer.digest);
                digests.filter(|digest| !present.contains(digest)).collect()
            },
        );
        self.fetching.insert(image.clone(), lacking);
        Some(image)
    }

    /// Whether the first image of unknown layers is being pulled: until it is there, no other one of them starts.
    fn leader_under_way(&self) -> bool {
        let leads = |lacking: &BTreeSet<String>| lacking.contains(UNKNOWN);
        !self.led && self.fetching.values().any(leads)
    }

    /// The pull of an image has ended, well or not: what it did not fetch may now be fetched by others.
    pub(super) fn ended(&mut self, image: &str) {
        if let Some(lacking) = self.fetching.remove(image) {
            self.led |= lacking.contains(UNKNOWN);
        }
    }

    /// Drops what waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

/// Stands for the layers of an image of which nobody knows any; no digest is spelled so.
const UNKNOWN: &str = "?";

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer is written as its name with its size behind it: `base9`.
    fn layers(text: &str) -> Vec<Layer> {
        text.split_whitespace()
            .map(|layer| Layer {
                digest: layer.to_owned(),
                size: layer
                    .trim_start_matches(char::is_alphabetic)
                    .parse()
                    .unwrap(),
            })
            .collect()
    }

    /// What starts at once, and then behind the end of each image, in the order in which they end: first come, first done.
    fn order(images: &[(&str, Option<&str>)], present: &str) -> String {
        let names: Vec<String> = images.iter().map(|(name, _)| (*name).to_owned()).collect();
        let known: BTreeMap<String, Vec<Layer>> = images
            .iter()
            .filter_map(|(name, text)| Some(((*name).to_owned(), layers((*text)?))))
            .collect();
        let mut present: BTreeSet<String> = present.split_whitespace().map(str::to_owned).collect();
        let mut queue = Queue::new(&names, &known);
        let mut running = std::collections::VecDeque::new();
        let mut waves = vec![];
        loop {
            let mut wave = vec![];
            while let Some(image) = queue.next(&present) {
                running.push_back(image.clone());
                wave.push(image);
            }
            if !wave.is_empty() {
                waves.push(wave.join(" "));
            }
            let Some(done) = running.pop_front() else {
                assert!(queue.waiting.is_empty(), "{queue:?} waits for nothing");
                return waves.join(" | ");
            };
            let fetched = known.get(&done).into_iter().flatten();
            present.extend(fetched.map(|layer| layer.digest.clone()));
            queue.ended(&done);
        }
    }

    #[test]
    fn images_wait_for_those_that_fetch_their_layers() {
        let check = |images: &[(&str, Option<&str>)], present: &str, expect: &str| {
            assert_eq!(
                order(images, present),
                expect,
                "{images:?} with {present:?}"
            );
        };
        check(&[], "", "");
        // Nothing in common: the longest first.
        check(
            &[("a", Some("x1")), ("b", Some("y5")), ("c", Some("z3"))],
            "",
            "b c a",
        );
        // One base: the image that is soonest ready leads, the others follow together.
        let family = [
            ("a", Some("base9 x5")),
            ("b", Some("base9 y1")),
            ("c", Some("base9 z3")),
        ];
        check(&family, "", "b | a c");
        check(&family, "base9", "a c b");
        // What shares nothing is not held up.
        let mixed = [
            ("a", Some("base9 x5")),
            ("b", Some("base9 y1")),
            ("c", Some("z3")),
        ];
        check(&mixed, "", "b c | a");
        // Two levels: the base, then one of each family, then the rest.
        let tree = [
            ("a", Some("base9 p4 x1")),
            ("b", Some("base9 p4 x2")),
            ("c", Some("base9 q3 x3")),
            ("d", Some("base9 q3 x4")),
        ];
        check(&tree, "", "a | c b | d");
        // The same image under two names.
        check(
            &[("a:1", Some("x1 y2")), ("a@2", Some("x1 y2"))],
            "",
            "a:1 | a@2",
        );
        // Of unknown layers: one first, alone; then all that are left. Known ones do not mind.
        let unknown = [("a", None), ("b", Some("x1")), ("c", None), ("d", None)];
        check(&unknown, "", "b a | c d");
        // A layer twice in one image shares nothing with others.
        check(&[("a", Some("x1 x1")), ("b", Some("y1"))], "", "a b");
        // Sizes that add up to more than there is.
        let huge = format!("h{} i{}", u64::MAX, u64::MAX);
        check(&[("a", Some(&huge)), ("b", Some(&huge))], "", "a | b");
    }

    #[test]
    fn followers_start_as_soon_as_the_shared_layers_are_there() {
        let known = [("a", "base9 x1"), ("b", "base9 y5")]
            .map(|(name, text)| (name.to_owned(), layers(text)))
            .into();
        let mut queue = Queue::new(&["a".to_owned(), "b".to_owned()], &known);
        let mut present = BTreeSet::new();
        assert_eq!(queue.next(&present).as_deref(), Some("a"));
        assert_eq!(queue.next(&present), None);
        present.insert("base9".to_owned());
        assert_eq!(queue.next(&present).as_deref(), Some("b"));
        // One that failed leaves its layers to others.
        let mut queue = Queue::new(&["a".to_owned(), "b".to_owned()], &known);
        let nothing = BTreeSet::new();
        assert_eq!(queue.next(&nothing).as_deref(), Some("a"));
        queue.ended("a");
        assert_eq!(queue.next(&nothing).as_deref(), Some("b"));
    }
}
