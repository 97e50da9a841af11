// SPDX-License-Identifier: Apache-2.0
//! Where a test stops a write: between any two of its steps.
//!
//! Input: the step that fails, and whether all that comes after it fails too. Output: an error there. INVARIANT: outside of
//! tests there are no faults, and a step costs nothing.

use super::Tree;
#[cfg(test)]
use crate::system::Error;
use crate::system::Result;

/// Lets a test stop a write between any two of its steps.
#[cfg(test)]
#[derive(Debug, Default)]
pub(in crate::system) struct Fault {
    pub(super) seen: Shared<usize>,
    /// The step that fails.
    pub(super) at: Shared<Option<usize>>,
    /// Nothing happens after it either, as after a `kill -9`.
    pub(super) crash: Shared<bool>,
    /// Run at every step: a racing attacker.
    pub(super) race: std::sync::Mutex<Option<Race>>,
}

/// A cell that threads may share.
#[cfg(test)]
#[derive(Debug, Default)]
pub(in crate::system) struct Shared<T>(std::sync::Mutex<T>);

#[cfg(test)]
impl<T: Copy> Shared<T> {
    pub(super) fn get(&self) -> T {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn set(&self, value: T) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = value;
    }
}

#[cfg(test)]
pub(in crate::system) struct Race(pub(super) Box<dyn FnMut(usize) + Send>);

#[cfg(test)]
impl std::fmt::Debug for Race {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Race")
    }
}

impl Tree<'_> {
    #[cfg(test)]
    pub(super) fn step(&self) -> Result<()> {
        let number = self.fault.seen.get();
        self.fault.seen.set(number + 1);
        if let Some(Race(race)) = &mut *self.fault.race.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            race(number);
        }
        match self.fault.at.get() {
            Some(at) if at == number || (self.fault.crash.get() && at < number) => Err(Error::Injected(number)),
            _ => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "in tests this is where faults come from")]
    pub(super) fn step(&self) -> Result<()> {
        Ok(())
    }

    /// After a failure: takes back what is half done. Not after a crash, which tests imitate.
    pub(super) fn clean(&self, work: impl FnOnce()) {
        #[cfg(test)]
        if self.fault.crash.get() && self.fault.at.get().is_some_and(|at| at < self.fault.seen.get()) {
            return;
        }
        work();
    }
}
