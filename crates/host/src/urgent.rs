// SPDX-License-Identifier: Apache-2.0
//! A real-time priority for the one hot thread, and the bound that keeps it from starving the machine.
//!
//! Invariants: only the thread that asks has it, none that it starts and no program (reset on fork, see sched(7)); it may
//! run at most [`SHARE`] of one core for longer than [`CREDIT`], whatever happens: it sleeps off what it ran too long.
//! Behind that stand the kernel's own bounds (`sched_rt_runtime_us`, and the fair server of KERNEL 6.12).

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Above everything that is not real-time, as the interrupt threads of the kernel.
const PRIORITY: &str = "50";
/// Numerator and denominator.
const SHARE: (u32, u32) = (3, 4);
/// How far ahead of its share the thread may be before it sleeps.
const CREDIT: Duration = Duration::from_millis(5);
/// Time not used is forgotten after this, so that nobody saves up.
const WINDOW: Duration = Duration::from_millis(50);
/// Between two looks at the clock of the thread.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// LIMIT: the longest sleep. Who waited so long has run; then events are waiting.
const REST_MAX: Duration = Duration::from_millis(20);

/// The calling thread has the priority.
#[derive(Debug)]
pub struct Urgent {
    since: Instant,
    worked: Duration,
    looked: Instant,
}

impl Urgent {
    /// Asks for `SCHED_FIFO` 50 for the calling thread, through chrt(1), which saves us the system call. The error: why it
    /// was refused, in words.
    pub fn ask() -> Result<Self, String> {
        let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
        let mut chrt = Command::new("chrt");
        chrt.args(["--fifo", "--reset-on-fork", "--pid", PRIORITY, &thread]).stdin(Stdio::null());
        let output = chrt.output().map_err(|error| format!("`chrt` cannot be run: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let now = Instant::now();
        Ok(Self { since: now, worked: worked(), looked: now })
    }

    /// To be called between any two pieces of work: sleeps when the thread has run more than its share.
    pub fn rest(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.looked) < LOOK_EVERY {
            return;
        }
        self.looked = now;
        let worked = worked();
        let (ran, passed) = (worked.saturating_sub(self.worked), now.duration_since(self.since));
        let owed = owed(ran, passed);
        if owed >= CREDIT {
            std::thread::sleep(owed.min(REST_MAX));
        } else if passed < WINDOW {
            return;
        }
        (self.since, self.worked) = (Instant::now(), worked);
    }
}

/// So much longer the thread has to sleep, `passed` after it began and having run for `ran` of it.
fn owed(ran: Duration, passed: Duration) -> Duration {
    (ran * SHARE.1 / SHARE.0).saturating_sub(passed)
}

/// Processor time of the calling thread.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Real-time priority and policy, fields 40 and 41 of a thread's `stat`, see proc(5).
    fn scheduling(stat: &str) -> (u32, u32) {
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        (fields[37].parse().unwrap(), fields[38].trim().parse().unwrap())
    }

    fn own() -> (u32, u32) {
        scheduling(&std::fs::read_to_string("/proc/thread-self/stat").unwrap())
    }

    const FIFO: (u32, u32) = (50, 1);
    const USUAL: (u32, u32) = (0, 0);

    #[test]
    fn neither_a_thread_nor_a_program_inherits_the_priority() {
        std::thread::spawn(|| {
            Urgent::ask().unwrap();
            assert_eq!(own(), FIFO);
            assert_eq!(std::thread::spawn(own).join().unwrap(), USUAL);
            let program = Command::new("cat").arg("/proc/self/stat").output().unwrap();
            assert_eq!(scheduling(&String::from_utf8(program.stdout).unwrap()), USUAL);
        })
        .join()
        .unwrap();
        assert_eq!(own(), USUAL, "nor does the thread that started it have it");
    }

    #[test]
    fn a_thread_that_never_waits_gets_no_more_than_its_share() {
        let (ran, passed) = std::thread::spawn(|| {
            let mut urgent = Urgent::ask().unwrap();
            let (begun, before) = (Instant::now(), worked());
            while begun.elapsed() < Duration::from_millis(500) {
                urgent.rest();
            }
            (worked() - before, begun.elapsed())
        })
        .join()
        .unwrap();
        assert!(ran <= passed * SHARE.0 / SHARE.1 + 2 * CREDIT, "{ran:?} of {passed:?}");
    }

    #[test]
    fn who_keeps_to_the_share_owes_nothing() {
        let ms = Duration::from_millis;
        assert_eq!(owed(ms(30), ms(40)), ms(0));
        assert_eq!(owed(ms(30), ms(30)), ms(10));
        assert_eq!(owed(ms(1), ms(1_000)), ms(0));
    }
}
