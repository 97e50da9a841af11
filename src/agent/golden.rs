// SPDX-License-Identifier: Apache-2.0
//! The golden state: a thread that looks at the host now and then and compares it with what is wanted, and the hot
//! thread's side of it, which knows who did what. Nothing is done about a drift: it is told.
//!
//! INVARIANT: a state that was recorded and cannot be read is never recorded anew by itself: that would want whatever is
//! there now.

use crate::config;
use crate::wanted;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::{Duration, Instant};
use thymus_control::{Answer, Request};
use thymus_engine::golden::{self, Accepted, Author, Declared, Drift, Golden, Item, Kind, Report, State, Told};
use thymus_engine::graph::Graph;
use thymus_engine::{BootId, HostPath, ProcessKey, Timestamp};
use thymus_host::inventory::{self, Inventory};
use thymus_host::scope::Scope;
use thymus_host::sense;

/// LIMIT: questions that wait for a look, and looks that wait for the hot thread.
pub(super) const ASKS_MAX: usize = 32;
/// LIMIT: bytes of the recorded state on disk.
const KEPT_BYTES_MAX: u64 = 64 << 20;

/// What the hot thread wants of the other.
#[derive(Debug)]
pub(super) enum Ask {
    /// Look, now.
    Look,
    /// Make these wanted, and look. `bool`: each was named by a person.
    Accept(Accepted, bool),
    /// Who was seen doing what is open.
    Seen(BTreeMap<Item, Seen>),
}

/// One look at the host, compared.
#[derive(Debug)]
pub(super) struct Found {
    /// Somebody asked for it and waits.
    asked: bool,
    /// What an `Accept` came to.
    answer: Answer,
    report: Report,
    /// Of drifts that nobody is known for, where to look in the graph.
    clues: BTreeMap<Item, Clue>,
    users: BTreeMap<u32, String>,
}

#[derive(Debug)]
struct Clue {
    paths: Vec<HostPath>,
    owner: Option<ProcessKey>,
    /// It was not so at the look that began then.
    after: Timestamp,
}

/// An author with the names that the host had for him.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    author: Author,
    user: Option<String>,
    login: Option<String>,
}

// ---- the hot thread's side ----

/// What the hot thread keeps of it.
#[derive(Debug)]
pub(super) struct Desk {
    asks: SyncSender<Ask>,
    found: Receiver<Found>,
    waiting: VecDeque<Request>,
    report: Arc<Report>,
    boot: BootId,
}

impl Desk {
    pub(super) fn new(asks: SyncSender<Ask>, found: Receiver<Found>, boot: BootId) -> Self {
        Self { asks, found, waiting: VecDeque::new(), report: Arc::default(), boot }
    }

    pub(super) fn report(&self) -> Arc<Report> {
        Arc::clone(&self.report)
    }

    /// The vault holds its baseline: the first look may come.
    pub(super) fn begin(&self) {
        drop(self.asks.try_send(Ask::Look)); // the channel is empty, or its reader gone with the agent
    }

    /// A person's question: answered after the look.
    pub(super) fn ask(&mut self, ask: Ask, request: Request) {
        if self.report.read_unix_ns.is_none() {
            return request
                .answer(Answer::refused("the host was not looked at yet: that comes when the baseline is complete"));
        }
        match self.asks.try_send(ask) {
            Ok(()) => self.waiting.push_back(request),
            Err(TrySendError::Full(_)) => request.answer(Answer::refused("too many wait for a look; try again")),
            Err(TrySendError::Disconnected(_)) => {
                request.answer(Answer::refused("nothing looks any more; see the agent's log"))
            }
        }
    }

    /// The looks that came in, with who did it. Who asked for them is to be answered when readers can see the report.
    pub(super) fn hear(&mut self, graph: &Graph) -> Vec<(Request, Answer)> {
        let mut answers = Vec::new();
        while let Ok(mut found) = self.found.try_recv() {
            let seen = name_authors(&mut found, graph, self.boot);
            if !seen.is_empty() {
                drop(self.asks.try_send(Ask::Seen(seen))); // full: the next look has them again
            }
            self.report = Arc::new(found.report);
            if found.asked
                && let Some(request) = self.waiting.pop_front()
            {
                answers.push((request, found.answer));
            }
        }
        answers
    }
}

