// SPDX-License-Identifier: Apache-2.0
//! A drill with two hosts: what each waits for of the other, how the intruder gets from one to the other, and what must hold
//! between them in the end.

use crate::cast::{Cast, pause};
use crate::outside::{NEXT, TWIN};
use crate::play::{Played, blocked};
use crate::scenario::{Actor, Plan};
use crate::session::Session;
use crate::twin::Twin;
use crate::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub(crate) struct Relay {
    ready: AtomicUsize,
    over: AtomicBool,
    failed: AtomicBool,
    /// When the intruder set out for the second host, boot clock, nanoseconds; 0: never.
    went_on: AtomicU64,
}

impl Relay {
    /// Returns when both hosts are guarded and their people have come.
    pub(crate) fn ready(&self) -> Result<()> {
        self.ready.fetch_add(1, Ordering::SeqCst);
        self.wait(|| self.ready.load(Ordering::SeqCst) >= 2)
    }

    /// Of the second host: returns when the intruder does nothing more; gives when he set out for it.
    pub(crate) fn attacked(&self) -> Result<u64> {
        self.wait(|| self.over.load(Ordering::SeqCst))?;
        Ok(self.went_on.load(Ordering::SeqCst))
    }

    pub(crate) fn goes_on(&self, now: u64) {
        self.went_on.store(now, Ordering::SeqCst);
    }

    pub(crate) fn is_over(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Nobody waits for whoever gave up.
    pub(crate) fn gives_up(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }

    fn wait(&self, holds: impl Fn() -> bool) -> Result<()> {
        while !holds() {
            if self.failed.load(Ordering::SeqCst) {
                let (step, why) = ("the other host's part".to_owned(), "it ended early".to_owned());
                return Err(Error::Benign { step, why });
            }
            pause(LOOK_EVERY)?;
        }
        Ok(())
    }
}

/// What the shell of one session on the next host is given: all of the intruder's steps there, parsed as a whole before the
/// first is taken.
pub(crate) fn errand(plan: &Plan, token: &str, prelude: &str) -> String {
    let record = plan.record.as_deref().unwrap_or("/dev/null");
    let books = record.rsplit_once('/').map_or("/dev/shm", |(directory, _)| directory);
    let steps = |steps: &[crate::scenario::Step]| -> String {
        let step = |step: &crate::scenario::Step| {
            let (paths, pause) = (step.paths.join(" "), step.pause.as_secs_f32());
            format!(
                "sleep {pause}\nsay was {paths} >>{record}\n{{ {}\n}} </dev/null\nsay now {paths} >>{record}\n",
                step.script
            )
        };
        steps.iter().map(step).collect()
    };
    format!(
        "{{\nmkdir -p {books}; umask 0\n{prelude}\nprintf '%s in %s /\\n' {token} \"$(sed -n s/^0:://p /proc/self/cgroup)\" >>{record}\n\
         umask 22\n{}{} <<'AS_ROOT_THERE'\numask 22\n{prelude}\n{}AS_ROOT_THERE\n}}\n",
        steps(&plan.attack_user),
        plan.escalation,
        steps(&plan.attack_root)
    )
}

/// Nobody stopped the intruder on the first host before he went on: then the drill shows nothing if he touched nothing on the
/// second one.
pub(crate) fn must_arrive(played: &mut Played) {
    if played.truth.was.is_empty() {
        played.harmed.push(("the intruder".to_owned(), "was not stopped, and did not get to the next host".to_owned()));
    }
}

/// When both are healed: whoever comes to the second host from the first one in their own right still does, and the second
/// one has not shut the first one out, whoever else came from there.
pub(crate) fn afterwards(first: &Twin, second: &Twin, cast: Cast<'_>, played: &mut Played) -> Result<()> {
    let here = std::net::IpAddr::from(TWIN);
    if blocked(&played.incidents).contains(&here) {
        played.harmed.push(("an address that others come from".to_owned(), format!("{here} is blocked")));
    }
    if let Err(error) = cast.jobs(first) {
        played.harmed.push(("the first host's own work".to_owned(), error.to_string()));
    }
    let mut session = Session::open(first, cast.keys, Actor::Ops.user(), "127.0.0.2", "goes-on-to-next")?;
    let went = session.run(&format!("ssh {}@{NEXT} 'echo I am here'", Actor::Ops.user()), Duration::from_secs(20));
    session.close();
    let why = match went {
        Ok(answer) if answer.status == 0 && answer.lines.last().map(String::as_str) == Some("I am here") => {
            return Ok(());
        }
        Ok(answer) => format!("{} does not let them in: {}", second.name(), answer.lines.join(" | ")),
        Err(Error::SessionEnded { why, .. }) => why,
        Err(other) => return Err(other),
    };
    played.harmed.push(("the administrator who goes on from the first host".to_owned(), why));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::intruder::prelude;
    use crate::scenario::{Step, step};
    use std::process::{Command, Stdio};

    #[test]
    fn an_errand_takes_every_step_and_writes_down_what_it_touched() {
        let directory = tempfile::Builder::new().prefix("thymus-errand-").tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let writes =
            |name: &str| step(Actor::Intruder, name, format!("cat >{0}; echo {name} >>{0}", at(name)), &[&at(name)]);
        let plan = Plan {
            record: Some(at("books/record")),
            escalation: "sh".to_owned(),
            attack_user: vec![step(Actor::Intruder, "looks", "false", &[]), writes("one")],
            attack_root: vec![writes("two"), Step { pause: LOOK_EVERY, ..writes("three") }],
            ..Plan::default()
        };
        let errand = errand(&plan, "tok", &prelude("tok"));
        let mut shell = Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), errand.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
        let record = std::fs::read_to_string(at("books/record")).unwrap();
        let lines: Vec<&str> = record.lines().collect();
        assert!(lines[0].starts_with("tok in /") && lines[0].ends_with(" /"), "{record}");
        for (number, name) in ["one", "two", "three"].into_iter().enumerate() {
            let (was, now) = (lines[1 + 2 * number], lines[2 + 2 * number]);
            assert_eq!(was, format!("tok was absent {}", at(name)));
            assert!(now.starts_with("tok now 81a4:") && now.ends_with(&at(name)), "{now}");
            assert_eq!(std::fs::read_to_string(at(name)).unwrap(), format!("{name}\n"), "once, with no other input");
        }
        assert_eq!(lines.len(), 7);
    }
}
