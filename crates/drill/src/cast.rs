// SPDX-License-Identifier: Apache-2.0
//! Everybody who works in a twin, each in one ssh session.

use crate::random::Random;
use crate::relay::Relay;
use crate::run::Tell;
use crate::scenario::{Actor, Plan, Step};
use crate::session::{Answer, Keys, Session};
use crate::twin::Twin;
use crate::{Doing, Error, Result, archive, interrupt};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// LIMIT: one step of anybody's. A daemon reload on a busy machine takes a second.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// Who takes part, and what they are going to do.
#[derive(Clone, Copy)]
pub(crate) struct Cast<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) keys: &'a Keys,
    pub(crate) seed: u64,
    pub(crate) tell: Tell<'a>,
    /// Where two hosts take part, what they wait for of each other.
    pub(crate) relay: Option<&'a Relay>,
}

pub(crate) struct People<'a> {
    cast: Cast<'a>,
    sessions: BTreeMap<Actor, Session>,
}

impl<'a> Cast<'a> {
    pub(crate) fn plant(&self, twin: &Twin) -> Result<()> {
        self.keys.plant_with(twin, &self.plan.lets_in)?;
        for (whose, path, owner) in &self.plan.keys {
            let private = self.keys.private(whose);
            let text = std::fs::read(&private).doing("read", private)?;
            twin.plant(path, &text, 0o600, *owner)?;
        }
        for (path, content, mode, owner) in &self.plan.planted {
            twin.plant(path, content.as_bytes(), *mode, *owner)?;
        }
        for path in &self.plan.archived {
            archive::plant(twin, path)?;
        }
        if let Some(crowd) = &self.plan.crowd {
            crowd.plant(twin)?;
        }
        Ok(())
    }

    /// What the host does by itself, once.
    pub(crate) fn jobs(&self, twin: &Twin) -> Result<()> {
        for unit in &self.plan.jobs {
            twin.inside(&["systemctl", "start", unit])?;
            let state = twin.inside(&["systemctl", "show", "--property=Result", "--value", unit])?;
            if state.trim() != "success" {
                return Err(Error::Benign { step: format!("unit {unit}"), why: state.trim().to_owned() });
            }
        }
        Ok(())
    }

    pub(crate) fn people(self, twin: &Twin) -> Result<People<'a>> {
        let mut random = Random::new(self.seed ^ 0x0070_656f_706c_6521);
        let mut sessions = BTreeMap::new();
        for (actor, source) in [(Actor::Ops, "127.0.0.2"), (Actor::Alice, "127.0.0.3"), (Actor::Bob, "127.0.0.4")] {
            let session = Session::open(twin, self.keys, actor.user(), source, &random.word(10))?;
            sessions.insert(actor, session);
        }
        Ok(People { cast: self, sessions })
    }
}

impl People<'_> {
    /// Does all benign steps in order; gives those that failed, with the reason.
    pub(crate) fn work(&mut self, turn: &Mutex<()>, narrate: bool) -> Result<Vec<(String, String)>> {
        let mut harmed = Vec::new();
        for step in &self.cast.plan.benign {
            if narrate {
                pause(step.pause)?;
                (self.cast.tell)(&format!("    {}", step.title));
            }
            let Some(session) = self.sessions.get_mut(&step.actor) else {
                harmed.push((step.title.clone(), "has no session any more".to_owned()));
                continue;
            };
            let held = shared(self.cast.plan, step).then(|| turn.lock().unwrap_or_else(PoisonError::into_inner));
            let answer = session.run(&step.script, STEP_LIMIT);
            drop(held);
            match answer {
                Ok(answer) if answer.status == 0 => {}
                Ok(Answer { status, lines }) => {
                    harmed.push((step.title.clone(), format!("status {status}: {}", lines.join(" | "))));
                }
                Err(Error::SessionEnded { why, .. }) => {
                    self.sessions.remove(&step.actor);
                    harmed.push((step.title.clone(), why));
                }
                Err(other) => return Err(other),
            }
        }
        Ok(harmed)
    }

    /// The administrator opens these files, as an editor does: what they hold now is what he will save.
    pub(crate) fn open(&mut self, paths: &[String]) -> Result<()> {
        // The dot keeps the last line's ending.
        self.administer(paths, |at, path| format!("opened_{at}=$(sudo cat {path} && echo .)"))
    }

    /// He saves what he opened.
    pub(crate) fn save(&mut self, paths: &[String]) -> Result<()> {
        let save = |at: usize, path: &String| format!("printf %s \"${{opened_{at}%.}}\" | sudo tee {path} >/dev/null");
        self.administer(paths, save)
    }

    fn administer(&mut self, paths: &[String], script: impl Fn(usize, &String) -> String) -> Result<()> {
        for (at, path) in paths.iter().enumerate() {
            let why = |why: String| Error::Benign { step: format!("editing {path}"), why };
            let session =
                self.sessions.get_mut(&Actor::Ops).ok_or_else(|| why("he has no session any more".to_owned()))?;
            let answer = session.run(&script(at, path), STEP_LIMIT)?;
            if answer.status != 0 {
                return Err(why(answer.lines.join(" | ")));
            }
        }
        Ok(())
    }

    pub(crate) fn leave(self) {
        for session in self.sessions.into_values() {
            session.close();
        }
    }
}

pub(crate) fn shared(plan: &Plan, step: &Step) -> bool {
    step.paths.iter().chain(&step.logs).any(|path| plan.shared.contains(path))
}

pub(crate) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        interrupt::check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}