fn name_authors(found: &mut Found, graph: &Graph, boot: BootId) -> BTreeMap<Item, Seen> {
    let boot_to_unix_ns = sense::boot_to_unix_ns();
    let name = |uid: Option<u32>| uid.and_then(|uid| found.users.get(&uid).cloned());
    let mut seen = BTreeMap::new();
    for told in &mut found.report.drift {
        let Some(clue) = found.clues.get(&told.drift.item) else { continue };
        let author = clue.owner.and_then(|owner| golden::owner(graph, owner));
        let Some(author) =
            author.or_else(|| golden::author(graph, &clue.paths, boot, clue.after, told.drift.kind == Kind::Added))
        else {
            continue;
        };
        let one = Seen { user: name(author.uid), login: name(author.login), author };
        told.since_unix_ns = one.author.time.0.saturating_add(boot_to_unix_ns);
        show(told, &one);
        seen.insert(told.drift.item.clone(), one);
    }
    seen
}

fn show(told: &mut Told, seen: &Seen) {
    told.author = Some(seen.author.clone());
    told.user.clone_from(&seen.user);
    told.login.clone_from(&seen.login);
}

// ---- the thread that looks ----

/// Where it looks and what it compares with.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) scope: Scope,
    pub(super) state: PathBuf,
    /// The declared state, when there is one.
    pub(super) wanted: Option<PathBuf>,
    pub(super) every: Duration,
}

/// What is kept on disk, for root alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    recorded_unix_ns: u64,
    recorded: Golden,
    /// Drifts by item: how they were noticed.
    open: BTreeMap<Item, Open>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    found: Option<State>,
    since_unix_ns: u64,
    seen: Option<Seen>,
}

