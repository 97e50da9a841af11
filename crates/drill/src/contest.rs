// SPDX-License-Identifier: Apache-2.0
//! What an attack and others changed so that nobody can tell it apart: the agent shows it and leaves it alone, and a person says
//! what is wanted.
//!
//! Input: the plan's contested paths, the settled agent. Output: what is wrong about it, in words.

use crate::agent::Agent;
use crate::cast::{Cast, pause};
use crate::twin::Twin;
use crate::{Result, snapshot};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use thymus_engine::action::{Action, Outcome};
use thymus_engine::guard::is_contradiction;
use thymus_engine::incident::{ActionRecord, Decision};
use thymus_engine::{HostPath, Incident};

/// LIMIT: from a person's word until it is done.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// What SQLite keeps beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What is to be shown.
#[derive(Clone, Debug)]
pub struct Contest {
    /// A text in which both sides changed the same line, and what it held before anybody did.
    pub text: String,
    pub was: String,
    /// A database of SQLite that both sides wrote: a table `orders`, whose number 1 the attack made cheap, with so many rows of bob's.
    pub database: String,
    pub rows: u32,
}

impl Contest {
    /// The files that no reference can say anything about.
    #[must_use]
    pub fn paths(&self) -> BTreeSet<HostPath> {
        let beside = BESIDE.map(|end| HostPath::from(format!("{}{end}", self.database).as_str()));
        beside.into_iter().chain(self.shown()).collect()
    }

    /// Of these, what the attack must have changed, and what must be shown.
    #[must_use]
    pub fn shown(&self) -> [HostPath; 2] {
        [&self.text, &self.database].map(|path| HostPath::from(path.as_str()))
    }
}

/// Looks at what is shown; then a person wants the text from before the attack and, with every other pair of seeds, has second
/// thoughts.
pub(crate) fn settled(
    twin: &Twin,
    agent: &Agent<'_>,
    cast: Cast<'_>,
    contest: &Contest,
) -> Result<Vec<(String, String)>> {
    let mut wrong = Vec::new();
    let incidents = agent.incidents()?;
    let all = contest.paths();
    for path in contest.shown() {
        if shown(&incidents, &path).is_none() {
            wrong.push((format!("{path}"), "is not shown".to_owned()));
        }
    }
    for record in incidents.iter().flat_map(|incident| &incident.actions) {
        let done = matches!(record.outcome, Some(Outcome::Success | Outcome::Partly(_)));
        if let Some(path) = record.action.paths().find(|path| done && all.contains(*path)) {
            wrong.push((format!("{path}"), format!("was touched by a{}, {}", record.id, record.action.name())));
        }
        // A yes to one of its files would take the database apart.
        let waits = record.verdict.decision == Decision::Ask && record.outcome.is_none();
        let text = HostPath::from(contest.text.as_str());
        if let Some(path) = record.action.paths().find(|path| waits && all.contains(*path) && **path != text) {
            wrong.push((format!("{path}"), format!("is asked about alone, by a{}", record.id)));
        }
    }
    wrong.extend(laid_beside(agent, &incidents, contest));
    wrong.extend(asked(twin, agent, cast, contest, &incidents)?);
    let database = twin.inside(&[
        "sqlite3",
        &contest.database,
        "pragma integrity_check; select cents from orders where number = 1; select count(*) from orders where who = 'bob';",
    ]);
    let (found, wanted) = (database.unwrap_or_else(|error| error.to_string()), format!("ok\n1\n{}", contest.rows));
    if found.trim() != wanted {
        wrong.push((contest.database.clone(), format!("holds {found:?}, expected {wanted:?}")));
    }
    Ok(wrong)
}

/// Why a path is shown, in the agent's words.
fn shown<'a>(incidents: &'a [Incident], path: &HostPath) -> Option<&'a str> {
    let mut objects = incidents.iter().flat_map(|incident| &incident.objects);
    objects.find(|object| object.path == *path).and_then(|object| object.shown.as_deref())
}

/// What the agent laid beside for a person, from before the attack.
fn laid_beside(agent: &Agent<'_>, incidents: &[Incident], contest: &Contest) -> Vec<(String, String)> {
    let kept = |path: &str| {
        let name = format!("{}.before", path.replace('/', "%2F"));
        let mut places = incidents.iter().map(|one| agent.state().join("aside").join(one.id.to_string()).join(&name));
        places.find_map(|place| std::fs::read(place).ok())
    };
    let mut wrong = Vec::new();
    if kept(&contest.text).as_deref() != Some(contest.was.as_bytes()) {
        wrong.push((contest.text.clone(), "what it was before does not lie beside".to_owned()));
    }
    let database = kept(&contest.database).unwrap_or_default();
    // From when bob's program opened it: what is held open has no later version. The attack wrote into these four bytes.
    if !database.starts_with(b"SQLite format 3\0") || database.get(68..72) != Some(&[0; 4]) {
        wrong.push((contest.database.clone(), "what it was before does not lie beside".to_owned()));
    }
    wrong
}

/// A person answers the question about the text.
fn asked(
    twin: &Twin,
    agent: &Agent<'_>,
    cast: Cast<'_>,
    contest: &Contest,
    incidents: &[Incident],
) -> Result<Vec<(String, String)>> {
    let path = HostPath::from(contest.text.as_str());
    let of_text = |record: &&ActionRecord| {
        matches!(&record.action, Action::RestoreFile(restore) if restore.path == path) && record.outcome.is_none()
    };
    let mut records = incidents.iter().flat_map(|incident| &incident.actions);
    let Some(question) = records.find(|record| of_text(record) && is_contradiction(&record.verdict)) else {
        return Ok(vec![(contest.text.clone(), "nobody is asked about it".to_owned())]);
    };
    let question = format!("a{}", question.id);
    let now = || snapshot::read(&twin.root(), &path).unwrap_or_default();
    let becomes = |wanted: &[u8]| -> Result<bool> {
        let begin = Instant::now();
        while now() != wanted && begin.elapsed() < ANSWER_LIMIT {
            pause(Duration::from_millis(100))?;
        }
        Ok(now() == wanted)
    };
    let mut wrong = Vec::new();
    let mut expect = |when: &str, wanted: &[u8]| -> Result<()> {
        if !becomes(wanted)? {
            let found = String::from_utf8_lossy(&now()).into_owned();
            wrong.push((
                format!("{path} {when}"),
                format!("holds {found:?}, expected {:?}", String::from_utf8_lossy(wanted)),
            ));
        }
        Ok(())
    };
    let left = now();
    (cast.tell)(&format!("  a person looks at what lies beside, and approves {question} --before"));
    agent.tell(&["approve", &question, "--before"])?;
    expect("as a person wants it", contest.was.as_bytes())?;
    if cast.seed / 2 % 2 == 1 {
        (cast.tell)(&format!("  a person has second thoughts, and undoes {question}"));
        agent.tell(&["undo", &question])?;
        expect("after that is undone", &left)?;
    }
    pause(Duration::from_secs(2))?;
    // Whatever the agent makes of it afterwards, the person's word stands.
    let wanted = if cast.seed / 2 % 2 == 1 { &left } else { contest.was.as_bytes() };
    expect("a little later", wanted)?;
    Ok(wrong)
}
