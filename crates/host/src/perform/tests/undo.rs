// SPDX-License-Identifier: Apache-2.0
//! What an earlier action did, taken back by an action of its own: promised, carried out, settled like any other.

use super::*;

const UNDO: ActionId = ActionId(2);

fn undo_of(what: &Action) -> Action {
    let paths: Vec<HostPath> = what.paths().chain(what.written()).cloned().collect();
    let unit = what.unit().map(ToOwned::to_owned);
    Action::UndoAction { of: ACTION, paths: if unit.is_none() { paths } else { Vec::new() }, unit }
}

/// Every action that comes back bit for bit, done, with the states before and after.
fn done(index: usize, agent: &Agent) -> Option<(Case, State, State)> {
    let case = cases().remove(index);
    let before = case.sim.state();
    let mut hands = agent.start(&case);
    prepare(&mut hands, ACTION, &case.what);
    assert_eq!(commit(&mut hands, ACTION), Outcome::Success, "{}", case.name);
    let after = case.sim.state();
    case.what.reversible().then_some((case, before, after))
}

#[test]
fn what_was_done_is_taken_back_once_and_that_is_taken_back_too() {
    for index in 0..cases().len() {
        let agent = Agent::new();
        let Some((case, before, after)) = done(index, &agent) else { continue };
        let mut hands = agent.start(&case);
        let undo = undo_of(&case.what);
        let Input::Prepared { facts, .. } = prepare(&mut hands, UNDO, &undo) else { panic!("{}", case.name) };
        assert_eq!((facts.as_expected, facts.undo_ready), (Expected::Yes, true), "{}", case.name);
        assert_eq!(commit(&mut hands, UNDO), Outcome::Success, "{}", case.name);
        assert_eq!(case.sim.state(), before, "{}", case.name);
        assert!(hands.journal.story(ACTION).unwrap().undone, "{}", case.name);
        // A second one finds it so.
        let Input::Prepared { facts, .. } = prepare(&mut hands, ActionId(3), &undo) else { panic!("{}", case.name) };
        assert_eq!(facts.as_expected, Expected::AlreadyDone, "{}", case.name);
        if !case.exact_after_crash {
            continue; // a service manager is asked again, a lease is another's to give
        }
        for _ in 0..2 {
            assert_eq!(hands.undo_action(UNDO).outcome, Outcome::Undone, "{}", case.name);
            assert_eq!(case.sim.state(), after, "{}: done again", case.name);
        }
        drop(hands);
        let mut hands = agent.start(&case);
        assert!(!hands.journal.story(ACTION).unwrap().undone, "{}: also for the next agent", case.name);
        assert_eq!(hands.undo_action(ACTION).outcome, Outcome::Undone, "{}", case.name);
        assert_eq!(case.sim.state(), before, "{}", case.name);
    }
}

#[test]
fn whoever_undoes_the_incident_has_it_as_it_was_before_all_of_it() {
    for index in 0..cases().len() {
        let agent = Agent::new();
        let Some((case, before, _)) = done(index, &agent) else { continue };
        let mut hands = agent.start(&case);
        prepare(&mut hands, UNDO, &undo_of(&case.what));
        assert_eq!(commit(&mut hands, UNDO), Outcome::Success, "{}", case.name);
        let undone = hands.undo_incident(IncidentId(1));
        assert_eq!(case.sim.state(), before, "{}: {undone:?}", case.name);
    }
}

#[test]
fn a_fault_or_a_crash_at_any_step_leaves_it_done_or_taken_back_and_the_next_try_ends_it() {
    for index in 0..cases().len() {
        for fault in [Fault::Before, Fault::After, Fault::Crash] {
            for step in 0..200 {
                let agent = Agent::new();
                let Some((case, before, after)) = done(index, &agent).filter(|(case, ..)| case.exact_after_crash)
                else {
                    break;
                };
                let mut hands = agent.start(&case);
                prepare(&mut hands, UNDO, &undo_of(&case.what));
                case.sim.fault(Some((step, fault)));
                let tried = catch_unwind(AssertUnwindSafe(|| commit(&mut hands, UNDO)));
                let place = format!("{}, {fault:?} at {step}: {tried:?}", case.name);
                drop(hands);
                let over = case.sim.steps() <= step;
                case.sim.fault(None);
                let mut hands = agent.start(&case);
                if tried.is_err() {
                    let settled = hands.recover_open();
                    assert!(matches!(settled[..], [(UNDO, Outcome::Reverted(_))]), "{place}: {settled:?}");
                }
                assert!(hands.journal.open_intents().is_empty(), "{place}");
                if matches!(tried, Ok(Outcome::Success)) {
                    assert_eq!(case.sim.state(), before, "{place}");
                } else if fault == Fault::Before && case.what.paths().count() <= 1 {
                    // Of many files some may be back: that is told, and tried again.
                    assert_eq!(case.sim.state(), after, "{place}");
                }
                prepare(&mut hands, ActionId(3), &undo_of(&case.what));
                let again = commit(&mut hands, ActionId(3));
                assert!(matches!(again, Outcome::Success | Outcome::DoesNotExist), "{place}: {again:?}");
                assert_eq!(case.sim.state(), before, "{place}");
                if over {
                    break;
                }
            }
        }
    }
}

#[test]
fn what_somebody_changed_since_is_not_taken_back_and_nothing_is_where_nothing_was_done() {
    let restored = cases().iter().position(|case| case.name == "restore exactly").unwrap();
    let agent = Agent::new();
    let (case, ..) = done(restored, &agent).unwrap();
    let mut hands = agent.start(&case);
    let undo = undo_of(&case.what);
    prepare(&mut hands, UNDO, &undo);
    case.sim.write("/etc/a", b"an administrator was here\n", 0o600);
    assert!(matches!(commit(&mut hands, UNDO), Outcome::Failed(_)));
    assert_eq!(case.sim.read("/etc/a").unwrap(), b"an administrator was here\n");
    let Input::Prepared { facts, .. } = prepare(&mut hands, ActionId(3), &undo) else { panic!() };
    assert!(matches!(facts.as_expected, Expected::Changed(_)), "{facts:?}");
    let unknown = Action::UndoAction { of: ActionId(77), paths: vec!["/etc/a".into()], unit: None };
    assert!(matches!(prepare(&mut hands, ActionId(4), &unknown), Input::Unprepared { .. }));
    let failed = Action::UndoAction { of: UNDO, paths: vec!["/etc/a".into()], unit: None };
    let Input::Prepared { facts, .. } = prepare(&mut hands, ActionId(5), &failed) else { panic!() };
    assert!(matches!(facts.as_expected, Expected::Changed(_)), "{facts:?}");
}
