// SPDX-License-Identifier: Apache-2.0
//! What a sensor or a rule that is wrong can do, and what it cannot; how much is done in a minute, and for how long a question waits.

use super::*;
use crate::guard::{ACTIONS_PER_MINUTE, STORM_INCIDENTS_MAX};
use crate::input::ANSWER_NS;

/// So many sessions that have nothing to do with each other, and a detector that is wrong about each, one after the other
/// within a second; the hands answer at once.
fn false_alarms(world: &mut World, sessions: usize) {
    let shells: Vec<ProcessKey> = (0..sessions).map(|_| world.login(ALICE, None)).collect();
    for shell in shells {
        world.find(shell, "execution/from-memory", Confidence::High);
        world.answer_all();
    }
}

/// A minute in which everything is answered.
fn settle(world: &mut World) {
    for _ in 0..600 {
        world.answer_all();
        world.tick();
    }
}

fn storms(world: &World) -> Vec<bool> {
    let storm = |effect: &Effect| match effect {
        Effect::Storm { open, .. } => Some(*open),
        _ => None,
    };
    world.effects.iter().filter_map(storm).collect()
}

fn count(world: &World, kind: impl Fn(&Effect) -> bool) -> usize {
    world.effects.iter().filter(|effect| kind(effect)).count()
}

fn commits(world: &World) -> usize {
    count(world, |effect| matches!(effect, Effect::Commit { .. }))
}

fn reflexes(world: &World) -> usize {
    count(world, |effect| matches!(effect, Effect::Reflex { .. }))
}

fn renewals(world: &World) -> usize {
    count(world, |effect| matches!(effect, Effect::Renew { .. }))
}

fn hold(world: &mut World, seconds: u64) {
    let until = Timestamp(world.engine.view().now.0 + seconds * 1_000_000_000);
    world.input(Input::Command(Command::Hold { until, why: "migration".to_owned() }));
}

fn not_healed(world: &World) -> Vec<Incident> {
    world.incidents().into_iter().filter(|incident| incident.confirmed && incident.stage != Stage::Healed).collect()
}

#[test]
fn five_hundred_false_findings_stop_a_few_then_the_breaker_opens_and_one_notice_is_given() {
    let mut world = World::new(Mode::Autonomous);
    false_alarms(&mut world, 500);
    settle(&mut world);
    assert_eq!(storms(&world), [true], "one notice");
    assert!((1..=STORM_INCIDENTS_MAX).contains(&reflexes(&world)), "{}", reflexes(&world));
    assert!(commits(&world) <= usize::try_from(ACTIONS_PER_MINUTE).unwrap(), "{}", commits(&world));
    let storm = world.engine.view().storm.unwrap();
    assert!(storm.why.starts_with("storm breaker: 17 attacks were confirmed within a minute"), "{}", storm.why);
    // What came later is asked, with the reason; what was stopped goes on when its lease ends. About accounts those are asked who
    // were there before it: that question needs no storm.
    let asked = |incident: &Incident| {
        let by_itself = |action: &&ActionRecord| !matches!(action.action, Action::LockAccount { .. });
        let asked = incident.actions.iter().filter(|action| action.verdict.decision == Decision::Ask).filter(by_itself);
        asked.inspect(|action| assert!(action.verdict.reasons[0].starts_with("K3: storm"), "{action:?}")).count()
    };
    assert!(world.incidents().iter().all(|incident| asked(incident) > 0 || incident.stage == Stage::Healed));
    let locks = |incident: &Incident| incident.actions.iter().any(|record| record.action.name() == "lock_account");
    assert!(world.incidents().iter().filter(|incident| locks(incident)).count() <= STORM_INCIDENTS_MAX);
    let before = renewals(&world);
    world.tick();
    assert_eq!(renewals(&world), before);
}

#[test]
fn in_a_storm_a_person_decides_action_by_action_or_judges_an_incident() {
    let mut world = World::new(Mode::Autonomous);
    false_alarms(&mut world, 40);
    settle(&mut world);
    let (stopped, ended) = (reflexes(&world), commits(&world));
    let waiting = not_healed(&world);
    let last = waiting.last().unwrap();
    let stop = last.actions.iter().find(|action| matches!(action.action, Action::SuspendProcesses { .. })).unwrap().id;
    world.input(Input::Command(Command::Approve { action: stop }));
    settle(&mut world);
    assert_eq!((reflexes(&world), commits(&world)), (stopped + 1, ended), "this one, and nothing else");
    world.tick();
    assert!(world.effects.iter().rev().any(|effect| *effect == Effect::Renew { action: stop }), "it is held");
    let judged = waiting[0].id;
    world.input(Input::Command(Command::Judge { incident: judged, true_positive: true }));
    settle(&mut world);
    let left: Vec<IncidentId> = not_healed(&world).iter().map(|incident| incident.id).collect();
    assert!(!left.contains(&judged) && left.len() + 1 == waiting.len(), "{left:?}");
    assert_eq!(storms(&world), [true], "it goes on");
}

