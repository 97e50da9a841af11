// SPDX-License-Identifier: Apache-2.0
//! Hundreds of alarms at once, all of them false: many people start the same tool, which a rule takes for an attack.

use crate::agent::Agent;
use crate::cast::{Cast, pause};
use crate::session::Session;
use crate::twin::Twin;
use crate::{Error, Result};
use serde::Serialize;
use std::time::{Duration, Instant};
use thymus_engine::action::Outcome;
use thymus_engine::guard::{ACTIONS_PER_MINUTE, STORM_INCIDENTS_MAX};
use thymus_engine::incident::Incident;

/// LIMIT: until the agent calls it a storm.
const STORM_LIMIT: Duration = Duration::from_secs(60);
/// After that: stops that nobody renews have lapsed, and whatever else would have been done has been.
const LAPSED_AFTER: Duration = Duration::from_secs(20);
/// LIMIT: the tools' start in one session.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How many sessions, and how often each starts the tool.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    pub sessions: u8,
    pub alarms: u32,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stormed {
    /// Findings that the agent told of.
    pub findings: usize,
    pub confirmed: usize,
    /// Incidents about which something was done by itself, and how many actions those were.
    pub acted_upon: usize,
    pub actions: usize,
    /// How often the agent said that there is a storm.
    pub notices: usize,
    /// Sessions that went on as before.
    pub sessions: usize,
    pub sessions_left: usize,
}

impl Stormed {
    /// At most what the breaker and the budget let pass, then nothing but one notice.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.confirmed > STORM_INCIDENTS_MAX
            && (1..=STORM_INCIDENTS_MAX).contains(&self.acted_upon)
            && self.actions <= usize::try_from(ACTIONS_PER_MINUTE).unwrap_or(usize::MAX)
            && self.notices == 1
            && self.sessions_left + self.acted_upon >= self.sessions
    }
}

/// Everybody logs in; then all start the tool at the same moment.
pub(crate) fn rage(twin: &Twin, cast: Cast<'_>, storm: Storm, agent: &Agent<'_>) -> Result<Stormed> {
    let mut sessions = Vec::new();
    for number in 0..storm.sessions {
        sessions.push(Session::open(twin, cast.keys, "alice", &format!("127.0.1.{number}"), "storm-of-alarms")?);
    }
    // A program from memory, as tools that unpack themselves are run: 319 is memfd_create(2) on x86-64.
    let tool = format!(
        "perl -e 'my $n = \"tool\"; my $fd = syscall(319, $n, 0); open my $i, \"<\", \"/bin/sleep\"; local $/; my $b = <$i>; \
         open my $o, \">\", \"/proc/self/fd/$fd\"; print $o $b; close $o; \
         for (1..{}) {{ if (!fork) {{ exec {{\"/proc/self/fd/$fd\"}} \"tool\", \"8\"; exit 1 }} }}' >/dev/null 2>&1 </dev/null &",
        storm.alarms
    );
    (cast.tell)(&format!("  {} people start a tool {} times each, at once", sessions.len(), storm.alarms));
    let started: Vec<Result<()>> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            sessions.iter_mut().map(|session| scope.spawn(|| session.run(&tool, START_LIMIT).map(drop))).collect();
        starts.into_iter().map(|start| start.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    for start in started {
        match start {
            Ok(()) | Err(Error::SessionEnded { .. }) => {} // one of those that were taken for an attack
            Err(other) => return Err(other),
        }
    }
    let begin = Instant::now();
    while agent.status()?.storm.is_none() && begin.elapsed() < STORM_LIMIT {
        pause(Duration::from_millis(200))?;
    }
    pause(LAPSED_AFTER)?;
    let log = agent.log();
    let said = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    let count = sessions.len();
    let left =
        sessions.into_iter().filter_map(|mut session| session.run(":", START_LIMIT).ok().map(|_| session.close()));
    let stormed = Stormed {
        sessions_left: left.count(),
        sessions: count,
        findings: said(": finding "),
        notices: said(": a storm: "),
        ..Stormed::of(&agent.incidents()?)
    };
    (cast.tell)(&format!("  {stormed:?}"));
    Ok(stormed)
}

impl Stormed {
    fn of(incidents: &[Incident]) -> Self {
        let done = |incident: &Incident| {
            incident
                .actions
                .iter()
                .filter(|record| matches!(record.outcome, Some(Outcome::Success | Outcome::Partly(_))))
                .count()
        };
        let confirmed = || incidents.iter().filter(|incident| incident.confirmed);
        Self {
            confirmed: confirmed().count(),
            acted_upon: confirmed().filter(|incident| done(incident) > 0).count(),
            actions: incidents.iter().map(done).sum(),
            ..Self::default()
        }
    }
}
