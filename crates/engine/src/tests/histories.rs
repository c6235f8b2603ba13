//! The legality table, and histories made shorter.

use crate::JournalState::{Between, Closed, Running};
use crate::legality::canonical;
use crate::*;

const STEPS: usize = 3;

fn started(index: usize) -> Entry {
    Entry::Started {
        index,
        name: "put".into(),
        at: 1,
    }
}
fn done(index: usize) -> Entry {
    Entry::Done {
        index,
        presence: Presence::Absent,
        at: 2,
    }
}
fn failed(index: usize) -> Entry {
    Entry::Failed {
        index,
        kind: "transient".into(),
        error: "no luck".into(),
        at: 3,
    }
}
fn stopped(index: usize) -> Entry {
    Entry::Stopped {
        index,
        error: None,
        at: 4,
    }
}
fn resumed() -> Entry {
    Entry::Resumed { at: 5 }
}
fn closed(conclusion: Conclusion) -> Entry {
    Entry::Closed { conclusion, at: 6 }
}

const CONCLUSIONS: [Conclusion; 4] = [
    Conclusion::Completed,
    Conclusion::Failed,
    Conclusion::Stopped,
    Conclusion::Interrupted,
];

/// Every entry there is, for a plan of [`STEPS`] steps and one index beyond it.
fn all_entries() -> Vec<Entry> {
    let mut entries = vec![resumed()];
    entries.extend(CONCLUSIONS.map(closed));
    for index in 0..=STEPS {
        entries.extend([started(index), done(index), failed(index), stopped(index)]);
    }
    entries
}

#[test]
fn every_state_accepts_exactly_these_entries() {
    let check = |state: JournalState, legal: &[(Entry, JournalState)]| {
        for entry in all_entries() {
            let expect = legal
                .iter()
                .find(|(e, _)| *e == entry)
                .map(|(_, next)| *next);
            assert_eq!(
                state.after(&entry, STEPS).ok(),
                expect,
                "{entry:?} after {state:?}"
            );
        }
    };
    let ended = |c| (closed(c), Closed { conclusion: c });
    let [completed, gave_up, told, broken] = CONCLUSIONS.map(ended);
    let unfinished = [gave_up, told, broken];
    let with = |rows: &[(Entry, JournalState)]| [rows, unfinished.as_slice()].concat();

    check(
        Between { done: 0 },
        &with(&[
            (resumed(), Between { done: 0 }),
            (started(0), Running { index: 0 }),
            (stopped(0), Between { done: 0 }),
        ]),
    );
    check(
        Between { done: 2 },
        &with(&[
            (resumed(), Between { done: 2 }),
            (started(0), Running { index: 0 }),
            (started(1), Running { index: 1 }),
            (started(2), Running { index: 2 }),
            (failed(0), Between { done: 2 }),
            (failed(1), Between { done: 2 }),
            (stopped(0), Between { done: 2 }),
            (stopped(1), Between { done: 2 }),
            (stopped(2), Between { done: 2 }),
        ]),
    );
    check(
        Between { done: 3 },
        &with(&[
            (resumed(), Between { done: 3 }),
            (started(0), Running { index: 0 }),
            (started(1), Running { index: 1 }),
            (started(2), Running { index: 2 }),
            (failed(0), Between { done: 3 }),
            (failed(1), Between { done: 3 }),
            (failed(2), Between { done: 3 }),
            (stopped(0), Between { done: 3 }),
            (stopped(1), Between { done: 3 }),
            (stopped(2), Between { done: 3 }),
            completed,
        ]),
    );
    check(
        Running { index: 1 },
        &with(&[
            (resumed(), Between { done: 1 }),
            (done(1), Between { done: 2 }),
            (failed(1), Between { done: 1 }),
            (stopped(1), Between { done: 1 }),
        ]),
    );
    for conclusion in CONCLUSIONS {
        check(Closed { conclusion }, &[]);
    }
}

/// Walks every legal history of up to `depth` more entries.
fn walk(history: &mut Vec<Entry>, state: JournalState, depth: usize, seen: &mut usize) {
    check_canonical(history, state);
    *seen += 1;
    if depth == 0 {
        return;
    }
    for entry in all_entries() {
        if let Ok(next) = state.after(&entry, STEPS) {
            history.push(entry);
            walk(history, next, depth - 1, seen);
            history.pop();
        }
    }
}

/// A shortened history is legal and ends in the same state.
fn check_canonical(history: &[Entry], state: JournalState) {
    let short = canonical(history);
    let replayed = short
        .iter()
        .try_fold(JournalState::START, |s, e| s.after(e, STEPS));
    assert_eq!(replayed.ok(), Some(state), "{history:?} became {short:?}");
    assert!(short.len() <= history.len());
}

#[test]
fn every_short_legal_history_can_be_shortened_without_changing_where_it_stands() {
    let mut seen = 0;
    walk(&mut Vec::new(), JournalState::START, 7, &mut seen);
    assert!(seen > 10_000, "{seen}");
}

#[test]
fn a_history_that_goes_in_circles_shortens_to_a_few_entries() {
    let mut history = vec![started(0), done(0)];
    for _ in 0..1000 {
        history.extend([
            started(1),
            failed(1),
            resumed(),
            failed(0),
            resumed(),
            stopped(0),
        ]);
        history.push(resumed());
    }
    let expect = vec![started(0), done(0), started(1), failed(1), resumed()];
    assert_eq!(canonical(&history), expect);
}