#[test]
fn after_a_storm_nothing_of_it_is_acted_upon_by_itself_and_what_is_new_is() {
    let mut world = World::new(Mode::Autonomous);
    false_alarms(&mut world, 500);
    settle(&mut world);
    let (stopped, ended, waiting) = (reflexes(&world), commits(&world), not_healed(&world));
    world.input(Input::Command(Command::Release));
    settle(&mut world);
    assert_eq!((storms(&world), world.engine.view().storm), (vec![true, false], None));
    assert_eq!((reflexes(&world), commits(&world)), (stopped, ended), "nobody has judged what came in the storm");
    // There is no room for new ones but the room of those that nobody judged.
    let shell = world.login(ALICE, None);
    world.find(shell, "impact/real", Confidence::High);
    settle(&mut world);
    assert_eq!(world.incidents().pop().unwrap().stage, Stage::Healed);
    for incident in &waiting {
        world.input(Input::Command(Command::Judge { incident: incident.id, true_positive: false }));
    }
    settle(&mut world);
    assert_eq!(storms(&world), [true, false]);
}

#[test]
fn what_is_falsely_confirmed_under_a_persons_hold_is_not_acted_upon_when_it_ends() {
    let mut world = World::new(Mode::Autonomous);
    hold(&mut world, 60);
    false_alarms(&mut world, 40);
    assert_eq!(storms(&world), [true]);
    settle(&mut world);
    settle(&mut world);
    assert_eq!(world.engine.view().hold, None, "it ended by itself");
    assert_eq!((reflexes(&world), commits(&world)), (0, 0));
    // Who ends a hold ends no storm.
    hold(&mut world, 60);
    world.input(Input::Command(Command::Release));
    assert!(world.engine.view().hold.is_none() && world.engine.view().storm.is_some());
    world.input(Input::Command(Command::Release));
    assert_eq!((storms(&world), world.engine.view().storm), (vec![true, false], None));
}

#[test]
fn a_crash_of_the_agent_does_not_end_a_storm() {
    let mut world = World::new(Mode::Autonomous);
    false_alarms(&mut world, 30);
    settle(&mut world);
    let (stopped, ended) = (reflexes(&world), commits(&world));
    world.crash_at = Some(world.inputs.len());
    settle(&mut world);
    assert!(world.engine.view().storm.is_some());
    assert_eq!((reflexes(&world), commits(&world)), (stopped, ended));
}

#[test]
fn more_than_a_minutes_budget_waits_for_the_next_minute_or_a_person() {
    let budget = Configuration { actions_per_minute: 16, ..configuration(Mode::Autonomous) };
    let mut world = World::with(Engine::new(), budget);
    let shell = world.login(ALICE, None);
    // What is found otherwise than planned is an action by itself.
    for number in 0..300 {
        let path = format!("/home/alice/{number}");
        world.write(shell, &path);
        world.misfits.insert(HostPath::from(path.as_str()));
    }
    world.find(shell, "impact/x", Confidence::High);
    for _ in 0..300 {
        world.answer_all();
        world.tick();
    }
    assert_eq!(commits(&world), 256, "sixteen times sixteen, for one that is alone");
    let waiting = not_healed(&world).remove(0);
    let short = |record: &&ActionRecord| record.verdict.reasons[0].starts_with("K4: 256 actions of it within a minute");
    let asked: Vec<ActionId> = waiting.actions.iter().filter(short).map(|record| record.id).collect();
    assert!(
        (1..=crate::decide::IN_FLIGHT_MAX).contains(&asked.len()),
        "they are not flooded with questions: {asked:?}"
    );
    assert!(waiting.why.contains("objects wait"), "{}", waiting.why);
    assert!(!world.tick().pending, "nobody is busy with waiting");
    world.input(Input::Command(Command::Approve { action: asked[0] }));
    world.answer_all();
    assert_eq!(commits(&world), 257, "a person's word is not counted");
    // Another one is stopped at once: first stops do not wait.
    let (other, stopped) = (world.login(ALICE, None), reflexes(&world));
    world.find(other, "impact/y", Confidence::High);
    assert_eq!(reflexes(&world), stopped + 1);
    settle(&mut world);
    settle(&mut world);
    assert!(not_healed(&world).is_empty(), "{:#?}", not_healed(&world));
    assert!(storms(&world).is_empty());
}

