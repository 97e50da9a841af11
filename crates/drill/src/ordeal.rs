// SPDX-License-Identifier: Apache-2.0
//! What an agent is put through in the middle of a heal: killed before one step after the other, or with all of its host.
//!
//! The agent knows nothing of it and has no switch for it: strace(1) attaches from outside and sends SIGKILL at the entry of
//! a chosen system call, thus before its effect and after everything that came earlier.

use crate::twin::Twin;
use crate::{Error, Result};
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// In the middle of a heal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordeal {
    /// The agent is killed before a step and started again, step after step until everything is settled.
    KillAgent,
    /// The agent is killed five times at random moments, and started again.
    KillOften,
    /// The whole twin is gone at once, with all that its disk had not yet; then it boots again.
    CutPower,
    /// Not in the middle, but right after it: the administrator saves, unchanged, a file that both sides had edited and
    /// that he had opened before it was put in order. The attack's lines are back, in good faith.
    StaleEditor,
}

/// How often [`Ordeal::KillOften`] kills.
pub(crate) const DEATHS: u32 = 5;
/// The system calls by which an agent makes something durable or changes something.
const STEPS: [&str; 13] = [
    "fdatasync",
    "fsync",
    "renameat2",
    "linkat",
    "pwrite64",
    "unlinkat",
    "fchmod",
    "fchownat",
    "utimensat",
    "ftruncate",
    "renameat,rename",
    "fsetxattr,setxattr",
    "pidfd_send_signal",
];
/// No life is longer than so many of the commonest step, in one thread, so that a heal takes many; and none is so short
/// that it only wakes up and stops again whom the last one had stopped.
const LIFE: std::ops::Range<usize> = 14..25;
/// Rounds of [`STEPS`] before they begin anew with the first step of a kind.
const ROUNDS: usize = 8;

/// When an agent's life ends: before the `nth` step of this kind in one thread, and not later than before number `last`
/// of the commonest kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    step: &'static str,
    nth: usize,
    last: usize,
}

impl Death {
    /// The death in life number `life`, from 0: every kind of step in turn, each round one later.
    pub(crate) fn of(life: usize) -> Self {
        let last = LIFE.start + life % LIFE.len();
        // Every other life goes as far as it may.
        match life % 2 {
            0 => Self { step: STEPS[0], nth: last, last },
            _ => Self { step: STEPS[life / 2 % STEPS.len()], nth: 1 + life / 2 / STEPS.len() % ROUNDS, last },
        }
    }

    /// As strace(1) wants it.
    fn injections(self) -> Vec<String> {
        let inject = |step: &str, nth: usize| format!("--inject={step}:signal=SIGKILL:when={nth}");
        let mut all = vec![inject(self.step, self.nth)];
        if self.step != STEPS[0] {
            all.push(inject(STEPS[0], self.last));
        }
        all
    }
}

/// Waits in the agent's way; gone when dropped.
#[derive(Debug)]
pub(crate) struct Killer {
    strace: Child,
    victim: u32,
    log: PathBuf,
}

impl Killer {
    /// From now on process `victim` dies before this step.
    pub(crate) fn set(twin: &Twin, victim: u32, death: Death) -> Result<Self> {
        let log = twin.directory().join("steps");
        let mut strace = twin.tool("strace");
        strace.args(["--follow-forks", "--quiet=all", "--trace"]).arg([STEPS[0], ",", death.step].concat());
        strace.args(death.injections()).arg("--output").arg(&log).arg("--attach").arg(victim.to_string());
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let strace = strace.spawn().map_err(|source| Error::Spawn { program: "strace".to_owned(), source })?;
        Ok(Self { strace, victim, log })
    }

    /// Whether it is in place.
    pub(crate) fn waits(&self) -> bool {
        is_traced(self.victim)
    }

    /// Whether it has struck.
    pub(crate) fn struck(&self) -> bool {
        is_gone(self.victim)
    }

    /// Lets go of the agent; whether it lives.
    pub(crate) fn leave(self) -> bool {
        let victim = self.victim;
        drop(self);
        !is_gone(victim)
    }

    /// Before which step, once it has struck. Threads that were not about to take one have none.
    pub(crate) fn step(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        last_unfinished(&log).unwrap_or("a step unknown").to_owned()
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        // Whom it traces goes on; gone already is as good.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// The call in a log of strace(1) that has no result: a line is `TID NAME(…) = RESULT`, or ends in `= ?`.
fn last_unfinished(log: &str) -> Option<&str> {
    let calls = log.lines().filter(|line| line.trim_end().ends_with("= ?") || line.contains("<unfinished"));
    let mut names = calls.filter_map(|line| line.split('(').next()?.split(' ').next_back());
    names.rfind(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// Ended, whether or not anybody has waited for it.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['Z', 'X']))
}

/// A tracer is attached to the process.
fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_that_was_never_finished_is_told() {
        let log = "7 fdatasync(3)                      = 0\n9 --- SIGCHLD {si_signo=SIGCHLD} ---\n\
                   7 renameat2(4, \"a\", 4, \"b\", RENAME_EXCHANGE) = ?\n7 +++ killed by SIGKILL +++\n";
        assert_eq!(last_unfinished(log), Some("renameat2"));
        assert_eq!(last_unfinished(""), None);
    }

    #[test]
    fn every_kind_of_step_has_its_turn() {
        let deaths: std::collections::BTreeSet<_> = (0..2 * STEPS.len()).map(|life| Death::of(life).step).collect();
        assert_eq!(deaths.len(), STEPS.len());
        assert!((0..1_000).all(|life| LIFE.contains(&Death::of(life).last) && Death::of(life).nth > 0));
    }
}
