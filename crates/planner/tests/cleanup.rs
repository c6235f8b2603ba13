//! The clean-up of container storage, rule by rule, through the crate's public face: the golden table is
//! `tests/contract/cleanup.txt`. `UPDATE_GOLDEN=1` writes it anew.

use std::collections::BTreeSet;

use api::{ImageBasedUpgrade, annotation};
use planner::{HeldImages, ImageCleanup, NeededImages, StoredImage, batches, exceeds, kept};

const PATH: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/contract/cleanup.txt"
);

const HEAD: &str = "\
# What the clean-up of container storage removes, rule by rule (contract 3.9); written by the planner's tests
# (UPDATE_GOLDEN=1 cargo test -p planner --test cleanup).
";

/// 64 digits, as ids have them.
fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn image(digit: char, names: &[&str], created: i64, dangling: bool) -> StoredImage {
    StoredImage {
        id: id(digit),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        created,
        dangling,
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The image that the rules are about.
fn subject() -> StoredImage {
    image('a', &["q.io/a:1", "q.io/a@sha256:11"], 5, false)
}

type Rule = (&'static str, fn(&mut HeldImages, &mut NeededImages));

const RULES: [Rule; 17] = [
    ("nobody needs it", |_, _| {}),
    (
        "something else is pinned, used and needed",
        |held, needed| {
            held.pinned = set(&["q.io/a", "q.io/a:2", "q.io/a:11"]);
            held.used = set(&["aaaa", "sha256:aaaa", "q.io/a@sha256:1", ""]);
            needed.pods = set(&["q.io/b@sha256:12", "a:1", "@"]);
        },
    ),
    ("pinned, by its id", |held, _| {
        held.pinned = BTreeSet::from([id('a')]);
    }),
    ("pinned, by its tag", |held, _| {
        held.pinned = set(&["q.io/a:1"])
    }),
    ("used, by its id", |held, _| {
        held.used = BTreeSet::from([id('a')]);
    }),
    ("used, by its id as a digest", |held, _| {
        held.used = BTreeSet::from([format!("sha256:{}", id('a'))]);
    }),
    ("used, by its tag", |held, _| held.used = set(&["q.io/a:1"])),
    ("used, by its digest", |held, _| {
        held.used = set(&["q.io/a@sha256:11"]);
    }),
    ("used, by its digest at a mirror", |held, _| {
        held.used = set(&["mirror.site:5000/q/a@sha256:11"]);
    }),
    ("named by a static pod", |_, needed| {
        needed.static_pods = set(&["q.io/a@sha256:11"]);
    }),
    ("named by a Pod", |_, needed| {
        needed.pods = set(&["q.io/a:1"])
    }),
    ("named by a unit", |_, needed| {
        needed.boot = set(&["q.io/a@sha256:11"]);
    }),
    ("named by a unit, at a mirror", |_, needed| {
        needed.boot = set(&["mirror.site:5000/q/a@sha256:11"]);
    }),
    ("precached for the new release", |_, needed| {
        needed.precached = set(&["q.io/a@sha256:11"]);
    }),
    ("used and precached", |held, needed| {
        held.used = set(&["q.io/a:1"]);
        needed.precached = set(&["q.io/a:1"]);
    }),
    ("pinned and used", |held, _| {
        held.pinned = set(&["q.io/a:1"]);
        held.used = set(&["q.io/a:1"]);
    }),
    ("named by a static pod and a Pod", |_, needed| {
        needed.static_pods = set(&["q.io/a:1"]);
        needed.pods = set(&["q.io/a:1"]);
    }),
];

/// Ids by their first digit, batches apart.
fn order(stored: &[StoredImage]) -> String {
    let batches = batches(
        stored.to_vec(),
        &HeldImages::default(),
        &NeededImages::default(),
    );
    let digits = |batch: &Vec<StoredImage>| {
        let digits = batch.iter().filter_map(|image| image.id.chars().next());
        digits.map(String::from).collect::<Vec<_>>().join(" ")
    };
    batches.iter().map(digits).collect::<Vec<_>>().join(" | ")
}

fn asked(on_prep: Option<&str>, threshold: Option<&str>) -> ImageCleanup {
    let mut ibu = ImageBasedUpgrade::initial();
    let mut annotate = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            ibu.metadata
                .annotations
                .insert(key.to_owned(), value.to_owned());
        }
    };
    annotate(annotation::IMAGE_CLEANUP_ON_PREP, on_prep);
    annotate(annotation::IMAGE_CLEANUP_THRESHOLD, threshold);
    ImageCleanup::for_upgrade(&ibu)
}

fn table() -> String {
    let mut text = HEAD.to_owned();
    let mut section = |title: &str, rows: Vec<(String, String)>| {
        let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
        text.push_str(&format!("\n{title}\n"));
        for (left, right) in rows {
            let line = format!("  {left:width$}  {right}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
    };

    let annotations = [
        (None, None),
        (Some("Disabled"), None),
        (Some("disabled"), None),
        (Some("Disabled"), Some("80")),
        (None, Some("80")),
        (None, Some("-1")),
        (None, Some("101")),
        (None, Some("80%")),
        (None, Some("")),
        (None, Some("99999999999999999999")),
    ];
    let rows = annotations.map(|(on_prep, threshold)| {
        let show = |value: Option<&str>| value.map_or("-".to_owned(), |value| format!("{value:?}"));
        let what = match asked(on_prep, threshold) {
            ImageCleanup::Disabled => "no clean-up".to_owned(),
            ImageCleanup::Above(percent) => format!("above {percent} %"),
            ImageCleanup::Unreadable(text) => format!("no clean-up, and a warning about {text:?}"),
        };
        (
            format!("on-prep {}, threshold {}", show(on_prep), show(threshold)),
            what,
        )
    });
    section("The annotations", rows.to_vec());

    let usages = [
        (50, 50),
        (51, 50),
        (0, 0),
        (1, 0),
        (0, -1),
        (100, 99),
        (100, 100),
    ];
    let rows = usages.map(|(usage, threshold)| {
        let what = if exceeds(usage, threshold) {
            "cleaned up"
        } else {
            "left alone"
        };
        (
            format!("used {usage} %, threshold {threshold} %"),
            what.to_owned(),
        )
    });
    section("The threshold", rows.to_vec());

    let rows = RULES.map(|(name, arrange)| {
        let (mut held, mut needed) = Default::default();
        arrange(&mut held, &mut needed);
        let reason = kept(&subject(), &held, &needed);
        let removed = batches(vec![subject()], &held, &needed);
        assert_eq!(reason.is_none(), removed == [[subject()]], "{name}");
        (
            name.to_owned(),
            reason.map_or("removed".to_owned(), |reason| format!("kept: {reason}")),
        )
    });
    section("Who stays", rows.to_vec());

    let old = |digit, created| image(digit, &[], created, false);
    let orders: [(&str, Vec<StoredImage>); 5] = [
        ("none", vec![]),
        (
            "a of 3, b of 1, c of 2",
            vec![old('a', 3), old('b', 1), old('c', 2)],
        ),
        (
            "a of 1, b of 9 and dangling, c of 8 and dangling",
            vec![
                old('a', 1),
                image('b', &[], 9, true),
                image('c', &[], 8, true),
            ],
        ),
        (
            "a, b, c of the same age",
            vec![old('a', 1), old('b', 1), old('c', 1)],
        ),
        (
            "1 to 9, then a and b, oldest first",
            "123456789ab"
                .chars()
                .zip(1..)
                .map(|(digit, created)| old(digit, created))
                .collect(),
        ),
    ];
    let rows = orders.map(|(name, stored)| (name.to_owned(), order(&stored)));
    section("In which order; | is a look at the disk", rows.to_vec());
    text
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the golden file is this test's own"
)]
fn rules_equal_the_golden_table() {
    let table = table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(PATH, &table).unwrap();
    }
    let golden = std::fs::read_to_string(PATH).unwrap_or_default();
    assert_eq!(table, golden, "UPDATE_GOLDEN=1 writes it anew");
}
