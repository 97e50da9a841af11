// SPDX-License-Identifier: Apache-2.0
//! What may be asked of a running agent. The guard judges every command's effects like any other; this is a door, not a key.

use serde::{Deserialize, Serialize};
use thymus_engine::golden::Accepted;
use thymus_engine::input::Command;
use thymus_engine::{ActionId, IncidentId};

/// LIMIT: bytes of a request's body. A command names one object and a reason, or all drift as it was seen.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// LIMIT: bytes of an answer's body that a client reads. A view is bounded far below.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// LIMIT: commands that wait for the agent; further ones are refused at once.
pub const COMMANDS_WAITING_MAX: usize = 16;
/// LIMIT: seconds that a command may take: an undo of a whole incident puts back thousands of files.
pub const COMMAND_SECONDS_MAX: u64 = 300;

/// What a person says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlCommand {
    /// For the engine; recorded as an input.
    Engine(Command),
    /// Revert what was done.
    Undo(UndoTarget),
    /// Look at the golden state now, not when it is time.
    Look,
    /// Make what was seen of these items wanted; what has changed meanwhile is refused.
    Accept {
        items: Accepted,
        /// A person named each of them; else they are all that was not as wanted.
        named: bool,
    },
    /// End the agent. Its leases are ended by the warden, like after any other end.
    Shutdown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoTarget {
    Action(ActionId),
    /// All actions of an incident, latest first.
    Incident(IncidentId),
}

/// What the agent says to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// It was done (or was so already).
    pub done: bool,
    /// What was done, or why not; one thing a line.
    pub lines: Vec<String>,
}

impl ControlCommand {
    /// Those who are named as approvers, and not root, may say no more than this.
    pub(crate) const fn is_an_answer(&self) -> bool {
        let Self::Engine(command) = self else { return false };
        matches!(
            command,
            Command::Approve { .. } | Command::ApproveBefore { .. } | Command::Deny { .. } | Command::Answer { .. }
        )
    }
}

impl Answer {
    #[must_use]
    pub fn done(line: impl Into<String>) -> Self {
        Self { done: true, lines: vec![line.into()] }
    }

    #[must_use]
    pub fn refused(line: impl Into<String>) -> Self {
        Self { done: false, lines: vec![line.into()] }
    }
}

/// A command on its way to the agent. Dropped without an answer, it is answered with "the agent is ending".
#[derive(Debug)]
pub struct Request {
    pub command: ControlCommand,
    /// The user who gave it, as the kernel told when the connection was made (`SO_PEERCRED`).
    pub uid: u32,
    reply: tokio::sync::oneshot::Sender<Answer>,
}

impl Request {
    pub(crate) fn new(command: ControlCommand, uid: u32) -> (Self, tokio::sync::oneshot::Receiver<Answer>) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        (Self { command, uid, reply }, answer)
    }

    /// Never blocks. Whoever asked may have gone: then nobody reads the answer.
    pub fn answer(self, answer: Answer) {
        drop(self.reply.send(answer));
    }
}

/// Why the API did not do what was asked; the body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub error: String,
}