#[test]
fn a_question_that_nobody_answers_goes_to_the_safe_side_and_may_be_answered_later() {
    let mut world = World::new(Mode::Guarded);
    let shell = world.login(ALICE, None);
    world.find(shell, "impact/x", Confidence::High);
    world.settle();
    let end = |world: &World| {
        let ends = |record: &ActionRecord| matches!(record.action, Action::EndSession { .. });
        only(world).actions.into_iter().find(ends).unwrap()
    };
    let asked = end(&world);
    assert_eq!(asked.answer_by, Some(Timestamp(asked.decided.0 + ANSWER_NS)));
    // Looked at anew meanwhile: it is the same question, with the same end.
    world.input(Input::Command(Command::Mode(Mode::Guarded)));
    world.settle();
    assert_eq!(end(&world).answer_by, asked.answer_by);
    world.wait(ANSWER_NS / 1_000_000);
    world.tick();
    let lapsed = end(&world);
    assert_eq!((lapsed.verdict.decision, lapsed.answer_by, lapsed.outcome.clone()), (Decision::Deny, None, None));
    assert!(lapsed.verdict.reasons[0].starts_with("nobody answered within 1440 minutes"), "{lapsed:?}");
    assert!(only(&world).why.contains("nobody answered in time"), "{}", only(&world).why);
    world.input(Input::Command(Command::Approve { action: lapsed.id }));
    world.settle();
    assert_eq!(only(&world).stage, Stage::Healed);
    // The same inputs give the same effects.
    let (mut engine, mut again) = (Engine::new(), Vec::new());
    for (now, input) in &world.inputs {
        engine.step(*now, input.clone(), &mut again);
    }
    assert_eq!(again, world.effects);
}

#[test]
fn where_a_policy_wants_two_persons_the_second_is_another_user() {
    let two = "@id(\"two\") @ask(\"it cannot be undone\") @persons(\"2\")
        permit (principal, action in Action::\"final\", resource) when { context.confirmed };";
    let guarded = configuration(Mode::Guarded);
    let policies = [guarded.policies.clone(), vec![("two.cedar".to_owned(), two.to_owned())]].concat();
    let mut world = World::with(Engine::new(), Configuration { policies, ..guarded });
    let shell = world.login(ALICE, None);
    world.find(shell, "impact/x", Confidence::High);
    world.settle();
    let asked = |world: &World| only(world).actions.into_iter().find(|one| one.answer_by.is_some()).unwrap();
    let action = asked(&world).id;
    let answer = |world: &mut World, uid| {
        world.input(Input::Command(Command::Answer { action, approved: true, uid, before: false }));
        world.settle();
    };
    let before = commits(&world);
    for _ in 0..3 {
        answer(&mut world, 1000); // one and the same, however often
        assert_eq!((commits(&world), asked(&world).approved_by), (before, vec![1000]));
    }
    let why = asked(&world).verdict.reasons.join("; ");
    assert!(why.contains("`two` asks two persons") && why.ends_with("another user has to, too"), "{why}");
    // What one approved does not wait for the other beyond the question's time.
    world.wait(ANSWER_NS / 1_000_000);
    world.tick();
    answer(&mut world, 1002);
    assert_eq!((commits(&world), asked(&world).approved_by), (before, vec![1002]));
    answer(&mut world, 1000);
    assert_eq!(only(&world).stage, Stage::Healed);
}

#[test]
fn one_attack_however_large_and_attacks_with_time_between_them_are_no_storm() {
    let mut world = World::new(Mode::Autonomous);
    let shell = persistence(&mut world);
    for number in 0..100 {
        world.find(shell, &format!("foothold/{number}"), Confidence::High);
    }
    world.settle();
    for _ in 0..40 {
        let shell = world.login(ALICE, None);
        world.find(shell, "execution/from-memory", Confidence::High);
        world.settle();
    }
    assert_eq!(world.engine.view().storm, None);
    assert!(
        world.incidents().iter().filter(|incident| incident.confirmed).all(|incident| incident.stage == Stage::Healed)
    );
}