/// Ends when the hot thread is gone.
pub(super) fn run(place: &Place, asks: &Receiver<Ask>, found: &SyncSender<Found>) {
    let mut looker = Looker::open(place);
    let Ok(mut ask) = asks.recv() else { return };
    let mut asked = false; // the first look is nobody's
    loop {
        let answer = match ask {
            Ask::Seen(seen) => {
                looker.remember(seen);
                None
            }
            Ask::Look => Some(looker.look(None)),
            Ask::Accept(items, named) => Some(looker.look(Some((&items, named)))),
        };
        if let Some(look) = answer
            && found.send(Found { asked, ..look }).is_err()
        {
            return;
        }
        (ask, asked) = match asks.recv_timeout(place.every) {
            Ok(ask) => (ask, true),
            Err(RecvTimeoutError::Timeout) => (Ask::Look, false),
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

struct Looker<'a> {
    place: &'a Place,
    path: PathBuf,
    /// `None`: nothing is recorded yet.
    kept: Option<Kept>,
    /// What is recorded cannot be read: why.
    broken: Option<String>,
    /// What is on disk.
    saved: Option<Kept>,
    /// When the last look began; open drifts that came later were not there then.
    looked: Timestamp,
    after: BTreeMap<Item, Timestamp>,
}

impl<'a> Looker<'a> {
    fn open(place: &'a Place) -> Self {
        let path = place.state.join("golden").join("recorded.json");
        let (kept, broken) = match read(&path) {
            Ok(kept) => (kept, None),
            Err(why) => (None, Some(format!("`{}`: {why}; move it away to record the present state", path.display()))),
        };
        Self { place, path, saved: kept.clone(), kept, broken, looked: Timestamp(0), after: BTreeMap::new() }
    }

    fn look(&mut self, accepted: Option<(&Accepted, bool)>) -> Found {
        let begin = sense::now();
        let clock = Instant::now();
        let inventory = inventory::look(&self.place.scope);
        let now_unix_ns = begin.0.saturating_add(sense::boot_to_unix_ns());
        let mut report = Report {
            read_unix_ns: Some(now_unix_ns),
            counts: inventory.golden.counts(),
            unread: inventory.unread.clone(),
            left_out: inventory.left_out,
            ..Report::default()
        };
        let mut clues = BTreeMap::new();
        let mut answer = Answer::done(format!("looked at {} items", report.counts.values().sum::<u64>()));
        let declared = self.declared(&inventory, &mut report);
        if self.broken.is_none() {
            self.record(&inventory, now_unix_ns);
        }
        report.problems.extend(self.broken.clone());
        if let Some(mut kept) = self.kept.take() {
            if let Some((items, named)) = accepted {
                let refused = golden::accept(&mut kept.recorded, &declared, &inventory.golden, items, named);
                let done = items.len().saturating_sub(refused.len());
                let line = format!("{done} of {} items are wanted as they are", items.len());
                answer = Answer { done: refused.is_empty(), lines: std::iter::once(line).chain(refused).collect() };
            }
            let (drifts, omitted) = golden::compare(&kept.recorded, &declared, &inventory.golden);
            report.omitted = omitted;
            let mut open = BTreeMap::new();
            for drift in drifts {
                let (told, clue) = self.tell(drift, &kept, &inventory, now_unix_ns);
                let item = told.drift.item.clone();
                let seen = kept
                    .open
                    .get(&item)
                    .filter(|open| open.found == told.drift.found)
                    .and_then(|open| open.seen.clone());
                open.insert(
                    item.clone(),
                    Open { found: told.drift.found.clone(), since_unix_ns: told.since_unix_ns, seen },
                );
                clues.extend(clue.map(|clue| (item, clue)));
                report.drift.push(told);
            }
            self.after.retain(|item, _| open.contains_key(item));
            kept.open = open;
            report.recorded_unix_ns = Some(kept.recorded_unix_ns);
            report.recorded = Arc::new(kept.recorded.clone());
            self.kept = Some(kept);
        } else if accepted.is_some() {
            answer = Answer::refused("nothing is recorded: `thymus doctor` says why");
        }
        if let Err(error) = self.save() {
            report.problems.push(format!("`{}` cannot be written: {error}", self.path.display()));
        }
        self.looked = begin;
        report.read_ms = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        Found { asked: false, answer, report, clues, users: inventory.users }
    }

    /// The declared state when it is good, else the last good one.
    fn declared(&self, inventory: &Inventory, report: &mut Report) -> Declared {
        let Some(path) = &self.place.wanted else { return Declared::default() };
        let (declared, problem) = wanted::load(path, &self.place.state, |declared| declared.sane(&inventory.golden));
        report.problems.extend(problem.map(|problem| problem.to_string()));
        let declared = declared.unwrap_or_default();
        report.declared = Some((path.display().to_string(), declared.items.len() as u64));
        declared
    }

    /// What was never recorded is recorded as it is: all at the first look, and a section when it can be read at last.
    fn record(&mut self, inventory: &Inventory, now_unix_ns: u64) {
        let kept = self.kept.get_or_insert_with(|| Kept { recorded_unix_ns: now_unix_ns, ..Kept::default() });
        for (section, items) in &inventory.golden.0 {
            kept.recorded.0.entry(*section).or_insert_with(|| items.clone());
        }
    }

    /// A drift as it was noticed first, or as it is noticed now; and where its author is to be found.
    fn tell(&mut self, drift: Drift, kept: &Kept, inventory: &Inventory, now_unix_ns: u64) -> (Told, Option<Clue>) {
        let known = kept.open.get(&drift.item).filter(|open| open.found == drift.found);
        let since_unix_ns = known.map_or(now_unix_ns, |open| open.since_unix_ns);
        let mut told = Told { drift, since_unix_ns, author: None, user: None, login: None };
        if let Some(seen) = known.and_then(|open| open.seen.as_ref()) {
            show(&mut told, seen);
            return (told, None);
        }
        let item = &told.drift.item;
        let after = match (known, self.after.get(item)) {
            (Some(_), Some(after)) => *after,
            _ => self.looked,
        };
        self.after.insert(item.clone(), after);
        let mut paths = told.drift.behind();
        paths.extend(inventory.behind.get(item).into_iter().flatten().cloned());
        let owner = inventory.owners.get(item).and_then(|pid| inventory::process(*pid));
        (told, Some(Clue { paths, owner, after }))
    }

    fn remember(&mut self, seen: BTreeMap<Item, Seen>) {
        let Some(kept) = &mut self.kept else { return };
        for (item, seen) in seen {
            if let Some(open) = kept.open.get_mut(&item) {
                open.since_unix_ns = seen.author.time.0.saturating_add(sense::boot_to_unix_ns());
                open.seen = Some(seen);
            }
        }
        if let Err(error) = self.save() {
            tracing::warn!(%error, "the golden state could not be written"); // the next look says so
        }
    }

    fn save(&mut self) -> anyhow::Result<()> {
        if let Some(kept) = self.kept.as_ref().filter(|kept| self.saved.as_ref() != Some(*kept)) {
            config::keep(&self.path, &serde_json::to_vec(kept)?)?;
            self.saved = self.kept.clone();
        }
        Ok(())
    }
}

/// What was kept; `None` when nothing was.
fn read(path: &Path) -> anyhow::Result<Option<Kept>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(KEPT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

#[cfg(test)]
mod tests;
