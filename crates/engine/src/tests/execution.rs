//! One execution after another: failing, stopping, retrying, disagreeing, and the views of it.

use super::toy::*;
use crate::*;

const STEPS: [&str; 3] = ["a", "b", "c"];

fn kinds(events: &[Event]) -> Vec<String> {
    let name = |e: &Event| {
        serde_json::to_value(e).unwrap()["event"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    events.iter().map(name).collect()
}

/// The fold of all events so far, of the open journal, and of its bytes are the same.
fn check_views(events: &[Event], journal: &Journal<'_, Put>, world: &World) -> RunView {
    let mut view = RunView::default();
    events.iter().for_each(|event| view.apply(event));
    assert_eq!(view, journal.view());
    let bytes = world.read(&run_id()).unwrap().unwrap();
    assert_eq!(view, RunView::from_journal(&bytes).unwrap());
    view
}

fn fresh(steps: &[&str]) -> World {
    let world = World::default();
    world.boot(None);
    drop(Journal::create(&world, header(steps)).unwrap());
    world
}

fn open(world: &World) -> Journal<'_, Put> {
    Journal::open(world, &run_id(), PROGRAM).unwrap()
}

#[test]
fn events_of_an_undisturbed_run_in_order() {
    let world = fresh(&STEPS[..1]);
    let (mut journal, mut events) = (open(&world), Vec::new());
    let outcome = go(
        &mut Hands::new(&world),
        &mut journal,
        &mut events,
        &StopToken::new(),
    );
    assert_eq!(outcome, Outcome::Completed);
    assert_eq!(
        kinds(&events),
        [
            "run-started",
            "step-started",
            "step-progress",
            "step-done",
            "run-completed"
        ]
    );
    assert_eq!(
        check_views(&events, &journal, &world).end,
        Some(RunEnd::Completed)
    );
}

#[test]
fn a_plan_without_steps_completes() {
    let world = fresh(&[]);
    let (mut journal, mut events) = (open(&world), Vec::new());
    let outcome = go(
        &mut Hands::new(&world),
        &mut journal,
        &mut events,
        &StopToken::new(),
    );
    assert_eq!(outcome, Outcome::Completed);
    assert_eq!(kinds(&events), ["run-started", "run-completed"]);
}

#[test]
fn a_failed_step_is_retried_in_the_same_run_and_done_ones_are_not_applied_again() {
    let world = fresh(&STEPS);
    let mut hands = Hands::new(&world);
    hands.failures.insert("b".into(), 2);
    let (mut journal, mut events) = (open(&world), Vec::new());
    for _ in 0..2 {
        let outcome = go(&mut hands, &mut journal, &mut events, &StopToken::new());
        let step = StepRef {
            index: 1,
            name: "put".into(),
        };
        let expect = Outcome::Failed {
            step,
            kind: Kind::Transient,
            error: "no luck".into(),
        };
        assert_eq!(outcome, expect);
        let view = check_views(&events, &journal, &world);
        let failure = view.last_error.unwrap();
        assert_eq!(failure.kind_as(), Some(Kind::Transient));
        assert_eq!((view.end, view.closed), (Some(RunEnd::Failed), false));
        assert_eq!(view.steps[1].state, StepState::Failed);
    }
    let outcome = go(&mut hands, &mut journal, &mut events, &StopToken::new());
    assert_eq!(outcome, Outcome::Completed);
    let view = check_views(&events, &journal, &world);
    assert_eq!((view.done(), view.last_error), (3, None));
    assert_eq!(world.applied.get(), 3);
}

#[test]
fn a_stop_before_or_inside_a_step_leaves_a_run_that_resumes_or_closes() {
    let world = fresh(&STEPS);
    let mut hands = Hands::new(&world);
    let (mut journal, mut events) = (open(&world), Vec::new());

    let before = StopToken::new();
    before.stop();
    let outcome = go(&mut hands, &mut journal, &mut events, &before);
    assert_eq!(
        outcome,
        Outcome::Stopped {
            step: StepRef {
                index: 0,
                name: "put".into()
            }
        }
    );
    assert_eq!(world.applied.get(), 0);
    check_views(&events, &journal, &world);

    let inside = StopToken::new();
    hands.stop_in = Some(("b".into(), inside.clone()));
    let outcome = go(&mut hands, &mut journal, &mut events, &inside);
    assert_eq!(
        outcome,
        Outcome::Stopped {
            step: StepRef {
                index: 1,
                name: "put".into()
            }
        }
    );
    let view = check_views(&events, &journal, &world);
    assert_eq!(view.end, Some(RunEnd::Stopped));
    assert_eq!((view.done(), view.steps[1].state), (1, StepState::Pending));

    journal
        .close(Conclusion::Stopped, &mut events, 2000)
        .unwrap();
    assert!(events.last().unwrap().ends_run());
    assert!(check_views(&events, &journal, &world).closed);

    // A closed run stays as it is, whoever opens it.
    hands.stop_in = None;
    let mut journal = open(&world);
    let outcome = go(&mut hands, &mut journal, &mut Vec::new(), &StopToken::new());
    assert!(
        matches!(
            outcome,
            Outcome::JournalFailed {
                no_space: false,
                ..
            }
        ),
        "{outcome:?}"
    );
    assert_eq!(world.applied.get(), 1);
}

#[test]
fn where_journal_and_world_disagree_the_world_wins_and_an_event_says_so() {
    let world = fresh(&STEPS);
    let mut hands = Hands::new(&world);
    hands.failures.insert("c".into(), 1);
    let (mut journal, mut events) = (open(&world), Vec::new());
    go(&mut hands, &mut journal, &mut events, &StopToken::new());
    assert_eq!(journal.state(), JournalState::Between { done: 2 });

    world.cache.borrow_mut().remove("a");
    world.disk.borrow_mut().remove("a");
    let mut later = Vec::new();
    let outcome = go(&mut hands, &mut journal, &mut later, &StopToken::new());
    assert_eq!(outcome, Outcome::Completed);
    let disagreed: Vec<_> = later
        .iter()
        .filter(|e| matches!(e, Event::WorldDisagreed { .. }))
        .collect();
    let step = StepRef {
        index: 0,
        name: "put".into(),
    };
    assert_eq!(disagreed, [&Event::WorldDisagreed { step, at: 1001 }]);
    // "b" was still there and is only settled again.
    let presences: Vec<_> = later
        .iter()
        .filter_map(|e| match e {
            Event::StepDone { presence, .. } => Some(*presence),
            _ => None,
        })
        .collect();
    assert_eq!(
        presences,
        [Presence::Absent, Presence::Present, Presence::Absent]
    );
    // Going back to the first step voids what was known of the later ones.
    let mut view = RunView::default();
    let until = later
        .iter()
        .position(|e| matches!(e, Event::StepStarted { .. }))
        .unwrap();
    events
        .iter()
        .chain(&later[..=until])
        .for_each(|event| view.apply(event));
    assert_eq!((view.current, view.done()), (Some(0), 0));
    events.extend(later);
    check_views(&events, &journal, &world);
    assert!(world.disk.borrow().values().all(|count| *count == 1));
}

#[test]
fn each_execution_tells_exactly_one_end_and_it_is_the_last_event() {
    for failures in 0..3 {
        let world = fresh(&STEPS);
        let mut hands = Hands::new(&world);
        hands.failures.insert("b".into(), failures);
        let mut journal = open(&world);
        for _ in 0..=failures {
            let mut events = Vec::new();
            go(&mut hands, &mut journal, &mut events, &StopToken::new());
            assert!(events.last().unwrap().ends_execution());
            assert_eq!(events.iter().filter(|e| e.ends_execution()).count(), 1);
        }
    }
}

#[test]
fn a_step_that_fails_for_days_neither_fills_the_disk_nor_changes_the_view() {
    let world = fresh(&STEPS);
    let mut hands = Hands::new(&world);
    hands.failures.insert("b".into(), 10_000);
    let (mut journal, mut view) = (open(&world), RunView::default());
    let mut largest = 0;
    for _ in 0..10_000 {
        let mut sink = |event: &Event| view.apply(event);
        go(&mut hands, &mut journal, &mut sink, &StopToken::new());
        largest = largest.max(world.files.borrow()[&run_id()].len());
    }
    assert!(largest < 300 * 1024, "{largest}");
    assert_eq!(view, journal.view());
    assert_eq!(view, open(&world).view());
    let mut sink = |event: &Event| view.apply(event);
    let outcome = go(&mut hands, &mut journal, &mut sink, &StopToken::new());
    assert_eq!(outcome, Outcome::Completed);
}

#[test]
fn after_a_failed_write_nothing_more_is_written_until_the_journal_is_opened_again() {
    let world = fresh(&STEPS);
    let mut journal = open(&world);
    world.boot(Some((0, Fault::CutInside)));
    let mut events = Vec::new();
    let outcome = go(
        &mut Hands::new(&world),
        &mut journal,
        &mut events,
        &StopToken::new(),
    );
    let error = "appending to journal of run prep-1: dead".to_owned();
    assert_eq!(
        outcome,
        Outcome::JournalFailed {
            error,
            no_space: false
        }
    );
    world.boot(None);
    let spoiled = journal.append(Entry::Resumed { at: 1 });
    assert!(matches!(spoiled, Err(JournalError::Spoiled)));
    let outcome = go(
        &mut Hands::new(&world),
        &mut open(&world),
        &mut events,
        &StopToken::new(),
    );
    assert_eq!(outcome, Outcome::Completed);
}

#[test]
fn an_event_of_a_newer_version_reads_as_unknown() {
    let event: Event = serde_json::from_str(r#"{"event":"moon-rose","at":7}"#).unwrap();
    assert_eq!(event, Event::Unknown);
}
