//! An extraction that was cut off goes on at its last mark and ends like one that was not.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its figures"
)]

#[allow(dead_code, reason = "shared with tests that need more")]
mod tree;

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use seed::archive::{
    ArchiveReader, ArchiveWriter, Capture, Excludes, MemberPath, Names, Overlay, Time,
};
use seed::extract::{ExtractError, Mark, extract, extract_from};
use seed::watch::Watching;
use tree::{plant, seen};

const STAMP: Time = Time {
    secs: 1_234_567_890,
    nanos: 0,
};

fn names() -> Names {
    Names::read(Path::new("/")).unwrap()
}

fn pack(source: &Path) -> Vec<u8> {
    let watch = &mut ();
    let writer = ArchiveWriter::new(Vec::new());
    let none = (Excludes::default(), Overlay::default());
    let mut capture = Capture::new(writer, none.0, none.1, STAMP, watch);
    capture
        .tree(source, &MemberPath::parse(b"var").unwrap())
        .unwrap();
    capture.finish().unwrap().0
}

/// What is read of an archive from a mark on.
fn rest(archive: &[u8], mark: Option<&Mark>) -> Vec<u8> {
    let Some(mark) = mark else {
        return archive.to_vec();
    };
    let at = |bytes: u64| usize::try_from(bytes).unwrap();
    match &mark.begun {
        Some(begun) => {
            let (content, written) = (at(begun.content), at(begun.written));
            [
                &archive[at(mark.archive)..content],
                &archive[content + written..],
            ]
            .concat()
        }
        None => archive[at(mark.archive)..].to_vec(),
    }
}

/// Goes on at `mark` and is cut off after `marks` more of them; gives the last one.
fn run(archive: &[u8], to: &Path, mark: Option<Mark>, marks: usize) -> (bool, Option<Mark>) {
    let rest = rest(archive, mark.as_ref());
    let at = mark.as_ref().map_or(0, |mark| mark.archive);
    let mut reader = ArchiveReader::resumed(rest.as_slice(), names(), at);
    let told = AtomicUsize::new(0);
    let mut last = mark.clone();
    let mut watch = Watching {
        advanced: |_| {},
        stop: || told.load(Relaxed) > marks,
    };
    let mut note = |mark: Mark| {
        // What is told after the cut is lost.
        if told.fetch_add(1, Relaxed) < marks {
            last = Some(mark);
        }
    };
    let prefix = MemberPath::parse(b"var").unwrap();
    let result = extract_from(
        &mut reader,
        &prefix,
        to,
        mark.as_ref(),
        &mut note,
        &mut watch,
    );
    let stopped = matches!(&result, Err(ExtractError::Stopped { .. }));
    assert!(stopped || result.is_ok(), "{result:?}");
    (result.is_ok(), last)
}

#[test]
fn an_extraction_goes_on_at_any_mark() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let source = ground.path().join("source");
    fs::create_dir(&source).unwrap();
    plant(&source);
    let long: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(source.join("long"), &long).unwrap();
    fs::create_dir(source.join("zz")).unwrap();
    fs::write(source.join("zz/long"), &long).unwrap();
    let archive = pack(&source);
    let whole = ground.path().join("whole");
    fs::create_dir(&whole).unwrap();
    let mut reader = ArchiveReader::new(archive.as_slice(), names());
    let prefix = MemberPath::parse(b"var").unwrap();
    extract(&mut reader, &prefix, &whole, &mut ()).unwrap();
    let expect = seen(&whole);
    // The first mark that is told is the one to go on at.
    for step in [2, 3, 4, 7, 1000] {
        let cut = ground.path().join(format!("cut {step}"));
        fs::create_dir(&cut).unwrap();
        let (mut mark, mut runs, mut begun) = (None, 0, 0);
        loop {
            let (ended, next) = run(&archive, &cut, mark.take(), step);
            runs += 1;
            begun += usize::from(next.as_ref().is_some_and(|mark| mark.begun.is_some()));
            // A mark lies in a file, in between.
            let text = serde_json::to_vec(&next).unwrap();
            mark = serde_json::from_slice(&text).unwrap();
            if ended {
                break;
            }
        }
        println!("every {step} marks: {runs} runs, {begun} within a file");
        assert!(step > 4 || begun > 2, "{begun}");
        assert!(seen(&cut) == expect, "every {step} marks");
    }
}

#[test]
fn what_is_not_as_the_mark_says_is_an_error() {
    let ground = tempfile::tempdir_in("/var/tmp").unwrap();
    let [source, to] = ["source", "to"].map(|name| ground.path().join(name));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(source.join("long"), vec![7; 5 << 20]).unwrap();
    let archive = pack(&source);
    let (_, mark) = run(&archive, &to, None, 4);
    let mark = mark.unwrap();
    assert!(mark.begun.is_some(), "{mark:?}");
    let check = |what: &str, mark: &Mark, mut bytes: &mut dyn Read| {
        let mut reader = ArchiveReader::resumed(&mut bytes, names(), mark.archive);
        let prefix = MemberPath::parse(b"var").unwrap();
        let result = extract_from(&mut reader, &prefix, &to, Some(mark), &mut |_| {}, &mut ());
        assert!(result.is_err(), "{what}");
    };
    let mut other = mark.clone();
    other.begun.as_mut().unwrap().content += 512;
    check(
        "another place",
        &other,
        &mut rest(&archive, Some(&mark)).as_slice(),
    );
    let mut other = mark.clone();
    other.begun.as_mut().unwrap().written = 6 << 20;
    check(
        "a longer file",
        &other,
        &mut rest(&archive, Some(&mark)).as_slice(),
    );
    fs::write(to.join("long"), "short").unwrap();
    check(
        "a file that is gone",
        &mark,
        &mut rest(&archive, Some(&mark)).as_slice(),
    );
    check("no archive", &mark, &mut io::empty());
}
