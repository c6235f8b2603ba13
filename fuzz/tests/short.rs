//! A moment of every target: the corpus as it is, then documents made of it at random.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test, which says how to repeat it"
)]

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fuzz::{TARGETS, Target};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// What the random numbers begin with. A failure repeats itself with it.
const SEED: [u8; 32] = *b"lifecycle-agent, short fuzz run.";

/// Documents per target, and the time after which no more are begun: the machine may be busy.
const CASES: u32 = 2000;
const TIME: Duration = Duration::from_millis(700);

/// Longest document in the corpus: it is read at every build.
const LONGEST: usize = 16 << 10;

/// Bytes that parsers look for.
const WORDS: [&[u8]; 24] = [
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"-1",
    b"1e999",
    b"18446744073709551615",
    b"\\u0000",
    b"\n",
    b"\0",
    b"\xff",
    b"..",
    b"/",
    b"../outside/victim",
    b"sha256:",
    b"path=",
    b"size=",
    b"GNU.sparse.map=",
    b"SCHILY.xattr.user.x=",
    b"RHT.security.selinux=",
    b"SCHILY.acl.access=",
    b"ustar",
    b"user::rwx",
    b"7777777",
];

/// One change of a document.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Word(Index, Index),
    Overwrite(Index, Index),
    Remove(Index, Index),
    Repeat(Index, Index, u8),
    Cut(Index),
    Splice(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), at()).prop_map(|(at, word)| Change::Word(at, word)),
        (at(), at()).prop_map(|(at, word)| Change::Overwrite(at, word)),
        (at(), at()).prop_map(|(from, to)| Change::Remove(from, to)),
        (at(), at(), 1..20_u8).prop_map(|(from, to, times)| Change::Repeat(from, to, times)),
        at().prop_map(Change::Cut),
        (at(), at(), at()).prop_map(|(at, other, from)| Change::Splice(at, other, from)),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let spot = |index: &Index| index.index(bytes.len() + 1);
        let range = |from: &Index, to: &Index| {
            let (from, to) = (spot(from), spot(to));
            from.min(to)..from.max(to).min(from.min(to) + 2048)
        };
        match self {
            Self::Set(at, byte) => {
                let at = spot(at);
                bytes.splice(at..(at + 1).min(bytes.len()), [*byte]);
            }
            Self::Flip(at, bit) => {
                let at = spot(at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Word(at, word) => {
                let at = spot(at);
                bytes.splice(at..at, word.get(&WORDS).iter().copied());
            }
            Self::Overwrite(at, word) => {
                let (at, word) = (spot(at), word.get(&WORDS));
                bytes.splice(at..(at + word.len()).min(bytes.len()), word.iter().copied());
            }
            Self::Remove(from, to) => drop(bytes.drain(range(from, to))),
            Self::Repeat(from, to, times) => {
                let range = range(from, to);
                let piece = bytes[range.clone()].repeat((*times).into());
                bytes.splice(range.end..range.end, piece);
            }
            Self::Cut(at) => bytes.truncate(spot(at)),
            Self::Splice(at, other, from) => {
                let other = other.get(corpus);
                let (at, from) = (spot(at), from.index(other.len() + 1));
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}

/// Shown so that it can be put into a test.
#[derive(Clone)]
struct Document(Vec<u8>);

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

fn corpus(target: Target) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name);
    let mut paths: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let documents: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(
        documents.len() >= 2,
        "{} has hardly a document",
        dir.display()
    );
    assert!(documents.iter().all(|document| document.len() <= LONGEST));
    documents
}

fn run(name: &str) {
    let target = fuzz::target(name).unwrap();
    let corpus = corpus(target);
    for document in &corpus {
        (target.run)(document);
    }
    let documents = (any::<Index>(), prop::collection::vec(change(), 1..8));
    let strategy = documents.prop_map(|(which, changes)| {
        let mut bytes = which.get(&corpus).clone();
        changes
            .iter()
            .for_each(|change| change.apply(&mut bytes, &corpus));
        Document(bytes)
    });
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let begun = Instant::now();
    let tried = std::cell::Cell::new(0);
    let result = TestRunner::new_with_rng(config, rng).run(&strategy, |document| {
        if begun.elapsed() < TIME {
            (target.run)(&document.0);
            tried.set(tried.get() + 1);
        }
        Ok(())
    });
    println!(
        "{name}: {} documents, seed {}",
        tried.get(),
        SEED.escape_ascii()
    );
    if let Err(error) = result {
        panic!("{name}: {error}");
    }
    assert!(tried.get() > 20, "the target is too slow: {}", tried.get());
}

#[test]
fn every_target_withstands_what_is_like_its_corpus() {
    TARGETS.iter().for_each(|target| run(target.name));
}

#[test]
fn the_corpus_stays_small() {
    let bytes: usize = TARGETS
        .iter()
        .flat_map(|target| corpus(*target))
        .map(|document| document.len())
        .sum();
    assert!(bytes < 200_000, "{bytes}");
    let directories = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap();
    let known = |name: &std::ffi::OsStr| TARGETS.iter().any(|target| name == target.name);
    directories.for_each(|entry| {
        let name = entry.unwrap().file_name();
        assert!(known(&name), "no target reads corpus/{}", name.display());
    });
}
