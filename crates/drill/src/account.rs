// SPDX-License-Identifier: Apache-2.0
//! The account that an intruder came in with: asked about, locked when a person says so, and unlocked again.
//!
//! Whether it lets anybody in is tried at the twin's own door, from a neighbour's address that nobody blocks, with each user's own
//! key.

use crate::agent::Agent;
use crate::cast::{Cast, pause};
use crate::outside::{self, Outside};
use crate::scenario::Actor;
use crate::session::{USERS, Way};
use crate::twin::Twin;
use crate::{Result, snapshot};
use std::time::{Duration, Instant};
use thymus_engine::Stage;
use thymus_engine::action::{Action, Outcome};
use thymus_engine::incident::{ActionRecord, Decision};

/// LIMIT: from a person's yes until it is done.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// What is wrong about it, in words.
pub(crate) fn locked_and_unlocked(
    twin: &Twin,
    agent: &Agent<'_>,
    cast: Cast<'_>,
    outside: &Outside,
) -> Result<Vec<(String, String)>> {
    let user = Actor::Intruder.user();
    let uid = USERS.iter().find(|(name, _)| *name == user).map(|(_, uid)| *uid);
    let is_right = |record: &ActionRecord| {
        matches!(record.action, Action::LockAccount { uid: asked, .. } if Some(asked) == uid)
            && (record.verdict.decision, &record.outcome) == (Decision::Ask, &None)
    };
    let question = match &*locks(agent)? {
        [record] if is_right(record) => record.id,
        other => {
            return Ok(vec![(format!("{user}'s account"), format!("is to be asked about, and no other: {other:?}"))]);
        }
    };
    let source = outside::host(9).to_string();
    let target = outside::TWIN.to_string();
    let let_in = || {
        let way = Way { network: outside.process(), source: &source, target: &target };
        let knocks = |(name, _): &(&'static str, u32)| {
            way.knock(twin, &cast.keys.private(name), name).map(|opened| opened.then_some(*name))
        };
        let opened: Result<Vec<Option<&str>>> = USERS.iter().map(knocks).collect();
        opened.map(|opened| opened.into_iter().flatten().collect::<Vec<_>>())
    };
    let all: Vec<&str> = USERS.iter().map(|(name, _)| *name).collect();
    let others: Vec<&str> = all.iter().copied().filter(|name| *name != user).collect();
    let shadow = || snapshot::take(&twin.root().join("etc"), &|path| path.as_bytes() != b"/shadow");
    let mut wrong = Vec::new();
    let mut expect = |when: &str, found: Vec<&str>, wanted: &[&str]| {
        if found != wanted {
            wrong.push((when.to_owned(), format!("{found:?} come in with their keys, expected {wanted:?}")));
        }
    };
    let before = shadow()?;
    expect("before an account is locked", let_in()?, &all);
    (cast.tell)(&format!("  a person reads the question, and approves a{question}: {user} comes in no more"));
    agent.approve(question)?;
    let begin = Instant::now();
    let locked = || Ok(locks(agent)?.iter().all(|record| record.outcome == Some(Outcome::Success)));
    let healed = || -> Result<bool> {
        let incidents = agent.incidents()?;
        Ok(incidents.iter().filter(|incident| incident.confirmed).all(|incident| incident.stage == Stage::Healed))
    };
    while !(locked()? && healed()?) {
        if begin.elapsed() > ANSWER_LIMIT {
            let why: Vec<String> = agent.incidents()?.into_iter().map(|incident| incident.why).collect();
            let why = format!("is not locked, or the host not healed then: {:?}; {}", locks(agent)?, why.join("; "));
            return Ok(vec![(format!("{user}'s account"), why)]);
        }
        pause(Duration::from_millis(100))?;
    }
    expect("while the account is locked", let_in()?, &others);
    agent.tell(&["undo", &format!("a{question}")])?;
    expect("after that is undone", let_in()?, &all);
    if shadow()? != before {
        wrong.push(("/etc/shadow".to_owned(), "is not as it was after that is undone".to_owned()));
    }
    Ok(wrong)
}

fn locks(agent: &Agent<'_>) -> Result<Vec<ActionRecord>> {
    let records = agent.incidents()?.into_iter().flat_map(|incident| incident.actions);
    Ok(records.filter(|record| matches!(record.action, Action::LockAccount { .. })).collect())
}
