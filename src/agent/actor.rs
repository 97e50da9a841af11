// SPDX-License-Identifier: Apache-2.0
//! The thread that acts: carries out orders one by one, in their order, and tells what came of each.

use std::sync::mpsc::{Receiver, SyncSender};
use thymus_control::UndoTarget;
use thymus_engine::action::Outcome;
use thymus_engine::incident::Verdict;
use thymus_engine::input::{Proof, Side};
use thymus_engine::{Action, ActionId, HostPath, IncidentId, Input, VersionId};
use thymus_host::aside::Asides;
use thymus_host::decoy::Decoys;
use thymus_host::perform::{Hands, Undone, VaultVersions};
use thymus_host::recover::Watch;
use thymus_host::respond::Reflexed;
use thymus_host::vault::Vault;

/// What the hot thread wants done.
#[derive(Debug)]
pub(super) enum Order {
    Prepare {
        action: ActionId,
        incident: IncidentId,
        what: Action,
    },
    Commit {
        action: ActionId,
        verdict: Verdict,
    },
    Forget {
        action: ActionId,
    },
    Renew {
        action: ActionId,
    },
    Verify {
        incident: IncidentId,
        what: Proof,
    },
    /// A reflex was carried out: write it down, so that it can be undone like any action.
    Adopt(Box<Reflexed>),
    Undo(UndoTarget),
    /// Versions of a file that only a person can tell apart.
    Aside {
        incident: IncidentId,
        path: HostPath,
        versions: Vec<(Side, VersionId)>,
    },
    /// Decoys are put back where somebody touched them.
    Decoys,
}

impl Order {
    /// Whether exactly one [`Told`] follows.
    pub(super) const fn is_answered(&self) -> bool {
        match self {
            Self::Prepare { .. } | Self::Commit { .. } | Self::Verify { .. } | Self::Adopt(_) | Self::Undo(_) => true,
            Self::Forget { .. } | Self::Renew { .. } | Self::Aside { .. } | Self::Decoys => false,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Told {
    Input(Box<Input>),
    /// `paths` may be other than they were.
    Undone {
        target: UndoTarget,
        lines: Vec<String>,
        done: bool,
        paths: Vec<HostPath>,
    },
}

/// What there is to act with; none where the scope is watched only: nothing can be prepared.
pub(super) struct Acting<'a> {
    pub(super) hands: Option<Hands<'a>>,
    pub(super) decoys: Option<Decoys>,
    pub(super) asides: Asides,
}

/// Ends when the hot thread is gone.
pub(super) fn run(
    Acting { mut hands, mut decoys, asides }: Acting<'_>,
    watched: &[Watch],
    vault: &Vault,
    orders: &Receiver<Order>,
    told: &SyncSender<Told>,
) {
    if let Some(hands) = &mut hands {
        let settled = hands.recover_open();
        if told.send(Told::Input(Box::new(Input::Restarted { settled }))).is_err() {
            return;
        }
    }
    while let Ok(order) = orders.recv() {
        let answered = order.is_answered();
        // Changes nothing of the scope: done also where nothing may be.
        if let Order::Aside { incident, path, versions } = &order {
            for why in asides.lay(&VaultVersions::new(vault), *incident, path, versions) {
                tracing::warn!(%incident, why, "a version was not laid aside");
            }
            continue;
        }
        let answer = match &mut hands {
            Some(hands) if matches!(order, Order::Decoys) => {
                decoys.iter_mut().for_each(|decoys| hands.tend(decoys));
                None
            }
            Some(hands) => obey(hands, watched, vault, order),
            None => refuse(order),
        };
        if answered && answer.is_none_or(|answer| told.send(answer).is_err()) {
            return;
        }
    }
}

fn obey(hands: &mut Hands<'_>, watched: &[Watch], vault: &Vault, order: Order) -> Option<Told> {
    let input = match order {
        Order::Prepare { action, incident, what } => {
            let paths: Vec<HostPath> = what.paths().cloned().collect();
            vault.pin(&paths); // an open incident's versions outlive retention
            hands.prepare(action, incident, what)
        }
        Order::Commit { action, verdict } => hands.commit(action, verdict),
        Order::Verify { incident, what } => hands.verify(incident, &what, watched),
        Order::Adopt(reflexed) => {
            let outcome = match hands.adopt(&reflexed) {
                Ok(()) => reflexed.outcome(),
                Err(error) => Outcome::Failed(format!("stopped, but not written down: {error}")),
            };
            Input::Outcome { action: reflexed.action, outcome }
        }
        Order::Undo(target) => return Some(undo(hands, target)),
        Order::Forget { action } => {
            hands.forget(action);
            return None;
        }
        Order::Renew { action } => {
            hands.renew(action);
            return None;
        }
        Order::Aside { .. } | Order::Decoys => return None,
    };
    Some(Told::Input(Box::new(input)))
}

fn undo(hands: &mut Hands<'_>, target: UndoTarget) -> Told {
    let undone = match target {
        UndoTarget::Action(action) => vec![hands.undo_action(action)],
        UndoTarget::Incident(incident) => hands.undo_incident(incident),
    };
    // What cannot be undone at all (a process that was ended) is told, and does not make the rest a failure.
    let done =
        undone.iter().all(|one| !one.reversible || !matches!(one.outcome, Outcome::Failed(_) | Outcome::Reverted(_)));
    let line = |one: &Undone| format!("action {}: {}", one.action, super::report::outcome(&one.outcome));
    let mut lines: Vec<String> = undone.iter().map(line).collect();
    if lines.is_empty() {
        lines.push("nothing was done that could be undone".to_owned());
    }
    let paths = undone.into_iter().filter_map(|one| one.path).collect();
    Told::Undone { target, lines, done, paths }
}

/// Nothing may act in this scope; the guard says so before it comes to this.
fn refuse(order: Order) -> Option<Told> {
    const WHY: &str = "this scope is watched, never acted upon (`this_host = false`)";
    let input = match order {
        Order::Prepare { action, .. } => Input::Unprepared { action, why: WHY.to_owned() },
        Order::Commit { action, .. } => Input::Outcome { action, outcome: Outcome::Failed(WHY.to_owned()) },
        Order::Verify { incident, .. } => Input::Proven { incident, checks: Vec::new() },
        Order::Adopt(reflexed) => Input::Outcome { action: reflexed.action, outcome: Outcome::Failed(WHY.to_owned()) },
        Order::Undo(target) => {
            return Some(Told::Undone { target, lines: vec![WHY.to_owned()], done: false, paths: Vec::new() });
        }
        Order::Forget { .. } | Order::Renew { .. } | Order::Aside { .. } | Order::Decoys => return None,
    };
    Some(Told::Input(Box::new(input)))
}
