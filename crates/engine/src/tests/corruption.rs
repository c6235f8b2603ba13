//! Journals damaged, foreign or too large.

use super::toy::*;
use crate::frame::{Sum, print_line};
use crate::*;

/// A finished journal of two steps.
fn sample() -> Vec<u8> {
    let world = World::default();
    world.boot(None);
    live(&mut Hands::new(&world), &["a", "b"]);
    world.read(&run_id()).unwrap().unwrap()
}

fn open(bytes: &[u8], program: &str) -> (Result<JournalState, JournalError>, Vec<u8>) {
    let world = World::default();
    world.boot(None);
    world.files.borrow_mut().insert(run_id(), bytes.to_vec());
    let state = Journal::<Put>::open(&world, &run_id(), program).map(|journal| journal.state());
    let left = world.read(&run_id()).unwrap().unwrap();
    (state, left)
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes
        .split_inclusive(|b| *b == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

/// Frames bodies anew, as a program gone mad would.
fn framed(bodies: &[String]) -> Vec<u8> {
    let (mut out, mut sum) = (Vec::new(), Sum::default());
    for body in bodies {
        let (line, next) = print_line(&sum, body.as_bytes());
        out.extend(line);
        sum = next;
    }
    out
}

#[test]
fn every_flipped_bit_is_found() {
    let bytes = sample();
    let last_line = bytes.len() - lines(&bytes).last().unwrap().len();
    let (mut refused, mut dropped) = (0, 0);
    for at in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        match open(&flipped, PROGRAM) {
            (Err(JournalError::Corrupt { .. }), left) => {
                assert_eq!(left, flipped, "a corrupt journal is not touched");
                refused += 1;
            }
            // Only a last line that lost its newline (or got a zero) looks cut off, and is dropped.
            (Ok(_), left) if at / 8 >= last_line => {
                assert_eq!(left, bytes[..last_line]);
                dropped += 1;
            }
            (other, _) => panic!("bit {at}: {other:?}"),
        }
    }
    assert_eq!(refused + dropped, bytes.len() * 8);
    assert!(dropped <= 8 + 2, "{dropped}");
}

#[test]
fn lines_missing_repeated_swapped_or_foreign_are_found_with_their_number() {
    let good = lines(&sample());
    let check = |mutate: &dyn Fn(&mut Vec<Vec<u8>>), expect: usize| {
        let mut changed = good.clone();
        mutate(&mut changed);
        match open(&changed.concat(), PROGRAM).0 {
            Err(JournalError::Corrupt { line, .. }) => assert_eq!(line, expect),
            other => panic!("{other:?}"),
        }
    };
    check(&|l| drop(l.remove(0)), 1);
    check(&|l| drop(l.remove(2)), 3);
    check(&|l| l.insert(2, l[1].clone()), 3);
    check(&|l| l.swap(2, 3), 3);
    check(&|l| l[3] = b"\n".to_vec(), 4);
    check(&|l| l[1] = b"hello\n".to_vec(), 2);
    check(&|l| l[2].truncate(20), 3);
    check(&|l| l[2] = vec![0, b'\n'], 3);
    check(&|l| l.truncate(0), 1);
}

/// The end of an append that never became durable: its length is there, some of its blocks are not.
#[test]
fn a_last_line_with_a_hole_of_zeros_is_dropped_as_cut_off() {
    let bytes = sample();
    let last_line = bytes.len() - lines(&bytes).last().unwrap().len();
    for (hole, newline) in [(0..30, true), (10..20, true), (0..30, false)] {
        let mut holed = bytes.clone();
        holed[last_line..][hole].fill(0);
        if !newline {
            *holed.last_mut().unwrap() = 0;
        }
        let (state, left) = open(&holed, PROGRAM);
        assert_eq!(state.unwrap(), JournalState::Between { done: 2 });
        assert_eq!(left, bytes[..last_line]);
    }
}

#[test]
fn intact_lines_that_make_no_sense_are_refused() {
    let header = serde_json::to_string(&header(&["a", "b"])).unwrap();
    let entry = |e: &Entry| serde_json::to_string(e).unwrap();
    let check = |bodies: &[String]| open(&framed(bodies), PROGRAM).0;
    assert!(check(std::slice::from_ref(&header)).is_ok());

    let done = entry(&Entry::Done {
        index: 0,
        presence: Presence::Absent,
        at: 1,
    });
    let illegal = check(&[header.clone(), done]);
    assert!(
        matches!(illegal, Err(JournalError::Illegal { line: 2, .. })),
        "{illegal:?}"
    );

    for body in [
        r#"{"what":"moon-rose","at":1}"#,
        r#"{"what":"resumed","at":1,"x":2}"#,
        "7",
    ] {
        let unknown = check(&[header.clone(), body.to_owned()]);
        assert!(
            matches!(unknown, Err(JournalError::Corrupt { line: 2, .. })),
            "{unknown:?}"
        );
    }

    let names = header.replace(r#""names":["put","put"]"#, r#""names":["put"]"#);
    let other_run = header.replace("prep-1", "prep-2");
    let step = header.replace(r#""steps":["a","b"]"#, r#""steps":["a",7]"#);
    for body in [names, other_run, step] {
        assert_ne!(body, header);
        let refused = check(&[body]);
        assert!(
            matches!(refused, Err(JournalError::Corrupt { line: 1, .. })),
            "{refused:?}"
        );
    }
}

/// Who reads what: [`FORMAT`]'s table.
#[test]
fn only_the_same_format_and_program_go_on_and_the_rest_is_discarded_untouched() {
    let own = serde_json::to_string(&header(&["a"])).unwrap();
    // Another format may have anything behind `format` and `program`.
    let foreign = r#"{"format":2,"program":"toy 2.0.0","plan":{"moons":3}}"#.to_owned();
    let older = r#"{"format":0,"program":"toy 1.0.0"}"#.to_owned();

    assert!(open(&framed(std::slice::from_ref(&own)), PROGRAM).0.is_ok());
    for (body, program) in [(&own, "toy 1.0.1"), (&own, "toy 1.0.0-dirty"), (&own, "")] {
        let bytes = framed(std::slice::from_ref(body));
        let (refused, left) = open(&bytes, program);
        let Err(JournalError::OtherProgram { found }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((found.as_str(), left), (PROGRAM, bytes.clone()));
        assert!(RunView::from_journal(&bytes).is_ok(), "anybody may show it");
    }
    for (body, format) in [(foreign, 2), (older, 0)] {
        let (refused, _) = open(&framed(&[body]), PROGRAM);
        let Err(JournalError::OtherFormat { found }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(found, format);
    }

    let world = World::default();
    world.boot(None);
    world.files.borrow_mut().insert(run_id(), framed(&[own]));
    let mut events = Vec::new();
    discard(&world, &run_id(), &mut events, 9).unwrap();
    let conclusion = Conclusion::Interrupted;
    assert_eq!(
        events,
        [Event::RunClosed {
            run: run_id(),
            conclusion,
            at: 9
        }]
    );
    assert_eq!(world.list().unwrap(), []);
}

#[test]
fn sizes_are_bounded() {
    let world = World::default();
    world.boot(None);
    let mut big = header(&["a"]);
    big.facts = serde_json::Value::String("x".repeat(HEADER_LIMIT));
    let refused = Journal::create(&world, big).err();
    assert!(
        matches!(refused, Some(JournalError::HeaderTooLarge { .. })),
        "{refused:?}"
    );
    assert_eq!(world.list().unwrap(), [], "nothing was written");

    let refused = open(&vec![b' '; JOURNAL_LIMIT + 1], PROGRAM).0;
    assert!(
        matches!(refused, Err(JournalError::TooLarge { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_run_id_is_used_once() {
    let world = World::default();
    world.boot(None);
    drop(Journal::create(&world, header(&["a"])).unwrap());
    let again = Journal::create(&world, header(&["a"])).err();
    assert!(
        matches!(again, Some(JournalError::Exists { .. })),
        "{again:?}"
    );
    let missing = Journal::<Put>::open(&world, &"other".parse().unwrap(), PROGRAM).err();
    assert!(
        matches!(missing, Some(JournalError::Missing { .. })),
        "{missing:?}"
    );
}
