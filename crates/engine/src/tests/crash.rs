//! A crash at every moment, and at every moment of the restart after it.

use super::toy::*;
use crate::*;

const STEPS: [&str; 4] = ["stateroot", "deployment", "configuration", "default"];

/// Dies as told, then lives until the run is completed; returns what that last process told.
fn survive(world: &World, deaths: &[(usize, Fault)]) -> Vec<Event> {
    let mut hands = Hands::new(world);
    for death in deaths {
        world.boot(Some(*death));
        let (outcome, _) = live(&mut hands, &STEPS);
        assert_eq!(outcome.is_none(), world.died());
    }
    world.boot(None);
    let (outcome, events) = live(&mut hands, &STEPS);
    assert_eq!(outcome, Some(Outcome::Completed), "{deaths:?}");
    events
}

fn check_same_end(world: &World, undisturbed: &World, deaths: &[(usize, Fault)], events: &[Event]) {
    assert_eq!(
        *world.disk.borrow(),
        *undisturbed.disk.borrow(),
        "{deaths:?}"
    );
    assert_eq!(
        *world.cache.borrow(),
        *undisturbed.cache.borrow(),
        "{deaths:?}"
    );
    let disagreed = events
        .iter()
        .any(|e| matches!(e, Event::WorldDisagreed { .. }));
    assert!(
        !disagreed,
        "done was written before it was durable: {deaths:?}"
    );
    let bytes = world.read(&run_id()).unwrap().unwrap();
    let view = RunView::from_journal(&bytes).unwrap();
    assert!(view.closed && view.done() == STEPS.len(), "{deaths:?}");
    // A killed process loses nothing, so each effect was brought about exactly once.
    if deaths
        .iter()
        .all(|(_, fault)| matches!(fault, Fault::KillBefore | Fault::KillAfter))
    {
        assert_eq!(world.applied.get(), STEPS.len() as u32, "{deaths:?}");
    }
}

#[test]
fn every_crash_and_every_second_crash_end_as_undisturbed() {
    let undisturbed = World::default();
    undisturbed.boot(None);
    let (outcome, _) = live(&mut Hands::new(&undisturbed), &STEPS);
    assert_eq!(outcome, Some(Outcome::Completed));
    let moments = undisturbed.moments.get();
    // create, then per step: started, probe, apply, settle, done; then closed.
    assert_eq!(moments, 1 + 5 * STEPS.len() + 1);
    assert!(undisturbed.disk.borrow().values().all(|count| *count == 1));

    let (mut single, mut double) = (0, 0);
    for first in (0..moments).flat_map(|at| FAULTS.map(|fault| (at, fault))) {
        let world = World::default();
        let events = survive(&world, &[first]);
        check_same_end(&world, &undisturbed, &[first], &events);
        single += 1;
        let restart_moments = world.moments.get();
        for second in (0..restart_moments).flat_map(|at| FAULTS.map(|fault| (at, fault))) {
            let world = World::default();
            let events = survive(&world, &[first, second]);
            check_same_end(&world, &undisturbed, &[first, second], &events);
            double += 1;
        }
    }
    print_figures(&format!(
        "{moments} moments: {single} single and {double} double crashes"
    ));
    assert!(double > 10_000, "{double}");
}

/// Prints a figure of the test run.
#[expect(
    clippy::disallowed_macros,
    reason = "the sweep's figures belong into the test's output"
)]
#[expect(
    clippy::print_stdout,
    reason = "the sweep's figures belong into the test's output"
)]
fn print_figures(line: &str) {
    println!("{line}");
}

#[test]
fn a_journal_cut_at_every_byte_of_any_line_resumes_to_the_same_end() {
    let undisturbed = World::default();
    undisturbed.boot(None);
    live(&mut Hands::new(&undisturbed), &STEPS);
    let bytes = undisturbed.read(&run_id()).unwrap().unwrap();
    let header_end = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
    for length in 0..bytes.len() {
        let world = World::default();
        world.boot(None);
        // All effects are there and durable, the journal lost its end: nothing is applied again.
        *world.disk.borrow_mut() = undisturbed.disk.borrow().clone();
        *world.cache.borrow_mut() = undisturbed.disk.borrow().clone();
        world
            .files
            .borrow_mut()
            .insert(run_id(), bytes[..length].to_vec());
        let opened = Journal::<Put>::open(&world, &run_id(), PROGRAM);
        if length < header_end {
            // Cannot come from a crash (the header is created atomically), so it is not repaired.
            assert!(
                matches!(opened, Err(JournalError::Corrupt { line: 1, .. })),
                "{length}"
            );
            continue;
        }
        let mut events = Vec::new();
        let mut journal = opened.unwrap();
        let outcome = go(
            &mut Hands::new(&world),
            &mut journal,
            &mut events,
            &StopToken::new(),
        );
        assert_eq!(outcome, Outcome::Completed, "{length}");
        assert_eq!(world.applied.get(), 0, "{length}");
        assert_eq!(*world.disk.borrow(), *undisturbed.disk.borrow());
        let torn = bytes[length - 1] != b'\n';
        let told = matches!(events[0], Event::JournalRepaired { dropped, .. } if dropped > 0);
        assert_eq!(torn, told, "{length}");
        // What was repaired reads without another repair.
        let again = world.read(&run_id()).unwrap().unwrap();
        assert!(RunView::from_journal(&again).unwrap().closed);
    }
}
